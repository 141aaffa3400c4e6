"""Sentinel-2 scenes: files in, reflectance out, by windows; and scenes, radar and cloud maps read whole."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from pellucid.data.band_names import match_bands, read_names
from pellucid.data.cloud_raster import CloudRaster
from pellucid.data.fills import is_filled, possible_fills
from pellucid.data.geotiff import HUGE, SAMPLE, Raster, avoid_nodata, find_huge
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.ranges import SENTINEL1, SENTINEL2, Bands
from pellucid.data.safe_product import check_digests
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
# Medians of floating-point values: from the first to the second they are reflectance, above the third digital
# numbers, unless even the brightest, by percentile, are below the last.
DARKEST_MEDIAN, BRIGHTEST_MEDIAN, DARKEST_DN, BRIGHT, DARKEST_BRIGHT_DN = 5e-4, 2.0, 20.0, 99, 100.0
# Reflectance below which a band of Sentinel-2 holds no data; dark surfaces come out a little below 0.
LOWEST = -0.5
# A number of a tag.
_NUMBER = r"[+-]?\d{1,6}(\.\d*)?"


class OpticalRaster(Raster):
    """A Sentinel-2 scene whose bands and units are known.

    Reflectance is (stored + `add`) / `quantification`, both (C, 1, 1). `indices` are the numbers of the bands
    in the file, from 1, None for a missing one.

    Args:
        path: GeoTIFF of digital numbers or reflectance.
        bands: to read, matched by band description, or by position if no band has one.
        offset: DN to add before the division by 10000; "none" is 0; "auto" takes it from the scale and offset
            of the bands or the metadata, or else from the values.
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
            check_digests(path)
            self.dtype = np.dtype(self.dataset.dtypes[0])
            self.is_product = self.dataset.tags().get("SPECIAL_VALUE_NODATA") == "0"
            self.indices = list(numbers) or match_bands(self.dataset, bands, path, allow_missing)
            self.bands = bands
            if self.alpha in self.indices:
                self.alpha = None
            self.lowest = np.full((len(self._present()), 1, 1), -np.inf)
            _check_depth(self.dtype, path)
            self._find_units(offset)
        except InputError:
            self.close()
            raise

    def read(self, window: Window | None = None, size: int | None = None) -> tuple["Tensor", "Tensor"]:
        """Return reflectance (C, H, W) float32, not clipped, 0 if invalid; and valid (1, H, W) bool."""
        return self.to_reflectance(self.read_array(window=window, size=size), self.read_mask(window, size))

    def to_reflectance(self, stored: NDArray[Any], shown: NDArray[np.bool_]) -> tuple["Tensor", "Tensor"]:
        """Return what `read` does, from all bands as stored, (bands of the file, H, W), and `read_mask`."""
        import torch

        valid = self.find_valid(stored) & shown
        values = np.zeros((len(self.bands), *stored.shape[1:]), dtype=np.float32)
        add, quantification = (each.ravel().tolist() for each in (self.add, self.quantification))
        for i, index in enumerate(self.indices):
            if index is not None:
                values[i] = (stored[index - 1].astype(np.float32) + add[i]) / quantification[i]
        values[:, ~valid] = 0
        return torch.from_numpy(values), torch.from_numpy(valid)[None]

    def to_stored(self, reflectance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return reflectance as the file stores it, neither rounded nor clipped."""
        return reflectance * self.quantification - self.add

    def fit(self, values: NDArray[np.float64]) -> NDArray[Any]:
        """Return values in the file's units, rounded and clipped, in its type; none of them means nodata."""
        if self.dtype.kind != "f":
            limits = np.iinfo(self.dtype)
            values = np.rint(values).clip(limits.min, limits.max)
        stored = values.astype(self.dtype)
        avoid_nodata(stored, self.dataset.nodata)
        return stored

    def keep_valid(self, stored: NDArray[Any], restored: NDArray[np.bool_]) -> NDArray[Any]:
        """Return pixels as stored; restored ones that would mean no data, as 0 in all bands, gain one DN."""
        lost = restored & ~self.find_valid(stored)
        if lost.any():
            step = max(self.quantification[self._at()[0], 0, 0] / QUANTIFICATION, self.dtype.kind != "f")
            stored[self._present()[0]][lost] += np.asarray(step, stored.dtype)
        return stored

    def find_valid(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Return (H, W): where every wanted band holds data.

        Invalid are NaN, infinity, the declared nodata value, and 0 in all bands, declared or not (Sentinel-2
        product specification), as other numbers that files put there, and what no reflectance can be; 0 in
        some bands is dark water, unless the file has the metadata of a product, by which no value is 0.
        """
        wanted = stored[self._present()]
        valid: NDArray[np.bool_] = (wanted != 0).any(axis=0)
        if stored.dtype.kind == "f":
            valid &= (np.isfinite(wanted) & (np.abs(wanted) < HUGE)).all(axis=0)
        for fill in possible_fills(stored.dtype):
            valid &= ~self._is_filled(stored, fill)
        valid &= (wanted >= self.lowest).all(axis=0)
        nodata = self.dataset.nodata
        if nodata is not None and not np.isnan(nodata) and (nodata != 0 or self.is_product):
            valid &= (wanted != nodata).all(axis=0)
        return valid

    def _at(self) -> list[int]:
        """Return which of `bands` the file has."""
        return [at for at, index in enumerate(self.indices) if index is not None]

    def _present(self) -> list[int]:
        """Return the wanted bands of the file, from 0."""
        return [index - 1 for index in self.indices if index is not None]

    def _is_filled(self, stored: NDArray[Any], fill: float) -> NDArray[np.bool_]:
        every = stored[[i - 1 for i in self.numbers]]
        return is_filled(stored[self._present()], every, fill)

    def _find_units(self, offset: Offset) -> None:
        """Set `quantification` and `add`, and check the order of unnamed bands."""
        stored, shown = self.read_array(size=SAMPLE), self.read_mask(size=SAMPLE)
        found = [fill for fill in possible_fills(stored.dtype) if self._is_filled(stored, fill).any()]
        self.mark_fills([fill for fill in found + find_huge(stored) if fill != self.dataset.nodata])
        if stored.dtype.kind == "f" and np.isinf(stored).any():
            self.doubts.append(f"{self.path}: pixels that are infinite hold no data, and stay as they are")
        self.fill = 0.0 if self.fill is None else self.fill
        valid = self.find_valid(stored) & shown
        sample = stored[self._present()][:, valid]
        scales, offsets = self._scaling()
        self.quantification, self.add = np.full_like(scales, QUANTIFICATION), np.zeros_like(scales)
        is_tagged = bool((scales != 1).any() or (offsets != 0).any()) and not self._is_leftover(sample)
        is_reflectance = not is_tagged and self.dtype.kind == "f" and self._holds_reflectance(sample)
        if is_tagged:
            self.quantification, self.add = np.round(1 / scales, 6), np.round(offsets / scales, 6)
        elif is_reflectance:
            self.quantification = np.ones_like(scales)
        is_dn = bool((self.quantification == QUANTIFICATION).all() and not self.add.any())
        if is_dn and not (is_tagged and offset != "auto"):
            self.add += self._find_offset(stored[self._sentinel2_bands()][:, valid], offset)
        elif offset != "auto":
            self._set_offset(0 if offset == "none" else offset)
        if sample.size and not read_names(self.dataset):
            self._check_order(np.median(sample, axis=1) + self.add[self._at(), 0, 0])
        known = np.array([band in SENTINEL2.bands for band in self.bands])[:, None, None]
        lowest = np.where(known, LOWEST * self.quantification - self.add, -np.inf)
        self.lowest = lowest[self._at()]
        if (sample < self.lowest[..., 0]).any():
            self.doubts.append(f"{self.path}: pixels of a reflectance below {LOWEST:g} hold no data")

    def _scaling(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return scale and offset of each band as the file declares them, (C, 1, 1), or 1 and 0."""
        pairs = zip(self.dataset.scales, self.dataset.offsets, strict=True)
        found = dict(enumerate(pairs, start=1))
        both = np.array([found.get(index, (1.0, 0.0)) if index else (1.0, 0.0) for index in self.indices])
        if not np.isfinite(both).all() or (both[:, 0] == 0).any():
            raise InputError(f"{self.path} declares a scale of 0, or one that is no number; correct it")
        return both[:, :1, None], both[:, 1:, None]

    def _set_offset(self, offset: int) -> None:
        """Take the offset of the user, in DN, in place of those that the file declares."""
        declared = (self.add / self.quantification).ravel()
        self.add = offset / QUANTIFICATION * self.quantification
        if declared.any():
            found = f"the offset {declared[0]:g} that the file declares"
            self.doubts.append(f"{self.path}: {offset} DN are added in place of {found}")

    def _known(self, sample: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the bands of Sentinel-2, which are reflectance if anything is."""
        names = [self.bands[i] for i in self._at()]
        return sample[[name in SENTINEL2.bands for name in names]].ravel()

    def _is_leftover(self, sample: NDArray[Any]) -> bool:
        """Whether the scale in the file has been applied already, by a program that left it; a doubt."""
        scales, offsets = (each[self._at(), :, 0] for each in self._scaling())
        known, scaled = self._known(sample), self._known(sample * scales + offsets)
        if self.dtype.kind != "f" or not known.size:
            return False
        before, after = float(np.median(known)), float(np.median(scaled))
        if DARKEST_MEDIAN <= after <= BRIGHTEST_MEDIAN or not DARKEST_MEDIAN <= before <= BRIGHTEST_MEDIAN:
            return False
        self.doubts.append(
            f"{self.path}: its values are about {before:.2g}, reflectance already, so the scale that it "
            f"declares, {scales[0, 0]:g}, is not applied"
        )
        return True

    def _holds_reflectance(self, sample: NDArray[Any]) -> bool:
        """Return whether floating-point values are reflectance, else they are digital numbers."""
        known = self._known(sample)
        if not known.size:
            return not (sample.size and np.median(sample) > DARKEST_DN)
        typical = float(np.median(known))
        if typical <= BRIGHTEST_MEDIAN:
            return True
        if typical <= DARKEST_DN or np.percentile(known, BRIGHT) <= DARKEST_BRIGHT_DN:
            raise InputError(
                f"{self.path} has values about {typical:.3g}, neither reflectance (0 to 1) nor digital "
                "numbers (0 to 10000), percent perhaps; divide them, or declare their scale in the file"
            )
        return False

    @property
    def offset_dn(self) -> float:
        """What is added to the first band, in DN of 1 / 10000."""
        return float((self.add / self.quantification).ravel()[0] * QUANTIFICATION)

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
            return [number - 1 for number in self.numbers]
        return [at for at, name in enumerate(names) if name in SENTINEL2.bands]

    def _check_order(self, medians: NDArray[np.float64]) -> None:
        """Refuse unnamed bands among which another than B10 is far darker than B10."""
        if "B10" not in self.bands or None in self.indices:
            return
        at, darkest = self.bands.index("B10"), int(medians.argmin())
        if medians[at] > 4 * max(medians[darkest], 0.005 * float(self.quantification[at, 0, 0])):
            raise InputError(
                f"{self.path} has bands without names in another order than {', '.join(self.bands)} "
                f"(band {darkest + 1} is by far the darkest, which B10 should be), name its bands"
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


def read_cloud(path: Path, scale: float | None = None) -> "Tensor":
    """Return cloud probability of a patch, (1, H, W) float32 in [0, 1]; 0 where the map holds no data.

    Args:
        path: GeoTIFF.
        scale: the value that means certainly cloud; None: names and values tell.
    """
    with CloudRaster(path, is_patch=True, scale=scale) as raster:
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
