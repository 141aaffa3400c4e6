"""Published checkpoints in our networks' terms: the sizes read off their shapes, and the weights."""

import argparse
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pellucid.errors import InputError
from pellucid.networks import cross_attention, glf_cr

# Under which key the published training scripts put the weights; a checkpoint may also be the bare weights.
HOLDERS = ("network", "model_state_dict", "state_dict")
# What torch.nn.DataParallel puts before every key.
WRAPPED = "module."


@dataclass(frozen=True)
class Format:
    """How one system publishes its weights.

    Attributes:
        network: the module of ours that computes the same.
        sizes: returns the arguments of the network's `Config`; KeyError if one cannot be told.
        computed: last parts of the keys of buffers that our network computes itself.
    """

    network: ModuleType
    sizes: Callable[[Mapping[str, Tensor]], dict[str, int]]
    computed: tuple[str, ...] = ()


def read_checkpoint(path: Path, format: str) -> tuple[dict[str, Any], dict[str, Tensor]]:  # noqa: A002
    """Return the network's config, as a run's config holds it, and its float32 weights.

    Args:
        path: .pth or .pt, read without running any code in it, or .safetensors.
        format: a key of `FORMATS`.

    Returns:
        The config's `network` entry, with its name, and the state dict that this network loads.

    Raises:
        InputError: if the format is unknown, the file cannot be read or holds another network.
    """
    if format not in FORMATS:
        raise InputError(f"unknown checkpoint format {format!r}, choose one of {', '.join(FORMATS)}")
    kind = FORMATS[format]
    weights = {
        name: tensor.float()
        for name, tensor in _weights(_read(path), path).items()
        if name.rpartition(".")[2] not in kind.computed
    }
    try:
        config = kind.network.Config(**kind.sizes(weights))
        with torch.device("meta"):
            expected = kind.network.build(config).state_dict()
    except KeyError as error:
        raise InputError(f"{path} is no {format} checkpoint, it lacks {error}; {_hint(format)}") from error
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        raise InputError(f"{path} is no {format} checkpoint ({error}); {_hint(format)}") from error
    _compare(weights, expected, f"{path} is no {format} checkpoint", format)
    return {"name": kind.network.__name__.rpartition(".")[2], **asdict(config)}, weights


def _read(path: Path) -> Any:
    """Return what the file holds."""
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise InputError(f"{path} is no checkpoint by its name, give a .pth, .pt or .safetensors file")
    if not path.is_file():
        raise InputError(f"{path} is no file, check the path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Training checkpoints of GLF-CR hold their command line's options beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}), check the path") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors or is damaged, and code in it is never run; "
            "save its state dict alone, as .safetensors or .pth"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}), download it again") from error


def _weights(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors by name, without what training wrapped around them."""
    found = content
    for holder in HOLDERS:
        if isinstance(content, Mapping) and isinstance(content.get(holder), Mapping):
            found = content[holder]
            break
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f"{path} holds no state dict, neither bare nor under {', '.join(HOLDERS)}; save one")
    broken = next((name for name, value in found.items() if not value.isfinite().all()), None)
    if broken is not None:
        raise InputError(f"{path} holds NaN or infinity in {broken}, take an earlier checkpoint")
    prefix = WRAPPED if all(name.startswith(WRAPPED) for name in found) else ""
    return {name.removeprefix(prefix): value for name, value in found.items()}


def _compare(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], wrong: str, name: str) -> None:
    """Refuse weights whose names or shapes are not those that are expected."""
    for key, tensor in expected.items():
        if key not in weights:
            raise InputError(f"{wrong}, it lacks {key}; {_hint(name)}")
        if weights[key].shape != tensor.shape:
            found, needed = tuple(weights[key].shape), tuple(tensor.shape)
            raise InputError(f"{wrong}, {key} has shape {found} instead of {needed}; {_hint(name)}")
    extra = [key for key in weights if key not in expected]
    if extra:
        raise InputError(f"{wrong}, it has {extra[0]}, which that network lacks; {_hint(name)}")


def _hint(name: str) -> str:
    others = [other for other in FORMATS if other != name]
    return f"is it {' or '.join(others)}?"


def _glf_cr(weights: Mapping[str, Tensor]) -> dict[str, int]:
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


def _cross_attention(weights: Mapping[str, Tensor]) -> dict[str, int]:
    width, optical_bands = weights["optical_encoder.E1.conv1.weight"].shape[:2]
    radar_bands = weights["sar_encoder.E1.conv1.weight"].shape[1]
    return {"optical_bands": optical_bands, "radar_bands": radar_bands, "width": width}


def _count(weights: Mapping[str, Tensor], name: str) -> int:
    """Return how many of `name`, with 0, 1, ... in place of its braces, there are."""
    return next(index for index in range(len(weights) + 1) if name.format(index) not in weights)


FORMATS = {
    "glf-cr": Format(glf_cr, _glf_cr, computed=("attn_mask", "relative_position_index")),
    "cross-attention": Format(cross_attention, _cross_attention),
}
