"""A run folder: config.yaml, weights.safetensors, card.md, metrics.json; weights are never pickled.

A run with a text encoder also holds its tokenizer.json, whose SHA-256 is in the metadata of the weights.
"""

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pellucid.build.fine_tuning import plain_state
from pellucid.config import Config, load_config, save_config
from pellucid.data.digests import check_tensors, save_tensors
from pellucid.data.files import write_atomically, write_text
from pellucid.data.ranges import PICTURE, ValueRange
from pellucid.data.run_folder import CARD, CONFIG, METRICS, SHIPPED, WEIGHTS, shipped_runs
from pellucid.data.schema import parse, read_yaml
from pellucid.data.text_file import parse_json
from pellucid.data.tokenizer import TOKENIZER, Tokenizer, read_tokenizer
from pellucid.errors import InputError, damaged
from pellucid.methods.method import Method

log = logging.getLogger(__name__)

# Where the files of a run are written before they appear, in its folder.
STAGED = ".run.partial"
# Prefix of the weights of the autoencoders of a network in latent space; what each encodes follows.
AUTOENCODERS = "autoencoders."
# Prefix of the weights of the text encoder of a network that is conditioned on texts.
TEXT = "text_encoder."
# Prefix of the weights of what predicts broad colours.
PRIOR = "prior."
# Prefix of what a learned schedule found of the losses at its times.
TIMES = "times."


@dataclass(frozen=True)
class Metadata:
    """What the weights need to be used, saved in their file.

    Attributes:
        mean_spectrum: the training set's mean per optical band, in [0, 1].
        mean_colors: the same per prompt, and of the whole training set under ""; for colorized radar.
        tones: what says the mean colour of a picture by its radar, as a table, see `Tones`.
        autoencoders: config's `network` entry of each autoencoder whose weights are in the file, by what it
            encodes, "optical" or "sar".
        tokenizer: SHA-256 of tokenizer.json, if the run has a text encoder.
        text: config's `network` entry of the text encoder whose weights are in the file.
        prior: sizes of what predicts broad colours, if its weights are in the file.
        model: SHA-256 of the network and method in config.yaml, as it was saved beside the weights.
    """

    optical: ValueRange
    radar: ValueRange
    mean_spectrum: tuple[float, ...] | None
    autoencoders: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    mean_colors: Mapping[str, tuple[float, ...]] | None = None
    tones: tuple[tuple[float, ...], ...] | None = None
    tokenizer: str | None = None
    text: Mapping[str, Any] | None = None
    prior: Mapping[str, Any] | None = None
    model: str | None = None


def save_run(
    folder: Path,
    *,
    config: Config,
    method: Method,
    card: str | None = None,
    metrics: dict[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write the run folder; its files appear when all are written, and replace those of an earlier run.

    Args:
        folder: made where it is missing.
        config: complete, as the method was built.
        method: its network is saved, with the autoencoders, text encoder and tokenizer that it needs.
        card: text of card.md, where given.
        metrics: figures of metrics.json, where given; plain numbers, lists and dictionaries.
        half: save the weights in half precision.
    """
    staged = folder / STAGED
    try:
        shutil.rmtree(staged, ignore_errors=True)  # of a killed process
        staged.mkdir(parents=True)
        write_atomically(staged / CONFIG, lambda path: save_config(config, path))
        if method.tokenizer is not None:
            write_text(staged / TOKENIZER, method.tokenizer.to_json())
        _save_weights(staged / WEIGHTS, method, half=half, model=_digest_model(staged / CONFIG))
        if card is not None:
            write_text(staged / CARD, card)
        if metrics is not None:
            write_text(staged / METRICS, json.dumps(metrics, indent=2) + "\n")
        for path in sorted(staged.iterdir()):
            path.replace(folder / path.name)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot write the run {folder} ({reason}), choose another folder") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def read_run(folder: Path) -> tuple[Config, dict[str, Tensor], Metadata]:
    """Return config, weights (see `part_of`; float32 where they are floating) and metadata of a run.

    The weights are checked against the digest that was saved with them, if there is one.
    """
    if (folder / WEIGHTS).is_file():  # before anything in it is believed
        with _open_weights(folder):
            check_tensors(folder / WEIGHTS)
    config, metadata = read_metadata(folder)
    with _open_weights(folder) as file:
        return config, {name: _single(file.get_tensor(name)) for name in file.keys()}, metadata  # noqa: SIM118


def read_metadata(folder: Path) -> tuple[Config, Metadata]:
    """Return config and metadata of a run folder, without reading its weights."""
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} is no run folder, it needs {CONFIG} and {WEIGHTS}")
    config = load_config(folder / CONFIG)
    with _open_weights(folder) as file:
        values = {name: parse_json(text) for name, text in (file.metadata() or {}).items()}
        needed = {name: values[name] for name in ("optical", "radar", "mean_spectrum")}
        optional = ("autoencoders", "mean_colors", "tones", "tokenizer", "text", "prior", "model")
        found = {**needed, **{name: values[name] for name in optional if name in values}}
    metadata = parse(Metadata, found, where=f"the metadata of {folder / WEIGHTS}")
    if metadata.model not in (None, _digest_model(folder / CONFIG)):
        log.warning(
            "%s: network or method are not as they were saved with the weights; what is left out has its "
            "default",
            folder / CONFIG,
        )
    return config, metadata


@contextmanager
def _open_weights(folder: Path) -> Iterator[Any]:
    """Yield the open weights file; what goes wrong in reading it becomes an `InputError`."""
    weights = folder / WEIGHTS
    try:
        with safe_open(weights, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise damaged(weights, error, "save or download the run again") from error
    except KeyError as error:
        raise InputError(
            f"{weights} lacks {error} in its metadata, make it with `pellucid import`"
        ) from error


def check_tokenizer(folder: Path, metadata: Metadata) -> Tokenizer:
    """Return the tokenizer of a run folder: the one that the weights were trained with, and no other."""
    path = folder / TOKENIZER
    if metadata.tokenizer is None:
        raise InputError(f"{folder} has no text encoder; name the run of a text encoder or a colorizer")
    if not path.is_file():
        raise InputError(
            f"{folder} lacks {TOKENIZER}, the words that it was trained with; copy it from there"
        )
    try:
        found = _digest(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({error}), copy it from the training run") from error
    if found != metadata.tokenizer:
        raise InputError(
            f"{path} is not the tokenizer of training: its SHA-256 begins with {found[:8]} instead of "
            f"{metadata.tokenizer[:8]}; copy that of the training run"
        )
    return read_tokenizer(path)


def part_of(state: Mapping[str, Tensor], prefix: str | None = None) -> dict[str, Tensor]:
    """Return the weights with a prefix, without it, from those of a run; None: the network's."""
    if prefix is None:
        others = AUTOENCODERS, TEXT, PRIOR, TIMES
        return {name: value for name, value in state.items() if not name.startswith(others)}
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _shipped_methods() -> dict[str, Any]:
    return {name: load_config(SHIPPED / name / CONFIG).method for name in shipped_runs()}


def find_upscaler(factor: int | None = None) -> str:
    """Return the name of a model that ships and enlarges slices by `factor`; None: the most."""
    scales = {name: getattr(method, "scale", 1) for name, method in _shipped_methods().items()}
    for name, scale in sorted(scales.items(), key=lambda item: -item[1]):
        if scale > 1 and factor in (None, scale):
            return name
    known = ", ".join(f"{name} ({scale} times)" for name, scale in scales.items() if scale > 1) or "none"
    wanted = "enlarges slices" if factor is None else f"enlarges slices {factor} times"
    raise InputError(f"no model that ships {wanted} (those that enlarge: {known}); name a run with --model")


def find_colorizer() -> str:
    """Return the name of a model that ships and turns radar into pictures in colour."""
    for name, method in _shipped_methods().items():
        if method.optical == PICTURE.bands and method.radar:
            return name
    raise InputError("no model that ships turns radar into pictures in colour; name a run with --model")


def _digest_model(path: Path) -> str:
    """Return the SHA-256 of the network and method that a config names, as they stand there."""
    values = read_yaml(path)
    return _digest(json.dumps({name: values.get(name) for name in ("network", "method")}, sort_keys=True))


def _save_weights(path: Path, method: Method, *, half: bool, model: str) -> None:
    metadata: dict[str, Any] = {
        "model": model,
        "optical": dataclasses.asdict(method.optical),
        "radar": dataclasses.asdict(method.radar),
        "mean_spectrum": method.mean_spectrum,
    }
    weights = plain_state(method.network)
    if autoencoders := method.autoencoders:
        metadata["autoencoders"] = {kind: _entry(network) for kind, network in autoencoders.items()}
    for kind, network in autoencoders.items():
        weights |= network.state_dict(prefix=f"{AUTOENCODERS}{kind}.")
    if (text := method.text_encoder) is not None:
        metadata["text"] = _entry(text)
        weights |= text.state_dict(prefix=TEXT)
    if (prior := method.prior) is not None:
        metadata["prior"] = _entry(prior)
        weights |= prior.state_dict(prefix=PRIOR)
    if method.times is not None and method.times.is_schedule:
        weights |= method.times.state_dict(prefix=TIMES)
    metadata |= _known_colors(method)
    if method.tokenizer is not None:
        metadata["tokenizer"] = _digest(method.tokenizer.to_json())
    state = {
        # A channels-last tensor cannot be stored, and two names may share one tensor: hence the copies.
        name: tensor.detach()
        .to("cpu", torch.float16 if half and tensor.is_floating_point() else tensor.dtype)
        .clone(memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    texts = {name: json.dumps(value) for name, value in metadata.items()}

    def write(partial: Path) -> None:
        save_tensors(state, partial, texts)
        with safe_open(partial, framework="pt") as file:
            for name, tensor in state.items():
                if not torch.equal(file.get_tensor(name), tensor):
                    raise OSError(f"{name} reads back differently from {path}")

    write_atomically(path, write)


def _known_colors(method: Method) -> dict[str, Any]:
    """Return the metadata about the colours of the training pictures, where there were any."""
    colors: dict[str, Any] = {}
    if method.mean_colors is not None:
        colors["mean_colors"] = dict(method.mean_colors)
    if method.tones is not None:
        colors["tones"] = method.tones.table
    return colors


def _entry(network: nn.Module) -> dict[str, Any]:
    """Return the config's `network` entry that builds the same network."""
    config: Any = network.config
    return {"name": type(network).__module__.rpartition(".")[2], **dataclasses.asdict(config)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
