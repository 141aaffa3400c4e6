"""The path of a published diffusion model, told by the noise schedule in its checkpoint."""

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from pellucid.generative.path import Schedule, beta_schedule


def read_path(buffers: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the config's `path` entry for the schedule that the buffers hold.

    Args:
        buffers: all tensors of the checkpoint that are no weights, by name.

    Raises:
        ValueError: if they hold no schedule that is known, or something else.
    """
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


def _check_buffers(buffers: Mapping[str, Tensor], betas: Tensor) -> None:
    """Refuse buffers that do not follow from the betas."""
    expected = {"betas": betas, **_derived(betas)}
    for name, values in buffers.items():
        if name not in expected:
            raise ValueError(f"it has {name}, which is neither a weight nor part of a noise schedule")
        same = values.shape == betas.shape
        if not same or not torch.allclose(values.double(), expected[name], rtol=1e-3, atol=1e-7):
            raise ValueError(f"its {name} contradict its betas; take an undamaged checkpoint")


def _derived(betas: Tensor) -> dict[str, Tensor]:
    """Return what published checkpoints hold beside the betas. Ho et al. 2020, arXiv:2006.11239, Eq. 4, 7."""
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
