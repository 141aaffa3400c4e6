"""Where results go: refused before work starts if they cannot, and left out if an earlier call made them."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from pellucid.apply.options import SceneOptions
from pellucid.data.files import check_writable, existing_folder, write_text
from pellucid.data.geotiff import Raster
from pellucid.data.ownership import TIFF, check_replaceable, is_ours
from pellucid.data.raster_source import files_of
from pellucid.data.text_file import parse_json, read_text
from pellucid.data.working_file import check_room, check_scene_room
from pellucid.errors import InputError, WriteError
from pellucid.web.write_page import page_of

# What to do after an interruption.
GO_ON = "what is finished was kept, and the same command goes on there"


@contextmanager
def can_go_on(*, is_kept: bool = True) -> Iterator[None]:
    """Say, if it was, that what is finished was kept: where user, system or disk stop the work."""
    try:
        yield
    except KeyboardInterrupt as error:
        if is_kept:
            say_kept(error)
        raise
    except WriteError as error:
        if not is_kept or GO_ON in str(error):
            raise
        raise WriteError(f"{error}; {GO_ON}") from error


def say_kept(error: BaseException) -> None:
    """Note, once, on what stops the work that what is finished was kept."""
    if GO_ON not in getattr(error, "__notes__", ()):
        error.add_note(GO_ON)


@dataclass(frozen=True)
class Output:
    """A file that is to be written, from `source`."""

    path: Path
    source: Path
    num_bytes: int = 0  # at most; 0: not known


def check_outputs(
    outputs: Sequence[Output],
    inputs: Iterable[Path],
    *,
    folders: Sequence[Path] = (),
    ignore_case: bool = False,
    replaces: bool = False,
) -> None:
    """Refuse results that replace an input, each other or a file of somebody else, or cannot be written.

    An input is also every file that a VRT among the `inputs` is made of. Results in `folders`, which are
    checked already and perhaps still to be made, must lie below these. With `replaces`, what is there is left
    out or replaced as the user says, whoever wrote it. With `ignore_case` names
    that differ in case alone count as one, as in some file systems.
    """
    read = {_identity(path) for each in inputs for path in files_of(each) if path.exists()}
    places: dict[str, Output] = {}
    for output in outputs:
        path = output.path
        if not folders:
            check_writable(path)
        elif not any(folder.resolve() in (path.parent.resolve() / path.name).parents for folder in folders):
            raise InputError(
                f"cannot write {path}: it is not in {folders[0]}; let names in lists be relative, without .."
            )
        if path.exists() and _identity(path) in read:
            raise InputError(f"cannot write {path}: it is an input; name another file")
        if not replaces:
            check_replaceable(path)
        place = str(path.resolve())
        other = places.setdefault(place.lower() if ignore_case else place, output)
        if other.source != output.source:
            raise InputError(f"{other.source} and {output.source} would both become {path}; rename one")
        if other is not output:
            raise InputError(f"cannot write {path}: it is the result itself; name another file")
    needed = Counter[Path]()
    for output in outputs:
        if output.num_bytes:
            needed[existing_folder(output.path.parent)] += output.num_bytes
    check_room(needed)


@dataclass(frozen=True)
class SceneOutputs:
    """The files that are written of a scene; None: not wanted."""

    result: Path
    std: Path | None = None
    painted: Path | None = None
    preview: Path | None = None
    page: Path | None = None
    style: Path | None = None  # for QGIS
    painted_style: Path | None = None
    item: Path | None = None  # for STAC catalogues

    @classmethod
    def of(cls, out: Path, std: Path | None, options: SceneOptions) -> Self:
        """Return what is written with these options: the result, its deviation, and what lies beside it."""
        painted = out.with_name(f"{out.stem}_painted.tif") if options.painted else None
        return cls(
            out,
            std,
            painted=painted,
            preview=out.with_suffix(".png") if options.preview else None,
            page=page_of(out) if options.html else None,
            style=out.with_suffix(".qml") if options.sidecars else None,
            painted_style=painted.with_suffix(".qml") if painted and options.sidecars else None,
            item=out.with_suffix(".json") if options.sidecars else None,
        )

    @property
    def all(self) -> list[Path]:
        """All of them, the result first."""
        return [path for path in (getattr(self, each.name) for each in fields(self)) if path]

    def check(self, inputs: Sequence[Path]) -> None:
        """Refuse results that are no GeoTIFF by their name, or cannot be written."""
        for path in filter(None, (self.result, self.std)):
            if path.suffix.lower() not in TIFF:
                raise InputError(f"cannot write {path}: the result is a GeoTIFF; let its name end in .tif")
        check_outputs([Output(path, inputs[0]) for path in self.all], inputs)
        with Raster(inputs[0], "optical scene") as scene:
            check_scene_room(self.result, scene.dataset)

    def remove_stale(self, inputs: Sequence[Path]) -> None:
        """Remove what an earlier call left beside the result and this one has not made: it shows another."""
        kept = {path.resolve() for path in (*self.all, *inputs)}
        for path in self.of(self.result, None, SceneOptions()).all:
            if path.resolve() not in kept and path.is_file() and is_ours(path):
                path.unlink()


class Done:
    """Which sources of a folder are done, noted beside their results until all are.

    Args:
        note: the file that says so; None: nothing is noted.
        key: what the results depend on; a note with another one is of no use.
        resume: take up what an interrupted call has noted.
    """

    def __init__(self, note: Path | None, key: str, *, resume: bool) -> None:
        self.note, self.key = note, key
        self.stamps: dict[str, list[int]] = {}
        if note and resume:
            self._read(note)

    def holds(self, source: Path, results: Sequence[Path]) -> bool:
        """Whether the source is done, and since then neither it nor its results were touched."""
        is_there = all(path.exists() for path in results)
        return is_there and self.stamps.get(source.name) == _stamp(source, results)

    def add(self, source: Path, results: Sequence[Path]) -> None:
        """Note that the source is done."""
        if self.note:
            self.stamps[source.name] = _stamp(source, results)
            text = json.dumps({"key": self.key, "done": self.stamps})
            write_text(self.note, text)

    def drop(self) -> None:
        """Remove the note: all is done."""
        if self.note:
            self.note.unlink(missing_ok=True)

    def _read(self, note: Path) -> None:
        with suppress(ValueError, KeyError, TypeError):  # no note, or one of no use: begin anew
            found = parse_json(read_text(note, "the note"))
            if found["key"] == self.key:
                self.stamps = dict(found["done"])


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _stamp(source: Path, results: Sequence[Path]) -> list[int]:
    found = (path.stat() for path in (source, *results))
    return [value for each in found for value in (each.st_size, each.st_mtime_ns)]
