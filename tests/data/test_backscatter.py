from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window
from tests.scenes import write

from pellucid.data.geotiff import Grid
from pellucid.data.radar_scene import RadarRaster

# Backscatter as of land: VV about -12 dB, VH about -18 dB.
DB = np.random.default_rng(0).normal((-12, -18), 2, (16, 16, 2)).transpose(2, 0, 1).astype(np.float32)


def filled(values: np.ndarray, *fills: float) -> np.ndarray:
    """Return (2, H, W) with a border of four rows; one number for all bands, or one for each."""
    values = values.copy()
    values[:, :4] = np.reshape(fills, (-1, 1, 1))
    return values


@pytest.mark.parametrize("fills", [(-50,), (-40,), (-60,), (99,), (20,), (-50, -60), (-80,)])
def test_a_border_of_what_backscatter_cannot_be_holds_no_data(
    tmp_path: Path, fills: tuple[float, ...]
) -> None:
    with RadarRaster(write(tmp_path / "s1.tif", filled(DB, *fills))) as radar:
        found = radar.read_db().numpy()
        marks = " or ".join(f"{fill}" for fill in sorted(fills))
        assert radar.doubts == [f"{radar.path}: pixels that are {marks} hold no data, though undeclared"]
    assert np.isnan(found[:, :4]).all()
    np.testing.assert_array_equal(found[:, 4:], DB[:, 4:])


@pytest.mark.parametrize("fill", [1e-5, 1e-10, 255, 9999])
def test_so_it_is_in_linear_power(tmp_path: Path, fill: float) -> None:
    with RadarRaster(write(tmp_path / "s1.tif", filled(10 ** (DB / 10), fill))) as radar:
        found = radar.read_db().numpy()
        assert f"pixels that are {np.float32(fill):.7g} hold no data, though undeclared" in radar.doubts[0]
    assert np.isnan(found[:, :4]).all()
    np.testing.assert_allclose(found[:, 4:], DB[:, 4:], atol=1e-4)


def test_a_border_that_covers_most_of_a_scene_does_not_hide_its_unit(tmp_path: Path) -> None:
    values = np.full((2, 64, 64), -70, np.float32)
    values[:, :16, :16] = DB
    with RadarRaster(write(tmp_path / "s1.tif", values)) as radar:
        assert radar.read_db().isfinite().sum() == DB.size


def test_two_numbers_may_fill_a_border_and_integers_have_a_scale(tmp_path: Path) -> None:
    stored = filled((DB * 100).round(), -5000).astype(np.int16)
    stored[:, 4:6] = -4500
    path = write(tmp_path / "s1.tif", stored)
    with rasterio.open(path, "r+") as file:
        file.scales = (0.01, 0.01)
    with RadarRaster(path) as radar:
        found = radar.read_db().numpy()
        assert "pixels that are -5000 or -4500 hold no data" in radar.doubts[0]
    assert np.isnan(found[:, :6]).all()
    np.testing.assert_allclose(found[:, 6:], DB[:, 6:], atol=0.01)


def test_a_border_of_fill_does_not_bleed_where_radar_is_warped(tmp_path: Path) -> None:
    values = filled(np.full((2, 16, 16), -12, np.float32), -50)
    values[1, 4:] = -18
    with RadarRaster(write(tmp_path / "s1.tif", values)) as radar:
        shifted = Affine(10, 0, 500_003, 0, -10, 4_999_997)
        radar.align(Grid(radar.grid.crs, shifted, 16, 16), allowed=True)
        found = radar.read_db().numpy()
    assert set(np.unique(found[0][np.isfinite(found[0])])) == {-12}


def test_dark_pixels_are_kept_and_many_equal_ones_that_may_be_ground_are_doubted(tmp_path: Path) -> None:
    shadow = DB.copy()
    shadow[:, 0, :3] = -45  # a radar shadow of few pixels
    with RadarRaster(write(tmp_path / "shadow.tif", shadow)) as radar:
        np.testing.assert_array_equal(radar.read_db(), shadow)
    for fill in (-30, -16):  # between others
        with RadarRaster(write(tmp_path / "inside.tif", filled(DB, fill))) as radar:
            assert f"25% of the pixels are exactly {fill} and {fill} dB, taken for ground" in radar.doubts[0]
    with RadarRaster(write(tmp_path / "clipped.tif", filled(DB, -25, -32.5))) as radar:
        np.testing.assert_array_equal(radar.read_db(), filled(DB, -25, -32.5))
        assert radar.doubts == [
            f"{radar.path}: 25% of the pixels are exactly -25 and -32.5 dB, taken for ground; if they are "
            "fill, declare it as no data (gdal_edit.py -a_nodata)"
        ]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("rows", [slice(0, 5), slice(6, 13), slice(0, 1), slice(14, 16), slice(7, 8)])
def test_areas_of_0_db_in_one_polarisation_hold_none_of_it(tmp_path: Path, at: int, rows: slice) -> None:
    values = DB.copy()
    values[at, rows] = 0
    with RadarRaster(write(tmp_path / "s1.tif", values)) as radar:
        found = radar.read_db().numpy()
        name = ("VV", "VH")[at]
        assert radar.doubts == [
            f"{radar.path}: areas where {name} alone is exactly 0 dB hold no {name}, though undeclared"
        ]
    assert np.isnan(found[at, rows]).all()
    assert np.isfinite(found).sum() == found.size - found[at, rows].size
    np.testing.assert_array_equal(found[1 - at], DB[1 - at])


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("along", [1, 2])
def test_a_strip_of_0_db_that_no_sample_shows_holds_none_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, width: int, along: int
) -> None:
    values = np.tile(DB, (1, 190, 190))  # 3040 px: each sampled pixel stands for about three
    np.moveaxis(values, along, 2)[0, :, 1501 : 1501 + width] = 0
    with RadarRaster(write(tmp_path / "s1.tif", values)) as radar:
        radar.log_doubts()
        found = radar.read_db(Window(1400, 1400, 256, 256)).numpy()
        assert (
            f"{radar.path}: strips where VV alone is exactly 0 dB hold no VV, though undeclared"
            in radar.doubts
        )
    expected = values[:, 1400:1656, 1400:1656].copy()
    expected[expected == 0] = np.nan
    np.testing.assert_array_equal(found, expected)
    assert "strips where VV alone" in caplog.text


def test_bright_ground_that_is_clipped_to_0_db_is_kept(tmp_path: Path) -> None:
    spots = DB.copy()  # of a town: apart, or among what is bright
    spots[0, 1::3, 1::3] = 0
    town = DB.copy()
    town[:, 3:13, 3:13] += 9
    town[0, 5:11, 5:11] = 0
    for number, values in enumerate((spots, town)):
        with RadarRaster(write(tmp_path / f"{number}.tif", values)) as radar:
            np.testing.assert_array_equal(radar.read_db(), values)
            assert not radar.doubts
