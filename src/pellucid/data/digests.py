"""SHA-256 digests in the files that they are of: weights (safetensors) and checkpoints (torch's zip).

A flipped bit in a weight is a number like any other, which no format notices. A file without a digest, as
earlier versions wrote it, is taken as it is.
"""

import errno
import hashlib
import json
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pellucid.data.files import flush
from pellucid.data.text_file import parse_json

if TYPE_CHECKING:
    from torch import Tensor

# The entry of a weights file's metadata, as JSON like the others there; blank while the digest is computed.
KEY, BLANK = "sha256", b"0" * 64
_ENTRY = re.compile(rb'"sha256":"\\"(.{64})\\""')
# What stands before the digest in the comment at the end of a zip file, and how such a file ends without one.
MARK, ZIP_END = b"sha256:", b"PK\5\6"
CHUNK = 2**20
DAMAGED = "its content does not fit the SHA-256 that was saved with it"


def save_tensors(tensors: "dict[str, Tensor]", path: Path, texts: Mapping[str, str]) -> None:
    """Write a safetensors file with its digest among the `texts` of its metadata, and read it back."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file  # and torch, which takes long

    try:
        save_file(tensors, path, {**texts, KEY: f'"{BLANK.decode()}"'})
    except SafetensorError as error:  # of the disk, in words of its own
        number = errno.ENOSPC if "StorageFull" in str(error) else errno.EIO
        raise OSError(number, os.strerror(number)) from error
    with path.open("r+b") as file:
        _sort_texts(file)
        at = _find_entry(file)
        digest = _digest(file, blank=at)
        file.seek(at)
        file.write(digest)
    flush(path, forget=True)
    check_tensors(path)


def check_tensors(path: Path) -> None:
    """Check a safetensors file against the digest in it, if it has one.

    Raises:
        ValueError: if it was damaged.
    """
    with _open(path) as file:
        at = _find_entry(file)
        if at < 0:
            return
        file.seek(at)
        saved = file.read(len(BLANK))
        if _digest(file, blank=at) != saved:
            raise ValueError(DAMAGED)


def read_digest(path: Path) -> str | None:
    """Return the digest that a safetensors file says it has, in hexadecimal; None where it has none."""
    with _open(path) as file:
        at = _find_entry(file)
        file.seek(max(at, 0))
        return file.read(len(BLANK)).decode() if at >= 0 else None


def digest_weights_file(path: Path) -> str:
    """Return the digest that a safetensors file says it has, or, of one without, that of the file."""
    with path.open("rb") as file:
        return read_digest(path) or _digest(file).decode()


def seal_archive(path: Path) -> None:
    """Write the digest of a zip file into its comment, at its end, and read it back."""
    comment = len(MARK) + len(BLANK)
    with path.open("r+b") as file:
        file.seek(-22, os.SEEK_END)
        if file.read(4) != ZIP_END:
            raise ValueError(f"{path} is no zip file without a comment")
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", comment))
        digest = _digest(file)
        file.seek(0, os.SEEK_END)
        file.write(MARK + digest)
    flush(path, forget=True)
    check_archive(path)


def check_archive(path: Path, *, must_have: bool = False) -> None:
    """Check a zip file against the digest at its end, which it may lack, or `must_have`.

    Raises:
        ValueError: if it was damaged.
    """
    comment = len(MARK) + len(BLANK)
    with _open(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - comment))
        found = file.read()
        is_sealed = found.startswith(MARK)
        if must_have > is_sealed:
            raise ValueError("its SHA-256 is missing")
        if is_sealed and _digest(file, stop=size - comment) != found.removeprefix(MARK):
            raise ValueError(DAMAGED)


def _open(path: Path) -> BinaryIO:
    """Open a file to read it; a pipe, which would block, is none."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    return path.open("rb")


def _sort_texts(file: BinaryIO) -> None:
    """Sort the metadata, which the library writes in any order, so that the same weights give one file."""
    size = int.from_bytes(file.read(8), "little")
    header = parse_json(file.read(size))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
    if len(content) == size:
        file.seek(8)
        file.write(content)


def _find_entry(file: BinaryIO) -> int:
    """Return where the digest of a safetensors file stands; -1: it has none."""
    file.seek(0)
    start = file.read(8)
    header = file.read(min(int.from_bytes(start, "little"), os.fstat(file.fileno()).st_size))
    found = _ENTRY.search(header)
    return -1 if found is None else len(start) + found.start(1)


def _digest(file: BinaryIO, *, blank: int | None = None, stop: int | None = None) -> bytes:
    """Return the digest, in hexadecimal, of the file up to `stop`, the digest at `blank` taken as blank."""
    digest, parts = hashlib.sha256(), [(0, stop)]
    if blank is not None:
        parts = [(0, blank), (blank + len(BLANK), stop)]
    for number, (start, end) in enumerate(parts):
        if number:
            digest.update(BLANK)
        file.seek(start)
        left = os.fstat(file.fileno()).st_size - start if end is None else end - start
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest().encode()
