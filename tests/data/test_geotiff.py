from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import Affine

from pellucid.data.files import check_writable, temporary_beside, write_atomically
from pellucid.data.gdal_open import find_opacity, open_raster
from pellucid.data.geotiff import Grid, Raster, avoid_nodata, enlarge_place
from pellucid.data.radar_scene import RadarRaster
from pellucid.errors import InputError

HERE = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 64, 48)


def write_radar(path: Path, grid: Grid, values: np.ndarray, **profile: Any) -> Path:
    size = {"height": grid.height, "width": grid.width, "crs": grid.crs, "transform": grid.transform}
    with rasterio.open(path, "w", driver="GTiff", count=2, dtype="float32", **size, **profile) as file:
        file.write(values.astype(np.float32))
        file.descriptions = ("VV", "VH")
    return path


def slope(grid: Grid) -> np.ndarray:
    """Backscatter that falls linearly with the coordinates of the pixel centres."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.transform.c + grid.transform.a * columns, grid.transform.f + grid.transform.e * rows
    return np.stack([-10 - (x - 500_000) / 100, -10 + (y - 5_000_000) / 100])


def test_a_grid_says_where_it_lies() -> None:
    assert str(HERE) == "EPSG:32633, 64 x 48 px of 10 x 10 from (500000, 5000000)"


def test_grids_match_up_to_rounding_but_not_half_a_pixel_off() -> None:
    rounded = Grid(HERE.crs, Affine(10, 0, 500_000.00001, 0, -10, 5_000_000), 64, 48)
    shifted = Grid(HERE.crs, Affine(10, 0, 500_005, 0, -10, 5_000_000), 64, 48)
    elsewhere = Grid(CRS.from_epsg(32634), HERE.transform, 64, 48)
    assert HERE.matches(rounded)
    assert not HERE.matches(shifted)
    assert not HERE.matches(elsewhere)
    assert not HERE.matches(Grid(HERE.crs, HERE.transform, 63, 48))


def test_radar_on_another_grid_is_refused_with_both_grids(tmp_path: Path) -> None:
    there = Grid(HERE.crs, Affine(20, 0, 499_000, 0, -20, 5_001_000), 200, 150)
    path = write_radar(tmp_path / "s1.tif", there, slope(there))
    with RadarRaster(path) as radar, pytest.raises(InputError) as error:
        radar.align(HERE, allowed=False)
    assert str(HERE) in str(error.value)
    assert str(there) in str(error.value)
    assert "--align" in str(error.value)


def test_radar_aligned_from_another_grid_is_what_lies_there(tmp_path: Path) -> None:
    there = Grid(HERE.crs, Affine(20, 0, 499_005, 0, -20, 5_001_005), 200, 150)
    with RadarRaster(write_radar(tmp_path / "s1.tif", there, slope(there))) as radar:
        radar.align(HERE, allowed=True)
        np.testing.assert_allclose(radar.read_db().numpy(), slope(HERE), atol=1e-3)


def test_places_beyond_the_aligned_radar_are_nan(tmp_path: Path) -> None:
    there = Grid(HERE.crs, Affine(10, 0, 500_320, 0, -10, 5_000_000), 64, 48)
    with RadarRaster(write_radar(tmp_path / "s1.tif", there, slope(there))) as radar:
        radar.align(HERE, allowed=True)
        values = radar.read_db()
    assert values[:, :, :31].isnan().all()
    assert values[:, :, 33:].isfinite().all()


def test_radar_that_does_not_overlap_cannot_be_aligned(tmp_path: Path) -> None:
    there = Grid(HERE.crs, Affine(10, 0, 700_000, 0, -10, 5_000_000), 64, 48)
    path = write_radar(tmp_path / "s1.tif", there, slope(HERE))
    with (
        RadarRaster(path) as radar,
        pytest.raises(InputError, match="does not overlap it, give one of the same place"),
    ):
        radar.align(HERE, allowed=True)


def test_radar_without_a_crs_cannot_be_aligned(tmp_path: Path) -> None:
    there = Grid(None, Affine(10, 0, 0, 0, -10, 0), 64, 48)
    path = write_radar(tmp_path / "s1.tif", there, slope(HERE))
    with (
        RadarRaster(path) as radar,
        pytest.raises(InputError, match="aligning needs a CRS in both; georeference them first"),
    ):
        radar.align(HERE, allowed=True)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write_atomically(tmp_path / "a.txt", fail)
    assert (tmp_path / "a.txt").read_text() == "before"
    write_atomically(tmp_path / "a.txt", lambda path: path.write_text("after"))
    assert (tmp_path / "a.txt").read_text() == "after"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_paths_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path, "it is a folder; name a file in it"),
        (tmp_path / "file" / "a.tif", "file is a file; choose another folder"),
        (tmp_path / "file" / "none" / "a.tif", "file is a file; choose another folder"),
    ):
        with pytest.raises(InputError, match=message):
            check_writable(path)
        with pytest.raises(InputError, match=message), temporary_beside(path):
            pass


def test_a_decimated_read_has_the_asked_size(tmp_path: Path) -> None:
    with Raster(write_radar(tmp_path / "s1.tif", HERE, slope(HERE)), "radar scene") as raster:
        assert raster.read_array(size=16).shape == (2, 12, 16)


def test_a_container_without_bands_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "both.gpkg"
    for table, more in (("first", {}), ("second", {"APPEND_SUBDATASET": "YES"})):
        place = {"crs": HERE.crs, "transform": HERE.transform, "width": 64, "height": 48}
        with rasterio.open(
            path, "w", driver="GPKG", count=1, dtype="uint8", RASTER_TABLE=table, **place, **more
        ) as file:
            file.write(np.ones((1, 48, 64), np.uint8))
    with pytest.raises(
        InputError, match=r"is a container of 2 data sets \(first, second\), .*gdal_translate"
    ):
        Raster(path, "scene")


def test_what_was_odd_about_another_file_is_not_held_against_this_one(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 48, 64))
    names = ("good.tif", "bad.tif")
    good, bad = (write_radar(tmp_path / name, HERE, values, compress="deflate") for name in names)
    content = bad.read_bytes()
    bad.write_bytes(content[:4000] + bytes(4000) + content[8000:])
    with open_raster(good) as dataset:
        with Raster(bad, "scene") as raster, pytest.raises(InputError, match="is damaged"):
            raster.read_array()
        assert find_opacity(dataset) is None


def test_band_names_that_are_no_utf8_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    with rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint16") as file:
        file.set_band_description(1, "Reflectance")
    path.write_bytes(path.read_bytes().replace(b"Reflectance", b"R\xe9flectances"[:11]))
    with pytest.raises(InputError, match=r"scene.tif has band names, units or tags that are no UTF-8"):
        Raster(path, "scene")


def test_a_raster_of_absurd_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    size = {"height": 2_000_000, "width": 2_000_000, "count": 1, "dtype": "uint8"}
    options = {"sparse_ok": True, "bigtiff": "YES", "tiled": True, "blockxsize": 8192, "blockysize": 8192}
    with open_raster(tmp_path / "huge.tif", "w", driver="GTiff", **size, **options):
        pass
    with pytest.raises(InputError, match="2000000 x 2000000 pixels, at most 1,000,000,000,000 are read"):
        Raster(tmp_path / "huge.tif", "optical scene")


def test_an_enlarged_image_lies_where_it_did() -> None:
    assert enlarge_place({"transform": HERE.transform}, 4)["transform"] == Affine(
        2.5, 0, 500_000, 0, -2.5, 5_000_000
    )
    points = enlarge_place({"gcps": [GroundControlPoint(3, 5, 1, 2, 0)]}, 4)["gcps"]
    assert [(point.row, point.col, point.x, point.y) for point in points] == [(12, 20, 1, 2)]
    terms = dict.fromkeys(
        ("line_num_coeff", "line_den_coeff", "samp_num_coeff", "samp_den_coeff"), [0.0] * 20
    )
    ground = dict.fromkeys(
        ("lat_off", "lat_scale", "long_off", "long_scale", "height_off", "height_scale"), 1.0
    )
    model = RPC(line_off=20, line_scale=10, samp_off=30, samp_scale=15, **terms, **ground)
    found = enlarge_place({"rpcs": model}, 4)["rpcs"]
    # the centre of pixel 7 is between those of pixels 29 and 30
    assert (29.5 - found.line_off) / found.line_scale == pytest.approx((7 - 20) / 10)
    assert (29.5 - found.samp_off) / found.samp_scale == pytest.approx((7 - 30) / 15)


@pytest.mark.parametrize(
    ("dtype", "nodata", "wanted"),
    [("uint8", 0, 1), ("uint8", 255, 254), ("int16", -9999, -9998), ("float32", 0, np.float32(1e-45))],
)
def test_a_value_that_would_mean_no_data_is_moved_by_as_little_as_possible(
    dtype: str, nodata: float, wanted: float
) -> None:
    values = np.array([nodata, 7], dtype)
    avoid_nodata(values, nodata)
    assert values.tolist() == [wanted, 7]
