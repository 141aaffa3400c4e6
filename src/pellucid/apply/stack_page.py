"""The page beside enlarged slices: input, result and deviation, plane by plane, and profiles along a line."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from pellucid.apply.info import in_labels
from pellucid.apply.stack import SliceFile, Stack
from pellucid.data.drawing import spread
from pellucid.data.files import write_text
from pellucid.data.geotiff import Grid
from pellucid.data.slice_file import SliceInfo, read_slices
from pellucid.web.layers import Band, Kind, Layer, Part, array_layer, geotiff, shorten
from pellucid.web.write_page import draw_layers, room_for_data, size_of

# Planes of a view that a page holds at most, and the share of their size to which they shrink, roughly.
MAX_PLANES, PACKED = 128, 0.8
# Planes of each view of a volume below which a page rather leaves out rows and columns.
FEWEST_OF_VOLUME = 9
# Bytes of a value of a slice, at most, once it is packed: floating-point values lose half of their bits.
VALUE_BYTES = 2


@dataclass(frozen=True)
class _View:
    """Planes of one direction, of which a page holds some.

    Attributes:
        name: of the direction.
        axes: what counts the pixels of a plane from left to right, and from top to bottom.
        planes: the names of all planes.
        size: rows and columns of a plane of the result.
        cut: of the input, the result or the deviation some planes, by their positions, with every so many
            rows and columns of that file: (N, H, W).
    """

    name: str
    axes: tuple[str, str]
    planes: Sequence[str]
    size: tuple[int, int]
    cut: Callable[[Kind, Sequence[int], int], NDArray[Any]]

    def num_bytes(self, value_bytes: float, *, copies: float) -> float:
        """Return the bytes that a plane takes in a page, roughly."""
        return self.size[0] * self.size[1] * PACKED * value_bytes * copies


def write_stack_page(path: Path, stack: Stack) -> None:
    """Write the page of a finished stack: of slices of one size as many as fit, evenly spread.

    Of a volume it holds planes of all three directions.
    """
    middle, factor = stack.files[len(stack.files) // 2], stack.method.scale
    is_volume = stack.options.volume
    views = _views_of_volume(stack) if is_volume else [_view_of_slices(stack, middle)]
    layers, parts, held, step = _fit(views, stack, FEWEST_OF_VOLUME if is_volume else 1)
    of_view = len(layers) // len(views)
    data = {
        "title": stack.out.name,
        "factor": factor,
        "start": 0,
        "step": step,
        "views": [
            {
                "name": view.name,
                "axes": view.axes,
                "width": view.size[1],
                "height": view.size[0],
                "planes": [view.planes[at] for at in positions],
                "numPlanes": len(view.planes),
                "layers": list(range(i * of_view, (i + 1) * of_view)),
            }
            for i, (view, positions) in enumerate(zip(views, held, strict=True))
        ],
        "numSlices": stack.num_slices * (factor if is_volume else 1),
        "provenance": list(_made(stack, middle).items()),
    }
    write_text(path, draw_layers(path.parent, "stack", layers, parts, data))


def _made(stack: Stack, middle: SliceFile) -> dict[str, str]:
    """Return what made the slices, label by label; each file says so of itself, the page of all."""
    labels = in_labels(middle.out)
    if len(stack.files) > 1:
        first, last = stack.files[0].source.name, stack.files[-1].source.name
        labels["Inputs"] = f"slices {first} to {last}, {len(stack.files)} files"
    return labels


def _fit(
    views: Sequence[_View], stack: Stack, fewest: int
) -> tuple[list[Layer], list[list[Part]], list[list[int]], int]:
    """Return layers and embedded files of as many planes as fit, which those are, and the step of rows."""
    dtype, factor, room = stack.files[0].info.dtype, stack.method.scale, room_for_data()
    copies = 1 + 1 / factor**2 + (VALUE_BYTES / dtype.itemsize if stack.std else 0)
    num_bytes = sum(view.num_bytes(min(VALUE_BYTES, dtype.itemsize), copies=copies) for view in views)
    most = min(MAX_PLANES, max(len(view.planes) for view in views))
    step, count = 1, min(most, max(1, int(room / num_bytes)))
    while count < min(fewest, most):
        step *= 2
        count = min(most, max(1, int(room * step**2 / num_bytes)))
    while True:
        held = [spread(min(count, len(view.planes)), len(view.planes)) for view in views]
        layers, parts = list[Layer](), list[list[Part]]()
        for view, positions in zip(views, held, strict=True):
            _add_layers(layers, parts, stack, view, positions, step)
        if (taken := size_of(parts)) <= room:
            return layers, parts, held, step
        fewer = max(1, min(count - 1, int(count * room / taken)))
        step, count = (step, fewer) if count > 1 else (2 * step, 1)


def _add_layers(
    layers: list[Layer], parts: list[list[Part]], stack: Stack, view: _View, held: Sequence[int], step: int
) -> None:
    """Add the layers of a view, and their embedded files, whose bands are the planes that are held."""
    first, factor = stack.files[0], stack.method.scale
    files: list[tuple[str, Kind, Path, int]] = [("Input", "before", first.source, factor)]
    files.append(("Result", "after", first.out, 1))
    if first.std:
        files.append(("Deviation", "uncertainty", first.std, 1))
    for name, kind, path, pixel in files:
        is_one = len({getattr(file, "source" if kind == "before" else "out") for file in stack.files}) == 1
        every = max(step, pixel)
        values = shorten(view.cut(kind, held, every // pixel))
        grid = Grid(None, Affine.identity(), values.shape[2], values.shape[1])
        bands = tuple(Band(view.planes[at], i) for i, at in enumerate(held, start=1))
        valid = np.ones(values.shape[1:], np.bool_)
        layers.append(array_layer(name, kind, path if is_one else path.parent, grid, values, valid, bands))
        parts.append([Part(tuple(range(len(values))), every, geotiff(values, grid, 0, 1))])


def _view_of_slices(stack: Stack, middle: SliceFile) -> _View:
    """Return the slices that are like one of them in size and type."""
    info, factor = middle.info, stack.method.scale
    size = (info.height, info.width, info.dtype)
    like = [file for file in stack.files if (file.info.height, file.info.width, file.info.dtype) == size]
    slices = [(file, page) for file in like for page in range(file.info.num_pages)]
    names = [
        f"{file.out.name}, slice {page}, counted from 0" if file.info.num_pages > 1 else file.out.name
        for file, page in slices
    ]

    def cut(kind: Kind, held: Sequence[int], every: int) -> NDArray[Any]:
        wanted = [slices[at] for at in held]
        found = list[NDArray[Any]]()
        for file in dict.fromkeys(file for file, _ in wanted):
            path = {"before": file.source, "after": file.out}.get(kind, file.std)
            assert path is not None
            pages = {page for each, page in wanted if each is file}
            found += (values[::every, ::every] for values in _read([path], file.info, pages))
        return np.stack(found)

    return _View("slices", ("column", "row"), names, (info.height * factor, info.width * factor), cut)


def _views_of_volume(stack: Stack) -> list[_View]:
    """Return the planes of an enlarged volume: its slices, and those that stand on its rows and columns."""
    info, factor = stack.volume_info, stack.method.scale
    sizes = [size * factor for size in (info.num_pages, info.height, info.width)]
    sources, names = list(dict.fromkeys(file.source for file in stack.files)), ("slice", "row", "column")
    titles = ("slices", "across slices, at a row", "across slices, at a column")

    def cut(axis: int, kind: Kind, held: Sequence[int], every: int) -> NDArray[Any]:
        files, at = ([stack.out], held) if kind == "after" else (sources, [each // factor for each in held])
        if axis == 0:
            found = dict(zip(sorted(set(at)), _read(files, info, set(at)), strict=True))
            return np.stack([found[each][::every, ::every] for each in at])
        pages = (values.take(at, axis - 1) for values in _read(files, info))
        lines = [values if axis == 1 else values.T for values in list(pages)[::every]]  # (N, W or H) each
        return np.stack(lines, axis=1)[:, :, ::every]

    return [
        _View(
            titles[axis],
            ("row" if axis == 2 else "column", "slice" if axis else "row"),
            [f"{names[axis]} {at}, counted from 0" for at in range(sizes[axis])],
            (sizes[0] if axis else sizes[1], sizes[1] if axis == 2 else sizes[2]),
            partial(cut, axis),
        )
        for axis in range(3)
    ]


def _read(
    paths: Sequence[Path], info: SliceInfo, wanted: Collection[int] | None = None
) -> Iterator[NDArray[Any]]:
    """Yield the slices of some files one after the other, all or some by their positions, no data as NaN."""
    position = 0
    for path in paths:
        for values in read_slices(path, is_image=False):
            if wanted is None or position in wanted:
                missing = info.find_missing(values)
                yield np.where(missing, np.float32(np.nan), values) if info.nodata is not None else values
            position += 1
            if wanted is not None and position > max(wanted):
                return
