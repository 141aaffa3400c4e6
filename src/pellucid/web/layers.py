"""Layers of a page: which bands of which open file, in which unit, and their pixels as embedded GeoTIFF."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Interleaving
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.windows import Window

from pellucid.data.geotiff import Grid, Raster
from pellucid.data.ranges import Bands
from pellucid.data.raster import OpticalRaster

Kind = Literal["before", "radar", "reference", "after", "uncertainty", "painted", "truth"]
# Bands that stay as fine as the page allows; the others of a large scene have half as many rows and columns.
FINE = ("B02", "B03", "B04", "B08", "VV", "VH", "Red", "Green", "Blue", "Radar")
# Bits of the significand that floating-point values keep, of 23: four significant digits.
SIGNIFICAND = 12
# What the mask of a layer says of a pixel.
MISSING, HELD, AS_BEFORE = 0, 1, 2
# Rows that are read at once, and columns at least, in whole blocks: all bands of all blocks of a row would
# not fit in GDAL's cache; bytes of a block of an embedded file.
ROWS, COLUMNS, BLOCK = 256, 2048, 2**18


@dataclass(frozen=True)
class Band:
    """A band of a file: value shown = (stored + `add`) / `divide`, in the unit of its layer."""

    name: str
    number: int  # in the file, from 1
    add: float = 0.0
    divide: float = 1.0


# Values as stored, (C, h, w), and where they are data, (h, w).
Pixels = tuple[NDArray[Any], NDArray[np.bool_]]


@dataclass(frozen=True)
class Layer:
    """What one file shows on a page.

    Attributes:
        name: of the layer.
        kind: what it is to the result.
        path: of the file.
        grid: of its pixels, the same for all layers of a page.
        bands: those that are shown.
        unit: of the values shown; "" if the file's own.
        read: every n-th pixel from a first row and column on, both given: (C, h, w) as stored, and where they
            hold data, (h, w).
    """

    name: str
    kind: Kind
    path: Path
    grid: Grid
    bands: tuple[Band, ...]
    unit: str
    read: Callable[[int, int], Pixels]

    @property
    def names(self) -> Bands:
        """Return the names of the bands."""
        return tuple(band.name for band in self.bands)


@dataclass(frozen=True)
class Steps:
    """Every how many rows and columns a page holds a pixel: of `FINE` bands, and of all others."""

    fine: int
    coarse: int

    @property
    def start(self) -> int:
        """First row and column that is held; those of the coarse bands are among those of the fine ones."""
        return self.fine // 2

    def of(self, layer: Layer, band: Band) -> int:
        """Return the step of a band."""
        is_fine = layer.kind == "painted" or (band.name in FINE and layer.kind != "uncertainty")
        return self.fine if is_fine else self.coarse


@dataclass(frozen=True)
class Part:
    """Bands of a layer with one step, as a GeoTIFF; a mask has no bands."""

    bands: tuple[int, ...]  # positions in the layer
    step: int
    geotiff: bytes


def raster_layer(name: str, kind: Kind, raster: Raster, bands: tuple[Band, ...], unit: str = "") -> Layer:
    """Return the layer of some bands of an open file."""
    return Layer(name, kind, raster.path, raster.grid, bands, unit, partial(_read, raster, bands))


def array_layer(
    name: str,
    kind: Kind,
    path: Path,
    grid: Grid,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    bands: tuple[Band, ...],
) -> Layer:
    """Return the layer of values, (C, H, W), that were read from a file; `valid`, (H, W): which are data."""
    return Layer(
        name,
        kind,
        path,
        grid,
        bands,
        "",
        lambda first, n: (values[:, first::n, first::n], valid[first::n, first::n]),
    )


def optical_bands(raster: OpticalRaster) -> tuple[Band, ...]:
    """Return the bands of a scene, shown as reflectance; those that its file lacks are left out."""
    present = [(name, number) for name, number in zip(raster.bands, raster.indices, strict=True)]
    scaling = zip(present, raster.add.ravel().tolist(), raster.quantification.ravel().tolist(), strict=True)
    return tuple(Band(name, number, add, by) for (name, number), add, by in scaling if number is not None)


def plain_bands(raster: Raster, names: Sequence[str] = ()) -> tuple[Band, ...]:
    """Return all bands but that of opacity, in the units of the file, named by position where nothing is."""
    texts = names or [raster.dataset.descriptions[i - 1] or f"band {i}" for i in raster.numbers]
    return tuple(Band(text, number) for text, number in zip(texts, raster.numbers, strict=True))


def cut_parts(layers: Sequence[Layer], steps: Steps) -> list[list[Part]]:
    """Return the embedded files of each layer; where a pixel of the result is as before, it is held once."""
    before, parts = None, list[list[Part]]()
    for layer in layers:
        found = _hold(layer, steps)
        if layer.kind == "before":
            before = layer, found
        is_like = before is not None and layer.kind == "after" and layer.names == before[0].names
        parts.append(_encode(layer, steps, found, before[1] if before and is_like else None))
    return parts


def _hold(layer: Layer, steps: Steps) -> dict[int, tuple[NDArray[Any], NDArray[np.uint8]]]:
    """Return what is held of a layer by its step, (C, h, w), and the mask, (h, w); the file is read once."""
    values, valid = layer.read(steps.start, steps.fine)
    values, mask = shorten(values), np.where(valid, HELD, MISSING).astype(np.uint8)
    every = steps.coarse // steps.fine
    return {steps.coarse: (values[:, ::every, ::every], mask[::every, ::every]), steps.fine: (values, mask)}


def _read(raster: Raster, bands: tuple[Band, ...], first: int, step: int) -> Pixels:
    """Return every `step`-th pixel of some bands; not from overviews, whose values are none of the file."""
    height, width = raster.grid.height, raster.grid.width
    tall, block = raster.source.block_shapes[0]
    # Of low blocks, most need not be read.
    starts, rows = (range(first, height, step), 1) if tall < step else (range(0, height, ROWS), ROWS)
    columns = -(-COLUMNS // block) * block
    numbers = list(range(1, raster.source.count + 1))
    # Bands that lie apart are read one after another: the blocks of all would not fit in GDAL's cache.
    groups = [numbers] if raster.source.interleaving == Interleaving.pixel else [[each] for each in numbers]

    def held(start: int) -> slice:
        return slice(max(first - start, (first - start) % step), None, step)

    def read(group: list[int], left: int) -> NDArray[Any]:
        windows = [Window(left, row, min(columns, width - left), min(rows, height - row)) for row in starts]
        parts = [raster.read_array(group, each)[:, held(each.row_off), held(left)] for each in windows]
        return np.concatenate(parts, axis=1)

    lefts = range(0, width, columns)
    stored = np.concatenate([np.concatenate([read(g, left) for left in lefts], axis=2) for g in groups])
    windows = [Window(0, row, width, min(rows, height - row)) for row in starts]
    shown = np.concatenate([raster.read_mask(each)[held(each.row_off), held(0)] for each in windows])
    wanted = stored[[band.number - 1 for band in bands]]
    if isinstance(raster, OpticalRaster):
        return wanted, shown & raster.find_valid(stored)
    valid = shown & np.isfinite(wanted).all(axis=0)
    if raster.fill is not None and not np.isnan(raster.fill):
        valid &= (wanted != raster.fill).all(axis=0)
    return wanted, valid


def shorten(values: NDArray[Any]) -> NDArray[Any]:
    """Return floating-point values as float32 with fewer bits, rounded, so that they pack well."""
    if values.dtype.kind != "f":
        return values
    drop = np.uint32(23 - SIGNIFICAND)
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(1) << (drop - np.uint32(1)))) >> drop << drop
    return np.where(np.isfinite(values), rounded, bits).astype(np.uint32).view(np.float32)


def _encode(
    layer: Layer,
    steps: Steps,
    found: dict[int, tuple[NDArray[Any], NDArray[np.uint8]]],
    before: dict[int, tuple[NDArray[Any], NDArray[np.uint8]]] | None,
) -> list[Part]:
    """Return a file per step, and one of the mask where it says anything."""
    grid, parts = layer.grid, list[Part]()
    mask = found[steps.fine][1].copy()
    if before:
        mask[(found[steps.fine][0] == before[steps.fine][0]).all(axis=0) & (mask == HELD)] = AS_BEFORE
    for step in sorted(found):
        at = tuple(i for i, band in enumerate(layer.bands) if steps.of(layer, band) == step)
        if at:
            values = found[step][0][list(at)]
            every = step // steps.fine
            values[:, mask[::every, ::every] != HELD] = 0
            parts.append(Part(at, step, geotiff(values, grid, steps.start, step)))
    if (mask != HELD).any():
        parts.append(Part((), steps.fine, geotiff(mask[None], grid, steps.start, steps.fine)))
    return parts


def geotiff(values: NDArray[Any], grid: Grid, start: int, step: int) -> bytes:
    """Return the bytes of a GeoTIFF of every `step`-th pixel of a grid."""
    count, height, width = values.shape
    is_float, is_wide = values.dtype.kind == "f", values.dtype.itemsize in (2, 4)
    place = {}
    if grid.crs and "transform" in grid.place:
        move = Affine.translation(start - (step - 1) / 2, start - (step - 1) / 2)
        place = {"crs": grid.crs, "transform": grid.transform * move * Affine.scale(step)}
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": values.dtype,
        "compress": "deflate",
        "zlevel": 6,  # 9 makes files 2 % smaller in three times the time
        "predictor": 3 if is_float else 2 if is_wide else 1,
        "interleave": "band",
        "blockysize": max(1, min(height, BLOCK // max(1, width * values.dtype.itemsize))),
    }
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(**profile, **place) as file:
            file.write(values)
        return bytes(memory.read())
