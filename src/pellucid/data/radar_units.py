"""The unit of radar values: dB, power or amplitude, told by the values, by names and tags, or by the user."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.data.ranges import Bands
from pellucid.errors import InputError

Unit = Literal["db", "power", "amplitude"]
RadarUnit = Literal["auto", Unit]
# What each is called in sentences and pages; dB per decade.
NAMES: dict[Unit, str] = {"db": "dB", "power": "linear power", "amplitude": "amplitude"}
DECADE: dict[Unit, float] = {"power": 10.0, "amplitude": 20.0}
# Median backscatter power of any land or sea is below this (10 dB); amplitudes of detected products are not.
STRONGEST_MEDIAN = 10.0
# Values that all lie in [0, 1] with a median above this (-6 dB) are dB scaled to [0, 1], not power.
SCALED_MEDIAN = 0.25
# Resampling and the removal of noise make a few powers negative, but hardly below -1; most dB are.
FEW, FAINT_NEGATIVE = 0.05, -1.0
# Median of dB is above the first; of dB times 10 above the second, and of dB times 100 below it.
LOWEST_MEDIAN_DB, LOWEST_MEDIAN_X10 = -60.0, -400.0
# dB. Median of what is said to be power or amplitude: all land and sea scatter more.
LOWEST_SAID_DB = -35.0
# What power can be, in dB, and amplitudes read as power, half of theirs, hardly: the median and the upper
# tenth of VH, with a median of VH below the third or, in dB, a ratio of VV to VH above the fourth. Of 467
# patches of real Sentinel-1 data as amplitudes none is so, of 467 as power all but two are.
VH_MEDIAN, VH_TENTH, VH_FAINT, VV_TO_VH = -12.5, -9.0, -15.0, 4.5
# The same of VV alone, of which less can be told.
VV_MEDIAN, VV_TENTH = -12.0, -5.0
TENTH = 90  # percentile
# Where a file may say its unit: keys of tags, words in them and in names of bands, and in names of products
# of ASF's HyP3, such as S1A_IW_20200101T000000_DVP_RTC30_G_gpuned_0123 (p power, a amplitude, d dB).
_KEYS = re.compile(r"unit|scale|radiometr|long_name|standard_name|quantity", re.IGNORECASE)
_WORDS: dict[Unit, re.Pattern[str]] = {
    "amplitude": re.compile(r"(?<![a-z])amp(litudes?)?(?![a-z])", re.IGNORECASE),
    "power": re.compile(r"(?<![a-z])(power|pwr|intensity|intensities)(?![a-z])", re.IGNORECASE),
}
_HYP3 = re.compile(r"_RTC\d\d_G_[gs]([pad])[uw][nf][ec][dm]", re.IGNORECASE)


class NoRadarError(InputError):
    """A file holds no radar value."""


def stated_unit(dataset: Any, numbers: Sequence[int], path: Path) -> Unit | None:
    """Return power or amplitude if names, units or tags of the bands, or the product's name, say it."""
    texts = [text or "" for each in (dataset.descriptions, dataset.units) for text in _chosen(each, numbers)]
    for tags in (dataset.tags(), *(dataset.tags(i) for i in numbers)):
        texts += [value for key, value in tags.items() if _KEYS.search(key)]
    if product := _HYP3.search(path.name):
        texts.append({"p": "power", "a": "amplitude", "d": ""}[product[1].lower()])
    found: list[Unit] = [unit for unit, word in _WORDS.items() if any(map(word.search, texts))]
    return found[0] if len(found) == 1 else None


def _chosen(each: Sequence[str | None], numbers: Sequence[int]) -> list[str | None]:
    return [each[number - 1] for number in numbers]


def find_unit(
    sample: NDArray[np.float32],
    name: str,
    *,
    dtype: str,
    polarisations: Bands,
    said: RadarUnit = "auto",
    stated: Unit | None = None,
) -> Unit:
    """Return the unit of radar values.

    Args:
        sample: (P, H, W), scaled as the file says; NaN where there is no data.
        name: of the file, for a sentence: "the radar scene s1.tif".
        dtype: of the stored values, if they are not scaled.
        polarisations: of the bands, VV before VH.
        said: by the user.
        stated: by the file; it decides between power and amplitude alone.

    Raises:
        NoRadarError: if there is no value.
        InputError: if they are in another unit, or power and amplitude cannot be told apart.
    """
    if np.dtype(dtype).kind == "u":
        raise InputError(
            f"{name} holds {dtype} values, a picture or amplitudes; needed are dB or linear power (float32), "
            "give the calibrated product"
        )
    found = sample[np.isfinite(sample)]
    if not found.any():
        raise NoRadarError(f"{name} holds no data, give another")
    if said != "auto":
        return _check_said(found, name, said, "--sar-units says it is")
    if _holds_db(found, name):
        _refuse_mixed(sample, name)
        return "db"
    if stated:
        return _check_said(found, name, stated, "its names or tags say it is")
    _refuse_scaled(found, name)
    _refuse_unclear(sample, name, polarisations)
    return "power"


def to_db(values: NDArray[np.float32], unit: Unit) -> NDArray[np.float32]:
    """Return dB; NaN where power or amplitude is not positive."""
    if unit == "db":
        return values
    return np.float32(DECADE[unit]) * np.log10(np.where(values > 0, values, np.float32(np.nan)))


def _holds_db(found: NDArray[np.float32], name: str) -> bool:
    """Return whether values are dB, else they are linear; refuse what is neither."""
    typical, negative = float(np.median(found)), found[found < 0]
    may_be_db = negative.size > FEW * found.size and np.median(negative) < FAINT_NEGATIVE
    if may_be_db and typical <= FAINT_NEGATIVE:
        _refuse_multiples(typical, name)
        return True
    if may_be_db or not 0 <= typical <= STRONGEST_MEDIAN:
        raise InputError(
            f"{name} has values about {typical:.3g}, neither dB nor linear power; calibrate it to "
            "backscatter (sigma nought or gamma nought) first"
        )
    return False


def _refuse_mixed(sample: NDArray[np.float32], name: str) -> None:
    """Refuse bands of which one is in dB and another is not."""
    positive = [bool((band[np.isfinite(band)] >= 0).all() and np.isfinite(band).any()) for band in sample]
    if any(positive):
        raise InputError(
            f"{name} has a band in dB and one without a negative value, which is none; give both in one unit"
        )


def _refuse_multiples(typical: float, name: str) -> None:
    """Refuse dB times 10 or 100, which are kept as whole numbers."""
    if typical >= LOWEST_MEDIAN_DB:
        return
    factor = 10 if typical >= LOWEST_MEDIAN_X10 else 100
    raise InputError(
        f"{name} has values about {typical:.0f}, dB times {factor}?; divide them, or declare the scale "
        f"{1 / factor:g} in the file (gdal_edit.py -scale {1 / factor:g})"
    )


def _refuse_scaled(found: NDArray[np.float32], name: str) -> None:
    """Refuse dB that are scaled to [0, 1]."""
    typical = float(np.median(found))
    if found.max() <= 1 and typical > SCALED_MEDIAN:
        raise InputError(
            f"{name} has values up to {found.max():.3g}, about {typical:.2g}, too bright for linear power, "
            "as if dB were scaled to 0 ... 1; give it in dB, or say it with --sar-units power or --sar-units "
            "amplitude"
        )


def _check_said(found: NDArray[np.float32], name: str, unit: Unit, by: str) -> Unit:
    """Return the unit that is said, or refuse it where the values cannot be in it."""
    typical, share = float(np.median(found)), float((found < 0).mean())
    in_db = float(np.nanmedian(to_db(found, unit))) if (found > 0).any() or unit == "db" else -np.inf
    lowest = LOWEST_MEDIAN_DB if unit == "db" else LOWEST_SAID_DB
    has_signs = found.min() < 0 if unit == "db" else share <= FEW
    if has_signs and lowest <= in_db <= DECADE["power"] * np.log10(STRONGEST_MEDIAN):
        return unit
    raise InputError(
        f"{name} has values about {typical:.3g}, no backscatter as {NAMES[unit]}, which {by}; give the right "
        "--sar-units, or calibrate it to sigma nought or gamma nought"
    )


def doubt_unit(sample: NDArray[np.float32], polarisations: Bands, unit: Unit) -> str:
    """Return what speaks against the unit of linear values that somebody says; empty if nothing does."""
    is_power, _ = _judge_power(sample, polarisations)
    if unit == "amplitude" and is_power:
        return "as power they would be usual backscatter"
    if unit == "power" and not is_power and polarisations != ("VV",):
        return "they may be amplitudes"
    return ""


def _judge_power(sample: NDArray[np.float32], polarisations: Bands) -> tuple[bool, NDArray[np.float32]]:
    """Return whether linear values are power and hardly amplitudes, and the medians of power in dB."""
    values = to_db(sample, "power").reshape(len(sample), -1)
    values = values[np.isfinite(values).any(axis=1)]
    medians, tenths = np.nanmedian(values, axis=1), np.nanpercentile(values, TENTH, axis=1)
    if polarisations == ("VV",):
        return bool(medians[0] < VV_MEDIAN and tenths[0] < VV_TENTH), medians
    vh, ratio = medians.min(), medians.max() - medians.min()
    is_power = vh < VH_MEDIAN and tenths.min() < VH_TENTH and (vh < VH_FAINT or ratio > VV_TO_VH)
    return bool(is_power), medians


def _refuse_unclear(sample: NDArray[np.float32], name: str, polarisations: Bands) -> None:
    """Refuse linear values that may be amplitudes as well as power."""
    is_power, medians = _judge_power(sample, polarisations)
    if is_power:
        return
    as_power, as_amplitude = (
        f"{', '.join(f'{value:.1f}' for value in factor * medians)} dB" for factor in (1, 2)
    )
    raise InputError(
        f"{name} holds linear values, which may be power (medians {as_power}) or amplitudes "
        f"({as_amplitude}); say it with --sar-units power or --sar-units amplitude, or convert them to dB"
    )
