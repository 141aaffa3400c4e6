"""Files of checkpoints: staged in the run folder, sealed with a digest, read back; the last two are apart."""

import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from pellucid.data.digests import check_archive, seal_archive
from pellucid.data.files import temporary_beside, write_atomically
from pellucid.errors import InputError, damaged

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class SealedCheckpoints(CheckpointIO):
    """How Lightning writes and reads checkpoints here: whole or not at all, with a digest that is checked."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any = None,  # noqa: ARG002
    ) -> None:
        """Write the whole state of a run; the file at `path` is replaced when the new one is on the disk."""
        path, step = Path(path), checkpoint["global_step"]
        try:
            with temporary_beside(path) as temporary:
                torch.save(checkpoint, temporary)
                seal_archive(temporary)
                temporary.replace(path)
        except (OSError, RuntimeError, ValueError) as error:  # torch's writer has no class of its own
            reason = getattr(error, "strerror", None) or "it could not be written whole"
            raise InputError(
                f"cannot save the checkpoint of step {step} in {path.parent} ({reason}); free the "
                "disk: what was saved before is kept, and --resume goes on from it"
            ) from error

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = None,  # noqa: ARG002
        weights_only: bool | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return the state, on the CPU; see `read_checkpoint`."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove the file."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the whole state of a run as it was saved; no code in it is run."""
    try:
        check_archive(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise damaged(path, error, f"resume from another one copied to {LAST}") from error


def is_there(folder: Path) -> bool:
    """Return whether a folder holds the last state of a run."""
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint can be read."""
    try:
        read_checkpoint(path)
    except InputError:
        return False
    return True


def find_newest(folder: Path) -> Path:
    """Return the newest checkpoint that can be read; where it is not the last one, say so.

    Raises:
        InputError: if there is none; it names the last one.
    """
    last = folder / LAST
    try:
        read_checkpoint(last)
    except InputError as error:
        others = _steps(folder, (BEST, PREVIOUS))
        if not others:
            raise
        step, path = max(others)
        fault = "is damaged" if last.exists() else "is not there"
        warnings.warn(
            f"{last} {fault}; the run goes on from {path.name}, the newest that is whole, of step {step} "
            f"({' '.join(str(error.__cause__).split())})",
            stacklevel=2,
        )
        return path
    return last


def _steps(folder: Path, names: tuple[str, ...]) -> list[tuple[int, Path]]:
    """Return the checkpoints of these names that can be read, with their steps."""
    found = []
    for name in names:
        try:
            found.append((int(read_checkpoint(folder / name)["global_step"]), folder / name))
        except InputError:
            continue
    return found


def make_last(new: Path, *, is_last_bad: bool) -> None:
    """Make a checkpoint the last one; that which was the last becomes the previous one, unless it is bad."""
    last = new.with_name(LAST)
    if last.exists() and not is_last_bad:
        link(last, new.with_name(PREVIOUS))
    new.replace(last)


def copy(source: Path, name: Path) -> None:
    """Write a file a second time, whole or not at all, so that one bad sector does not take both."""
    write_atomically(name, lambda temporary: shutil.copyfile(source, temporary))


def link(source: Path, name: Path) -> None:
    """Give a file a second name without writing it again, where the file system can."""
    partial = name.with_name(f".{name.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(name)
    partial.unlink(missing_ok=True)  # renaming a file onto itself leaves both names
