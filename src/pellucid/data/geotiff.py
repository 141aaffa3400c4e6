"""GeoTIFF files: the grid of their pixels, and reading with errors that name the file."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from pellucid.data.files import check_input
from pellucid.errors import InputError

# Pixels by which the corners of equal grids may differ.
GRID_TOLERANCE = 0.01
# Side in pixels of the decimated image whose values show the unit.
SAMPLE = 256
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie; `transform` takes a pixel (column, row) to coordinates in `crs`."""

    crs: CRS | None
    transform: Affine
    width: int
    height: int

    @classmethod
    def of(cls, dataset: Any) -> Self:
        """Return the grid of an open dataset."""
        return cls(dataset.crs, dataset.transform, dataset.width, dataset.height)

    def matches(self, other: "Grid") -> bool:
        """Whether both have the same CRS, size and, to a hundredth of a pixel, corners."""
        if (self.width, self.height, self.crs) != (other.width, other.height, other.crs):
            return False
        corners = np.array([[0, self.width, 0, self.width], [0, 0, self.height, self.height], [1, 1, 1, 1]])
        there, back = (np.reshape(tuple(each), (3, 3)) for each in (other.transform, ~self.transform))
        return bool(np.abs(back @ there @ corners - corners).max() < GRID_TOLERANCE)

    def __str__(self) -> str:
        where = self.crs.to_string() if self.crs else "no CRS"
        x, y = self.transform.c, self.transform.f
        step = f"{abs(self.transform.a):.6g} x {abs(self.transform.e):.6g}"
        return f"{where}, {self.width} x {self.height} px of {step} from ({x:.10g}, {y:.10g})"


class Raster:
    """An open GeoTIFF whose read errors name the file, and `what` it is to the user, "optical scene".

    `doubts` are sentences about what seems wrong with the file, though it can be read.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        self.doubts: list[str] = []
        check_input(path, what)
        try:
            self.dataset = open_raster(path)
        except RasterioError as error:
            raise InputError(
                f"the {what} {path} is no readable raster ({first_line(error)}), give a GeoTIFF"
            ) from error
        _refuse_container(self.dataset, f"the {what} {path}")
        self.source: Any = self.dataset
        self.grid = Grid.of(self.dataset)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.source is not self.dataset:
            self.source.close()
        self.dataset.close()

    def log_doubts(self) -> None:
        """Log each doubt as a warning."""
        for doubt in self.doubts:
            log.warning("%s", doubt)

    def align(self, grid: Grid, *, allowed: bool) -> None:
        """Make every later read use `grid`, by warping where the grids differ.

        Raises:
            InputError: if the grids differ and warping is not `allowed`, not possible, or finds no overlap.
        """
        if self.grid.matches(grid):
            return
        found = f"the {self.what} {self.path} lies on another grid ({self.grid}) than the scene ({grid})"
        if not allowed:
            raise InputError(f"{found}, both must be the same; warp it, or align it with --align")
        if self.grid.crs is None or grid.crs is None:
            raise InputError(f"{found}, and aligning needs a CRS in both; georeference them first")
        self.source = WarpedVRT(
            self.dataset,
            **vars(grid),
            resampling=Resampling.bilinear,
            src_nodata=self.dataset.nodata if self.dataset.nodata is not None else np.nan,
            nodata=np.nan,
            dtype="float32",
        )
        self.grid = grid
        if not np.isfinite(self.read_array([1], size=SAMPLE)).any():
            raise InputError(f"{found} and does not overlap it, give one of the same place")

    def read_array(
        self, indices: list[int] | None = None, window: Window | None = None, size: int | None = None
    ) -> NDArray[Any]:
        """Return (C, H, W) as stored, of `window`; decimated to at most `size` pixels a side."""
        height, width = (window.height, window.width) if window else (self.grid.height, self.grid.width)
        bands = indices or list(range(1, self.source.count + 1))
        factor = max(1.0, max(height, width) / size) if size else 1.0
        shape = (len(bands), max(1, round(height / factor)), max(1, round(width / factor)))
        try:
            return self.source.read(bands, window=window, out_shape=shape)
        except RasterioError as error:
            raise InputError(
                f"the {self.what} {self.path} is damaged ({first_line(error)}), copy or download it again"
            ) from error


def open_raster(path: Path, mode: str = "r", **profile: Any) -> Any:
    """Return the dataset that rasterio opens, without its warning about files that are not georeferenced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(path, mode, **profile)
        except UnicodeEncodeError as error:  # GDAL takes no other names
            raise InputError(f"the name of {path} is not in UTF-8, which rasters need; rename it") from error


def _refuse_container(dataset: Any, name: str) -> None:
    """Refuse a file without bands of its own, and name the data sets in it."""
    if dataset.count:
        return
    inside = [found.rpartition(":")[2].strip("/") for found in dataset.subdatasets]
    dataset.close()
    shown = ", ".join(inside[:4]) + ", ..." * (len(inside) > 4)
    held = f"is a container of {len(inside)} data sets ({shown})" if inside else "has no bands"
    raise InputError(f"{name} {held}, needed is one raster of all bands; convert it with gdal_translate")


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, for a sentence."""
    return str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")
