import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from pellucid.data.ranges import SENTINEL2
from pellucid.data.raster import OpticalRaster, read_optical, read_radar
from pellucid.errors import InputError

BANDS = SENTINEL2.bands
LEVEL_2A = tuple(band for band in BANDS if band != "B10")
PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}


def write(path: Path, values: np.ndarray, names: tuple[str, ...] = (), **profile: Any) -> Path:
    tags, scales, offsets = (profile.pop(key, None) for key in ("tags", "scales", "offsets"))
    bands, height, width = values.shape
    size = {"count": bands, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **(PLACE | size | profile)) as file:
        file.write(values)
        if names:
            file.descriptions = names
        if scales:
            file.scales, file.offsets = (scales,) * bands, (offsets,) * bands
        file.update_tags(**(tags or {}))
    return path


def digital_numbers(bands: int = 13, size: int = 16, low: int = 20) -> np.ndarray:
    """Made-up digital numbers in which B10 is the darkest band."""
    values = np.random.default_rng(0).integers(200, 4000, (bands, size, size)).astype(np.uint16)
    if bands == 13:
        values[10] = low
    return values


def test_reflectance_is_a_ten_thousandth_of_the_digital_number(tmp_path: Path) -> None:
    stored = digital_numbers()
    stored[0, 0, :3] = 1, 10_000, 12_000
    values, valid = read_optical(write(tmp_path / "s2.tif", stored), BANDS)
    torch.testing.assert_close(values, torch.from_numpy(stored / 10_000).float().clamp(max=1))
    assert values[0, 0, :3].tolist() == [np.float32(1e-4), 1, 1]
    assert valid.all()


def test_bands_are_found_by_name_whatever_their_order_and_spelling(tmp_path: Path) -> None:
    stored, order = digital_numbers(), np.random.default_rng(1).permutation(13)
    texts = tuple(BANDS[i].replace("B0", "B") + ", central wavelength 490 nm" for i in order)
    values, _ = read_optical(write(tmp_path / "s2.tif", stored[order], texts), BANDS)
    torch.testing.assert_close(values, torch.from_numpy(stored / 10_000).float())


def test_a_model_without_b10_reads_both_product_levels_by_position(tmp_path: Path) -> None:
    stored = digital_numbers()
    level_1c = write(tmp_path / "l1c.tif", stored)
    level_2a = write(tmp_path / "l2a.tif", np.delete(stored, 10, axis=0))
    expected = torch.from_numpy(np.delete(stored, 10, axis=0) / 10_000).float()
    for path in (level_1c, level_2a):
        torch.testing.assert_close(read_optical(path, LEVEL_2A)[0], expected)


def test_a_window_is_that_part_of_the_whole(tmp_path: Path) -> None:
    with OpticalRaster(write(tmp_path / "s2.tif", digital_numbers(size=40)), BANDS) as raster:
        whole, _ = raster.read()
        part, valid = raster.read(Window(3, 5, 20, 10))
    assert torch.equal(part, whole[:, 5:15, 3:23])
    assert valid.shape == (1, 10, 20)


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("s2.tif", {"PROCESSING_BASELINE": "04.00"}),
        ("s2.tif", {"RADIO_ADD_OFFSET": "-1000"}),
        ("s2.tif", {"RADIO_ADD_OFFSET": "[-1000, -1000.0]"}),
        ("s2.tif", {"RADIO_ADD_OFFSET": "-1000 -1000"}),
        ("s2.tif", {"RADIO_ADD_OFFSET": "None"}),
        ("s2.tif", {"BOA_ADD_OFFSET": '{"B01": -1000}'}),
        ("s2.tif", {"BOA_ADD_OFFSET": ""}),
        ("s2.tif", {"PRODUCT_URI": "S2A_MSIL1C_20230101T101411_N0509_R022_T32UQD_20230101T121054.SAFE"}),
        ("S2A_MSIL1C_20230101T101411_N0509_R022_T32UQD.tif", {}),
        ("s2.tif", {}),
    ],
)
def test_the_offset_is_found_in_tags_in_the_product_name_or_in_the_values(
    tmp_path: Path, name: str, tags: dict[str, str]
) -> None:
    stored = digital_numbers()
    path = write(tmp_path / name, stored + np.uint16(1000), tags=tags)
    torch.testing.assert_close(read_optical(path, BANDS)[0], torch.from_numpy(stored / 10_000).float())


def test_an_offset_told_by_the_values_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_optical(write(tmp_path / "s2.tif", digital_numbers() + np.uint16(1000)), BANDS)
    assert "values start at 1020, so the offset of processing baseline 04.00 is taken off" in caplog.text


def test_no_offset_is_taken_off_thick_cloud_whose_b10_is_bright(tmp_path: Path) -> None:
    stored = digital_numbers(low=2200) // 2 + np.uint16(2000)
    values, _ = read_optical(write(tmp_path / "s2.tif", stored), BANDS)
    torch.testing.assert_close(values, torch.from_numpy(stored / 10_000).float())


@pytest.mark.parametrize("names", [(), BANDS])
def test_bands_that_are_not_wanted_tell_a_cloud_from_an_offset(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    wanted = ("B04", "B03", "B02")
    stored = digital_numbers(low=1020).clip(min=1020)
    stored[BANDS.index("B10")] = 10
    values, _ = read_optical(write(tmp_path / "s2.tif", stored, names), wanted)
    expected = stored[[BANDS.index(band) for band in wanted]] / 10_000
    torch.testing.assert_close(values, torch.from_numpy(expected).float())


def test_the_user_has_the_last_word_on_the_offset_and_is_warned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = digital_numbers() + np.uint16(1000)
    path = write(tmp_path / "s2.tif", stored, tags={"PROCESSING_BASELINE": "04.00"})
    values, _ = read_optical(path, BANDS, offset="none")
    torch.testing.assert_close(values, torch.from_numpy(stored / 10_000).float())
    assert "as if they carried an offset; try --offset -1000" in caplog.text


def test_metadata_that_the_values_contradict_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "s2.tif", digital_numbers(), tags={"PROCESSING_BASELINE": "05.09"})
    read_optical(path, BANDS)
    assert "the offset -1000 seems taken off already; try --offset none" in caplog.text


def test_the_doubts_of_a_file_are_logged_on_request_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "s2.tif", digital_numbers() + np.uint16(1000))
    with OpticalRaster(path, BANDS) as doubtful, OpticalRaster(path, BANDS, offset=-1000) as sure:
        assert not caplog.records
        assert not sure.doubts
        doubtful.log_doubts()
    assert caplog.messages == doubtful.doubts
    assert str(path) in caplog.text


def test_scale_and_offset_of_the_file_are_obeyed(tmp_path: Path) -> None:
    stored = digital_numbers() + np.uint16(1000)
    path = write(tmp_path / "s2.tif", stored, scales=0.0001, offsets=-0.1)
    torch.testing.assert_close(
        read_optical(path, BANDS)[0], torch.from_numpy((stored - 1000) / 10_000).float()
    )


def test_floating_point_is_reflectance_unless_far_above_one(tmp_path: Path) -> None:
    expected = torch.from_numpy(digital_numbers() / 10_000).float()
    reflectance = write(tmp_path / "reflectance.tif", expected.numpy())
    numbers = write(tmp_path / "numbers.tif", digital_numbers().astype(np.float32))
    assert torch.equal(read_optical(reflectance, BANDS)[0], expected)
    torch.testing.assert_close(read_optical(numbers, BANDS)[0], expected)


def test_nodata_is_invalid_and_zero_but_one_dark_band_is_not(tmp_path: Path) -> None:
    stored = digital_numbers().astype(np.float32)
    stored[:, 0, 0] = 0
    stored[4, 0, 1] = np.nan
    stored[4, 0, 2] = -9999
    stored[4, 0, 3] = 0
    values, valid = read_optical(write(tmp_path / "s2.tif", stored, nodata=-9999), BANDS)
    assert valid[0, 0, :5].tolist() == [False, False, False, True, True]
    assert (values[:, ~valid[0]] == 0).all()
    assert valid.sum() == 16 * 16 - 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: (np.delete(a, 10, 0), LEVEL_2A), r"lacks the band B10 .* give the Level-1C product"),
        (lambda a: (np.delete(a, 10, 0), ()), r"lacks the band B10 \(it has 12 without names, taken as"),
        (lambda a: (a[:4], ()), r"has 4 bands without names, needed are 13: B01, .* or name its bands"),
        (
            lambda a: (a[:3], ("B02", "B03", "B04")),
            r"lacks the bands B01, B05, .* \(it has B02, B03, B04; needed are B01, .*\)",
        ),
        (lambda a: (a[[*range(8), 9, 10, 11, 12, 8]], ()), r"in another order than B01.*band 10 is by far"),
        (lambda a: (a, ("B01", *BANDS[:12])), r"lacks the band B12"),
        (lambda a: (np.concatenate([a, a[:1]]), (*BANDS, "B01")), r"more than one band named B01"),
        (lambda a: ((a // 20).astype(np.uint8), BANDS), r"is 8-bit \(uint8\).*give the original product"),
        (lambda a: (a.astype(np.complex64), BANDS), r"holds complex64 values"),
    ],
)
def test_a_scene_that_cannot_be_used_is_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    values, names = change(digital_numbers())
    with pytest.raises(InputError, match=message):
        read_optical(write(tmp_path / "s2.tif", values, names), BANDS)


def test_a_band_that_may_lack_is_read_as_zero(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", np.delete(digital_numbers(), 10, axis=0), LEVEL_2A)
    with OpticalRaster(path, BANDS, allow_missing=("B10",)) as raster:
        values, valid = raster.read()
    assert (values[10] == 0).all()
    assert values[11].min() > 0
    assert valid.all()


@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.6])
def test_a_truncated_file_is_damaged(tmp_path: Path, compress: str, share: float) -> None:
    path = write(tmp_path / "s2.tif", digital_numbers(size=128), compress=compress)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="is damaged" if share else "is no readable raster"):
        read_optical(path, BANDS)


def test_a_missing_file_and_a_text_are_no_scene(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the optical scene .* does not exist, check the path"):
        read_optical(tmp_path / "none.tif", BANDS)
    (tmp_path / "text.tif").write_text("hello")
    with pytest.raises(InputError, match=r"is no readable raster .* give a GeoTIFF"):
        read_optical(tmp_path / "text.tif", BANDS)
    with pytest.raises(InputError, match=r"is a folder, and no product; give a file in it"):
        read_optical(tmp_path, BANDS)


def cloudy_ground(size: int = 16) -> np.ndarray:
    return (digital_numbers(size=size) / 10_000).astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, -0.1])
def test_a_scale_that_was_applied_already_is_not_applied_again(tmp_path: Path, offset: float) -> None:
    path = write(tmp_path / "s2.tif", cloudy_ground(), scales=0.0001, offsets=offset)
    with OpticalRaster(path, BANDS) as raster:
        torch.testing.assert_close(raster.read()[0], torch.from_numpy(cloudy_ground()))
        assert (
            "reflectance already, so the scale that it declares, 0.0001, is not applied" in raster.doubts[0]
        )


def test_each_band_has_a_scale_of_its_own(tmp_path: Path) -> None:
    stored = digital_numbers()
    path = write(tmp_path / "s2.tif", stored, BANDS)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.0001,) * 12 + (0.0002,), (0.0,) * 12 + (-0.02,)
    with OpticalRaster(path, BANDS) as raster:
        values, _ = raster.read()
        expected = stored / 10_000
        expected[12] = stored[12] * 0.0002 - 0.02
        torch.testing.assert_close(values, torch.from_numpy(expected).float())
        np.testing.assert_allclose(raster.to_stored(values.double().numpy()), stored, atol=1e-3)


@pytest.mark.parametrize(("offset", "added"), [("none", 0.0), (-500, -0.05)])
def test_the_offset_of_the_user_wins_over_that_of_the_file(tmp_path: Path, offset: Any, added: float) -> None:
    path = write(tmp_path / "s2.tif", digital_numbers() + np.uint16(1000), scales=0.0001, offsets=-0.1)
    with OpticalRaster(path, BANDS, offset=offset) as raster:
        assert "DN are added in place of the offset -0.1 that the file declares" in raster.doubts[0]
        expected = (digital_numbers() + 1000) / 10_000 + added
        torch.testing.assert_close(raster.read()[0], torch.from_numpy(expected).float())


@pytest.mark.parametrize("scale", [0.0, float("nan")])
def test_a_scale_that_makes_no_number_is_refused(tmp_path: Path, scale: float) -> None:
    path = write(tmp_path / "s2.tif", digital_numbers())
    with rasterio.open(path, "r+") as file:
        file.scales = (scale,) * 13
    with pytest.raises(InputError, match="declares a scale of 0, or one that is no number; correct it"):
        read_optical(path, BANDS)


def test_percent_are_neither_reflectance_nor_digital_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"values about 2\d\.?\d*, neither reflectance .* percent perhaps"):
        read_optical(write(tmp_path / "s2.tif", cloudy_ground() * 120), BANDS)


@pytest.mark.parametrize(
    ("fill", "dtype"),
    [
        (65535, "uint16"),
        (-9999, "int16"),
        (32767, "int16"),
        (-9999, "float32"),
        (-3.4e38, "float32"),
        (65535, "float32"),
    ],
)
def test_a_fill_that_is_not_declared_is_no_data(tmp_path: Path, fill: float, dtype: str) -> None:
    stored = cloudy_ground() if dtype == "float32" else digital_numbers().astype(dtype)
    stored[:, :5] = fill
    with OpticalRaster(write(tmp_path / "s2.tif", stored), BANDS) as raster:
        valid = raster.read()[1][0]
        said = [doubt for doubt in raster.doubts if "hold no data, though undeclared" in doubt]
    assert not valid[:5].any()
    assert valid[5:].all()
    assert said


def test_infinite_pixels_are_said_to_hold_no_data(tmp_path: Path) -> None:
    stored = cloudy_ground()
    stored[3, :5] = np.inf
    with OpticalRaster(write(tmp_path / "s2.tif", stored), BANDS) as raster:
        assert not raster.read()[1][0, :5].any()
        assert any("pixels that are infinite hold no data" in doubt for doubt in raster.doubts)


def test_saturated_pixels_and_values_resampled_at_a_border(tmp_path: Path) -> None:
    stored = cloudy_ground()
    stored[3, 0, 0] = 6.5535  # one saturated band
    stored[:, 0, 1] = -0.02  # a dark surface after atmospheric correction
    stored[3, 0, 2] = -4000  # between ground and a fill of -9999
    with OpticalRaster(write(tmp_path / "s2.tif", stored), BANDS) as raster:
        assert raster.read()[1][0, 0, :3].tolist() == [True, True, False]
        assert any("reflectance below -0.5 hold no data" in doubt for doubt in raster.doubts)


@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_pixels_under_a_mask_and_transparent_ones_are_invalid(tmp_path: Path, kind: str) -> None:
    mask = np.full((16, 16), 255, np.uint8)
    mask[:3] = 0
    stored = digital_numbers()
    if kind == "alpha":
        stored = np.concatenate([stored, mask[None] * np.uint16(257)])
    path = write(tmp_path / "s2.tif", stored)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        if kind == "mask":
            file.write_mask(mask)
        else:
            file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * 12, ColorInterp.alpha]
    with OpticalRaster(path, BANDS) as raster:
        values, valid = raster.read()
        assert valid[0].tolist() == (mask > 0).tolist()
        assert (values[:, :3] == 0).all()
        assert not raster.read(Window(2, 1, 5, 3))[1][0, :2].any()


def test_a_band_of_opacity_that_has_the_name_of_another_is_that_one(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", digital_numbers()[:4], ("B02", "B03", "B04", "B08"))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    with OpticalRaster(path, ("B08",)) as raster:
        assert raster.indices == [4]
        assert raster.read()[1].all()


def test_files_are_readable_together_with_a_log(caplog: pytest.LogCaptureFixture, data_folder: Path) -> None:
    with caplog.at_level(logging.WARNING):
        values, _ = read_optical(data_folder / "terramesh/S2L1C/433D_629L_3_1.tif", BANDS)
    assert "offset" in caplog.text
    assert values[10].median() < 0.01


def test_the_published_test_patch_has_the_published_statistics(data_folder: Path) -> None:
    root, name = data_folder / "sen12mscr", "ROIs1970_fall_139_p839.tif"
    part = (slice(None), slice(64, 192), slice(64, 192))
    cloudy, valid = (image[part].double() for image in read_optical(root / "s2_cloudy" / name, BANDS))
    assert cloudy.mean().item() == pytest.approx(0.27315109, abs=1e-7)
    assert cloudy.std(correction=0).item() == pytest.approx(0.18463519, abs=1e-6)
    assert read_radar(root / "s1" / name)[part].double().mean().item() == pytest.approx(0.47170283, abs=1e-7)
    assert valid.all()
