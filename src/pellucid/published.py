"""Published checkpoints in our networks' terms: the sizes read off their shapes, and the weights."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isqrt
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import torch
from torch import Tensor

from pellucid.data.ranges import SENTINEL1, SENTINEL2, SLICE
from pellucid.errors import InputError
from pellucid.generative.schedules import Schedule, beta_schedule
from pellucid.networks import _flux_layout, autoencoder, cross_attention, flux, glf_cr, sr3_unet
from pellucid.spaces import read_autoencoder
from pellucid.state_dict import read_state_dict

# What the optical bands of published networks are, by their number.
OPTICAL_NAMES = {13: SENTINEL2.bands, 3: ("B04", "B03", "B02")}
# How many times larger the published x8 results are than the inputs; the x4 ones need the user to say so.
SR3_SCALE = 8
# Sampling steps of an imported model, unless it was trained with fewer.
SR3_STEPS = 50
# Width and multipliers of the published x8 "deep", the one whose norms have 16 groups; all others have 32.
SR3_DEEP = (64, (1, 1, 2, 2, 4, 4))
# Sampling steps of the published rectified flow.
FLOW_STEPS = 30
# The weight of a block whose first size is the block's number of channels.
SR3_OUTPUT = "res_block.block1.block.3.weight"


@dataclass(frozen=True)
class Hints:
    """What a checkpoint's shapes cannot tell; None: as published.

    Attributes:
        scale: how many times larger the results of super-resolution are than its inputs.
        groups: of the group norms.
        num_heads: of each attention.
        axes: channels of a head that tell image, row and column.
        autoencoder: run, or model that ships, in whose latents a flow's images are.
        sar_autoencoder: likewise of its radar.
    """

    scale: int | None = None
    groups: int | None = None
    num_heads: int | None = None
    axes: tuple[int, int, int] | None = None
    autoencoder: str | None = None
    sar_autoencoder: str | None = None


@dataclass(frozen=True)
class Published:
    """A published checkpoint in a run's terms.

    Attributes:
        network: the config's `network` entry, with its name.
        method: the config's `method` entry; its bands have their usual names, where their number tells.
        weights: float32, the state dict that this network loads.
    """

    network: dict[str, Any]
    method: dict[str, Any]
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Format:
    """How one system publishes its weights.

    Attributes:
        network: the module of ours that computes the same.
        sizes: returns the arguments of the network's `Config`; KeyError if one cannot be told.
        method: returns the config's `method` entry from the network's, from the tensors that are not the
            network's, and from the hints; ValueError, saying what is wrong, if it cannot be told.
        prefix: before the keys of the network's weights.
        computed: last parts of the keys of buffers that our network computes itself.
        hints: fields of `Hints` that the format makes use of.
        state: returns the published weights under our names; KeyError if one is missing. None: they have
            our names.
    """

    network: ModuleType
    sizes: Callable[[Mapping[str, Tensor], Hints], dict[str, Any]]
    method: Callable[[Mapping[str, Any], Mapping[str, Tensor], Hints], dict[str, Any]]
    prefix: str = ""
    computed: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    state: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None


def read_checkpoint(path: Path, format: str, hints: Hints | None = None) -> Published:  # noqa: A002
    """Return network, method and weights of a published checkpoint.

    Args:
        path: .pth or .pt, read without running any code in it, or .safetensors.
        format: a key of `FORMATS`.
        hints: what the file does not say.

    Raises:
        InputError: if the format is unknown or has no use for a hint, the file cannot be read or holds
            another network.
    """
    hints = hints or Hints()
    kind = _format(format, hints)
    tensors = {
        name: tensor.float()
        for name, tensor in read_state_dict(path).items()
        if name.rpartition(".")[2] not in kind.computed
    }
    of_network = [name for name in tensors if name.startswith(kind.prefix)]
    weights = {name.removeprefix(kind.prefix): tensors.pop(name) for name in of_network}
    network, state = _network(weights, wrong=f"{path} is no {format} checkpoint", name=format, hints=hints)
    try:
        return Published(network, kind.method(network, tensors, hints), state)
    except ValueError as error:
        raise InputError(f"cannot import {path}: {error}") from error


def _network(
    weights: dict[str, Tensor], *, wrong: str, name: str, hints: Hints
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the config's `network` entry and the state dict; an error begins with `wrong`."""
    kind = FORMATS[name]
    try:
        config = kind.network.Config(**kind.sizes(weights, hints))
        with torch.device("meta"):
            expected = kind.network.build(config).state_dict()
        state = kind.state(weights) if kind.state else weights
    except KeyError as error:
        missing = kind.prefix + error.args[0]
        raise InputError(f"{wrong}, it lacks {missing!r}; {_others(name)}") from error
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        raise InputError(f"{wrong} ({error}); {_others(name)}") from error
    _compare(state, expected, wrong, name)
    return {"name": kind.network.__name__.rpartition(".")[2], **asdict(config)}, state


def _format(name: str, hints: Hints) -> Format:
    """Return the format of that name, for which all given hints have a meaning."""
    if name not in FORMATS:
        raise InputError(f"unknown checkpoint format {name!r}, choose one of {', '.join(FORMATS)}")
    idle = [
        key for key, value in asdict(hints).items() if value is not None and key not in FORMATS[name].hints
    ]
    if idle:
        raise InputError(f"{name} checkpoints need no {' and no '.join(idle)}, leave it out")
    return FORMATS[name]


def _compare(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], wrong: str, name: str) -> None:
    """Refuse weights whose names or shapes are not those that are expected."""
    prefix = FORMATS[name].prefix
    for key, tensor in expected.items():
        if key not in weights:
            raise InputError(f"{wrong}, it lacks {prefix}{key}; {_others(name)}")
        if weights[key].shape != tensor.shape:
            found, needed = tuple(weights[key].shape), tuple(tensor.shape)
            raise InputError(f"{wrong}, {prefix}{key} has shape {found} instead of {needed}; {_others(name)}")
    extra = [key for key in weights if key not in expected]
    if extra:
        raise InputError(f"{wrong}, it has {prefix}{extra[0]}, which that network lacks; {_others(name)}")


def _others(name: str) -> str:
    others = [other for other in FORMATS if other != name]
    return f"is it {' or '.join(others)}?"


def _glf_cr(weights: Mapping[str, Tensor], _hints: Hints) -> dict[str, Any]:
    width, optical_channels = weights["SFENet1.weight"].shape[:2]
    growth = weights["RDBs.0.convs.0.conv.0.weight"].shape[0]
    table, num_heads = weights["RDBs.0.convs.0.attn.relative_position_bias_table"].shape
    return {
        "optical_bands": optical_channels // 4,  # 2 x 2 pixels are channels
        "radar_bands": weights["SFENet1_SAR.weight"].shape[1] // 4,
        "width": width,
        "growth": growth,
        "num_blocks": _count(weights, "RDBs.{}.LFF.weight"),
        "num_layers": _count(weights, "RDBs.0.convs.{}.conv.0.weight"),
        "num_heads": num_heads,
        "window": (isqrt(table) + 1) // 2,  # (2 window - 1)^2 relative positions
        "mlp_ratio": weights["RDBs.0.convs.0.mlp.fc1.weight"].shape[0] // growth,
        "kernel": isqrt(weights["DF.0.fac_warp.3.0.weight"].shape[0] // width),
        "head_width": weights["UPNet.2.weight"].shape[1],
    }


def _cross_attention(weights: Mapping[str, Tensor], _hints: Hints) -> dict[str, Any]:
    width, optical_bands = weights["optical_encoder.E1.conv1.weight"].shape[:2]
    radar_bands = weights["sar_encoder.E1.conv1.weight"].shape[1]
    return {"optical_bands": optical_bands, "radar_bands": radar_bands, "width": width}


def _regression(network: Mapping[str, Any], _rest: Mapping[str, Tensor], _hints: Hints) -> dict[str, Any]:
    names = OPTICAL_NAMES.get(network["optical_bands"], ())
    return {"name": "regression", "optical": names, "radar": SENTINEL1.bands[: network["radar_bands"]]}


def _autoencoder(weights: Mapping[str, Tensor], _hints: Hints) -> dict[str, Any]:
    return _flux_layout.autoencoder_sizes(weights)


def _autoencoding(network: Mapping[str, Any], _rest: Mapping[str, Tensor], _hints: Hints) -> dict[str, Any]:
    if network["bands"] == len(SENTINEL1.bands):
        return {"name": "autoencoding", "radar": SENTINEL1.bands}
    return {"name": "autoencoding", "optical": OPTICAL_NAMES.get(network["bands"], ())}


def _flux(weights: Mapping[str, Tensor], hints: Hints) -> dict[str, Any]:
    return {**_flux_layout.flux_sizes(weights), "axes": hints.axes}


def _flow(_network: Mapping[str, Any], _rest: Mapping[str, Tensor], hints: Hints) -> dict[str, Any]:
    if not hints.autoencoder or not hints.sar_autoencoder:
        raise ValueError(
            "a flow is of no use without the autoencoders of its images and its radar, import these "
            "(cr-rf-autoencoder) and name their runs with --autoencoder and --sar-autoencoder"
        )
    optical = read_autoencoder(hints.autoencoder).optical.bands
    radar = read_autoencoder(hints.sar_autoencoder).radar.bands
    for run, bands, needed in (
        (hints.autoencoder, optical, "optical images"),
        (hints.sar_autoencoder, radar, "radar"),
    ):
        if not bands:
            raise ValueError(f"{run} is no autoencoder of {needed}, name one that is")
    return {
        "name": "generative",
        "optical": optical,
        "radar": radar,
        "space": {"optical": hints.autoencoder, "sar": hints.sar_autoencoder},
        "path": {"name": "rectified_flow", "shift": "auto"},
        "prediction": "velocity",
        "steps": FLOW_STEPS,
    }


def _sr3(weights: Mapping[str, Tensor], hints: Hints) -> dict[str, Any]:
    width = weights["downs.0.weight"].shape[0]
    levels = _sr3_levels(weights)
    outputs = [weights[f"downs.{level[0]}.{SR3_OUTPUT}"].shape[0] for level in levels]
    multipliers = tuple(channels // width for channels in outputs)
    groups = hints.groups or (16 if (width, multipliers) == SR3_DEEP else 32)
    if width % groups:
        raise ValueError(f"its {width} channels do not divide into {groups} groups, give --groups")
    image_size = sr3_unet.Config.image_size  # any would do: attention is known by its levels
    return {
        "bands": weights["final_conv.block.3.weight"].shape[0],
        "width": width,
        "multipliers": multipliers,
        "num_blocks": len(levels[0]),
        "attention": tuple(
            image_size >> depth
            for depth, level in enumerate(levels)
            if f"downs.{level[0]}.attn.qkv.weight" in weights
        ),
        "groups": groups,
        "num_heads": hints.num_heads or 4,
        "use_cross_attention": "condition_encoder.weight" in weights,
    }


def _sr3_levels(weights: Mapping[str, Tensor]) -> list[list[int]]:
    """Return the numbers of the blocks on the way down, level by level."""
    levels: list[list[int]] = [[]]
    for index in range(1, len(weights)):
        if f"downs.{index}.conv.weight" in weights:  # brings down to the next level
            levels.append([])
        elif f"downs.{index}.{SR3_OUTPUT}" in weights:
            levels[-1].append(index)
    return levels


def _generative(network: Mapping[str, Any], buffers: Mapping[str, Tensor], hints: Hints) -> dict[str, Any]:
    path = _read_path(buffers)
    return {
        "name": "generative",
        "optical": SLICE.bands if network["bands"] == len(SLICE.bands) else (),
        "scale": hints.scale or SR3_SCALE,
        "path": path,
        "prediction": "noise",
        "steps": min(SR3_STEPS, path["num_steps"]),
    }


def _read_path(buffers: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the config of the path whose schedule the buffers hold."""
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


def _count(weights: Mapping[str, Tensor], name: str) -> int:
    """Return how many of `name`, with 0, 1, ... in place of its braces, there are."""
    return next(index for index in range(len(weights) + 1) if name.format(index) not in weights)


FORMATS = {
    "glf-cr": Format(glf_cr, _glf_cr, _regression, computed=("attn_mask", "relative_position_index")),
    "cross-attention": Format(cross_attention, _cross_attention, _regression),
    "cr-rf": Format(
        flux,
        _flux,
        _flow,
        hints=("axes", "autoencoder", "sar_autoencoder"),
        state=_flux_layout.flux_state,
    ),
    "cr-rf-autoencoder": Format(
        autoencoder, _autoencoder, _autoencoding, state=_flux_layout.autoencoder_state
    ),
    "sr3": Format(sr3_unet, _sr3, _generative, prefix="denoise_fn.", hints=("scale", "groups", "num_heads")),
}
