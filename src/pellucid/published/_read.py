"""Published checkpoints as runs: sizes read off the shapes, weights under our names."""

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from pellucid.build.method import build_method
from pellucid.build.parts import Parts
from pellucid.build.run import AUTOENCODERS, TEXT, save_run
from pellucid.build.weights_file import match, read_state_dict
from pellucid.config import Config
from pellucid.data.claims import claim_folders
from pellucid.data.run_folder import check_no_run
from pellucid.data.schema import parse
from pellucid.data.tokenizer import default_tokenizer, read_tokenizer
from pellucid.errors import InputError
from pellucid.published import check_format, known_formats
from pellucid.published._format import Entry, Format, Layout
from pellucid.published._hints import Hints

# A network's entry and weights, those of the parts by prefix, and tensors that are neither.
Converted: TypeAlias = tuple[
    Entry, dict[str, Tensor], dict[str, tuple[Entry, dict[str, Tensor]]], dict[str, Tensor]
]


@dataclass(frozen=True)
class Published:
    """A published checkpoint in a run's terms: the config's entries, and float32 weights.

    The bands of `method` have their usual names, if their number has such; `parts` are the autoencoders and
    the text encoder that came with it.
    """

    network: Entry
    method: Entry
    weights: dict[str, Tensor]
    parts: Parts


def read_checkpoint(path: Path, format: str, hints: Hints | None = None) -> Published:  # noqa: A002
    """Return network, method and weights of a checkpoint file, without running any code in it.

    Hints for which the format, one of `known_formats`, has no use are refused.
    """
    hints = hints or Hints()
    kind = find_format(format)
    idle = [key for key, value in asdict(hints).items() if value is not None and key not in kind.hints]
    if idle:
        raise InputError(f"{format} checkpoints need no {' and no '.join(idle)}, leave it out")
    weights = read_state_dict(path)
    try:
        network, state, parts, rest = _convert(weights, kind, hints)
    except ValueError as error:
        others = [name for name in known_formats() if name != format and _fits(weights, find_format(name))]
        way = f"it fits {' and '.join(others)}, name that" if others else "no other known format fits it"
        raise InputError(f"{path} is no {format} checkpoint, {error}; {way}") from error
    try:
        return Published(network, kind.method(network, rest, hints), state, _join(parts, hints))
    except ValueError as error:
        raise InputError(f"cannot import {path}: {error}") from error


def _convert(weights: dict[str, Tensor], kind: Format, hints: Hints) -> Converted:
    """Return the config's `network` entry, its weights, those of the parts by prefix, and other tensors.

    A name that all keys begin with comes off if only that makes them fit: "model.", "net.". A ValueError says
    why nothing fits.
    """
    try:
        return _convert_named(weights, kind, hints)
    except ValueError:
        first = {name.partition(".")[0] for name in weights if "." in name}
        if len(first) != 1 or not all("." in name for name in weights):
            raise
        return _convert({name.partition(".")[2]: value for name, value in weights.items()}, kind, hints)


def _convert_named(weights: dict[str, Tensor], kind: Format, hints: Hints) -> Converted:
    tensors = {
        name: tensor.float()
        for name, tensor in weights.items()
        if name.rpartition(".")[2] not in kind.computed and not name.startswith(kind.unused)
    }
    network, state = _network(tensors, kind, hints)
    return (
        network,
        state,
        {name: _network(tensors, part, hints) for name, part in kind.parts.items()},
        tensors,
    )


def _fits(weights: dict[str, Tensor], kind: Format) -> bool:
    try:
        _convert(weights, kind, Hints())
    except ValueError:
        return False
    return True


def find_format(name: str) -> Format:
    """Return the format that the file of that name defines."""
    check_format(name)
    return importlib.import_module(f"pellucid.published.{name.replace('-', '_')}").FORMAT


def _network(tensors: dict[str, Tensor], layout: Layout, hints: Hints) -> tuple[Entry, dict[str, Tensor]]:
    """Take a network's tensors out of the others; return the config's `network` entry and the state dict."""
    names = [name for name in tensors if name.startswith(layout.prefix)]
    weights = {name.removeprefix(layout.prefix): tensors.pop(name) for name in names}
    try:
        config, network, state = layout.convert(weights, hints)
    except KeyError as error:
        raise ValueError(f"it lacks {layout.prefix}{error.args[0]}") from error
    except (IndexError, ZeroDivisionError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    name = layout.network.__name__.rpartition(".")[2]
    return {"name": name, **asdict(config)}, match(state, network, f"its {name} weights")


def _join(parts: Mapping[str, tuple[Entry, dict[str, Tensor]]], hints: Hints) -> Parts:
    """Return the parts of a checkpoint as those of a run, with the tokenizer of its texts."""
    state = {f"{before}{name}": value for before, part in parts.items() for name, value in part[1].items()}
    coders = {
        before.removeprefix(AUTOENCODERS).rstrip("."): entry
        for before, (entry, _) in parts.items()
        if before.startswith(AUTOENCODERS)
    }
    if TEXT not in parts:
        return Parts(coders, state)
    text = parts[TEXT][0]
    read = partial(read_tokenizer, Path(hints.tokenizer)) if hints.tokenizer else default_tokenizer
    return Parts(coders, state, text, read(length=text["length"]))


def import_run(
    format: str,  # noqa: A002
    checkpoint: Path,
    run: Path,
    *,
    optical: tuple[str, ...] = (),
    radar: tuple[str, ...] = (),
    hints: Hints | None = None,
) -> None:
    """Write a published checkpoint of one of `known_formats` as a run folder.

    `optical` names its optical bands; empty: all thirteen, or B04, B03, B02 where there are three; gray for
    slices; none where an autoencoder has two bands or `radar` is given for it. `radar` names its radar bands;
    empty: VV, VH, or VV where there is one.
    """
    with claim_folders(run):
        check_no_run(run)
        found = read_checkpoint(checkpoint, format, hints)
        named = {key: names for key, names in (("optical", optical), ("radar", radar)) if names}
        method_values = {**found.method, **named}
        if found.method["name"] == "autoencoding" and named:
            method_values = {
                "name": "autoencoding",
                **named,
            }  # of one kind of images, which is not to be guessed
        values = {"network": found.network, "method": method_values, "data": {"train": ()}}
        config = parse(Config, values, where=str(checkpoint))
        method = build_method(config, parts=found.parts)
        method.network.load_state_dict(found.weights)
        card = (
            f"# {run.name}\n\nImported from `{checkpoint.name}` (layout `{format}`), a published checkpoint. "
            "pellucid does not know what it was trained on and has measured nothing; "
            f"`pellucid evaluate {run.name} --data ...` does.\n"
        )
        save_run(run, config=config, method=method, card=card)
