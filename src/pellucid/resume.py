"""Checkpoints that a run can go on from, and whether it would go on as the same run."""

import pickle
from pathlib import Path
from typing import Any

import torch

from pellucid.bookkeeping import CHECKPOINTS, LAST
from pellucid.config import Config, parse
from pellucid.errors import InputError

# What a resumed run may change: how far and how it goes on, not what it would have been until here.
CHANGEABLE = frozenset(
    (
        *("num_steps", "epochs", "validate_every", "validate_every_epochs", "checkpoint_every"),
        *("checkpoint_every_epochs", "early_stopping", "num_workers", "device"),
    )
)


def last_checkpoint(folder: Path, config: Config, *, resume: bool) -> Path | None:
    """Return the checkpoint to resume from; None to start.

    Raises:
        InputError: if there is a run and it is not to be resumed, or none and it is, or another one.
    """
    last = folder / CHECKPOINTS / LAST
    if not resume:
        if last.exists():
            raise InputError(f"{folder} already holds a run, resume it (--resume) or choose another folder")
        return None
    if not last.exists():
        raise InputError(f"{folder} has no {CHECKPOINTS}/{LAST}, leave --resume away to start a run there")
    saved = parse(Config, read_checkpoint(last)["config"], where=str(last))
    before, now = _fixed(saved), _fixed(config)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise InputError(
                f"{key} is {now.get(key)!r} but the run in {folder} was trained with {before.get(key)!r}, "
                "change it back or start another run"
            )
    return last


def _fixed(config: Config) -> dict[str, Any]:
    """Return by dotted key what may not change when a run is resumed; data may move."""
    values = config.model_dump(mode="json")
    kept = {f"train.{key}": value for key, value in values["train"].items() if key not in CHANGEABLE}
    for part in ("network", "method", "losses"):
        kept |= {f"{part}.{key}": value for key, value in values[part].items()}
    data = ("tile", "augment", "hold_out", "num_cached")
    return kept | {f"data.{key}": values["data"][key] for key in data}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the whole state of a run as it was saved.

    Raises:
        InputError: if the file is damaged.
    """
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is damaged ({error}), resume from another one copied to {LAST}") from error
