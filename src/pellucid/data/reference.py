"""Other dates of a place, from any sensor: files in, images in about [0, 1] out, without their clouds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window
from torch import Tensor

from pellucid.data.band_names import find_bands, names_polarisations, read_names
from pellucid.data.cloud_score import NEEDED
from pellucid.data.fills import FILLS, is_filled, possible_fills
from pellucid.data.gdal_open import colors_of
from pellucid.data.geotiff import HUGE, SAMPLE, Grid, Raster, find_huge
from pellucid.data.older import MASK_REACH_PX, TWICE_REACH_PX, keep_ground, mask_clouds
from pellucid.data.ranges import Bands
from pellucid.data.raster import OpticalRaster
from pellucid.errors import InputError

# Percentiles of a band of unknown unit that become 0 and 1.
MIDDLE = (0.1, 99.9)


# A window of the scene, (1, C, H, W) in [0, 1].
Look = Callable[[Window], Tensor]


class ReferenceRaster:
    """Another date of a scene, of which bands with known names are read as reflectance.

    Where no band is known, each band is stretched so that nearly all of its values lie in [0, 1], and clouds
    are not found. `bands` are the names of those that are read, "" for unknown ones.

    Args:
        path: GeoTIFF.
        named: what the bands of the scene are by position; a reference without names and with as many bands
            has them in the same order.
    """

    def __init__(self, path: Path, *, named: Bands | None = None) -> None:
        plain = Raster(path, "reference")
        try:
            found = _known_bands(plain, named)
            if found:
                names, numbers = tuple(found), list(found.values())
                self.raster: Raster = OpticalRaster(path, names, numbers=numbers, what="reference")
                plain.close()
                self.bands: Bands = names
                return
            colors = enumerate(colors_of(plain.dataset), start=1)
            self.numbers = [i for i, kind in colors if kind != ColorInterp.alpha]
            self.raster, self.bands = plain, ("",) * len(self.numbers)
            self.fills = self._find_fills()
            self.low, self.high = self._find_limits()
            plain.doubts.append(f"{path} {_why_unknown(plain.dataset)}, so clouds in it are not found")
        except InputError:
            plain.close()
            raise

    @property
    def reach_px(self) -> int:
        """How far around a pixel its own clouds are looked for."""
        return MASK_REACH_PX if NEEDED.issubset(self.bands) else 0

    def read(self, window: Window, scene: tuple[Look, Bands] | None = None) -> Tensor:
        """Return (1, K, H, W) float32 in [0, 1]; NaN where there is cloud or no data.

        What looks like cloud but is seen in the `scene` too, which is given with its bands, is kept.
        """
        wide, inner = widen(window, self.reach_px, self.raster.grid)
        stored, shown = self.raster.read_array(window=wide), self.raster.read_mask(wide)
        if not isinstance(self.raster, OpticalRaster):
            return torch.from_numpy(np.where(shown, self._stretch(stored), np.float32(np.nan)))[None]
        values, valid = self.raster.to_reflectance(stored, shown)
        values = values.clamp(0, 1).where(valid, torch.nan)[None]
        if self.reach_px:
            masked = mask_clouds(values, self.bands)
            lost = (masked.isnan() & values.isfinite())[..., inner[0], inner[1]].any()
            if scene and lost:
                near, within = widen(window, TWICE_REACH_PX, self.raster.grid)
                top, left = near.row_off - wide.row_off, near.col_off - wide.col_off
                part = (..., slice(top, top + near.height), slice(left, left + near.width))
                look, bands = scene
                kept = keep_ground(masked[part], values[part], self.bands, look(near), bands)
                return kept[..., within[0], within[1]]
            values = masked
        return values[..., inner[0], inner[1]]

    def _find_fills(self) -> list[float]:
        """Return the numbers that mark missing data, though the file does not declare them; a doubt."""
        values = self.raster.read_array(self.numbers, size=SAMPLE)
        possible = [fill for fill in possible_fills(values.dtype) if fill != self.raster.dataset.nodata]
        found = [fill for fill in possible if is_filled(values, values, fill).any()]
        self.raster.mark_fills([fill for fill in found if fill in FILLS] + find_huge(values))
        if bright := [f"{fill:g}" for fill in found if fill not in FILLS]:
            self.raster.doubts.append(
                f"{self.raster.path}: pixels that are {' or '.join(bright)} in all bands hold no data"
            )
        return found

    def _find_limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        stored, shown = self.raster.read_array(size=SAMPLE), self.raster.read_mask(size=SAMPLE)
        known = stored[[i - 1 for i in self.numbers]][:, self._find_valid(stored) & shown]
        if not known.size:
            raise InputError(f"the reference {self.raster.path} holds no data, give another")
        low, high = np.percentile(known, MIDDLE, axis=1).astype(np.float32)[..., None, None]
        return low, np.where(high > low, high, low + 1)

    def _stretch(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        values = stored[[i - 1 for i in self.numbers]].astype(np.float32)
        values[:, ~self._find_valid(stored)] = np.nan
        return ((values - self.low) / (self.high - self.low)).clip(0, 1)

    def _find_valid(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Return (H, W): where all bands hold data; 0 in all of them, fills and transparent pixels do not."""
        values = stored[[i - 1 for i in self.numbers]]
        valid: NDArray[np.bool_] = np.isfinite(values).all(axis=0) & (values != 0).any(axis=0)
        valid &= (np.abs(values.astype(np.float64)) < HUGE).all(axis=0)
        for fill in self.fills:
            valid &= ~is_filled(values, values, fill)
        nodata = self.raster.dataset.nodata
        if nodata is not None and not np.isnan(nodata):
            valid &= (values != nodata).all(axis=0)
        for i in set(range(1, len(stored) + 1)) - set(self.numbers):
            valid &= stored[i - 1] > 0
        return valid


def widen(window: Window, margin: int, grid: Grid) -> tuple[Window, tuple[slice, slice]]:
    """Return the window with a margin, as far as the grid goes, and where in it the window lies."""
    top, left = max(0, window.row_off - margin), max(0, window.col_off - margin)
    bottom = min(grid.height, window.row_off + window.height + margin)
    right = min(grid.width, window.col_off + window.width + margin)
    rows = slice(window.row_off - top, window.row_off - top + window.height)
    columns = slice(window.col_off - left, window.col_off - left + window.width)
    return Window(left, top, right - left, bottom - top), (rows, columns)


def _why_unknown(dataset: Any) -> str:
    """Return why the bands of a file are not read as reflectance, as the middle of a sentence."""
    if names_polarisations(dataset):
        return "is radar, which tells more with --sar than as a reference"
    if _is_picture(dataset):
        return "is a picture of 8 bits, not reflectance"
    return "has no bands of known names (--bands names those of files with as many as the scene)"


def _is_picture(dataset: Any) -> bool:
    return np.dtype(dataset.dtypes[0]).itemsize == 1


def _known_bands(raster: Raster, named: Bands | None) -> dict[str, int]:
    """Return the known bands with their numbers; none where nothing tells what the bands are."""
    dataset = raster.dataset
    if _is_picture(dataset):
        return {}
    try:
        if named is not None and not read_names(dataset) and dataset.count == len(named):
            return find_bands(dataset, raster.path, named)
        return find_bands(dataset, raster.path)
    except InputError:
        return {}
