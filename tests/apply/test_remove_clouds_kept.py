"""What a restoration keeps of a file, and what it never writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.rpc import RPC
from scenes import BANDS, EVERYTHING, OPTIONS, constant, ground, left_cloud, read, write

from pellucid.apply.map_clouds import map_clouds
from pellucid.apply.options import CloudMapOptions
from pellucid.apply.remove_clouds import SceneReport, restore_scene

POINTS = [GroundControlPoint(y, x, 500_000 + 10 * x, 5e6 - 10 * y) for y in (0, 40) for x in (0, 50)]
PLACES = [(p.row, p.col, p.x, p.y) for p in POINTS]
RPCS = RPC(
    height_off=0,
    height_scale=500,
    lat_off=45,
    lat_scale=0.1,
    line_den_coeff=[1.0, *[0.0] * 19],
    line_num_coeff=[0.0, 0.0, -1.0, *[0.0] * 17],
    line_off=20,
    line_scale=20,
    long_off=15,
    long_scale=0.1,
    samp_den_coeff=[1.0, *[0.0] * 19],
    samp_num_coeff=[0.0, 1.0, *[0.0] * 18],
    samp_off=25,
    samp_scale=25,
    err_bias=1,
    err_rand=1,
)


def restore(path: Path, value: float = 0.5) -> SceneReport:
    """Paint every pixel of a scene that holds data."""
    return restore_scene(path, path.parent / "out.tif", method=constant(value), options=EVERYTHING)


def test_the_mask_of_a_file_is_kept_and_nothing_is_painted_under_it(tmp_path: Path) -> None:
    path, mask = write(tmp_path / "s2.tif", ground(40, 50), BANDS), np.full((40, 50), 255, np.uint8)
    mask[:15] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    report = restore(path)
    assert report.num_restored == report.num_valid == 25 * 50
    with rasterio.open(tmp_path / "out.tif") as file:
        assert MaskFlags.per_dataset in file.mask_flag_enums[0]
        assert (file.dataset_mask() == mask).all()
        assert (file.read()[:, :15] == ground(40, 50)[:, :15]).all()
        assert (file.read()[:, 15:] == 5000).all()
    assert {path.name for path in tmp_path.iterdir()} == {"s2.tif", "out.tif"}


def test_opacity_is_no_band_of_the_scene_and_is_kept(tmp_path: Path) -> None:
    opacity = np.full((1, 40, 50), 65535, np.uint16)
    opacity[:, :15] = 0
    path = write(tmp_path / "s2.tif", np.concatenate([ground(40, 50), opacity]))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * 12, ColorInterp.alpha]
    assert restore(path).num_restored == 25 * 50
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.colorinterp[13] == ColorInterp.alpha
        assert (file.read(14) == opacity[0]).all()
        assert (file.read()[:13, :15] == ground(40, 50)[:, :15]).all()


@pytest.mark.parametrize(("fill", "dtype"), [(65535, "uint16"), (-9999, "int16"), (-9999, "float32")])
def test_an_undeclared_fill_is_not_painted(tmp_path: Path, fill: float, dtype: str) -> None:
    scene = (ground(40, 50) / (10_000 if dtype == "float32" else 1)).astype(dtype)
    scene[:, :8] = fill
    report = restore(write(tmp_path / "s2.tif", scene, BANDS))
    assert report.num_restored == 32 * 50
    assert (read(tmp_path / "out.tif")[:, :8] == np.asarray(fill, dtype)).all()


@pytest.mark.parametrize("how", ["points", "rpcs"])
def test_control_points_and_camera_models_are_kept_in_results_and_cloud_maps(
    tmp_path: Path, how: str
) -> None:
    folder = tmp_path / "scenes"
    place = {"crs": None, "transform": None}
    place |= {"gcps": POINTS, "crs": "EPSG:32633"} if how == "points" else {"rpcs": RPCS}
    path = write(folder / "s2.tif", ground(40, 50), BANDS, **place)
    restore_scene(path, tmp_path / "out.tif", method=constant(0.5), options=EVERYTHING)
    map_clouds(folder, tmp_path / "maps", options=CloudMapOptions(scorer="built-in", preview=False))
    for result in (tmp_path / "out.tif", tmp_path / "maps" / "s2.tif"):
        with rasterio.open(result) as file:
            points, crs = file.gcps
            if how == "points":
                assert crs == CRS.from_epsg(32633)
                assert [(p.row, p.col, p.x, p.y) for p in points] == [
                    (p.row, p.col, p.x, p.y) for p in POINTS
                ]
            else:
                assert file.rpcs.to_dict() == RPCS.to_dict()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("nodata", [None, 0])
def test_a_restored_pixel_never_means_no_data(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    scene = (ground(40, 50) / (10_000 if dtype == "float32" else 1)).astype(dtype)
    restore(write(tmp_path / "s2.tif", scene, BANDS, nodata=nodata), value=0.0)
    result = read(tmp_path / "out.tif")
    assert (result != 0).any(0).all()
    assert result.max() <= (1e-4 if dtype == "float32" else 1)
    if nodata == 0:
        assert (result != 0).all()


def test_restored_values_stay_within_the_type(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", ground(40, 50).astype(np.int16), BANDS, nodata=32767)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.00002,) * 13, (0.0,) * 13
    restore(path, value=1.0)  # 50000 would be needed
    assert (read(tmp_path / "out.tif") == 32766).all()


def test_the_count_of_restored_pixels_is_that_of_the_file(tmp_path: Path) -> None:
    scene = ground()
    scene[:, 50:] = 0
    options = replace(OPTIONS, feather_px=8)
    report = restore_scene(
        write(tmp_path / "s2.tif", scene, BANDS),
        tmp_path / "out.tif",
        method=constant(0.9),
        cloud=left_cloud(tmp_path),
        options=options,
    )
    changed = (read(tmp_path / "out.tif") != scene).any(0)
    assert report.num_restored == np.count_nonzero(changed)
    assert report.num_valid == 50 * 101


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_pixels_that_are_no_number_stay_as_they_are_without_a_word(tmp_path: Path, missing: float) -> None:
    scene = (ground(40, 50) / 10_000).astype(np.float32)
    scene[:, :, :20] = missing
    report = restore(write(tmp_path / "s2.tif", scene, BANDS))
    assert (report.num_valid, report.num_restored) == (40 * 30, 40 * 30)
    np.testing.assert_array_equal(read(tmp_path / "out.tif")[:, :, :20], scene[:, :, :20])


def test_map_of_specks_alone_restores_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cloud, scene = np.zeros((1, 75, 101), np.float32), ground()
    cloud[:, 10::20, 10::20] = 1
    restore_scene(
        write(tmp_path / "s2.tif", scene, BANDS),
        tmp_path / "out.tif",
        method=constant(0.5),
        cloud=write(tmp_path / "specks.tif", cloud),
        options=OPTIONS,
    )
    assert (read(tmp_path / "out.tif") == scene).all()
    assert f"{tmp_path / 'specks.tif'} marks no cloud; specks and lines of 1 px" in caplog.text
