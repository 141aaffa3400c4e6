"""The files of a data folder, those in its `.tar` files as if they were unpacked there; which are whole."""

import os
import struct
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import tifffile

from pellucid.data.files import glob_files, with_any_suffix
from pellucid.errors import InputError

TAR, PACKED = ".tar", (".tar.gz", ".tgz")


@dataclass(frozen=True)
class Shard:
    """What an uncompressed `.tar` holds: first byte and size of each file, by name.

    `is_whole` is False where its end is missing; files that are not whole are left out.
    """

    files: dict[str, tuple[int, int]]
    is_whole: bool


def read_shard(path: Path) -> Shard:
    """Return what a `.tar` holds; its headers are read once per process."""
    stat = path.stat()
    return _read_shard(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _read_shard(path: Path, size: int, changed: int) -> Shard:  # noqa: ARG001
    files, is_whole = dict[str, tuple[int, int]](), True
    try:
        with tarfile.open(path, "r:") as archive:
            for each in archive:
                if each.isreg() and not each.issparse():
                    name = PurePosixPath(os.path.normpath(each.name)).as_posix()
                    files[name] = (each.offset_data, each.size)
    except (tarfile.TarError, EOFError, OSError):
        is_whole = False
    kept = {name: (first, count) for name, (first, count) in files.items() if first + count <= size}
    return Shard(kept, is_whole and len(kept) == len(files))


def split_member(path: Path) -> tuple[Path, str] | None:
    """Return the `.tar` through which a path leads, and the name within; None for other paths."""
    for folder in path.parents:
        if folder.suffix.lower() == TAR and folder.is_file():
            return folder, path.relative_to(folder).as_posix()
    return None


def find_member(path: Path, what: str) -> str | None:
    """Return what GDAL opens of a path that leads through a `.tar`; None for other paths."""
    found = split_member(path)
    if found is None:
        return None
    shard, name = found
    if name not in (files := read_shard(shard).files):
        raise InputError(f"the {what} {name} is not in {shard}, or not whole; download the file again")
    first, count = files[name]
    return f"/vsisubfile/{first}_{count},{shard}"


class Tree:
    """The files below a folder, and in the `.tar` files that lie in it; files on the disk come first.

    A file in a `.tar` has the path `root/shard.tar/name`, which readers of rasters take.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        shards = glob_files(root, f"*{TAR}")
        self.broken = tuple(path for path in shards if not read_shard(path).is_whole)
        self.members = {name: path / name for path in reversed(shards) for name in read_shard(path).files}

    def glob(self, pattern: str) -> list[tuple[PurePosixPath, Path]]:
        """Return name and path of the files that fit a pattern without `**`, sorted by name."""
        found = {
            PurePosixPath(path.relative_to(self.root).as_posix()): path
            for path in glob_files(self.root, pattern)
        }
        wanted = PurePosixPath(with_any_suffix(pattern))
        for text, path in self.members.items():
            name = PurePosixPath(text)
            if (
                len(name.parts) == len(wanted.parts)
                and name.match(str(wanted))
                and "." not in {p[0] for p in name.parts}
            ):
                found.setdefault(name, path)
        return sorted(found.items())

    def find(self, name: PurePosixPath) -> Path:
        """Return the path of a file, whether or not it is there."""
        path = self.root / name
        return path if path.is_file() else self.members.get(name.as_posix(), path)

    def has_folder(self, name: str) -> bool:
        """Return whether a folder of this name holds files."""
        return (self.root / name).is_dir() or any(each.startswith(f"{name}/") for each in self.members)

    def packed(self) -> list[Path]:
        """Return the compressed archives, of which no part can be read alone."""
        return sorted(path for path in self.root.iterdir() if path.name.lower().endswith(PACKED))


def is_there(path: Path) -> bool:
    """Return whether a file or product, or a file in a `.tar`, is there."""
    found = split_member(path)
    return path.exists() if found is None else found[1] in read_shard(found[0]).files


def is_whole(path: Path) -> bool:
    """Return whether a TIFF, or one in a `.tar`, is there to its last byte."""
    if split_member(path) is not None or not path.is_file():
        return is_there(path)
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            ends = [first + count for first, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
            file.filehandle.seek(page.offset)
            (count,) = struct.unpack(file.tiff.tagnoformat, file.filehandle.read(file.tiff.tagnosize))
            # A tag whose value lies behind the end of the file is left out.
            return len(page.tags) == count and 0 < max(ends) <= path.stat().st_size
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError, struct.error):
        return False
