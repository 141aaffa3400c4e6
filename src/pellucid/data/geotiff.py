"""GeoTIFF files: the grid of their pixels, and reading with errors that name the file."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import CRSError
from rasterio.rpc import RPC
from rasterio.transform import Affine, array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from pellucid.data.gdal_open import GDAL_ERRORS, find_opacity, first_line, open_raster, why_unreadable
from pellucid.data.glance import read_small
from pellucid.data.raster_source import TO_CORRECT, find_source
from pellucid.errors import InputError

# Pixels by which the corners of equal grids may differ.
GRID_TOLERANCE = 0.01
# Side in pixels of the decimated image whose values show the unit.
SAMPLE = 256
# Magnitude of numbers that mean no data, for instance 3.4e38.
HUGE = 1e30
# Pixels of a raster that no computer reads to its end: a square of 10,000 km in pixels of 10 m.
MAX_PIXELS = 10**12
log = logging.getLogger(__name__)


class ElsewhereError(InputError):
    """A raster shares no pixel with the scene."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie; `transform` takes a pixel (column, row) to coordinates in `crs`.

    `place` is the georeference for a new file of the same grid, as `georeference` returns it.
    """

    crs: CRS | None
    transform: Affine
    width: int
    height: int
    place: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, dataset: Any) -> Self:
        """Return the grid of an open dataset."""
        place = georeference(dataset)
        return cls(dataset.crs, dataset.transform, dataset.width, dataset.height, place)

    def matches(self, other: "Grid") -> bool:
        """Whether both have the same CRS, size, control points and, to a hundredth of a pixel, corners."""
        if (self.width, self.height, self.crs) != (other.width, other.height, other.crs):
            return False
        points, others = ([point.asdict() for point in each.place.get("gcps", ())] for each in (self, other))
        if points and others and [_lies(p) for p in points] != [_lies(p) for p in others]:
            return False
        corners = np.array([[0, self.width, 0, self.width], [0, 0, self.height, self.height], [1, 1, 1, 1]])
        there, back = (np.reshape(tuple(each), (3, 3)) for each in (other.transform, ~self.transform))
        return bool(np.abs(back @ there @ corners - corners).max() < GRID_TOLERANCE)

    def is_apart(self, other: "Grid") -> bool:
        """Whether both are known to share no pixel."""
        if not (self.crs and other.crs) or self.transform.is_identity or other.transform.is_identity:
            return False
        boxes = [array_bounds(each.height, each.width, each.transform) for each in (self, other)]
        try:
            left, bottom, right, top = transform_bounds(self.crs, other.crs, *boxes[0])
        except (*GDAL_ERRORS, CRSError):  # whoever warps it says so
            return False
        west, south, east, north = boxes[1]
        return bool(left >= east or right <= west or bottom >= north or top <= south)

    def __str__(self) -> str:
        where = self.crs.to_string() if self.crs else "no CRS"
        x, y = self.transform.c, self.transform.f
        step = f"{abs(self.transform.a):.6g} x {abs(self.transform.e):.6g}"
        return f"{where}, {self.width} x {self.height} px of {step} from ({x:.10g}, {y:.10g})"


class Raster:
    """An open GeoTIFF whose read errors name the file, and `what` it is to the user, "optical scene".

    `doubts` are sentences about what seems wrong with the file, though it can be read. `fill` is the number
    that marks missing data, declared or found; `alpha` the number of the band of opacity, from 1; `covered`
    the share of the grid on which it holds data, once it is warped. A TIFF of several pages, of which GDAL
    reads the first, is refused unless it may be a stack of slices (`is_stack`).
    `source` is what is opened in place of what the path means.
    """

    resampling = Resampling.bilinear  # where it is warped
    glances: tuple[int, ...] = (SAMPLE,)  # the `size` of reads of all of it, which share a pass over the file

    def __init__(self, path: Path, what: str, *, is_stack: bool = False, source: str | None = None) -> None:
        self.path, self.what, self.is_stack = path, what, is_stack
        self.doubts: list[str] = []
        self._are_logged, self.covered = False, 1.0
        found = source or find_source(path, what)
        try:
            self.dataset = open_raster(found)
        except GDAL_ERRORS as error:
            raise InputError(f"the {what} {path} {why_unreadable(path, error)}") from error
        _refuse_container(self.dataset, f"the {what} {path}")
        _refuse_texts(self.dataset, f"the {what} {path}")
        self.source: Any = self.dataset
        self._small: dict[int, NDArray[Any]] = {}
        self.grid = Grid.of(self.dataset)
        self.alpha = find_opacity(self.dataset)
        self.fill: float | None = self.dataset.nodata
        try:
            self._refuse_unreadable()
        except InputError:
            self.close()
            raise

    @property
    def numbers(self) -> list[int]:
        """Return the numbers of all bands but that of opacity, from 1."""
        return [i for i in range(1, self.dataset.count + 1) if i != self.alpha]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.source is not self.dataset:
            self.source.close()
        self.dataset.close()

    def mark_fills(self, values: Sequence[float]) -> None:
        """Note numbers that mark missing data in all bands, though the file does not declare them."""
        if values:
            self.fill = values[0] if self.fill is None else self.fill
            marks = " or ".join(f"{value:.7g}" for value in values)
            self.doubts.append(f"{self.path}: pixels that are {marks} hold no data, though undeclared")

    def log_doubts(self) -> None:
        """Log each doubt as a warning, and those that arise later as soon as they do."""
        self._are_logged = True
        for doubt in self.doubts:
            log.warning("%s", doubt)

    def doubt(self, text: str) -> None:
        """Take a doubt, unless it is there already."""
        if text not in self.doubts:
            self.doubts.append(text)
            if self._are_logged:
                log.warning("%s", text)

    def align(self, grid: Grid, *, allowed: bool) -> None:
        """Make every later read use `grid`, by warping where the grids differ.

        Raises:
            InputError: if the grids differ and warping is not `allowed` or not possible.
            ElsewhereError: if they do not overlap.
        """
        if self.grid.matches(grid):
            return
        if "gcps" in self.grid.place and "gcps" not in grid.place:
            way = TO_CORRECT if self.what == "radar scene" else "warp it, for instance with gdalwarp"
            raise InputError(
                f"the {self.what} {self.path} has control points alone, so it lies in the geometry of its "
                f"sensor and not on the grid of the scene ({grid}): {way}"
            )
        found = f"the {self.what} {self.path} lies on another grid ({self.grid}) than the scene ({grid})"
        elsewhere = f"{found} and does not overlap it, give one of the same place"
        if self.grid.is_apart(grid):
            raise ElsewhereError(elsewhere)
        if not allowed:
            raise InputError(f"{found}, both must be the same; warp it, or align it with --align")
        if self.grid.crs is None or grid.crs is None:
            raise InputError(f"{found}, and aligning needs a CRS in both; georeference them first")
        self.source = WarpedVRT(
            self.dataset,
            crs=grid.crs,
            transform=grid.transform,
            width=grid.width,
            height=grid.height,
            resampling=self.resampling,
            src_nodata=np.nan if self.fill is None else self.fill,
            nodata=np.nan,
            dtype="float32",
        )
        self.grid = grid
        self.covered = float(np.isfinite(self.read_array([1], size=SAMPLE)).mean())
        if not self.covered:
            raise ElsewhereError(elsewhere)

    def read_array(
        self, indices: list[int] | None = None, window: Window | None = None, size: int | None = None
    ) -> NDArray[Any]:
        """Return (C, H, W) as stored, of `window`; decimated to at most `size` pixels a side."""
        bands = indices or list(range(1, self.source.count + 1))
        shape = (len(bands), *self._shape(window, size))
        with self._errors_named():
            if size in self.glances and window is None and self._is_slow_to_glance:
                return self._glance(size)[[i - 1 for i in bands]]
            return self.source.read(bands, window=window, out_shape=shape)

    def read_mask(self, window: Window | None = None, size: int | None = None) -> NDArray[np.bool_]:
        """Return (H, W), as `read_array` would: what the mask of the file, or its opacity, shows.

        Values that mean no data are not looked at. What is warped has NaN in place of a mask.
        """
        if self.source is self.dataset and self.alpha:
            return self.read_array([self.alpha], window, size)[0] > 0
        if self.source is self.dataset and has_mask(self.dataset):
            shape = self._shape(window, size)
            with self._errors_named():
                return self.dataset.read_masks(1, window=window, out_shape=shape) > 0
        return np.ones(self._shape(window, size), np.bool_)

    @property
    def _is_slow_to_glance(self) -> bool:
        """Whether a decimated image takes a pass over the file; a VRT asks its sources instead."""
        if self.source.driver != "GTiff" or max(self.dataset.shape) <= max(self.glances):
            return False
        return not self.dataset.overviews(1) and len(set(self.dataset.dtypes)) == 1

    def _glance(self, size: int) -> NDArray[Any]:
        """Return all bands, decimated; those of other sizes are read with them, and kept."""
        if not self._small:
            shapes = [self._shape(None, each) for each in self.glances]
            self._small = dict(zip(self.glances, read_small(self.dataset, shapes), strict=True))
        return self._small[size]

    def _shape(self, window: Window | None, size: int | None) -> tuple[int, int]:
        """Return the rows and columns of what is read, decimated to at most `size` a side."""
        height, width = (window.height, window.width) if window else (self.grid.height, self.grid.width)
        factor = max(1.0, max(height, width) / size) if size else 1.0
        return max(1, round(height / factor)), max(1, round(width / factor))

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            # With more threads, GDAL 3.10 reads a damaged JPEG 2000 file as other numbers without an error.
            with rasterio.Env(GDAL_NUM_THREADS="1"):
                yield
        except GDAL_ERRORS as error:
            raise InputError(
                f"the {self.what} {self.path} is damaged ({first_line(error)}), copy or download it again"
            ) from error

    def _refuse_unreadable(self) -> None:
        """Refuse complex values, whose real part alone means nothing, and files of several images."""
        name = f"the {self.what} {self.path}"
        if found := next((each for each in self.dataset.dtypes if "complex" in each), None):
            raise InputError(
                f"{name} holds {found} values, as a single-look complex product does; needed are real ones, "
                "of radar dB or linear power: calibrate and detect it"
            )
        if self.dataset.width * self.dataset.height > MAX_PIXELS:
            size = f"{self.dataset.height} x {self.dataset.width}"
            raise InputError(f"{name} has {size} pixels, at most {MAX_PIXELS:,} are read; cut it into parts")
        pages = len(self.dataset.subdatasets)
        if self.dataset.driver == "GTiff" and pages > 1 and not self.is_stack:
            raise InputError(
                f"{name} has {pages} pages, of which only the first would be read; split it, or save its "
                "bands in one page"
            )


def _lies(point: dict[str, Any]) -> tuple[float, ...]:
    return tuple(round(float(point[name] or 0), 6) for name in ("row", "col", "x", "y", "z"))


def georeference(dataset: Any) -> dict[str, Any]:
    """Return where the pixels of an open dataset lie, as the arguments with which rasterio writes a file."""
    points, points_crs = dataset.gcps
    place: dict[str, Any] = {"crs": dataset.crs} if dataset.crs else {}
    if not dataset.transform.is_identity:
        place["transform"] = dataset.transform
    elif points:
        place = {"gcps": points, "crs": points_crs}
    return place | ({"rpcs": dataset.rpcs} if dataset.rpcs else {})


def avoid_nodata(values: NDArray[Any], nodata: float | None) -> None:
    """Change values in place so that none of them is the number of missing data, by as little as possible."""
    if nodata is None:
        return
    dtype = values.dtype
    if dtype.kind == "f":
        other = np.nextafter(dtype.type(nodata), dtype.type(1))
    else:
        other = nodata + (1 if nodata < np.iinfo(dtype).max else -1)
    values[values == nodata] = other


def enlarge_place(place: dict[str, Any], factor: int) -> dict[str, Any]:
    """Return the georeference of the same image with `factor` times as many rows and columns."""
    place = dict(place)
    if "transform" in place:
        place["transform"] = place["transform"] @ Affine.scale(1 / factor)
    if "gcps" in place:
        points = (point.asdict() for point in place["gcps"])
        place["gcps"] = [
            GroundControlPoint(**{**point, "row": point["row"] * factor, "col": point["col"] * factor})
            for point in points
        ]
    if "rpcs" in place:  # they count from the centre of the first pixel
        rpcs, shift = place["rpcs"].to_dict(), (factor - 1) / 2
        moved = {f"{side}_off": factor * rpcs[f"{side}_off"] + shift for side in ("line", "samp")}
        wider = {f"{side}_scale": factor * rpcs[f"{side}_scale"] for side in ("line", "samp")}
        place["rpcs"] = RPC(**{**rpcs, **moved, **wider})
    return place


def copy_mask(source: Any, copy: Any) -> None:
    """Give a new GeoTIFF, which is open for writing, the mask that another one has inside or beside it."""
    if has_mask(source):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            for _, window in source.block_windows(1):
                copy.write_mask(source.read_masks(1, window=window), window=window)


def find_huge(stored: NDArray[Any]) -> list[float]:
    """Return one of the finite numbers of a magnitude that means no data; none if there is none."""
    if stored.dtype.kind != "f":
        return []
    return [float(value) for value in stored[np.isfinite(stored) & (np.abs(stored) > HUGE)][:1]]


def has_mask(dataset: Any) -> bool:
    """Whether the file has a mask of its own, which is no band of it."""
    flags = dataset.mask_flag_enums[0] if dataset.count else ()
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _refuse_texts(dataset: Any, name: str) -> None:
    """Refuse a file whose band names, units or tags cannot be read: rasterio takes UTF-8 alone."""
    try:
        _ = dataset.descriptions, dataset.units, dataset.tags(), [dataset.tags(i) for i in dataset.indexes]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} has band names, units or tags that are no UTF-8 ({error.reason} at {error.object!r}); "
            "set them anew, with gdal_edit.py for instance"
        ) from error


def _refuse_container(dataset: Any, name: str) -> None:
    """Refuse a file without bands of its own, and name the data sets in it."""
    if dataset.count:
        return
    inside = [found.rpartition(":")[2].strip("/") for found in dataset.subdatasets]
    dataset.close()
    shown = ", ".join(inside[:4]) + ", ..." * (len(inside) > 4)
    held = f"is a container of {len(inside)} data sets ({shown})" if inside else "has no bands"
    raise InputError(f"{name} {held}, needed is one raster of all bands; convert it with gdal_translate")
