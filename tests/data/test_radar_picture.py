from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import from_origin

from pellucid.data.radar_picture import (
    RadarPicture,
    check_picture_output,
    find_pictures,
    read_color_picture,
    read_radar_picture,
    write_color_picture,
)
from pellucid.data.ranges import SENTINEL1
from pellucid.errors import InputError

VV = SENTINEL1.select(("VV",))
HERE = {"crs": CRS.from_epsg(32633), "transform": from_origin(500_000, 5_000_000, 10, 10)}
DB = np.linspace(-30, 5, 12, dtype=np.float32).reshape(1, 3, 4)


def write(path: Path, values: np.ndarray, names: tuple[str, ...] = (), **profile: Any) -> Path:
    count, height, width = values.shape
    size = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as file:
        file.write(values)
        for at, name in enumerate(names, start=1):
            file.set_band_description(at, name)
    return path


def test_decibels_are_scaled_by_the_range_of_the_model(tmp_path: Path) -> None:
    found = read_radar_picture(write(tmp_path / "sar.tif", DB, **HERE), VV)
    np.testing.assert_allclose(found.sar, ((DB + 25) / 25).clip(0, 1), atol=1e-6)
    assert found.valid.all()
    assert found.place == HERE


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_taken_from_black_to_white(tmp_path: Path, suffix: str, channels: int) -> None:
    grey = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
    path = tmp_path / f"sar{suffix}"
    Image.fromarray(grey if channels == 1 else np.repeat(grey[..., None], 3, -1)).save(path)
    found = read_radar_picture(path, VV)
    np.testing.assert_allclose(found.sar[0], grey / 255, atol=1e-6)
    assert found.place == {}


def test_polarisations_are_found_by_their_names(tmp_path: Path) -> None:
    path = write(tmp_path / "sar.tif", np.concatenate([DB - 9, DB]), ("VH", "vv"))
    np.testing.assert_allclose(read_radar_picture(path, VV).sar, ((DB + 25) / 25).clip(0, 1), atol=1e-6)
    assert read_radar_picture(path, SENTINEL1).sar.shape == (2, 3, 4)


def test_grey_in_three_equal_bands_of_decibels_is_one(tmp_path: Path) -> None:
    values = np.repeat(DB, 3, 0)
    values[:, 0, 0] = np.nan
    found = read_radar_picture(write(tmp_path / "sar.tif", values), VV)
    assert found.sar.shape == (1, 3, 4)
    assert found.valid.sum() == 11


@pytest.mark.parametrize("missing", [np.nan, -9999.0, -32768.0])
def test_what_is_no_data_is_filled_and_remembered(tmp_path: Path, missing: float) -> None:
    values = np.full((1, 3, 4), -10, np.float32)
    values[0, 1, 2] = missing
    found = read_radar_picture(write(tmp_path / "sar.tif", values, nodata=-32768), VV)
    assert (~found.valid).nonzero() == (np.array([1]), np.array([2]))
    np.testing.assert_allclose(found.sar, 0.6, atol=1e-6)


def test_declared_scales_make_decibels_of_whole_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "sar.tif", np.rint(DB * 100).astype(np.int16))
    with rasterio.open(path, "r+") as file:
        file.scales = (0.01,)
    np.testing.assert_allclose(read_radar_picture(path, VV).sar, ((DB + 25) / 25).clip(0, 1), atol=1e-3)


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (np.arange(12, dtype=np.uint16).reshape(1, 3, 4), (), "holds uint16 values, a picture or amplitudes"),
        (
            np.concatenate([DB, DB - 7]),
            (),
            r"has 2 bands \(unnamed, unnamed\), the model needs VV; give a file",
        ),
        (DB, ("VH",), r"has 1 band \(VH\), the model needs VV"),
        (DB, ("VV/VH",), r"has 1 band \(VV/VH\), the model needs VV"),
        (DB.astype(np.complex64), (), "holds complex64 values, as a single-look complex product does"),
        (DB * 100, (), "values about -1250, dB times 100.*the scale 0.01"),
        (np.full((1, 3, 4), np.nan, np.float32), (), "holds no data, give another"),
        (
            np.arange(36, dtype=np.uint8).reshape(3, 3, 4),
            (),
            "has three different channels, a radar picture is grey",
        ),
    ],
)
def test_what_is_no_radar_is_refused(
    tmp_path: Path, values: np.ndarray, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_radar_picture(write(tmp_path / "sar.tif", values, names), VV)


def test_linear_power_is_converted_after_saying_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    db = np.linspace(-25, -5, 64, dtype=np.float32).reshape(1, 8, 8)
    linear = 10 ** (db / 10)
    linear[0, 3, 5] = -1e-4
    found = read_radar_picture(write(tmp_path / "sar.tif", linear, ("Sigma0_VV",)), VV)
    assert "holds linear power, not dB: it is converted; negative values are no data" in caplog.text
    assert found.valid.sum() == 63
    np.testing.assert_allclose(found.sar[0][found.valid], (db[0][found.valid] + 25) / 25, atol=1e-6)


@pytest.mark.parametrize("photometric", ["miniswhite", "palette"])
def test_white_that_is_stored_as_zero_is_still_bright(tmp_path: Path, photometric: str) -> None:
    grey = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
    inverted = np.repeat(np.arange(255, -1, -1, dtype=np.uint16)[None] * 257, 3, 0)
    colormap = inverted if photometric == "palette" else None
    tifffile.imwrite(tmp_path / "sar.tif", 255 - grey, photometric=photometric, colormap=colormap)
    np.testing.assert_allclose(read_radar_picture(tmp_path / "sar.tif", VV).sar[0], grey / 255, atol=1e-6)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_picture_that_lies_on_its_side_is_turned_upright(tmp_path: Path, suffix: str) -> None:
    grey = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
    if suffix == ".tif":
        options = {"photometric": "minisblack", "extratags": [(274, 3, 1, 6, True)]}
        tifffile.imwrite(tmp_path / "sar.tif", grey, **options)
    else:
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(grey).save(tmp_path / "sar.png", exif=exif)
    found = read_radar_picture(tmp_path / f"sar{suffix}", VV)
    np.testing.assert_allclose(found.sar[0], np.rot90(grey, -1) / 255, atol=1e-6)
    assert found.valid.shape == (4, 3)


def test_a_stack_of_pages_is_not_cut_to_its_first(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "sar.tif", np.zeros((4, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match="has 4 pages, of which only the first would be read; split it"):
        read_radar_picture(tmp_path / "sar.tif", VV)


def test_pictures_that_are_no_radar_are_refused(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8)
    Image.fromarray(colors).save(tmp_path / "optical.png")
    with pytest.raises(InputError, match="three different channels, a radar picture is grey; give the radar"):
        read_radar_picture(tmp_path / "optical.png", VV)
    Image.fromarray(colors[..., 0]).save(tmp_path / "sar.png")
    with pytest.raises(InputError, match="is a picture of one polarisation, the model needs VV, VH"):
        read_radar_picture(tmp_path / "sar.png", SENTINEL1)
    for path, message in (
        (tmp_path / "sar.gif", "has the suffix '.gif', pictures are read from"),
        (tmp_path / "none.png", "does not exist, check the path"),
        (tmp_path / "none.tif", "does not exist, check the path"),
    ):
        with pytest.raises(InputError, match=message):
            read_radar_picture(path, VV)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(InputError, match="is no readable raster"):
        read_radar_picture(tmp_path / "text.tif", VV)


def picture(height: int = 3, width: int = 4) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)


def test_a_geotiff_lies_where_the_radar_does(tmp_path: Path) -> None:
    radar = read_radar_picture(write(tmp_path / "sar.tif", DB, **HERE), VV)
    write_color_picture(tmp_path / "out.tif", picture(), radar)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert (file.crs, file.transform) == (HERE["crs"], HERE["transform"])
        assert (file.count, file.nodata, file.dtypes[0]) == (3, None, "uint8")
        assert [kind.name for kind in file.colorinterp] == ["red", "green", "blue"]
        assert (file.read() == np.moveaxis(picture(), -1, 0)).all()


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, column, 10 + column, 50 - row) for row in (0, 3) for column in (0, 4)]
    path = write(tmp_path / "sar.tif", DB)
    with rasterio.open(path, "r+") as file:
        file.gcps = points, CRS.from_epsg(4326)
    write_color_picture(tmp_path / "out.tif", picture(), read_radar_picture(path, VV))
    with rasterio.open(tmp_path / "out.tif") as file:
        found, crs = file.gcps
        assert crs == CRS.from_epsg(4326)
        assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_where_the_radar_has_no_data_nothing_is_drawn(tmp_path: Path, suffix: str) -> None:
    valid = np.ones((3, 4), np.bool_)
    valid[0, :2] = False
    drawn = picture()
    drawn[2] = 0
    path = tmp_path / f"out{suffix}"
    write_color_picture(path, drawn, RadarPicture(np.zeros((1, 3, 4), np.float32), valid))
    found = np.rint(read_color_picture(path) * 255).astype(np.uint8)
    assert ((found == 0).all(0) == ~valid).all()
    assert (found[:, 2] == 1).all()
    if suffix == ".tif":
        with rasterio.open(path) as file:
            assert file.nodata == 0


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".tiff"])
def test_formats_read_back(tmp_path: Path, suffix: str) -> None:
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    radar = RadarPicture(np.zeros((1, 16, 16), np.float32), np.ones((16, 16), np.bool_))
    write_color_picture(tmp_path / f"out{suffix}", flat, radar)
    found = read_color_picture(tmp_path / f"out{suffix}")
    np.testing.assert_allclose(found[:, 5, 5] * 255, (200, 100, 50), atol=4)


def test_a_picture_in_colour_has_three_bands_of_8_bit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 1 band of float32, a picture has three of 8 bit"):
        read_color_picture(write(tmp_path / "db.tif", DB))
    with pytest.raises(InputError, match="is grey, an optical picture in colour is needed"):
        read_color_picture(write(tmp_path / "grey.tif", np.zeros((1, 3, 4), np.uint8)))


def test_opacity_tells_where_data_is(tmp_path: Path) -> None:
    values = np.full((4, 3, 4), 100, np.uint8)
    values[3, 0] = 0
    values[3, 1:] = 255
    path = write(tmp_path / "rgba.tif", values, photometric="RGB", alpha="yes")
    found = read_radar_picture(path, VV)
    assert (found.valid.sum(1) == (0, 4, 4)).all()
    np.testing.assert_allclose(found.sar, 100 / 255, atol=1e-6)


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has the suffix '.gif', pictures are written as .png"):
        check_picture_output(tmp_path / "out.gif")
    with pytest.raises(InputError, match="is not a folder; name a folder of radar pictures"):
        find_pictures(tmp_path / "none")
    with pytest.raises(InputError, match="no picture"):
        find_pictures(tmp_path)
    for name in ("b.png", "a.TIF", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_pictures(tmp_path)] == ["a.TIF", "b.png"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_picture_of_8_bit_has_no_unit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sar{suffix}"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    assert read_radar_picture(path, SENTINEL1.select(("VV",))).valid.all()
    with pytest.raises(InputError, match="whose grey has no unit, and --sar-units is power; leave it out"):
        read_radar_picture(path, SENTINEL1.select(("VV",)), units="power")
