from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window
from scenes import read, write

from pellucid.data import checked_raster
from pellucid.data.checked_raster import are_equal, write_raster

PROFILE: dict[str, Any] = {"width": 40, "height": 30, "count": 2, "dtype": "float32", "crs": "EPSG:32633"}


def spoil(path: Path, *, forget: bool) -> None:
    """What a disk does that is full when a file is closed: a part is missing, and nobody says so."""
    with rasterio.open(path, "r+") as file:
        file.write(np.zeros((1, 1), np.float32), 2, window=Window(5, 20, 1, 1))


def fill(path: Path) -> np.ndarray:
    values = np.random.default_rng(0).random((2, 30, 40)).astype(np.float32)
    values[0, 3, 3] = np.nan
    with write_raster(path, **PROFILE) as raster:
        raster.dataset.descriptions = ("a", "b")
        raster.write(values[:, :16], Window(0, 0, 40, 16))
        raster.write(values[:, 16:], Window(0, 16, 40, 14))
    return values


def test_a_raster_holds_what_was_written(tmp_path: Path) -> None:
    wanted = fill(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), wanted)


def test_a_raster_that_was_not_written_whole_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked_raster, "flush", spoil)
    with pytest.raises(OSError, match="it did not read back as written"):
        fill(tmp_path / "a.tif")


def test_rasters_are_compared_in_every_pixel_and_in_type(tmp_path: Path) -> None:
    values = fill(tmp_path / "a.tif")
    write(tmp_path / "same.tif", values, tiled=True, blockxsize=16, blockysize=16)
    assert are_equal(tmp_path / "a.tif", tmp_path / "same.tif", side=7)
    values[1, 14, 20] += 1
    write(tmp_path / "other.tif", values)
    assert not are_equal(tmp_path / "a.tif", tmp_path / "other.tif", side=7)
    for name, other in (("small", values[:, 1:]), ("wide", values.astype(np.float64)), ("one", values[:1])):
        write(tmp_path / f"{name}.tif", other)
        assert not are_equal(tmp_path / "a.tif", tmp_path / f"{name}.tif", side=7)
