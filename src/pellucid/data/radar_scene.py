"""Sentinel-1 scenes: files in, backscatter in dB out, by windows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from pellucid.data.backscatter import Backscatter
from pellucid.data.band_names import match_polarisations, names_polarisations
from pellucid.data.geotiff import SAMPLE, Raster
from pellucid.data.radar_units import RadarUnit
from pellucid.data.ranges import SENTINEL1, Bands
from pellucid.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

# dB by which VH, the cross-polarised and weaker one, may exceed VV in the median of a scene.
STRONGER_DB = 1.0


class RadarRaster(Raster):
    """A Sentinel-1 scene: two bands, or bands described as VV and VH, in dB.

    Linear power and amplitudes are converted, and noted in `doubts`. `indices` are the numbers of VV and VH
    in the file.

    Args:
        path: GeoTIFF.
        named: polarisations of the bands, by position; none: their descriptions say it.
        partial: take VV or VH alone; the other is read as missing.
        units: of the values; auto: the file and its values tell.
    """

    glances = (SAMPLE, 4 * SAMPLE)

    def __init__(
        self, path: Path, *, named: Bands | None = None, partial: bool = False, units: RadarUnit = "auto"
    ) -> None:
        super().__init__(path, "radar scene")
        try:
            self.indices = match_polarisations(self.dataset, path, named, partial=partial)
            self.backscatter = Backscatter(self, self._there, self.polarisations, said=units)
            self._find_unit()
            is_said = named is not None or names_polarisations(self.dataset)
            self._check_order(is_said=is_said)
        except InputError:
            self.close()
            raise

    def read_db(self, window: Window | None = None, size: int | None = None) -> "Tensor":
        """Return backscatter (2, H, W) float32 in dB, VV and VH; NaN where there is none."""
        import torch

        return torch.from_numpy(self._read_db(window, size))

    @property
    def is_linear(self) -> bool:
        """Whether the file holds power or amplitudes, not dB."""
        return self.backscatter.unit != "db"

    @property
    def polarisations(self) -> Bands:
        """Return which of VV and VH the file has."""
        return tuple(n for n, index in zip(SENTINEL1.bands, self.indices, strict=True) if index is not None)

    @property
    def _there(self) -> list[int]:
        return [index for index in self.indices if index is not None]

    def _read(
        self, window: Window | None = None, size: int | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        return self.read_array(self._there, window, size), self.read_mask(window, size)

    def _read_db(self, window: Window | None = None, size: int | None = None) -> NDArray[np.float32]:
        values = self.backscatter.to_db(*self._read(window, size))
        both = np.full((len(self.indices), *values.shape[1:]), np.nan, np.float32)
        both[[at for at, index in enumerate(self.indices) if index is not None]] = values
        return both

    def _find_unit(self) -> None:
        sample = self._read(size=4 * SAMPLE)
        if not np.isfinite(self.backscatter.scaled(*sample)).any():  # perhaps few pixels hold data
            windows = (self._read(window) for _, window in self.dataset.block_windows(1))
            found = (each for each in windows if np.isfinite(self.backscatter.scaled(*each)).any())
            sample = next(found, sample)
        self.backscatter.find_unit(*sample)

    def _check_order(self, *, is_said: bool) -> None:
        """Doubt names by which VH is stronger than VV; without names, the stronger one is VV."""
        values = self._read_db(size=SAMPLE)
        known = np.isfinite(values).all(axis=0)
        if not known.any():
            return
        vv, vh = np.median(values[:, known], axis=1)
        if vh <= vv + STRONGER_DB:
            return
        found = f"{self.path}: {vv:.1f} dB is the median of the first band, {vh:.1f} dB that of the second"
        if is_said:
            found = f"{self.path}: the median of VV is {vv:.1f} dB, that of VH {vh:.1f} dB"
            self.doubts.append(f"{found}; VH should be weaker, are they swapped?")
        else:
            self.indices.reverse()
            self.doubts.append(f"{found}, so this is taken for VV; name them if it is not")
