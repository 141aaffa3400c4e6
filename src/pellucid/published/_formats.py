"""The formats of published checkpoints: sizes and methods that their shapes tell, and names of weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from types import ModuleType
from typing import Any

from torch import Tensor

from pellucid.build.parts import read_autoencoder
from pellucid.build.run import AUTOENCODERS, TEXT
from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2, SLICE
from pellucid.networks import autoencoder, cross_attention, flux, glf_cr, sr3_unet, text_encoder, text_unet
from pellucid.published import _flux_layout, _sd_layout
from pellucid.published._path import read_path

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
# What an imported colorizer's config calls the autoencoder and the text encoder that lie in its own run.
INSIDE = "of the checkpoint"
# Stable Diffusion's path, as published for the colorizer, and how that samples.
COLORIZER_PATH = {
    "name": "variance_preserving",
    "schedule": "quad",
    "num_steps": 1000,
    "linear_start": 8.5e-4,
    "linear_end": 0.012,
    "tells": "step",
    "spacing": "leading",
}
COLORIZER_SAMPLING = {"steps": 50, "eta": 1.0, "guidance": 7.5, "dropped": "prompt"}


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
        tokenizer: file or folder of the tokenizer that a colorizer was trained with; its default vocabulary
            otherwise.
    """

    scale: int | None = None
    groups: int | None = None
    num_heads: int | None = None
    axes: tuple[int, int, int] | None = None
    autoencoder: str | None = None
    sar_autoencoder: str | None = None
    tokenizer: str | None = None


@dataclass(frozen=True)
class Layout:
    """How one network's weights are published.

    Attributes:
        network: the module of ours that computes the same.
        sizes: returns the arguments of the network's `Config`; KeyError if one cannot be told.
        prefix: before the keys of the network's weights.
        state: returns the published weights under our names; KeyError if one is missing. None: they have
            our names.
    """

    network: ModuleType
    sizes: Callable[[Mapping[str, Tensor], Hints], dict[str, Any]]
    prefix: str = ""
    state: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None


@dataclass(frozen=True, kw_only=True)
class Format(Layout):
    """How one system publishes its weights.

    Attributes:
        method: returns the config's `method` entry from the network's, from the tensors that are not the
            network's, and from the hints; ValueError, saying what is wrong, if it cannot be told.
        computed: last parts of the keys of buffers that our network computes itself.
        unused: before the keys of weights that the published code never uses.
        hints: fields of `Hints` that the format makes use of.
        parts: of the autoencoder and the text encoder in the same file, by what a run puts before theirs.
    """

    method: Callable[[Mapping[str, Any], Mapping[str, Tensor], Hints], dict[str, Any]]
    computed: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    parts: Mapping[str, Layout] = field(default_factory=dict)


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
    path = read_path(buffers)
    return {
        "name": "generative",
        "optical": SLICE.bands if network["bands"] == len(SLICE.bands) else (),
        "scale": hints.scale or SR3_SCALE,
        "path": path,
        "prediction": "noise",
        "steps": min(SR3_STEPS, path["num_steps"]),
    }


def _count(weights: Mapping[str, Tensor], name: str) -> int:
    """Return how many of `name`, with 0, 1, ... in place of its braces, there are."""
    return next(index for index in range(len(weights) + 1) if name.format(index) not in weights)


def _text_unet(weights: Mapping[str, Tensor], _hints: Hints) -> dict[str, Any]:
    return _sd_layout.unet_sizes(weights)


def _sd_autoencoder(weights: Mapping[str, Tensor], _hints: Hints) -> dict[str, Any]:
    return _sd_layout.autoencoder_sizes(weights)


def _text_encoder(weights: Mapping[str, Tensor], hints: Hints) -> dict[str, Any]:
    return _sd_layout.text_encoder_sizes(weights, hints.num_heads)


def _colorizer(network: Mapping[str, Any], _rest: Mapping[str, Tensor], _hints: Hints) -> dict[str, Any]:
    if not network["sar_channels"]:
        raise ValueError(
            "its U-Net sees no radar, as Stable Diffusion's own; start a training from that in the format of "
            "diffusers (train.init_from)"
        )
    return {
        "name": "generative",
        "optical": PICTURE.bands,
        "radar": SENTINEL1.bands[:1],
        "space": {"optical": INSIDE, "sar": INSIDE},
        "text": INSIDE,
        "path": COLORIZER_PATH,
        "prediction": "noise",
        **COLORIZER_SAMPLING,
    }


FORMATS = {
    "glf-cr": Format(glf_cr, _glf_cr, method=_regression, computed=("attn_mask", "relative_position_index")),
    "cross-attention": Format(cross_attention, _cross_attention, method=_regression),
    "cr-rf": Format(
        flux,
        _flux,
        state=_flux_layout.flux_state,
        method=_flow,
        hints=("axes", "autoencoder", "sar_autoencoder"),
    ),
    "cr-rf-autoencoder": Format(
        autoencoder, _autoencoder, state=_flux_layout.autoencoder_state, method=_autoencoding
    ),
    "sr3": Format(sr3_unet, _sr3, "denoise_fn.", method=_generative, hints=("scale", "groups", "num_heads")),
    "sar-colorization": Format(
        text_unet,
        _text_unet,
        "diffusion.",
        _sd_layout.unet_state,
        method=_colorizer,
        unused=("input_proj.",),
        hints=("num_heads", "tokenizer"),
        parts={
            f"{AUTOENCODERS}optical.": Layout(
                autoencoder, _sd_autoencoder, "vae_", _sd_layout.autoencoder_state
            ),
            TEXT: Layout(text_encoder, _text_encoder, "clip.", _sd_layout.text_encoder_state),
        },
    ),
}
