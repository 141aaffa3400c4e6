"""The images of a benchmark: of fixed splits with their digests, overlaps taken out, what is missing said."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pellucid.data.batch import Batch
from pellucid.data.drawing import spread
from pellucid.data.geotiff import Grid, Raster
from pellucid.datasets import sen12ms_cr
from pellucid.datasets._listing import Patches
from pellucid.datasets._splits import hash_splits
from pellucid.datasets.sen12ms_cr import find_patches
from pellucid.errors import InputError
from pellucid.evaluation.audit_split import read_any_split
from pellucid.evaluation.check_leaks import Bounds, do_overlap, find_extent
from pellucid.evaluation.reference import read_reference
from pellucid.methods.method import Method

Part = Literal["train", "val", "test"]
STRICT, LEGACY, OWN, ALL = "strict", "legacy", "own", "all"
SHIPPED_SPLITS = (STRICT, LEGACY)
FOLDER = Path(sen12ms_cr.__file__).parent
EXAMPLES = 5


@dataclass(frozen=True)
class Selection:
    """Which images of some data are evaluated.

    Attributes:
        data: folder, list or YAML of sources.
        split: `STRICT` or `LEGACY`, which ship, the `OWN` one of the data, `ALL` images, or a file.
        part: of the split.
        limit: images, spread evenly over all; 0: all.
    """

    data: Path
    split: str = STRICT
    part: Part = "test"
    limit: int = 0


@dataclass(frozen=True)
class Chosen:
    """The images that are evaluated, by their positions in the data, and what is to be said about them.

    Attributes:
        at: positions.
        keys: names of these images.
        groups: places of these images.
        sha256: of the split; "" without one.
        notes: sentences: what is missing, what was taken out.
    """

    at: tuple[int, ...]
    keys: tuple[str, ...]
    groups: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...]


class Picked(Patches):
    """Some of the patches, by their positions."""

    def __init__(self, patches: Patches, at: Sequence[int]) -> None:
        self.patches, self.at = patches, at
        self.keys = tuple(patches.keys[i] for i in at)
        self.groups = tuple(patches.groups[i] for i in at)
        self.has_older = patches.has_older

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index` of those that are picked."""
        return self.patches[self.at[index]]


def read_images(method: Method, selection: Selection) -> Patches:
    """Return all images of the data as a method is to get them, whatever their split."""
    return read_reference(method, selection.data, split="all")


def choose(patches: Patches, selection: Selection) -> Chosen:
    """Return which of all patches are evaluated.

    Raises:
        InputError: if none is, or the data have no split of their own.
    """
    is_yaml = selection.data.suffix.lower() in (".yaml", ".yml")
    notes: list[str] = []
    if is_yaml or selection.split == ALL:
        at, sha256 = [*range(len(patches))], ""
        notes += ["the sources say which images are evaluated"] if is_yaml else []
    elif selection.split == OWN:
        at, sha256 = _own_split(patches, selection)
    else:
        at, sha256 = _named_split(patches, selection, notes)
    if not at:
        raise InputError(
            f"{selection.data} has no image of {selection.part} of the split {selection.split}: "
            f"{'; '.join(notes) or 'nothing fits'}; use --split own or --split all"
        )
    if selection.limit and selection.limit < len(at):
        notes.append(f"{selection.limit} of {len(at)} images are evaluated, spread evenly")
        at = [at[i] for i in spread(selection.limit, len(at))]
    keys, groups = (tuple(names[i] for i in at) for names in (patches.keys, patches.groups))
    return Chosen(tuple(at), keys, groups, sha256, tuple(notes))


def _own_split(patches: Patches, selection: Selection) -> tuple[list[int], str]:
    """Return the positions of a part of the split that the data themselves have."""
    splits = {patch.key: patch.split for patch in _list_patches(selection)}
    if not any(splits.values()):
        raise InputError(
            f"{selection.data} has no split of its own; use --split strict, all or a file of places"
        )
    places: dict[str, set[str]] = defaultdict(set)
    for key, group in zip(patches.keys, patches.groups, strict=True):
        places[splits.get(key, "")].add(group)
    at = [i for i, key in enumerate(patches.keys) if splits.get(key) == selection.part]
    return at, hash_splits({split: tuple(sorted(groups)) for split, groups in places.items()})


def _named_split(patches: Patches, selection: Selection, notes: list[str]) -> tuple[list[int], str]:
    """Return the positions of a part of a split of places, and the split's digest; add to the notes."""
    is_shipped = selection.split in SHIPPED_SPLITS
    path = FOLDER / f"sen12ms_cr_{selection.split}.json" if is_shipped else Path(selection.split)
    if not is_shipped and not path.is_file():
        raise InputError(
            f"--split is {selection.split!r}, must be strict, legacy, own, all or a file with lists of places"
        )
    split = read_any_split(path)
    wanted = split.names.get(selection.part, ())
    if not wanted:
        raise InputError(f"{path} has no places of {selection.part}; it has {', '.join(split.names)}")
    pairs = list(zip(patches.keys, patches.groups, strict=True))
    at = [i for i, names in enumerate(pairs) if not {*wanted}.isdisjoint(names)]
    there = {name for i in at for name in pairs[i]}
    if missing := [name for name in wanted if name not in there]:
        some = ", ".join(missing[:EXAMPLES]) + (" ..." if len(missing) > EXAMPLES else "")
        notes.append(f"{len(missing)} of the {len(wanted)} places of {selection.part} are missing: {some}")
    seen = {name for other, names in split.names.items() if other != selection.part for name in names}
    if both := sorted({*wanted} & seen):
        some = ", ".join(both[:EXAMPLES]) + (" ..." if len(both) > EXAMPLES else "")
        notes.append(f"{len(both)} of these places are in another part of this split too: {some}")
    if selection.split == STRICT:
        dropped = _find_overlaps(selection, {patches.keys[i] for i in at}, seen)
        at = [i for i in at if patches.keys[i] not in dropped]
        if dropped:
            notes.append(f"{len(dropped)} images are left out, which overlap a place of another part")
    return at, split.sha256


def _find_overlaps(selection: Selection, tested: set[str], seen: set[str]) -> set[str]:
    """Return the names of tested patches that share ground with one of the places `seen` in other parts."""
    cells: dict[tuple[str, int, int], list[Bounds]] = defaultdict(list)
    found: dict[str, tuple[str, Bounds]] = {}
    for patch in _list_patches(selection):
        is_tested = patch.key in tested
        if not is_tested and patch.group not in seen:
            continue
        extent = find_extent([_read_grid(patch.clear)])
        if extent is None:
            continue
        if is_tested:
            found[patch.key] = extent
        else:
            for cell in _cells(extent):
                cells[cell].append(extent[1])
    return {
        key
        for key, extent in found.items()
        if any(do_overlap(extent[1], other) for cell in _cells(extent) for other in cells[cell])
    }


def _cells(extent: tuple[str, Bounds]) -> list[tuple[str, int, int]]:
    """Return the cells, as large as the image, that it touches."""
    crs, (left, bottom, right, top) = extent
    side = 1 if right - left < 1 else 10_000  # degrees, metres
    across, up = (
        range(int(left // side), int(right // side) + 1),
        range(int(bottom // side), int(top // side) + 1),
    )
    return [(crs, x, y) for x in across for y in up]


def _read_grid(path: Path) -> Grid | None:
    with suppress(InputError), Raster(path, "image") as raster:
        return raster.grid
    return None


def _list_patches(selection: Selection) -> list[sen12ms_cr.Patch]:
    """Return the patches of a copy of SEN12MS-CR, with the splits that it says itself; none of other data."""
    root = selection.data
    with suppress(InputError):
        if root.is_file():
            keys: Mapping[str, object] | None = sen12ms_cr.from_list(root)
            return [] if keys is None else find_patches(sen12ms_cr.Config.model_validate(keys))
        if sen12ms_cr.recognise(root):
            return find_patches(sen12ms_cr.Config(root=root))
    return []


def count_places(groups: Sequence[str]) -> str:
    """Return how many images and places there are, for people."""
    places = Counter(groups)
    return f"{len(groups)} image{'s' * (len(groups) != 1)} of {len(places)} place{'s' * (len(places) != 1)}"
