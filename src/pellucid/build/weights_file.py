"""Files of weights by path or URL, read without running any code in them, and matched with a network."""

import argparse
import pickle
import sys
import zipfile
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pellucid.data.files import check_is_file
from pellucid.errors import InputError
from pellucid.networks._vgg import VGG16, VGG16_TAPS, VGG19, VGG19_TAPS, VGG_CHANNELS, Lpips, Vgg

SUFFIXES = (".pth", ".pt", ".safetensors")
# Keys under which published training scripts save the weights; a checkpoint may also be the bare weights.
HOLDERS = ("network", "model_state_dict", "state_dict")
# What torch.nn.DataParallel puts before every key.
WRAPPED = "module."


def read_state_dict(source: Path | str) -> dict[str, Tensor]:
    """Return the tensors by name, without what training wrapped around them.

    Args:
        source: .pth, .pt or .safetensors; as text also an http, https or file URL of one, which is fetched
            once into the folder of torch.hub (`TORCH_HOME`).
    """
    is_url = isinstance(source, str) and "://" in source
    path = Path(urlsplit(str(source)).path) if is_url else Path(source)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{source} is no checkpoint by its name, give a .pth, .pt or .safetensors file")
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
        if path.suffix == ".safetensors":
            return load_file(path)
        # Training checkpoints of GLF-CR hold their command line's options besides the weights.
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


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    held = [content.get(holder) for holder in HOLDERS] if isinstance(content, Mapping) else []
    found = next((each for each in held if isinstance(each, Mapping)), content)
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f"{path} holds no state dict, neither bare nor under {', '.join(HOLDERS)}; save one")
    broken = next((name for name, value in found.items() if not value.isfinite().all()), None)
    if broken is not None:
        raise InputError(f"{path} holds NaN or infinity in {broken}, take an earlier checkpoint")
    prefix = WRAPPED if all(name.startswith(WRAPPED) for name in found) else ""
    return {name.removeprefix(prefix): value for name, value in found.items()}


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
