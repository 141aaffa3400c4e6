"""The unit of radar values, told by the values themselves: dB, linear power, or one that is refused."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.data.geotiff import HUGE, Raster, find_huge
from pellucid.errors import InputError

# dB. Everything on Earth scatters more.
FAINTEST_DB = -99.0
# Numbers that files put where they hold no data, declared or not; 0 in all bands.
FILLS = (0.0, -99.0, -999.0, -9999.0, -32768.0, -99999.0)
# Median backscatter power of any land or sea is below this (10 dB); amplitudes of detected products are not.
STRONGEST_MEDIAN = 10.0
# Values that all lie in [0, 1] with a median above this (-6 dB) are dB scaled to [0, 1], not power.
SCALED_MEDIAN = 0.25
# Resampling and the removal of noise make a few powers negative, but hardly below -1; most dB are.
FEW, FAINT_NEGATIVE = 0.05, -1.0
# Median of dB is above the first; of dB times 10 above the second, and of dB times 100 below it.
LOWEST_MEDIAN_DB, LOWEST_MEDIAN_X10 = -60.0, -400.0


class NoRadarError(InputError):
    """A file holds no radar value."""


class Backscatter:
    """Polarisations of an open raster as dB, whatever unit they are stored in; `find_unit` comes first.

    Args:
        raster: what holds them; what is found odd goes to its `doubts`.
        numbers: of the bands, from 1.
    """

    def __init__(self, raster: Raster, numbers: Sequence[int]) -> None:
        self.raster, self.is_linear = raster, False
        declared, at = (raster.dataset.scales, raster.dataset.offsets), [number - 1 for number in numbers]
        scale, offset = (np.array(each, np.float32)[at, None, None] for each in declared)
        self.scale, self.offset = scale, offset
        self.is_scaled = bool((scale != 1).any() or offset.any())
        self.dtype = "float32" if self.is_scaled else raster.dataset.dtypes[numbers[0] - 1]
        # numbers that mark missing data undeclared; scaled ones may be values
        self.fills = () if offset.any() else (0.0,) if self.is_scaled else FILLS

    def find_unit(self, stored: NDArray[Any], shown: NDArray[np.bool_]) -> None:
        """Tell the unit from a sample, (P, H, W) as stored and (H, W).

        Raises:
            NoRadarError: if there is no value.
            InputError: if the values are neither dB nor linear power.
        """
        nodata = self.raster.dataset.nodata
        used = [fill for fill in self.fills if fill != nodata and _is_marked(stored, [fill]).any()]
        self.raster.mark_fills(used + [value for value in find_huge(stored) if value != nodata])
        sample, path = self.scaled(stored, shown), self.raster.path
        self.is_linear = holds_power(sample, self.dtype, f"the {self.raster.what} {path}")
        if self.is_linear:
            negative = "; negative values are no data" if np.nanmin(sample) < 0 else ""
            self.raster.doubts.append(f"{path} holds linear power, not dB: it is converted{negative}")

    def scaled(self, stored: NDArray[Any], shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (P, H, W) scaled as the file says, NaN where it holds no data or (H, W) `shown` is False."""
        values, nodata = stored.astype(np.float32), self.raster.dataset.nodata
        missing = ~np.isfinite(values) | (np.abs(values) > HUGE) | _is_marked(values, self.fills) | ~shown
        if nodata is not None:
            missing |= values == nodata
        return np.where(missing, np.float32(np.nan), values) * self.scale + self.offset

    def to_db(self, stored: NDArray[Any], shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (P, H, W) in dB, NaN where power is not positive or anything would be stronger."""
        values = self.scaled(stored, shown)
        if self.is_linear:
            values = 10 * np.log10(np.where(values > 0, values, np.float32(np.nan)))
        return np.where(values <= FAINTEST_DB, np.float32(np.nan), values)


def _is_marked(values: NDArray[Any], fills: Sequence[float]) -> NDArray[np.bool_]:
    """Return where (P, H, W) is one of the fills, 0 in all polarisations."""
    marked = np.isin(values, [fill for fill in fills if fill])
    return marked | (values == 0).all(axis=0) if 0 in fills else marked


def holds_power(sample: NDArray[np.float32], dtype: str, name: str) -> bool:
    """Return whether values are linear power, else they are dB.

    Args:
        sample: of all polarisations, scaled as the file says; NaN where there is no data.
        dtype: of the stored values, if they are not scaled.
        name: of the file, for a sentence: "the radar scene s1.tif".

    Raises:
        NoRadarError: if there is no value.
        InputError: if they are in another unit.
    """
    if np.dtype(dtype).kind == "u":
        raise InputError(
            f"{name} holds {dtype} values, a picture or amplitudes; needed are dB or linear power (float32), "
            "give the calibrated product"
        )
    found = sample[np.isfinite(sample)]
    if not found.any():
        raise NoRadarError(f"{name} holds no data, give another")
    typical, negative = float(np.median(found)), found[found < 0]
    may_be_db = negative.size > FEW * found.size and np.median(negative) < FAINT_NEGATIVE
    if may_be_db and typical <= FAINT_NEGATIVE:
        _refuse_multiples(typical, name)
        return False
    if may_be_db or not 0 <= typical <= STRONGEST_MEDIAN:
        raise InputError(
            f"{name} has values about {typical:.3g}, neither dB nor linear power; calibrate it to "
            "backscatter (sigma nought or gamma nought) first"
        )
    if found.max() <= 1 and typical > SCALED_MEDIAN:
        raise InputError(
            f"{name} has values up to {found.max():.3g}, about {typical:.2g}, too bright for linear power, "
            "as if dB were scaled to 0 ... 1; give it in dB"
        )
    return True


def _refuse_multiples(typical: float, name: str) -> None:
    """Refuse dB times 10 or 100, which are kept as whole numbers."""
    if typical >= LOWEST_MEDIAN_DB:
        return
    factor = 10 if typical >= LOWEST_MEDIAN_X10 else 100
    raise InputError(
        f"{name} has values about {typical:.0f}, dB times {factor}?; divide them, or declare the scale "
        f"{1 / factor:g} in the file (gdal_edit.py -scale {1 / factor:g})"
    )
