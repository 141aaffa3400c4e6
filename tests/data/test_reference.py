import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window
from scenes import write

from pellucid.data.geotiff import Grid
from pellucid.data.ranges import SENTINEL2
from pellucid.data.reference import ReferenceRaster
from pellucid.simulate.landscape import make_scene

ALL = Window(0, 0, 20, 16)


def picture(dtype: str) -> np.ndarray:
    values = np.random.default_rng(0).integers(20, 120, (3, 16, 20))
    return (values * {"uint8": 1, "int16": 100, "float32": 0.01}[dtype]).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "fill"), [("uint8", 255), ("float32", -9999), ("float32", 3.4e38), ("int16", -32768)]
)
def test_a_picture_has_no_data_where_an_undeclared_fill_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: str, fill: float
) -> None:
    whole, values = (picture(dtype) for _ in range(2))
    values[:, :, :3] = fill
    date = ReferenceRaster(write(tmp_path / "older.tif", values))
    found = date.read(ALL).numpy()[0]
    assert np.isnan(found[..., :3]).all()
    plain = ReferenceRaster(write(tmp_path / "whole.tif", whole)).read(ALL).numpy()[0]
    assert np.abs(found - plain)[..., 3:].max() < 0.02  # the limits are those of the pixels that hold data
    with caplog.at_level(logging.WARNING):
        date.raster.log_doubts()
    assert "hold no data" in caplog.text
    moved = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_005, 0, -10, 4_999_995), 19, 15)
    date.raster.align(moved, allowed=True)
    warped = date.read(Window(0, 0, 19, 15)).numpy()[0]
    assert np.isnan(warped[..., 0]).all()
    assert np.nanmin(warped) > 0 or fill == 255


def test_white_in_one_band_of_a_picture_is_a_bright_pixel(tmp_path: Path) -> None:
    values = picture("uint8")
    values[0] = 255
    assert ReferenceRaster(write(tmp_path / "older.tif", values)).read(ALL).isfinite().all()


def test_roofs_that_the_scene_shows_are_no_clouds_whatever_the_window(tmp_path: Path) -> None:
    values = (make_scene(160, 2).optical.numpy() * 10_000).astype(np.uint16)
    values[:, 60:100, 60:100] = np.random.default_rng(0).integers(3500, 4500, (40, 40))
    date = ReferenceRaster(write(tmp_path / "older.tif", values, SENTINEL2.bands))
    whole, scene = Window(0, 0, 160, 160), torch.from_numpy(values / 10_000).float()[None] * 0.9

    def look(window: Window) -> torch.Tensor:
        rows, columns = window.toslices()
        return scene[..., rows, columns]

    assert date.read(whole)[..., 65:95, 65:95].isnan().all()
    kept = date.read(whole, (look, SENTINEL2.bands))
    assert kept[..., 55:105, 55:105].isfinite().all()
    part = date.read(Window(70, 50, 40, 60), (look, SENTINEL2.bands))
    assert torch.equal(part.isnan(), kept[..., 50:110, 70:110].isnan())
    clouds = date.read(whole, (lambda window: torch.zeros_like(look(window)), SENTINEL2.bands))
    assert clouds[..., 65:95, 65:95].isnan().all()


@pytest.mark.parametrize(
    ("dtype", "names", "why"),
    [
        ("float32", ("VV", "VH"), "is radar, which tells more with --sar"),
        ("uint8", ("red", "green", "blue"), "is a picture of 8 bits, not reflectance"),
        ("int16", (), "has no bands of known names"),
    ],
)
def test_why_clouds_are_not_found_is_said(
    tmp_path: Path, dtype: str, names: tuple[str, ...], why: str
) -> None:
    values = picture(dtype)[: len(names) or 3]
    date = ReferenceRaster(write(tmp_path / "older.tif", values, names))
    assert any(why in doubt and "clouds in it are not found" in doubt for doubt in date.raster.doubts)
