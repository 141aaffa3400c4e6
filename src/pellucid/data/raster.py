"""Sentinel-1 and Sentinel-2 scenes and cloud maps: files in, tensors in physical units out, by windows."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from pellucid.data.band_names import match_bands, match_polarisations, read_names
from pellucid.data.geotiff import SAMPLE, Raster
from pellucid.data.ranges import SENTINEL1, SENTINEL2, Bands
from pellucid.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Offset = Literal["auto", "none"] | int

# Reflectance = (DN + offset) / 10000; the offset is -1000 from processing baseline 04.00 on, 2022-01-25
# (Sentinel-2 product specification, RADIO_ADD_OFFSET and BOA_ADD_OFFSET).
QUANTIFICATION = 10_000.0
BASELINE_OFFSET = -1000
# Where the darkest band of a scene starts if its digital numbers carry the offset: dark water and B10
# reflect less than 0.015.
OFFSET_STARTS = (1000.0, 1150.0)
_NUMBER = r"[+-]?\d{1,6}(\.\d*)?"
# Reflectance above which floating-point values must be digital numbers.
BRIGHTEST = 20.0
# dB. Nothing on Earth scatters less; files mark missing data with such numbers, for instance -9999.
FAINTEST_DB = -100.0
# Median backscatter power of any land or sea is below this (10 dB); amplitudes of detected products are not.
STRONGEST_MEDIAN = 10.0


class OpticalRaster(Raster):
    """A Sentinel-2 scene whose bands and units are known.

    Reflectance is (stored + `add`) / `quantification`. `indices` are the numbers of the bands in the file,
    from 1, None for a missing one.

    Args:
        path: GeoTIFF of digital numbers or reflectance.
        bands: to read, matched by band description, or by position if no band has one.
        offset: DN to add before the division by 10000; "none" is 0; "auto" takes it from the metadata, or
            else from the values.
        allow_missing: bands that may be missing; they are read as 0.
        numbers: in place of matching, the number of each band in the file, from 1.
        what: the file is to the user.
    """

    def __init__(
        self,
        path: Path,
        bands: Bands,
        *,
        offset: Offset = "auto",
        allow_missing: Bands = (),
        numbers: Sequence[int] = (),
        what: str = "optical scene",
    ) -> None:
        super().__init__(path, what)
        try:
            self.dtype = np.dtype(self.dataset.dtypes[0])
            self.indices = list(numbers) or match_bands(self.dataset, bands, path, allow_missing)
            self.bands = bands
            _check_depth(self.dtype, path)
            self._find_units(offset)
        except InputError:
            self.close()
            raise

    def read(self, window: Window | None = None, size: int | None = None) -> tuple["Tensor", "Tensor"]:
        """Return reflectance (C, H, W) float32, not clipped, 0 if invalid; and valid (1, H, W) bool."""
        return self.to_reflectance(self.read_array(window=window, size=size))

    def to_reflectance(self, stored: NDArray[Any]) -> tuple["Tensor", "Tensor"]:
        """Return what `read` does, from all bands as stored, (bands of the file, H, W)."""
        import torch

        valid = self.find_valid(stored)
        values = np.zeros((len(self.bands), *stored.shape[1:]), dtype=np.float32)
        for i, index in enumerate(self.indices):
            if index is not None:
                values[i] = (stored[index - 1].astype(np.float32) + self.add) / self.quantification
        values[:, ~valid] = 0
        return torch.from_numpy(values), torch.from_numpy(valid)[None]

    def to_stored(self, reflectance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return reflectance as the file stores it, neither rounded nor clipped."""
        return reflectance * self.quantification - self.add

    def find_valid(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Return (H, W): where every wanted band holds data.

        Invalid are NaN, infinity, the declared nodata value, and 0 in all bands, declared or not (Sentinel-2
        product specification); 0 in some bands is dark water.
        """
        wanted = stored[self._present()]
        valid: NDArray[np.bool_] = (wanted != 0).any(axis=0)
        if stored.dtype.kind == "f":
            valid &= np.isfinite(wanted).all(axis=0)
        nodata = self.dataset.nodata
        if nodata is not None and not np.isnan(nodata) and nodata != 0:
            valid &= (wanted != nodata).all(axis=0)
        return valid

    def _present(self) -> list[int]:
        """Return the wanted bands of the file, from 0."""
        return [index - 1 for index in self.indices if index is not None]

    def _find_units(self, offset: Offset) -> None:
        """Set `quantification` and `add`, and check the order of unnamed bands."""
        stored = self.read_array(size=SAMPLE)
        valid = self.find_valid(stored)
        sample = stored[self._present()][:, valid]
        first = self._present()[0]
        scale, tag_offset = self.dataset.scales[first], self.dataset.offsets[first]
        self.quantification, self.add = QUANTIFICATION, 0.0
        if scale != 1 or tag_offset != 0:
            self.quantification, self.add = round(1 / scale, 6), round(tag_offset / scale, 6)
        elif self.dtype.kind == "f" and not (sample.size and np.median(sample) > BRIGHTEST):
            self.quantification = 1.0
        else:
            self.add = float(self._find_offset(stored[self._sentinel2_bands()][:, valid], offset))
        if sample.size and not read_names(self.dataset):
            self._check_order(np.median(sample, axis=1) + self.add)

    def _find_offset(self, sample: NDArray[Any], offset: Offset) -> int:
        """Return the DN to add; where the values contradict it, that is a doubt."""
        darkest = float(np.percentile(sample, 0.1, axis=1).min()) if sample.size else 0.0
        seems_offset = OFFSET_STARTS[0] <= darkest <= OFFSET_STARTS[1]
        found = f"{self.path}: values start at {darkest:.0f}"
        stated = _offset_in_metadata(self.dataset, self.path) if offset == "auto" else offset
        if stated is None and seems_offset:
            self.doubts.append(
                f"{found}, so the offset of processing baseline 04.00 is taken off; --offset none keeps it"
            )
            return BASELINE_OFFSET
        stated = 0 if stated is None or stated == "none" else stated
        if stated == 0 and seems_offset:
            self.doubts.append(f"{found}, as if they carried an offset; try --offset -1000")
        if stated < 0 and sample.size and darkest < -0.8 * stated:
            self.doubts.append(f"{found}, so the offset {stated} seems taken off already; try --offset none")
        return stated

    def _sentinel2_bands(self) -> list[int]:
        """Return every Sentinel-2 band of the file, from 0; without the dark ones, cloud seems an offset."""
        names = read_names(self.dataset)
        if not names:
            return list(range(self.dataset.count))
        return [at for at, name in enumerate(names) if name in SENTINEL2.bands]

    def _check_order(self, medians: NDArray[np.float64]) -> None:
        """Refuse unnamed bands among which another than B10 is far darker than B10."""
        if "B10" not in self.bands or None in self.indices:
            return
        at, darkest = self.bands.index("B10"), int(medians.argmin())
        if medians[at] > 4 * max(medians[darkest], 0.005 * self.quantification):
            raise InputError(
                f"{self.path} has bands without names in another order than {', '.join(self.bands)} "
                f"(band {darkest + 1} is by far the darkest, which B10 should be), name its bands"
            )


class RadarRaster(Raster):
    """A Sentinel-1 scene: two bands, or bands described as VV and VH, in dB.

    Linear power is converted, and noted in `doubts`. `indices` are the numbers of VV and VH in the file.

    Args:
        path: GeoTIFF.
        named: polarisations of the bands, by position; none: their descriptions say it.
        partial: take VV or VH alone; the other is read as missing.
    """

    def __init__(self, path: Path, *, named: Bands | None = None, partial: bool = False) -> None:
        super().__init__(path, "radar scene")
        try:
            self.indices = match_polarisations(self.dataset, path, named, partial=partial)
            self.is_linear = False
            self.is_linear = self._holds_power(self._read_db(size=4 * SAMPLE))
        except InputError:
            self.close()
            raise
        if self.is_linear:
            self.doubts.append(f"{path} holds linear power, not dB: it is converted")

    def read_db(self, window: Window | None = None, size: int | None = None) -> "Tensor":
        """Return backscatter (2, H, W) float32 in dB, VV and VH; NaN where there is none."""
        import torch

        return torch.from_numpy(self._read_db(window, size))

    def _read_db(self, window: Window | None = None, size: int | None = None) -> NDArray[np.float32]:
        there = [index for index in self.indices if index is not None]
        values = self.read_array(there, window, size).astype(np.float32)
        if (nodata := self.dataset.nodata) is not None:
            values[values == nodata] = np.nan
        values = values * np.float32(self.dataset.scales[0]) + np.float32(self.dataset.offsets[0])
        if self.is_linear:
            values = 10 * np.log10(np.where(values > 0, values, np.nan))
        values[~np.isfinite(values) | (values < FAINTEST_DB)] = np.nan
        if len(there) == len(self.indices):
            return values
        both = np.full((len(self.indices), *values.shape[1:]), np.nan, np.float32)
        both[[at for at, index in enumerate(self.indices) if index is not None]] = values
        return both

    @property
    def polarisations(self) -> Bands:
        """Return which of VV and VH the file has."""
        return tuple(n for n, index in zip(SENTINEL1.bands, self.indices, strict=True) if index is not None)

    def _holds_power(self, sample: NDArray[np.float32]) -> bool:
        found = sample[np.isfinite(sample)]
        if not found.size or not found.any():
            raise InputError(f"the radar scene {self.path} holds no data, give another")
        if found.min() < 0:
            return False
        if np.median(found) > STRONGEST_MEDIAN:
            raise InputError(
                f"the radar scene {self.path} has values about {np.median(found):.0f}, neither dB nor linear "
                "power; calibrate it to backscatter (sigma nought or gamma nought) first"
            )
        return True


class CloudRaster(Raster):
    """A cloud map of one band: a mask (0, 1 or 0, 255), probabilities (0 ... 1) or percent (0 ... 100)."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "cloud map")
        try:
            if self.dataset.count != 1:
                raise InputError(f"the cloud map {path} has {self.dataset.count} bands, must have one")
            self.high = self._find_high(self._read_known(size=4 * SAMPLE))
        except InputError:
            self.close()
            raise

    def read(self, window: Window | None = None, size: int | None = None) -> "Tensor":
        """Return (1, H, W) float32 in [0, 1]; 0 where the map holds no data."""
        import torch

        return (torch.from_numpy(self._read_known(window, size)) / self.high).clamp(0, 1)

    def _read_known(self, window: Window | None = None, size: int | None = None) -> NDArray[np.float32]:
        """Return (1, H, W) as stored; 0 where the map holds no data."""
        stored = self.read_array([1], window, size).astype(np.float32)
        if nodata := self.dataset.nodata:
            stored[stored == nodata] = 0
        return np.nan_to_num(stored, copy=False, nan=0, posinf=0, neginf=0)

    def _find_high(self, sample: NDArray[np.float32]) -> float:
        """Return the value that means certainly cloud."""
        lowest, highest = sample.min(), sample.max()
        if lowest >= 0 and highest <= 1:
            return 1.0
        if lowest >= 0 and 10 < highest <= 255:
            return 100.0 if highest <= 100 else 255.0
        raise InputError(
            f"the cloud map {self.path} has values from {lowest:g} to {highest:g}, "
            "must hold 0 and 1, probabilities from 0 to 1, or percent; recode it"
        )


def read_optical(path: Path, bands: Bands, *, offset: Offset = "auto") -> tuple["Tensor", "Tensor"]:
    """Return reflectance in [0, 1], (C, H, W) float32, and valid, (1, H, W) bool; see `OpticalRaster`."""
    with OpticalRaster(path, bands, offset=offset) as raster:
        raster.log_doubts()
        values, valid = raster.read()
    return SENTINEL2.select(bands).to_unit(values), valid


def read_radar(path: Path) -> "Tensor":
    """Return backscatter scaled to [0, 1] by `SENTINEL1`, (2, H, W) float32, NaN where there is none."""
    with RadarRaster(path) as raster:
        raster.log_doubts()
        return SENTINEL1.to_unit(raster.read_db())


def read_cloud(path: Path) -> "Tensor":
    """Return cloud probability, (1, H, W) float32 in [0, 1]; 0 where the map holds no data."""
    with CloudRaster(path) as raster:
        return raster.read()


def _check_depth(dtype: np.dtype[Any], path: Path) -> None:
    if dtype.itemsize == 1:
        raise InputError(
            f"{path} is 8-bit ({dtype}), a picture; needed are digital numbers (uint16) or reflectance "
            "(float32), give the original product"
        )
    if dtype.kind not in "uif":
        raise InputError(f"{path} holds {dtype} values, needed are uint16, int16 or float32; convert it")


def _offset_in_metadata(dataset: Any, path: Path) -> int | None:
    """Return the offset by the tags or the product's name; None if neither states it."""
    tags = {key.upper(): value for key, value in dataset.tags().items()}
    for key in ("RADIO_ADD_OFFSET", "BOA_ADD_OFFSET"):
        if key in tags and (stated := _one_number(tags[key])) is not None:
            return stated
    baseline = tags.get("PROCESSING_BASELINE", "")
    for text in (tags.get("PRODUCT_URI", ""), path.name):
        if not baseline and (found := re.search(r"_N(\d\d)(\d\d)_", text)):
            baseline = f"{found[1]}.{found[2]}"
    if not re.fullmatch(r"\d+\.\d+", baseline):
        return None
    return BASELINE_OFFSET if float(baseline) >= 4 else 0


def _one_number(text: str) -> int | None:
    """Return the number of a tag, also where it is a list that repeats it; None for anything else."""
    numbers = {part for part in re.split(r"[\s,;()\[\]]+", text) if part}
    return int(float(numbers.pop())) if len(numbers) == 1 and re.fullmatch(_NUMBER, min(numbers)) else None
