from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rasterio.enums import ColorInterp

from pellucid.data.band_names import LEVEL_2A, find_bands, match_polarisations
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
    assert find_bands(file(4), PATH, ("B2", "nir", "-", "B04")) == {"B02": 1, "nir": 2, "B04": 4}
    assert find_bands(file(3, alpha=2), PATH, ("B02", "B04")) == {"B02": 1, "B04": 3}


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
