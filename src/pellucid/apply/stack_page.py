"""The page beside enlarged slices: input, result and deviation, slice by slice, and profiles along a line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from pellucid.apply.info import in_labels
from pellucid.apply.stack import SliceFile, Stack
from pellucid.data.drawing import spread
from pellucid.data.geotiff import Grid
from pellucid.data.slice_file import read_slices
from pellucid.web.layers import Band, Kind, Layer, Part, array_layer, geotiff, shorten
from pellucid.web.write_page import room_for_data, size_of, write_layers

# Slices that a page holds at most, and the share of their size to which they shrink, roughly.
MAX_SLICES, PACKED = 128, 0.8
# Bytes of a value of a slice, at most, once it is packed: floating-point values lose half of their bits.
VALUE_BYTES = 2


@dataclass(frozen=True)
class _Held:
    """What a page holds: some pages of some files, and every `step`-th row and column of the results."""

    slices: Sequence[tuple[SliceFile, int]]
    step: int

    @property
    def names(self) -> list[str]:
        """Return the names of the slices."""
        return [
            f"{file.out.name}, slice {page}, counted from 0" if file.info.num_pages > 1 else file.out.name
            for file, page in self.slices
        ]


def write_stack_page(path: Path, stack: Stack) -> None:
    """Write the page of a finished stack: of slices of one size as many as fit, evenly spread."""
    middle = stack.files[len(stack.files) // 2]
    size = (middle.info.height, middle.info.width, middle.info.dtype)
    like = [file for file in stack.files if (file.info.height, file.info.width, file.info.dtype) == size]
    slices = [(file, page) for file in like for page in range(file.info.num_pages)]
    factor, room = stack.method.scale, room_for_data()
    num_bytes = size[0] * size[1] * PACKED * min(VALUE_BYTES, size[2].itemsize)
    num_bytes += num_bytes * factor**2 + (size[0] * size[1] * factor**2 * VALUE_BYTES if stack.std else 0)
    step, count = 1, min(MAX_SLICES, len(slices), max(1, int(room / num_bytes)))
    while True:
        held = _Held([slices[i] for i in spread(count, len(slices))], step)
        layers, parts = _cut(held, factor)
        if (taken := size_of(parts)) <= room:
            break
        step, count = (
            (step, max(1, min(count - 1, int(count * room / taken)))) if count > 1 else (2 * step, 1)
        )
    data = {
        "title": stack.out.name,
        "grid": {"width": size[1] * factor, "height": size[0] * factor},
        "factor": factor,
        "start": 0,
        "step": step,
        "slices": held.names,
        "numSlices": stack.num_slices,
        "provenance": list(_made(stack, middle).items()),
    }
    write_layers(path, "stack", layers, parts, data)


def _made(stack: Stack, middle: SliceFile) -> dict[str, str]:
    """Return what made the slices, label by label; each file says so of itself, the page of all."""
    labels = in_labels(middle.out)
    if len(stack.files) > 1:
        first, last = stack.files[0].source.name, stack.files[-1].source.name
        labels["Inputs"] = f"slices {first} to {last}, {len(stack.files)} files"
    return labels


def _cut(held: _Held, factor: int) -> tuple[list[Layer], list[list[Part]]]:
    """Return the layers of a page, and their embedded files, whose bands are the slices."""
    first = held.slices[0][0]
    files: list[tuple[str, Kind, Path, int]] = [("Input", "before", first.source, factor)]
    files.append(("Result", "after", first.out, 1))
    if first.std:
        files.append(("Deviation", "uncertainty", first.std, 1))
    layers, parts = list[Layer](), list[list[Part]]()
    is_one = all(file is first for file, _ in held.slices)
    for name, kind, path, pixel in files:
        step = max(held.step, pixel)
        values = shorten(np.stack(list(_read(held, kind, step // pixel))))
        grid = Grid(None, Affine.identity(), values.shape[2], values.shape[1])
        bands = tuple(Band(text, i) for i, text in enumerate(held.names, start=1))
        valid = np.ones(values.shape[1:], np.bool_)
        layers.append(array_layer(name, kind, path if is_one else path.parent, grid, values, valid, bands))
        parts.append([Part(tuple(range(len(values))), step, geotiff(values, grid, 0, 1))])
    return layers, parts


def _read(held: _Held, kind: Kind, every: int) -> Iterator[NDArray[Any]]:
    """Yield the slices of a layer that a page holds, of each every so many rows and columns."""
    for file in dict.fromkeys(file for file, _ in held.slices):
        wanted = {page for each, page in held.slices if each is file}
        path = {"before": file.source, "after": file.out}.get(kind, file.std)
        assert path is not None
        for page, values in enumerate(read_slices(path, is_image=False)):
            if page in wanted:
                some = values[::every, ::every]
                missing = file.info.find_missing(some)
                yield np.where(missing, np.float32(np.nan), some) if file.info.nodata is not None else some
            if page == max(wanted):
                break
