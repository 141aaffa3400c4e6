"""Files of weights by path or URL, read without running any code in them, and matched with a network."""

import argparse
import logging
import pickle
import re
import struct
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pellucid.data.files import check_is_file
from pellucid.errors import InputError, damaged
from pellucid.networks._vgg import VGG16, VGG16_TAPS, VGG19, VGG19_TAPS, VGG_CHANNELS, Lpips, Vgg

SUFFIXES = (".pth", ".pt", ".ckpt", ".pth.tar", ".pt.tar", ".bin", ".safetensors")
# Keys under which published training scripts save the weights; a checkpoint may also be the bare weights.
# Averaged weights come first: they are what such scripts evaluate.
HOLDERS = (
    *("params_ema", "state_dict_ema", "ema_state_dict", "model_ema", "ema"),
    *("network", "model_state_dict", "state_dict", "params", "model", "net", "generator"),
)
# What torch.nn.DataParallel and torch.compile put before every key.
WRAPPED = ("module.", "_orig_mod.")
# What is downloaded in place of a file, by how it begins, and what to do about it.
_NO_CHECKPOINT = (
    (rb"$", "is empty, download it again"),
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself; run git lfs pull"),
    (rb"\s*<(!doctype|html|head|body|\?xml)", "is a web page, not a checkpoint; download the file itself"),
    (rb"[\t\r\n -~]+$", "is a text, not a checkpoint; download the file itself"),
    (rb"\x1f\x8b|7z|BZh|\xfd7zXZ|Rar!", "is a packed archive; unpack it and give the checkpoint in it"),
)
# What a damaged checkpoint makes torch raise, besides UnpicklingError; found by flipping and cutting bytes.
_DAMAGED = (
    *(SafetensorError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, ValueError, LookupError),
    *(TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError, ImportError),
)
log = logging.getLogger(__name__)


def read_state_dict(source: Path | str) -> dict[str, Tensor]:
    """Return the tensors by name, without what training wrapped around them.

    Args:
        source: .safetensors or what torch.save wrote (`SUFFIXES`); as text also an http, https or file URL
            of one, which is fetched once into the folder of torch.hub (`TORCH_HOME`).
    """
    is_url = isinstance(source, str) and "://" in source
    path = Path(urlsplit(str(source)).path) if is_url else Path(source)
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"{source} is no checkpoint by its name, give a {', '.join(SUFFIXES)} file")
    return _read_fetched(str(source), path.name) if is_url else _tensors(_read(path), path)


def _read_fetched(url: str, name: str) -> dict[str, Tensor]:
    """Return what the file of `url` holds; a download that cannot be read is not kept."""
    kept = Path(torch.hub.get_dir()) / "checkpoints" / name
    if kept.is_file():
        return read_state_dict(kept)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(kept), progress=sys.stderr.isatty())
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot download {url} to {kept.parent} ({reason}), check the URL or name a file on this machine"
        ) from error
    try:
        return read_state_dict(kept)
    except InputError:
        kept.unlink()
        raise


def _read(path: Path) -> Any:
    check_is_file(path)
    try:
        _check_content(path)
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_data_types()):
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}), check the path") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors or is damaged, and code in it is never run; "
            "save its state dict alone, as .safetensors or .pth"
        ) from error
    except InputError:
        raise
    except _DAMAGED as error:
        raise damaged(path, error, "download it again") from error


def _check_content(path: Path) -> None:
    """Refuse what is no checkpoint by its content, as downloads that went wrong."""
    with path.open("rb") as file:
        start = file.read(256)
    for pattern, fault in _NO_CHECKPOINT:
        if re.match(pattern, start, re.IGNORECASE):
            raise InputError(f"{path} {fault}")
    if path.suffix.lower() != ".safetensors" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            names = [PurePosixPath(name).name for name in file.namelist()]
        if "constants.pkl" in names:
            raise InputError(f"{path} is TorchScript; save the state_dict() of its module in place of it")
        if "data.pkl" not in names:
            raise InputError(f"{path} is a zip archive; unpack it and give the checkpoint in it")


def _data_types() -> list[Any]:
    """Return what a checkpoint may hold beside tensors: numbers and arrays of numpy, and parsed options."""
    core: Any = getattr(np, "_core", None) or np.core
    makers = [getattr(core.multiarray, name) for name in ("scalar", "_reconstruct")]
    older = [(maker, f"numpy.core.multiarray.{maker.__name__}") for maker in makers]
    kinds = {type(np.dtype(code)) for code in np.typecodes["All"]}
    return [argparse.Namespace, np.dtype, np.ndarray, *kinds, *makers, *older]


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    held = [key for key in HOLDERS if isinstance(content, Mapping) and _are_weights(content.get(key))]
    if len(held) > 1:
        log.warning("%s holds weights under %s; those under %s are taken", path, " and ".join(held), held[0])
    found = content[held[0]] if held else content
    if not _are_weights(found):
        raise InputError(
            f"{path} holds no state dict, neither bare nor under {', '.join(sorted(HOLDERS))}; save one"
        )
    for name, value in found.items():
        if value.is_quantized or value.is_meta or value.is_complex() or value.layout != torch.strided:
            raise InputError(f"{path} holds {name} in a form other than dense real numbers, save it as such")
        # Eight bits of floating point have no `isfinite`.
        if value.is_floating_point() and not value.float().isfinite().all():
            raise InputError(f"{path} holds NaN or infinity in {name}, take an earlier checkpoint")
    weights = dict(found)
    while prefix := next((each for each in WRAPPED if all(name.startswith(each) for name in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _are_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items())
    )


def match(
    found: Mapping[str, Tensor], network: nn.Module, where: str, *, way_out: str = ""
) -> dict[str, Tensor]:
    """Return the weights, after checking that they have the names and shapes of the network's.

    The error names the first that does not, after `where`, whose weights they are, and before `way_out`. The
    network may be on the meta device.
    """
    expected = network.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in found]
    for name, value in found.items():
        if name not in expected:
            faults.append(f"{name} is no weight of that network")
        elif value.shape != expected[name].shape:
            needed = tuple(expected[name].shape)
            faults.append(f"{name} has shape {tuple(value.shape)} instead of {needed}")
    if faults:
        raise InputError(f"{where}: {faults[0]}" + (f"; {way_out}" if way_out else ""))
    return dict(found)


def load_vgg19(source: Path | str) -> Vgg:
    """Return VGG19 up to conv5_1 and its ReLU, from torchvision's weights as `read_state_dict` takes them."""
    return _load_vgg(VGG19, VGG19_TAPS, source, "VGG19")


def load_lpips(vgg16: Path | str) -> Lpips:
    """Return LPIPS, with the authors' linear layers, version 0.1, that torchmetrics carries.

    Its VGG16 has torchvision's weights, as `read_state_dict` takes them.
    """
    import torchmetrics.functional.image

    network = _load_vgg(VGG16, VGG16_TAPS, vgg16, "VGG16")
    heads = read_state_dict(Path(torchmetrics.functional.image.__file__).parent / "lpips_models" / "vgg.pth")
    return Lpips(network, [heads[f"lin{level}.model.1.weight"] for level in range(len(VGG_CHANNELS))])


def _load_vgg(blocks: Sequence[int], taps: Sequence[int], source: Path | str, name: str) -> Vgg:
    with torch.device("meta"):
        network = Vgg(blocks, taps)
    known = network.state_dict()
    weights = {key: value.float() for key, value in read_state_dict(source).items() if key in known}
    match(weights, network, f"{source} is no {name}", way_out="give the published file")
    network.load_state_dict(weights, assign=True)
    return network
