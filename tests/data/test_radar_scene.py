import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from tests.scenes import write

from pellucid.data.geotiff import Grid
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.raster import read_radar
from pellucid.errors import InputError

# Backscatter as of land: VV about -12 dB, VH about -18 dB.
DB = np.random.default_rng(0).normal((-12, -18), 2, (8, 8, 2)).transpose(2, 0, 1).astype(np.float32)


def test_backscatter_is_scaled_from_decibels_and_nodata_is_nan(tmp_path: Path) -> None:
    stored = np.stack([np.full((4, 4), -12.5), np.full((4, 4), -16.25)]).astype(np.float32)
    stored[:, 0, 0], stored[:, 0, 1], stored[0, 0, 2], stored[0, 0, 3] = np.nan, -9999, -40, 3
    sar = read_radar(write(tmp_path / "s1.tif", stored))
    assert sar[:, 1:].unique().tolist() == [0.5]
    assert sar[:, 0, :2].isnan().all()
    assert sar[0, 0, 2:].tolist() == [0, 1]


def test_polarisations_are_found_by_name(tmp_path: Path) -> None:
    stored = np.stack([np.full((4, 4), value) for value in (35.0, -16.25, -12.5)]).astype(np.float32)
    path = write(tmp_path / "s1.tif", stored, ("angle", "Sigma0_VH_db", "Sigma0_VV_db"))
    with RadarRaster(path) as radar:
        assert radar.read_db()[:, 0, 0].tolist() == [-12.5, -16.25]


def test_linear_power_is_converted_after_saying_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    linear = read_radar(write(tmp_path / "linear.tif", 10 ** (DB / 10)))
    assert "holds linear power, not dB: it is converted" in caplog.text
    torch.testing.assert_close(linear, read_radar(write(tmp_path / "db.tif", DB)))


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (np.full((1, 4, 4), -9.0), (), r"has 1 band \(unnamed\), needed are VV and VH"),
        (np.full((2, 4, 4), -9.0), ("HH", "HV"), r"has 2 bands \(HH, HV\), needed are VV and VH"),
        (np.full((2, 4, 4), 180.0), (), r"values about 180, neither dB nor linear power; calibrate it"),
        (DB * 100, (), r"values about -1[45]\d\d, dB times 100\?; divide them, or declare the scale 0.01"),
        (DB * 10, (), r"values about -1[45]\d, dB times 10\?; divide them, or declare the scale 0.1"),
        (
            (DB + 30) / 30,
            (),
            r"too bright for linear power, as if dB were scaled to 0 ... 1; give it in dB, or",
        ),
        (np.stack([DB[0], 10 ** (DB[1] / 10)]), (), r"a band in dB and one without a negative value"),
        (DB, ("VV_stdDev", "VH_stdDev"), r"\(VV_stdDev, VH_stdDev\), needed are VV and VH"),
        (DB, ("i_VV", "q_VV"), r"\(i_VV, q_VV\), needed are VV and VH"),
        (np.full((2, 4, 4), np.nan), (), r"holds no data"),
        (np.full((2, 4, 4), 0.0), (), r"holds no data"),
    ],
)
def test_radar_that_is_no_backscatter_is_refused(
    tmp_path: Path, values: np.ndarray, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_radar(write(tmp_path / "s1.tif", values.astype(np.float32), names))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pictures_and_amplitudes_are_no_backscatter(tmp_path: Path, dtype: str) -> None:
    picture = np.clip(10 ** (DB / 10) * 60, 0, 255).astype(dtype)
    with pytest.raises(InputError, match=f"holds {dtype} values, a picture or amplitudes; needed are dB"):
        read_radar(write(tmp_path / "s1.tif", picture))


def test_complex_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds complex64 values, .* calibrate and detect it"):
        read_radar(write(tmp_path / "s1.tif", DB.astype(np.complex64), ("VV", "VH")))


def test_a_few_negative_values_do_not_make_decibels_of_linear_power(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    linear = 10 ** (DB / 10)
    linear[1, 3, 5], linear[0, 2, 2] = -1e-4, -2e-3  # cubic resampling, removal of noise
    with (
        RadarRaster(write(tmp_path / "s1.tif", linear, ("VV", "VH"))) as radar,
        caplog.at_level(logging.WARNING),
    ):
        radar.log_doubts()
        found = radar.read_db().numpy()
    assert "holds linear power, not dB: it is converted; negative values are no data" in caplog.text
    np.testing.assert_allclose(np.nanmedian(found, (1, 2)), np.median(DB, (1, 2)), atol=0.1)
    assert np.isnan(found).sum() == 2


@pytest.mark.parametrize("fill", [0, -99, -9999, -32768])
@pytest.mark.parametrize("is_linear", [False, True])
def test_numbers_for_no_data_are_known_undeclared(tmp_path: Path, fill: float, *, is_linear: bool) -> None:
    values = 10 ** (DB / 10) if is_linear else DB.copy()
    values[:, :2] = fill
    with RadarRaster(write(tmp_path / "s1.tif", values)) as radar:
        found = radar.read_db().numpy()
        assert any(
            f"pixels that are {fill} hold no data, though undeclared" in doubt for doubt in radar.doubts
        )
    assert np.isnan(found[:, :2]).all()
    np.testing.assert_allclose(found[:, 2:], DB[:, 2:], atol=1e-4)


@pytest.mark.parametrize("fill", [0, -9999])
def test_missing_pixels_do_not_bleed_where_radar_is_warped(tmp_path: Path, fill: float) -> None:
    values = np.full((2, 32, 32), -12, np.float32)
    values[1] = -18
    values[:, :10] = fill
    with RadarRaster(write(tmp_path / "s1.tif", values)) as radar:
        shifted = Affine(10, 0, 500_003, 0, -10, 4_999_997)
        radar.align(Grid(radar.grid.crs, shifted, 32, 32), allowed=True)
        found = radar.read_db().numpy()
    assert set(np.unique(found[0][np.isfinite(found[0])])) == {-12}
    assert np.isnan(found[:, :9]).all()


@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_pixels_under_a_mask_and_transparent_ones_hold_no_data(tmp_path: Path, kind: str) -> None:
    mask = np.full((8, 8), 255, np.uint8)
    mask[:3] = 0
    values = DB if kind == "mask" else np.concatenate([DB, mask[None].astype(np.float32)])
    path = write(tmp_path / "s1.tif", values, ("VV", "VH") if kind == "mask" else ("VV", "VH", ""))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        if kind == "mask":
            file.write_mask(mask)
        else:
            file.colorinterp = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha]
    with RadarRaster(path) as radar:
        found = radar.read_db().numpy()
        assert np.isnan(found[:, :3]).all()
        np.testing.assert_array_equal(found[:, 3:], DB[:, 3:])
        radar.align(Grid(radar.grid.crs, Affine(10, 0, 500_010, 0, -10, 5_000_000), 7, 8), allowed=True)
        aligned = radar.read_db().numpy()
    assert np.isnan(aligned[:, :3]).all()
    np.testing.assert_allclose(aligned[:, 3:], DB[:, 3:, 1:], atol=1e-4)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("VV/VH", "VV", "VH"), (2, 0, 1)),
        (("VH", "VH/VV", "VV"), (1, 2, 0)),
        (("VV_VH_ratio", "Sigma0_VVdB", "gamma0_vh"), (2, 0, 1)),
        (("VV_stdDev", "VV_mean", "VH_mean"), (2, 0, 1)),
        (("VV_filtered", "VV", "VH"), (2, 0, 1)),
    ],
)
def test_a_band_made_of_polarisations_is_none(
    tmp_path: Path, names: tuple[str, ...], order: tuple[int, ...]
) -> None:
    bands = np.stack([DB[0], DB[1], DB[0] - DB[1]])  # VV, VH, ratio
    stored = bands[list(order)]
    with RadarRaster(write(tmp_path / "s1.tif", stored, names)) as radar:
        np.testing.assert_array_equal(radar.read_db(), DB)


def test_several_candidates_for_a_polarisation_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s1.tif", np.concatenate([DB, DB]), ("VV_min", "VV_max", "VH_min", "VH_max"))
    with pytest.raises(InputError, match=r"more than one band that may be VV \(VV_min, VV_max\); name one"):
        RadarRaster(path)


def test_the_stronger_of_two_bands_without_names_is_vv(tmp_path: Path) -> None:
    with RadarRaster(write(tmp_path / "s1.tif", DB[::-1])) as radar:
        np.testing.assert_array_equal(radar.read_db(), DB)
        assert "so this is taken for VV; name them if it is not" in radar.doubts[0]
    with RadarRaster(write(tmp_path / "named.tif", DB[::-1], ("VV", "VH"))) as radar:
        np.testing.assert_array_equal(radar.read_db(), DB[::-1])
        assert "VH should be weaker, are they swapped?" in radar.doubts[0]


def test_each_band_has_a_scale_of_its_own(tmp_path: Path) -> None:
    stored = np.stack([DB[0] * 100, DB[1] * 10]).round().astype(np.int16)
    path = write(tmp_path / "s1.tif", stored, ("VV", "VH"))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.01, 0.1), (0.0, 0.0)
    with RadarRaster(path) as radar:
        np.testing.assert_allclose(radar.read_db(), DB, atol=0.06)


def test_a_scene_whose_sample_is_empty_is_looked_through(tmp_path: Path) -> None:
    values = np.full((2, 8, 4096), np.nan, np.float32)
    values[:, 1, 1] = -12, -18
    with RadarRaster(write(tmp_path / "s1.tif", values)) as radar:
        assert radar.read_db().isfinite().sum() == 2
