from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rasterio.enums import ColorInterp

from pellucid.data.band_names import LEVEL_2A, find_bands, match_bands, match_polarisations, read_names
from pellucid.data.ranges import SENTINEL2
from pellucid.errors import InputError

PATH = Path("in.tif")


def file(count: int, names: tuple[str | None, ...] = (), *, alpha: int = 0) -> Any:
    """Return what stands for an open file of so many bands, of which one may be alpha."""
    colors = [ColorInterp.alpha if i == alpha else ColorInterp.undefined for i in range(1, count + 1)]
    return SimpleNamespace(count=count, descriptions=names or (None,) * count, colorinterp=colors)


def test_bands_are_found_by_name_by_number_or_as_the_user_says() -> None:
    assert find_bands(file(3, ("B8A", "SCL", "b2")), PATH) == {"B8A": 1, "B02": 3}
    assert tuple(find_bands(file(13), PATH)) == SENTINEL2.bands
    assert tuple(find_bands(file(12), PATH)) == LEVEL_2A
    assert find_bands(file(4), PATH, ("B2", "pan", "-", "B04")) == {"B02": 1, "pan": 2, "B04": 4}
    assert find_bands(file(3, alpha=2), PATH, ("B02", "B04")) == {"B02": 1, "B04": 3}


@pytest.mark.parametrize(
    "texts",
    [
        [name + "_10m" for name in SENTINEL2.bands],
        ["0_" + name.replace("B0", "B") for name in SENTINEL2.bands],
        [name.replace("B0", "B") + "_median" for name in SENTINEL2.bands],
        ["T33UUP_20200101T100000_" + name for name in SENTINEL2.bands],
        [name.replace("B0", "B").lower() + ", central wavelength 490 nm" for name in SENTINEL2.bands],
        [
            "coastal",
            "blue",
            "green",
            "red",
            "rededge1",
            "rededge2",
            "rededge3",
            "nir",
            "nir08",
            "nir09",
            "cirrus",
            "swir16",
            "swir22",
        ],
        [name.removeprefix("B") for name in SENTINEL2.bands],
    ],
)
def test_bands_are_found_under_the_names_that_people_give_them(texts: list[str]) -> None:
    found = find_bands(file(13, tuple(reversed(texts))), PATH)
    assert found == {name: 13 - i for i, name in enumerate(SENTINEL2.bands)}


@pytest.mark.parametrize("text", ["Band {}", "{}", "S2A1C_20190812_027_x_TOA_10.{}", "B{}", "layer.{}"])
def test_bands_that_are_only_counted_have_no_names(text: str) -> None:
    texts = tuple(text.format(i + 1) for i in range(13))
    assert read_names(file(13, texts)) == ()
    assert tuple(find_bands(file(13, texts), PATH)) == SENTINEL2.bands


def test_opacity_is_no_band_whatever_the_others_are_called() -> None:
    counted = (*(f"Band {i}" for i in range(1, 14)), "alpha")
    assert tuple(find_bands(file(14, counted, alpha=14), PATH)) == SENTINEL2.bands
    assert match_bands(file(14, counted, alpha=14), SENTINEL2.bands, PATH) == [*range(1, 14)]
    assert read_names(file(3, ("blue", "alpha", "B04"), alpha=2)) == ("B02", "", "B04")
    assert find_bands(file(3, ("blue", "alpha", "B04"), alpha=2), PATH) == {"B02": 1, "B04": 3}


def test_counted_bands_are_not_taken_for_bands_with_these_numbers() -> None:
    with pytest.raises(InputError, match="4 bands without names"):
        find_bands(file(4, ("1", "2", "3", "4")), PATH)
    assert read_names(file(3, ("1", "2", "SCL"))) == ("1", "2", "SCL")
    assert read_names(file(3, ("2", "3", "8A"))) == ("B02", "B03", "B8A")
    assert read_names(file(2, ("B1", "B2"))) == ("B01", "B02")


@pytest.mark.parametrize(
    "text", ["SR_B2", "LC08_B2", "sur_refl_b02", "B02-B03", "B2_stdDev", "B02_mask", "S2B", "B13", "rededge"]
)
def test_a_name_that_may_mean_another_band_is_no_band_of_sentinel2(text: str) -> None:
    with pytest.raises(InputError, match="no band named as one of Sentinel-2"):
        find_bands(file(1, (text,)), PATH)


def test_a_name_wins_over_names_that_hold_it() -> None:
    assert find_bands(file(3, ("B02_old", "B2", "x_B03")), PATH) == {"B02": 2, "B03": 3}


def test_a_band_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="more than one band named B02"):
        find_bands(file(2, ("B2", "B02")), PATH)


def test_polarisations_are_found_by_name_by_number_or_as_the_user_says() -> None:
    assert match_polarisations(file(2), PATH) == [1, 2]
    assert match_polarisations(file(3, ("angle", "vh", "vv")), PATH) == [3, 2]
    assert match_polarisations(file(1, ("VH",)), PATH, partial=True) == [None, 1]
    assert match_polarisations(file(2), PATH, ("-", "vv"), partial=True) == [2, None]
    with pytest.raises(InputError, match="--polarisations has HH, must be VV, VH"):
        match_polarisations(file(1), PATH, ("HH",), partial=True)
    with pytest.raises(InputError, match="of unknown polarisation"):
        match_polarisations(file(1), PATH, partial=True)
