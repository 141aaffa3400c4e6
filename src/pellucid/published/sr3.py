"""Checkpoints of SR3 for CT: a U-Net with the published names, and the noise schedule of its diffusion."""

from typing import get_args

import torch
from torch import Tensor

from pellucid.data.ranges import SLICE
from pellucid.generative.path import Schedule, beta_schedule
from pellucid.networks import sr3_unet
from pellucid.published._format import Entry, Format, Weights
from pellucid.published._hints import Hints
from pellucid.published._rename import find_levels

# How many times larger the published x8 results are than the inputs; for the x4 ones `Hints.scale` is needed.
SCALE = 8
# Sampling steps of an imported model, unless it was trained with fewer.
STEPS = 50
# Width and multipliers of the published x8 "deep", the one whose norms have 16 groups; all others have 32.
DEEP = (64, (1, 1, 2, 2, 4, 4))
# The weight of a block whose first size is the block's number of channels.
OUTPUT = "downs.{}.res_block.block1.block.3.weight"


def _sizes(weights: Weights, hints: Hints) -> Entry:
    width = len(weights["downs.0.weight"])
    levels = find_levels(weights, "downs.{}.conv.weight", OUTPUT)
    multipliers = tuple(len(weights[OUTPUT.format(level[0])]) // width for level in levels)
    groups = hints.groups or (16 if (width, multipliers) == DEEP else 32)
    if width % groups:
        raise ValueError(f"its {width} channels do not divide into {groups} groups, give --groups")
    image_size = sr3_unet.Config.image_size  # any: attention is found by level
    depths = [at for at, level in enumerate(levels) if f"downs.{level[0]}.attn.qkv.weight" in weights]
    return {
        "bands": weights["final_conv.block.3.weight"].shape[0],
        "width": width,
        "multipliers": multipliers,
        "num_blocks": len(levels[0]),
        "attention": tuple(image_size >> depth for depth in depths),
        "groups": groups,
        "num_heads": hints.num_heads or 4,
        "use_cross_attention": "condition_encoder.weight" in weights,
    }


def _method(network: Entry, buffers: Weights, hints: Hints) -> Entry:
    path = _read_path(buffers)
    return {
        "name": "generative",
        "optical": SLICE.bands if network["bands"] == len(SLICE.bands) else (),
        "scale": hints.scale or SCALE,
        "path": path,
        "prediction": "noise",
        "steps": min(STEPS, path["num_steps"]),
    }


def _read_path(buffers: Weights) -> Entry:
    """Return the config's `path` entry for the noise schedule in the buffers of a checkpoint."""
    if "betas" not in buffers or not buffers["betas"].dim() or not len(buffers["betas"]):
        raise ValueError("it lacks betas, the noise schedule; save the whole model's state dict")
    found = buffers["betas"].double()
    # Published in single precision: 1e-6 is 9.99999997e-7.
    start, end = (float(f"{found[at].item():.6g}") for at in (0, -1))
    ends = {"linear_start": start, "linear_end": end} if 0 < start <= end < 1 else {}
    for schedule in get_args(Schedule):
        options = {} if schedule in ("cosine", "jsd") else ends
        betas = beta_schedule(schedule, len(found), **options)
        if torch.allclose(found, betas, rtol=1e-4, atol=0):
            _check_buffers(buffers, betas)
            return {"name": "variance_preserving", "schedule": schedule, "num_steps": len(found), **options}
    raise ValueError(
        f"its {len(found)} betas, from {start} to {end}, follow none of the schedules "
        f"{', '.join(get_args(Schedule))}, and a run needs one of these"
    )


def _check_buffers(buffers: Weights, betas: Tensor) -> None:
    expected = {"betas": betas, **_derived(betas)}
    for name, values in buffers.items():
        if name not in expected:
            raise ValueError(f"it has {name}, which is neither a weight nor part of a noise schedule")
        same = values.shape == betas.shape
        if not same or not torch.allclose(values.double(), expected[name], rtol=1e-3, atol=1e-7):
            raise ValueError(f"its {name} contradict its betas; take an undamaged checkpoint")


def _derived(betas: Tensor) -> dict[str, Tensor]:
    """Return what checkpoints hold besides the betas. Ho et al. 2020, arXiv:2006.11239, Eq. 4, 7."""
    share = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones_like(share[:1]), share[:-1]])
    variance = betas * (1 - before) / (1 - share)
    return {
        "alphas_cumprod": share,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": share.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - share).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - share).log(),
        "sqrt_recip_alphas_cumprod": (1 / share).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / share - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * before.sqrt() / (1 - share),
        "posterior_mean_coef2": (1 - before) * (1 - betas).sqrt() / (1 - share),
    }


FORMAT = Format(sr3_unet, _sizes, "denoise_fn.", method=_method, hints=("scale", "groups", "num_heads"))
