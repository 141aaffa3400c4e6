"""Other dates of a scene's place, of any sensor: their clouds masked, in the colours of the scene."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
import torch
from rasterio.windows import Window
from torch import Tensor

from pellucid.data.band_names import find_bands
from pellucid.data.cloud_score import REACH_PX
from pellucid.data.geotiff import SAMPLE, Grid, Raster
from pellucid.data.harmonise import Colours, date_sums, merge_dates
from pellucid.data.older import MARGIN, mask_clouds
from pellucid.data.ranges import SENTINEL2, Bands
from pellucid.data.raster import Offset, OpticalRaster
from pellucid.errors import InputError

# Longer side in pixels of the decimated images from which the colours of a date are found.
GLANCE = 1024
# Bands that an image must have so that clouds can be found in it.
NEEDED = {"B02", "B04"}
# Pixels around a window that decide about clouds in it.
HALO = REACH_PX + MARGIN
# Share of the values of an unknown sensor that lie below the one that becomes 1.
BRIGHT = 99.5


class Reference:
    """An older date: Sentinel-2, whose bands are named, or an image of any other bands and values.

    Attributes:
        bands: its names, "" where they are unknown.
    """

    def __init__(self, path: Path, *, offset: Offset, grid: Grid, align: bool) -> None:
        self.path, what = path, "reference"
        with Raster(path, what) as raster:
            found = _sentinel2_bands(raster)
            count = raster.dataset.count
        if found:
            self.bands: Bands = tuple(found)
            self.raster: Raster = OpticalRaster(
                path, self.bands, offset=offset, numbers=tuple(found.values()), what=what
            )
        else:
            self.bands, self.raster = ("",) * count, Raster(path, what)
        try:
            self.raster.align(grid, allowed=align)
            sample = self._read(None, SAMPLE)
            known = sample[sample.isfinite()]
            if not known.numel():
                raise InputError(f"the reference {path} holds no data over the scene, give another")
            self.high = 1.0 if found else max(float(np.percentile(known.numpy(), BRIGHT)), 1e-6)
        except InputError:
            self.raster.close()
            raise

    def read(self, window: Window | None = None, size: int | None = None) -> Tensor:
        """Return (1, K, H, W) in about [0, 1], NaN where the date is cloudy or holds no data.

        What is cloudy does not depend on the window.
        """
        if not set(self.bands) >= NEEDED:
            return self._read(window, size) / self.high
        if window is None:
            return mask_clouds(self._read(None, size), self.bands)
        top, left = (max(0, round(start) - HALO) for start in (window.row_off, window.col_off))
        bottom = min(self.raster.grid.height, round(window.row_off + window.height) + HALO)
        right = min(self.raster.grid.width, round(window.col_off + window.width) + HALO)
        wide = self._read(Window(left, top, right - left, bottom - top), None)
        rows, columns = round(window.row_off) - top, round(window.col_off) - left
        found = mask_clouds(wide, self.bands)
        return found[..., rows : rows + round(window.height), columns : columns + round(window.width)]

    def _read(self, window: Window | None, size: int | None) -> Tensor:
        """Return (1, K, H, W), NaN where there is no data."""
        stored = self.raster.read_array(window=window, size=size)
        if isinstance(self.raster, OpticalRaster):
            values, valid = self.raster.to_reflectance(stored)
            values = SENTINEL2.select(self.bands).to_unit(values)
        else:
            values = torch.from_numpy(stored.astype(np.float32))
            valid = (values != 0).any(0, keepdim=True)
            if (nodata := self.raster.dataset.nodata) is not None:
                valid = valid & (values != nodata).all(0, keepdim=True)
        return values.where(valid & values.isfinite().all(0, keepdim=True), torch.nan)[None]


class References:
    """All older dates of a scene, as one guide in its bands and colours.

    Args:
        paths: of the dates.
        offset: of the scene, for dates of Sentinel-2.
        grid: of the scene.
        align: whether dates may be warped to it.
    """

    def __init__(self, paths: Sequence[Path], *, offset: Offset, grid: Grid, align: bool) -> None:
        self.colours: list[Colours] = []
        with ExitStack() as stack:
            self.dates = [Reference(path, offset=offset, grid=grid, align=align) for path in paths]
            for date in self.dates:
                stack.callback(date.raster.close)
                date.raster.log_doubts()
            self.close = stack.pop_all().close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def learn(self, scene: Tensor, clear: Tensor, bands: Bands) -> None:
        """Find the colours of each date from decimated images.

        Args:
            scene: (1, C, H, W) in [0, 1], at most `GLANCE` pixels a side.
            clear: (1, 1, H, W) bool, where it shows the ground.
            bands: C names.
        """
        for date in self.dates:
            older = date.read(size=GLANCE)
            sums = date_sums(older, scene, clear.to(scene.dtype))
            if not sums.count.any():
                raise InputError(
                    f"the reference {date.path} has no clear pixel in common with the scene, so that its "
                    "colours cannot be compared; give another date, or leave it out"
                )
            self.colours.append(Colours(sums, date.bands, bands))

    def read(self, window: Window) -> Tensor:
        """Return (1, C, H, W) in [0, 1], in the bands and colours of the scene, NaN where none is clear."""
        images = [c.apply(date.read(window)) for c, date in zip(self.colours, self.dates, strict=True)]
        return merge_dates(images, self.colours)


def _sentinel2_bands(raster: Raster) -> dict[str, int]:
    """Return the bands of Sentinel-2 with their numbers; none if it is another sensor's."""
    try:
        return find_bands(raster.dataset, raster.path)
    except InputError:
        return {}
