"""What made a result, as the tags that go into it: the same call writes the same ones, byte for byte."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pellucid import __version__
from pellucid.apply.engine import NOT_IN_KEY, Engine
from pellucid.data.ownership import PREFIX, TAG
from pellucid.methods.inference import digest_method

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
