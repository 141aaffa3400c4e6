"""What splits by place fail to keep apart: places in two splits, images twice, places that overlap."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from pellucid.data.geotiff import Grid
from pellucid.datasets._listing import CheckedSample, Problem
from pellucid.evaluation.check_images import Facts

# A sample and what was found in its images, by role.
Read: TypeAlias = tuple[CheckedSample, Mapping[str, Facts]]
# Left, bottom, right, top.
Bounds: TypeAlias = tuple[float, float, float, float]

LEAK, DUPLICATE, OVERLAP = "leak between splits", "duplicate image", "overlapping places"
# Share of its side by which a patch must reach into another to count as overlapping.
TOUCH = 0.01


def find_leaks(samples: Sequence[CheckedSample], read: Sequence[Read]) -> list[Problem]:
    """Return every problem with the splits, and with what may become one.

    `samples` are all that are listed, `read` those whose images were read.
    """
    return [*_find_shared(samples), *_find_duplicates(read), *_find_overlaps(read)]


def _find_shared(samples: Sequence[CheckedSample]) -> Iterator[Problem]:
    """Yield places whose samples are in different splits."""
    splits: dict[str, dict[str, None]] = defaultdict(dict)
    for sample in samples:
        if sample.split:
            splits[sample.group][sample.split] = None
    for group, names in splits.items():
        if len(names) > 1:
            yield Problem(LEAK, f"the place {group} is in {' and in '.join(names)}", is_fatal=True)


def _find_duplicates(read: Sequence[Read]) -> Iterator[Problem]:
    first: dict[tuple[str, str], CheckedSample] = {}
    for sample, facts in read:
        within: dict[str, str] = {}
        for role, image in facts.items():
            if image.is_constant:
                continue  # alike without being the same place
            if image.digest in within:
                text = f"the {within[image.digest]} and {role} image of {sample.key} are one"
                yield Problem(DUPLICATE, text, sample.key)
            within[image.digest] = role
            other = first.setdefault((role, image.digest), sample)
            if other is not sample:
                yield relate(other, sample, f"hold the same {role} image", DUPLICATE)


def relate(one: CheckedSample, other: CheckedSample, relation: str, kind: str) -> Problem:
    """Return a leak, if the two are in different splits, else a problem of a kind that is not fatal."""
    if one.split and other.split and one.split != other.split:
        text = f"{one.key} ({one.split}) and {other.key} ({other.split}) {relation}"
        return Problem(LEAK, text, is_fatal=True)
    danger = "" if one.group == other.group else ", which splits by place cannot separate"
    return Problem(kind, f"{one.key} and {other.key} {relation}{danger}", other.key)


def _find_overlaps(read: Sequence[Read]) -> Iterator[Problem]:
    """Yield georeferenced samples of different places, or splits, that overlap; each at most once."""
    extents = [
        (sample, extent)
        for sample, facts in read
        if (extent := find_extent(image.grid for image in facts.values())) is not None
    ]
    side: dict[str, float] = defaultdict(float)
    for _, (crs, (left, bottom, right, top)) in extents:
        side[crs] = max(side[crs], right - left, top - bottom)
    cells: dict[tuple[str, int, int], dict[tuple[str, str, Bounds], CheckedSample]] = defaultdict(dict)
    for sample, (crs, bounds) in extents:
        left, bottom, right, top = (int(value // side[crs]) for value in bounds)
        near = [(crs, x, y) for x in range(left, right + 1) for y in range(bottom, top + 1)]
        known = {mark: other for cell in near for mark, other in cells[cell].items()}
        for (group, split, others), other in known.items():
            if (group, split) != (sample.group, sample.split) and do_overlap(bounds, others):
                yield relate(other, sample, "overlap on the ground", OVERLAP)
                break
        for cell in near:
            cells[cell].setdefault((sample.group, sample.split, bounds), sample)


def find_extent(grids: Iterable[Grid | None]) -> tuple[str, Bounds] | None:
    """Return CRS and bounds of the first image that has some."""
    for grid in grids:
        if grid is not None and grid.crs is not None and not grid.transform.is_identity:
            (x0, y0), (x1, y1) = grid.transform @ (0, 0), grid.transform @ (grid.width, grid.height)
            return grid.crs.to_string(), (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    return None


def do_overlap(one: Bounds, other: Bounds) -> bool:
    """Return whether two places share ground, more than along an edge."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide > TOUCH * (one[2] - one[0]) and high > TOUCH * (one[3] - one[1])
