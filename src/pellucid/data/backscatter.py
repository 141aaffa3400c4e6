"""Radar values as dB, whatever their unit; numbers among them that mark missing data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.data.geotiff import HUGE, Raster, find_huge
from pellucid.data.radar_units import RadarUnit, Unit, doubt_unit, find_unit, stated_unit, to_db
from pellucid.data.ranges import Bands

# dB. Everything on Earth scatters more.
FAINTEST_DB = -99.0
# Numbers that files put where they hold no data, declared or not; 0 in all bands.
FILLS = (0.0, -99.0, -999.0, -9999.0, -32768.0, -99999.0)
# So many pixels that hold the same lowest or highest numbers in all bands are fill where backscatter, in dB
# or power, cannot be: at most the first, at least the second, or a power up to the third.
NUM_FILLED, FAINT_FILL, STRONG_FILL, FAINT_POWER_FILL = 16, -40.0, 10.0, 1e-4
# Share of pixels that hold the same lowest numbers from which they may be fill, though backscatter can be so.
MANY = 0.01
# Ground that is clipped to 0 dB lies in spots among bright ground, so many dB above the rest; fill lies in
# areas, of which at least this share is not at an edge, or makes up nearly all of a row or column.
BRIGHT, INSIDE, LINE = 3.0, 0.5, 0.9


class Backscatter:
    """Polarisations of an open raster as dB, whatever unit they are stored in; `find_unit` comes first.

    Args:
        raster: what holds them; what is found odd goes to its `doubts`.
        numbers: of the bands, from 1.
        polarisations: of the bands.
        said: the unit, as the user says it; auto: the file and its values tell.
    """

    def __init__(
        self, raster: Raster, numbers: Sequence[int], polarisations: Bands, *, said: RadarUnit = "auto"
    ) -> None:
        self.raster, self.numbers, self.polarisations, self.said = raster, list(numbers), polarisations, said
        self.unit: Unit = "db"
        declared, at = (raster.dataset.scales, raster.dataset.offsets), [number - 1 for number in numbers]
        scale, offset = (np.array(each, np.float32)[at, None, None] for each in declared)
        self.scale, self.offset = scale, offset
        self.is_scaled = bool((scale != 1).any() or offset.any())
        self.dtype = "float32" if self.is_scaled else raster.dataset.dtypes[numbers[0] - 1]
        # numbers that mark missing data undeclared; scaled ones may be values
        self.fills: tuple[float, ...] = () if offset.any() else (0.0,) if self.is_scaled else FILLS
        # by polarisation, whatever the others are
        self.zero_is_fill = np.zeros((len(numbers), 1, 1), np.bool_)

    def find_unit(self, stored: NDArray[Any], shown: NDArray[np.bool_]) -> None:
        """Tell the unit from a sample, (P, H, W) as stored and (H, W).

        Raises:
            NoRadarError: if there is no value.
            InputError: if the values are no backscatter, or their unit is unclear.
        """
        nodata, path, what = self.raster.dataset.nodata, self.raster.path, self.raster.what
        found = self._find_constants(stored, shown)
        used = [fill for fill in self.fills if fill != nodata and _is_marked(stored, [fill]).any()]
        used += [fill for fill in found if fill not in used]
        self.raster.mark_fills(used + [value for value in find_huge(stored) if value != nodata])
        self.fills += tuple(found)
        sample = self.scaled(stored, shown)
        self.unit = find_unit(
            sample,
            f"the {what} {path}",
            dtype=self.dtype,
            polarisations=self.polarisations,
            said=self.said,
            stated=stated_unit(self.raster.dataset, self.numbers, path),
        )
        if self.unit != "db":
            negative = "; negative values are no data" if np.nanmin(sample) < 0 else ""
            held, are = ("linear power", "it is") if self.unit == "power" else ("amplitudes", "they are")
            self.raster.doubts.append(f"{path} holds {held}, not dB: {are} converted{negative}")
            if doubt := doubt_unit(sample, self.polarisations, self.unit):
                self.raster.doubts.append(f"{path}: {doubt}; check the unit, --sar-units names it")
        elif 0 in self.fills:
            self._find_zeros(stored, shown)
        self._doubt_constant(self.to_db(stored, shown))

    def scaled(self, stored: NDArray[Any], shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (P, H, W) scaled as the file says, NaN where it holds no data or (H, W) `shown` is False."""
        values, nodata = stored.astype(np.float32), self.raster.dataset.nodata
        missing = ~np.isfinite(values) | (np.abs(values) > HUGE) | _is_marked(values, self.fills) | ~shown
        missing |= (values == 0) & self.zero_is_fill
        if nodata is not None:
            missing |= values == nodata
        return np.where(missing, np.float32(np.nan), values) * self.scale + self.offset

    def to_db(self, stored: NDArray[Any], shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (P, H, W) in dB, NaN where power is not positive or anything would be stronger."""
        values = to_db(self.scaled(stored, shown), self.unit)
        missing = values <= FAINTEST_DB
        if self.unit == "db" and 0 in self.fills and (values == 0).any():
            missing |= self._find_strips(values)
        return np.where(missing, np.float32(np.nan), values)

    def _find_constants(self, stored: NDArray[Any], shown: NDArray[np.bool_]) -> list[float]:
        """Return the numbers that fill pixels in all polarisations and are no backscatter."""
        values = self.scaled(stored, shown).reshape(len(stored), -1)
        numbers = stored.astype(np.float32).reshape(len(stored), -1)
        known = np.isfinite(values).all(axis=0)
        values, numbers = values[:, known], numbers[:, known]
        found: list[float] = []
        for find_end in (np.min, np.max):
            while values.size:
                ends = find_end(values, axis=1, keepdims=True)
                at = (values == ends).all(axis=0)
                if not NUM_FILLED <= at.sum() < at.size or not _is_no_backscatter(ends):
                    break
                found += sorted({float(number) for number in numbers[:, at][:, 0]} - {*found})
                values, numbers = values[:, ~at], numbers[:, ~at]
        return found

    def _find_zeros(self, stored: NDArray[Any], shown: NDArray[np.bool_]) -> None:
        """Tell in which polarisations 0 is fill though the other holds data there."""
        values = self.scaled(stored, shown)
        for at, name in enumerate(self.polarisations):
            if _is_fill(values[at] == 0, np.delete(values, at, axis=0), values[at]):
                self.zero_is_fill[at] = True
                self.raster.mark_fills([0.0])
                self.raster.doubts[-1] = (
                    f"{self.raster.path}: areas where {name} alone is exactly 0 dB hold no {name}, though "
                    "undeclared"
                )

    def _find_strips(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return where (P, H, W) in dB is 0 all along a row or column in one polarisation alone: fill.

        They may be too narrow for the sample by which areas are found.
        """
        strips = np.zeros(values.shape, np.bool_)
        for at, name in enumerate(self.polarisations):
            others = np.delete(values, at, axis=0)
            known = np.asarray(np.isfinite(others).all(axis=0))
            found = _find_lines((values[at] == 0) & known, known)
            rest = known & ~found
            if not len(others) or not found.any() or not rest.any():
                continue
            if np.median(others[:, found]) - np.median(others[:, rest]) < BRIGHT:
                strips[at] = found
                self.raster.doubt(
                    f"{self.raster.path}: strips where {name} alone is exactly 0 dB hold no {name}, though "
                    "undeclared"
                )
        return strips

    def _doubt_constant(self, values: NDArray[np.float32]) -> None:
        """Doubt (P, H, W) in dB of which many pixels hold the same numbers: the lowest, or equal ones."""
        known = values[:, np.isfinite(values).all(axis=0)]
        if not known.size:
            return
        likely = known.min(axis=1, keepdims=True)
        equal = known[0, (known == known[:1]).all(axis=0)] if len(known) > 1 else known[0, :0]
        if equal.size > MANY * known.shape[1] and np.dtype(self.dtype).kind == "f":
            found, counts = np.unique(equal, return_counts=True)
            if (common := found[counts.argmax()]) < known.max():
                likely = np.full_like(likely, common)
        share = float((known == likely).all(axis=0).mean())
        if MANY <= share < 1:
            numbers = " and ".join(f"{value:.4g}" for value in likely[:, 0])
            self.raster.doubts.append(
                f"{self.raster.path}: {share:.0%} of the pixels are exactly {numbers} dB, taken for ground; "
                "if they are fill, declare it as no data (gdal_edit.py -a_nodata)"
            )


def _is_fill(is_zero: NDArray[np.bool_], others: NDArray[np.float32], values: NDArray[np.float32]) -> bool:
    """Whether zeros (H, W) among values in dB, (H, W), are no ground, by what lies around and under them.

    `others` are the polarisations, (P, H, W), that hold data there.
    """
    from scipy.ndimage import binary_dilation, binary_erosion

    known = np.asarray(np.isfinite(others).all(axis=0))
    is_zero = is_zero & known
    rest = known & np.isfinite(values) & ~is_zero
    inside = binary_erosion(is_zero, np.ones((3, 3), np.bool_), border_value=True)
    inside |= _find_lines(is_zero, known)
    beside = binary_dilation(is_zero, np.ones((3, 3), np.bool_)) & rest
    if (
        is_zero.sum() < NUM_FILLED
        or inside.sum() < INSIDE * is_zero.sum()
        or not beside.any()
        or not len(others)
    ):
        return False
    around = np.median(values[beside]) - np.median(values[rest])
    under = np.median(others[:, is_zero]) - np.median(others[:, rest])
    return bool(max(around, under) < BRIGHT)


def _find_lines(is_zero: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which zeros among known pixels, both (H, W), make up nearly all of a row or column."""
    found = np.zeros(is_zero.shape, np.bool_)
    for axis in (0, 1):
        num_known, num_zero = (each.sum(axis=axis, keepdims=True) for each in (known, is_zero))
        found |= is_zero & (num_known >= NUM_FILLED) & (num_zero >= LINE * num_known)
    return found


def _is_no_backscatter(values: NDArray[np.float32]) -> bool:
    """Whether numbers are none in dB nor power, whichever it is."""
    is_faint = (values <= FAINT_FILL).all() or ((values > 0) & (values <= FAINT_POWER_FILL)).all()
    return bool(is_faint or (values >= STRONG_FILL).all())


def _is_marked(values: NDArray[Any], fills: Sequence[float]) -> NDArray[np.bool_]:
    """Return where (P, H, W) is one of the fills, 0 in all polarisations."""
    marked = np.isin(values, [fill for fill in fills if fill])
    return marked | (values == 0).all(axis=0) if 0 in fills else marked
