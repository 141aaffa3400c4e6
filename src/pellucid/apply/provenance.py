"""What made a result, as the tags that go into it: the same call writes the same ones, byte for byte.

They also tell whether a result of an earlier call still stands.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pellucid import __version__
from pellucid.apply.engine import NOT_IN_KEY, Engine
from pellucid.data.ownership import PREFIX, TAG, read_tags
from pellucid.data.raster_source import files_of
from pellucid.errors import InputError, counted
from pellucid.methods.inference import digest_method

log = logging.getLogger(__name__)

Inputs = Mapping[str, Path | Sequence[Path] | None]


def tag_result(
    command: str, *, model: str, weights: str | None = None, options: Mapping[str, Any], inputs: Inputs
) -> dict[str, str]:
    """Return the tags of a result: command, model, SHA-256 of its weights, version, options, seed, inputs.

    Options and inputs are JSON. Inputs, by what they are, are named by their files alone: folders say
    nothing elsewhere. Options that are None are left out, and so are the weights of what has none of ours.
    """
    named = {
        what: path.name if isinstance(path, Path) else [each.name for each in path]
        for what, path in inputs.items()
        if path
    }
    chosen = {name: value for name, value in options.items() if value is not None and name != "seed"}
    tags = {"COMMAND": command, "MODEL": model, "VERSION": __version__}
    tags |= {"WEIGHTS": weights} if weights else {}
    tags |= {"OPTIONS": json.dumps(chosen), "INPUTS": json.dumps(named)}
    if "seed" in options:
        tags["SEED"] = str(options["seed"])
    return {**TAG, **{PREFIX + name: text for name, text in tags.items()}}


def tag_of_engine(command: str, engine: Engine, inputs: Inputs, **more: Any) -> dict[str, str]:
    """Return the tags of what an engine makes; options on which no pixel depends are left out.

    A method that was not loaded goes by the name of its class, and by a digest of its weights as they are.
    """
    names = [field.name for field in fields(engine.options) if field.name not in (*NOT_IN_KEY, "painted")]
    options = {name: getattr(engine.options, name) for name in names}
    options |= {"tile": engine.tile, "precision": engine.precision, **more}
    model, weights = engine.method.origin or (
        type(engine.method).__name__,
        hashlib.sha256(digest_method(engine.method).encode()).hexdigest(),
    )
    return tag_result(command, model=model, weights=weights, options=options, inputs=inputs)


def is_current(path: Path, tags: Mapping[str, str], inputs: Iterable[Path]) -> bool:
    """Return whether a result is there that was made as `tags` say, and of which no input has changed since.

    Raises:
        InputError: if another file is there, which would be taken for the result, or replaced.
    """
    if not path.exists():
        return False
    found, kind = read_tags(path), [f"{PREFIX}{name}" for name in ("COMMAND", "LAYER")]
    if any(found.get(name) != tags.get(name) for name in kind):
        command, layer = tags[kind[0]], tags.get(kind[1], "result")
        raise InputError(
            f"cannot write {path}: a file is there that is no {layer} by pellucid {command}; name another "
            "folder, or replace it with --force"
        )
    about = {name for name in (*found, *tags) if name.startswith(PREFIX)} - {f"{PREFIX}VERSION"}
    if any(found.get(name) != tags.get(name) for name in about):
        return False
    made = path.stat().st_mtime_ns
    return all(file.stat().st_mtime_ns <= made for each in inputs for file in files_of(each))


def say_made_anew(count: int) -> None:
    """Warn, if there are such, that results of an earlier call are replaced."""
    if count:
        log.warning(
            "%s made with other settings, or before an input changed: made anew", counted(count, "result")
        )
