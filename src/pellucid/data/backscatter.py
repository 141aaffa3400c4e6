"""The unit of radar values, told by the values themselves: dB, linear power, or one that is refused."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.data.geotiff import HUGE, find_huge
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


def drop_missing(
    values: NDArray[np.float32], nodata: float | None = None, fills: Sequence[float] = FILLS
) -> NDArray[np.float32]:
    """Return (P, H, W) with NaN where there is no data: `nodata`, infinity and what is marked by `fills`."""
    missing = ~np.isfinite(values) | (np.abs(values) > HUGE) | _is_marked(values, fills)
    if nodata is not None:
        missing |= values == nodata
    return np.where(missing, np.float32(np.nan), values)


def usual_fills(scale: float, offset: float) -> tuple[float, ...]:
    """Return the numbers that mark missing data undeclared; scaled ones may be values."""
    if offset:
        return ()
    return FILLS if scale == 1 else (0.0,)


def find_fills(stored: NDArray[Any], nodata: float | None, fills: Sequence[float] = FILLS) -> list[float]:
    """Return which of the fills mark missing data in (P, H, W) as stored, though they are not declared."""
    used = [fill for fill in fills if fill != nodata and _is_marked(stored, [fill]).any()]
    return used + [value for value in find_huge(stored) if value != nodata]


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
        InputError: if there is no value, or they are in another unit.
    """
    if np.dtype(dtype).kind == "u":
        raise InputError(
            f"{name} holds {dtype} values, a picture or amplitudes; needed are dB or linear power (float32), "
            "give the calibrated product"
        )
    found = sample[np.isfinite(sample)]
    if not found.any():
        raise InputError(f"{name} holds no data, give another")
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


def to_db(values: NDArray[np.float32], *, is_linear: bool) -> NDArray[np.float32]:
    """Return dB, NaN where power is not positive and where values are fainter than anything."""
    if is_linear:
        values = 10 * np.log10(np.where(values > 0, values, np.float32(np.nan)))
    return np.where(values <= FAINTEST_DB, np.float32(np.nan), values)


def describe_conversion(sample: NDArray[np.float32]) -> str:
    """Return what is done to linear power, as the end of a sentence."""
    negative = "; negative values are no data" if np.nanmin(sample) < 0 else ""
    return f"holds linear power, not dB: it is converted{negative}"


def _refuse_multiples(typical: float, name: str) -> None:
    """Refuse dB times 10 or 100, which are kept as whole numbers."""
    if typical >= LOWEST_MEDIAN_DB:
        return
    factor = 10 if typical >= LOWEST_MEDIAN_X10 else 100
    raise InputError(
        f"{name} has values about {typical:.0f}, dB times {factor}?; divide them, or declare the scale "
        f"{1 / factor:g} in the file (gdal_edit.py -scale {1 / factor:g})"
    )
