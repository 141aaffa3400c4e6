"""The files of a job that ended: listed, and as one archive; nothing else can be named."""

import io
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

from pellucid.web.jobs import INPUTS, RESULTS

# Kinds that a browser shows; all others it saves.
SHOWN = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".json": "application/json",
}
CHUNK = 2**20


def list_files(home: Path, part: str = RESULTS) -> dict[str, Path]:
    """Return the files of a job by their name in it; hidden ones and links are left out."""
    if part not in (RESULTS, INPUTS):
        return {}
    folder = home / part
    found = {each.relative_to(folder).as_posix(): each for each in sorted(folder.rglob("*"))}
    return {
        name: path
        for name, path in found.items()
        if path.is_file() and not path.is_symlink() and not any(p.startswith(".") for p in name.split("/"))
    }


def find_page(names: Collection[str]) -> str:
    """Return the name of what is opened of a result: a page, or else a picture, the sheet of several."""
    endings = (".html", "sheet.png", ".png")
    return next((name for ending in endings for name in names if name.endswith(ending)), "")


def zip_files(files: dict[str, Path]) -> Iterator[bytes]:
    """Yield an archive of files, piece by piece, without compressing them again."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files.items():
            entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
            with path.open("rb") as file, archive.open(entry, "w", force_zip64=True) as member:
                while chunk := file.read(CHUNK):
                    member.write(chunk)
                    yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that can only be written, and whose bytes are taken away."""

    def __init__(self) -> None:
        self.pieces = list[bytes]()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        taken, self.pieces = b"".join(self.pieces), []
        return taken
