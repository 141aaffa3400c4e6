"""Which band of a file is which: by its description, by its place, or by what the user says."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pellucid.data.gdal_open import find_opacity
from pellucid.data.ranges import SENTINEL1, SENTINEL2, Bands
from pellucid.errors import InputError, counted

# Level 2A has no B10.
LEVEL_2A = tuple(band for band in SENTINEL2.bands if band != "B10")
# A polarisation as a word of its own; words for what is made of backscatter, and for parts of complex values.
POLARISATION = re.compile(r"(?<![A-Z])(?:VV|VH|HV|HH)(?![A-Z])")
DERIVED = re.compile(
    r"(?<![A-Za-z])(std|std_?dev|stdev|var|variance|angle|ratio|coherence|coh|count|entropy|contrast|phase|"
    r"[iq](?=_))(?![A-Za-z])",
    re.IGNORECASE,
)
# Stands for a band that is not used, where a user names bands by position.
SKIP = "-"
# Names by colour: the common names of STAC's `eo` extension, and what else is usual for the same bands.
COMMON = {
    name: band
    for band, names in {
        "B01": "coastal coastalaerosol aerosol",
        "B02": "blue",
        "B03": "green",
        "B04": "red",
        "B05": "rededge1 rededge071",
        "B06": "rededge2 rededge075",
        "B07": "rededge3 rededge078",
        "B08": "nir",
        "B8A": "nir08",
        "B09": "nir09",
        "B10": "cirrus",
        "B11": "swir16 swir1",
        "B12": "swir22 swir2",
    }.items()
    for name in names.split()
}
# A band's id as a word of its own: in "B02_10m", "0_B2", "T33UUP_20200101T100000_B02", not in "B4B8".
_ID = re.compile(r"(?<![A-Z0-9])B0?(\d{1,2})(A?)(?![A-Z0-9])", re.IGNORECASE)
# Ids mean other bands where Landsat or MODIS is named beside them, and no reflectance beside these words.
_OTHER = re.compile(
    r"(?<![A-Z])(SR|ST|REFL)_B|(?<![A-Z0-9])(L[CEOT]0\d|L30|M[OY]D\d)"
    r"|(?<![A-Z])(STD|STDDEV|VARIANCE|SIGMA|ERROR|UNCERTAINTY|MASK|COUNT|QA)(?![A-Z])",
    re.IGNORECASE,
)


def find_bands(dataset: Any, path: Path, named: Bands | None = None) -> dict[str, int]:
    """Return the optical bands that a file has, in its order, with their numbers from 1.

    `named` says what its bands are, by position, `SKIP` where one is none; else those described as bands of
    Sentinel-2 count, or without descriptions 13 (Level 1C) or 12 (Level 2A) by position.
    """
    if named is not None:
        return _by_position(dataset, path, named, "--bands")
    way = "say what they are with --bands, for instance --bands B02,B03,B04,B08"
    names = read_names(dataset)
    if not names:
        numbers = _numbers(dataset)
        for usual in (SENTINEL2.bands, LEVEL_2A):
            if len(usual) == len(numbers):
                return dict(zip(usual, numbers, strict=True))
        raise InputError(f"{path} has {counted(len(numbers), 'band')} without names, {way}")
    found = [(name, i) for i, name in enumerate(names, start=1) if name in SENTINEL2.bands]
    if not found:
        raise InputError(f"{path} has no band named as one of Sentinel-2 ({name_bands(dataset)}), {way}")
    if len(dict(found)) < len(found):
        twice = next(name for name, _ in found if names.count(name) > 1)
        raise InputError(f"{path} has more than one band named {twice}, name each band once")
    return dict(found)


def _numbers(dataset: Any) -> list[int]:
    """Return the numbers of all bands but that of opacity, from 1."""
    alpha = find_opacity(dataset)
    return [i for i in range(1, dataset.count + 1) if i != alpha]


def _by_position(dataset: Any, path: Path, named: Bands, option: str) -> dict[str, int]:
    """Return the names that a user gives to the bands, with their numbers from 1."""
    places = list(range(1, dataset.count + 1))
    if len(named) != len(places):
        places = _numbers(dataset)
    if len(named) != len(places):
        raise InputError(
            f"{path} has {counted(dataset.count, 'band')}, {option} names {len(named)}; name each, "
            f"{SKIP} for one that is not to be used"
        )
    names = [name if name == SKIP else band_name(name) for name in named]
    used = {name: i for name, i in zip(names, places, strict=True) if name != SKIP}
    if not used or len(used) < sum(name != SKIP for name in names):
        raise InputError(f"{option} is {','.join(named)}, must name at least one band, and each once")
    return used


def match_bands(dataset: Any, bands: Bands, path: Path, allow_missing: Bands = ()) -> list[int | None]:
    """Return the number in the file, from 1, of each band; None for a missing one that may be missing."""
    names = read_names(dataset)
    if not names:
        numbers = _numbers(dataset)
        found = _match_positions(len(numbers), bands, path, allow_missing)
        return [at and numbers[at - 1] for at in found]
    matched = _number(names, bands, path, allow_missing, found=name_bands(dataset))
    if twice := [band for band in bands if names.count(band) > 1]:
        raise InputError(f"{path} has more than one band named {twice[0]}, name each band once")
    return matched


def _number(
    names: Sequence[str], bands: Bands, path: Path, allow_missing: Bands, *, found: str
) -> list[int | None]:
    missing = [band for band in bands if band not in names and band not in allow_missing]
    if missing:
        way = (
            "give the Level-1C product" if missing == ["B10"] else "give a file with every band, or name them"
        )
        plural = "s" * (len(missing) > 1)
        needed = ", ".join(band for band in bands if band not in allow_missing)
        raise InputError(
            f"{path} lacks the band{plural} {', '.join(missing)} (it has {found}; needed are {needed}), {way}"
        )
    return [names.index(band) + 1 if band in names else None for band in bands]


def name_bands(dataset: Any) -> str:
    """Return the descriptions of the bands, for a sentence."""
    return ", ".join(text or "unnamed" for text in dataset.descriptions)


def _match_positions(count: int, bands: Bands, path: Path, allow_missing: Bands) -> list[int | None]:
    """Match unnamed bands by their number: those wanted, all of Level 1C, or all but B10 (Level 2A)."""
    for names in (bands, SENTINEL2.bands, LEVEL_2A):
        if len(names) == count:
            found = f"{count} without names, taken as Level 2A"
            return _number(names, bands, path, allow_missing, found=found)
    raise InputError(
        f"{path} has {counted(count, 'band')} without names, needed are {len(bands)}: {', '.join(bands)}; "
        "give a file with these bands, or name its bands"
    )


def read_names(dataset: Any) -> Bands:
    """Return what the bands are by their descriptions; () where these are missing, or only count the bands.

    A description that names no band of Sentinel-2 for sure stays as it is. Where one is exactly a band's
    name, others that hold the name besides more are left as they are: "B02" before "B02_old". Opacity is
    named "", and does not count.
    """
    numbers = _numbers(dataset)
    texts = tuple((dataset.descriptions[i - 1] or "").strip() for i in numbers)
    are_ids = all(map(_ID.search, texts)) and {*map(band_name, texts)} <= {*SENTINEL2.bands}
    if not any(texts) or (_are_counted(texts) and not are_ids):
        return ()
    are_numbers_ids = not _are_counted([text for text in texts if text.isdecimal()])
    exact = {band_name(text) for text in texts if _is_id(text)}
    names = list(texts)
    for i, text in enumerate(texts):
        name = band_name(text)
        if (are_numbers_ids or not text.isdecimal()) and (_is_id(text) or name not in exact):
            names[i] = name
    found = dict(zip(numbers, names, strict=True))
    return tuple(found.get(i, "") for i in range(1, dataset.count + 1))


def _are_counted(texts: Sequence[str]) -> bool:
    """Whether all texts are alike but for a number at their end, which counts from 0 or 1: "Band 1"."""
    parts = [re.fullmatch(r"(.*?)(\d{1,5})", text) for text in texts]
    found = [(part[1], int(part[2])) for part in parts if part]
    if not found or found[0][1] > 1:
        return False
    start, first = found[0]
    return found == [(start, first + i) for i in range(len(texts))]


def _is_id(text: str) -> bool:
    """Whether a text is a band's name, or begins with one: "B2, central wavelength 490 nm"."""
    return re.fullmatch(r"0?\d{1,2}A?|B0?\d{1,2}A?(\W.*)?", text, re.IGNORECASE) is not None


def band_name(text: str) -> str:
    """Return "B02" for a text that names this band alone: "B2", "b02_10m", "0_B2", "blue"; others unchanged.

    A bare number counts as a band's: "2", "8A".
    """
    text = text.strip()
    ids = set(re.findall(r"^0?(\d{1,2})(A?)$", text, re.IGNORECASE))
    if not _OTHER.search(text):
        ids |= set(_ID.findall(text))
    names = {f"B{number}A" if letter else f"B{int(number):02d}" for number, letter in ids}
    plain = re.sub(r"[\W_]", "", re.sub(r"[\W_](10|20|60) ?m$", "", text.lower()))
    return names.pop() if len(names) == 1 else COMMON.get(plain, text)


def match_polarisations(
    dataset: Any, path: Path, named: Bands | None = None, *, partial: bool = False
) -> list[int | None]:
    """Return the numbers of VV and VH in the file, from 1; None for a missing one, if `partial`."""
    if named is not None:
        at = _by_position(dataset, path, tuple(name.upper() for name in named), "--polarisations")
        if wrong := [name for name in at if name not in SENTINEL1.bands]:
            raise InputError(f"--polarisations has {wrong[0]}, must be VV, VH, or {SKIP} for another band")
        numbers = [at.get(band) for band in SENTINEL1.bands]
    else:
        numbers = find_polarisations(dataset, path, SENTINEL1.bands)
        if not names_polarisations(dataset) and len(_numbers(dataset)) == len(SENTINEL1.bands):
            numbers = [*_numbers(dataset)]
    if all(numbers) or (partial and any(numbers)):
        return numbers
    found = f"the radar scene {path} has {counted(dataset.count, 'band')} ({name_bands(dataset)})"
    if partial and not set(SENTINEL2.bands).isdisjoint(read_names(dataset)):
        raise InputError(f"{found}, an optical one; give the radar scene")
    if partial:
        raise InputError(
            f"{found} of unknown polarisation; describe them as VV or VH in the file, or say it, for "
            f"instance with --polarisations {_example(dataset)}"
        )
    raise InputError(f"{found}, needed are VV and VH; give both")


def find_polarisations(dataset: Any, path: Path, wanted: Bands) -> list[int | None]:
    """Return the number of each polarisation by description, from 1; None for one that is not described.

    A band that is described by two polarisations, a ratio for instance, or as something that is made of
    backscatter, is none of them. Of several candidates, one that is described by the name alone counts.
    """
    texts = [text or "" for text in dataset.descriptions]
    numbers: list[int | None] = []
    for band in wanted:
        candidates = [i for i, text in enumerate(texts, start=1) if _polarisations(text) == {band}]
        exact = [i for i in candidates if texts[i - 1].strip().upper() == band]
        if len(candidates) > 1 and len(exact) != 1:
            found = ", ".join(texts[i - 1] for i in candidates)
            raise InputError(
                f"{path} has more than one band that may be {band} ({found}); name one of them {band}, or "
                f"say which it is by place, for instance with --polarisations {_example(dataset)}"
            )
        numbers.append(next(iter(exact or candidates), None))
    return numbers


def _example(dataset: Any) -> str:
    """Return polarisations by place, as a user may name them, for as many bands as a file has."""
    count = len(_numbers(dataset))
    return ",".join([*SENTINEL1.bands, *(count - 2) * [SKIP]][:count])


def names_polarisations(dataset: Any) -> bool:
    """Whether any band is described by a polarisation, of Sentinel-1 or not."""
    return any(_polarisations(text or "") or _find_words(text or "") for text in dataset.descriptions)


def _polarisations(text: str) -> set[str]:
    """Return the polarisations whose backscatter a description may mean."""
    return set() if DERIVED.search(text) else set(_find_words(text))


def _find_words(text: str) -> list[str]:
    """Return the names of polarisations in a description, such as Sigma0_VV_db or vh."""
    return POLARISATION.findall(text) or POLARISATION.findall(text.upper())
