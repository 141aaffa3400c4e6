"""Folders for results: made, or refused in one sentence before any work is done."""

import os
from pathlib import Path

from pellucid.errors import InputError


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        InputError: if that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error


def check_folder(folder: Path, source: Path, *, reason: str) -> None:
    """Refuse a folder that cannot be made or written to, or that is the input.

    Args:
        folder: of the results; nothing is made here.
        source: folder of the input.
        reason: why a folder is needed, for who named a file.

    Raises:
        InputError: saying which.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write {folder}: it is a file, and {reason}; name a folder")
    if folder.resolve() == source.resolve():
        raise InputError(f"cannot write {folder}: it is the input; name another folder")
    if not folder.parent.is_dir():
        raise InputError(f"cannot write {folder}: the folder {folder.parent} does not exist; make it first")
    place = folder if folder.is_dir() else folder.parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {folder}: {place} is read-only; choose another folder")
