from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from scenes import write

from pellucid.data.cloud_raster import CloudRaster
from pellucid.data.geotiff import Grid
from pellucid.data.raster import read_cloud
from pellucid.errors import InputError


def save(path: Path, values: list[float], dtype: str = "uint8", *, name: str = "", **profile: float) -> Path:
    """Write the values as the columns of a map of two rows."""
    stored = np.tile(np.array(values, dtype), (1, 2, 1))
    return write(path, stored, (name,) if name else (), **profile)


def first_row(path: Path) -> list[float]:
    with CloudRaster(path) as raster:
        return raster.read()[0, 0].tolist()


@pytest.mark.parametrize("high", [1, 1.0, 100, 255])
def test_masks_probabilities_and_percent_become_probabilities(tmp_path: Path, high: float) -> None:
    dtype = "float32" if isinstance(high, float) else "uint8"
    assert first_row(save(tmp_path / "cloud.tif", [0, high], dtype)) == [0, 1]
    assert first_row(save(tmp_path / "nodata.tif", [0, high], dtype, nodata=0)) == [0, 1]


def test_percent_and_probabilities_of_8_bit_are_told_by_their_many_values(tmp_path: Path) -> None:
    percent = list(range(0, 90))
    np.testing.assert_allclose(first_row(save(tmp_path / "percent.tif", percent)), np.arange(90) / 100)
    np.testing.assert_allclose(first_row(save(tmp_path / "p.tif", list(range(250)))), np.arange(250) / 255)


def test_a_fill_of_255_beside_a_mask_or_percent_is_no_cloud(tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.tif", [0, 1, 1, 255])
    assert first_row(mask) == [0, 1, 1, 0]
    with CloudRaster(mask) as raster:
        assert any("pixels that are 255 hold no data, though undeclared" in doubt for doubt in raster.doubts)
    assert first_row(save(tmp_path / "percent.tif", [0, 20, 100, 255])) == pytest.approx([0, 0.2, 1, 0])


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_numbers_below_zero_mark_missing_data(tmp_path: Path, dtype: str) -> None:
    assert first_row(save(tmp_path / "cloud.tif", [0, 1, -9999], dtype)) == [0, 1, 0]


def test_a_fill_does_not_bleed_where_a_mask_is_warped(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.tif", [255] * 8 + [0] * 7 + [1])
    with CloudRaster(path) as raster:
        shifted = Affine(10, 0, 500_004, 0, -10, 5_000_000)
        raster.align(Grid(raster.grid.crs, shifted, 14, 2), allowed=True)
        assert raster.read().max() == 0


def test_what_a_map_leaves_out_of_the_scene_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for nodata in (0, None):
        assert not caplog.text
        with CloudRaster(save(tmp_path / "mask.tif", [0, 1], nodata=nodata)) as raster:
            raster.align(Grid(raster.grid.crs, raster.grid.transform, 8, 2), allowed=True)
            assert raster.read().sum() == 2
    assert "mask.tif covers 25 % of the scene; the rest counts as clear" in caplog.text


def test_a_scene_classification_is_read_where_its_name_says_that_it_is_one(tmp_path: Path) -> None:
    values = list(range(12))
    expected = [float(value in (3, 8, 9, 10)) for value in values]
    for path in (
        save(tmp_path / "T33UUP_20200101_SCL_20m.tif", values),
        save(tmp_path / "band.tif", values, name="SCL"),
    ):
        assert first_row(path) == expected
    with CloudRaster(tmp_path / "band.tif") as raster:
        assert "is taken for a scene classification, 3, 8, 9, 10 for cloud" in raster.doubts[0]
        raster.align(Grid(raster.grid.crs, Affine(10, 0, 500_003, 0, -10, 5_000_000), 11, 2), allowed=True)
        assert raster.read()[0, 0].tolist() == expected[:11]
    with pytest.raises(InputError, match=r"values 4, 9, 11, classes perhaps \(in a scene classification, 3"):
        CloudRaster(save(tmp_path / "classes.tif", [4, 4, 9, 11]))


@pytest.mark.parametrize(
    "values",
    [
        [0, 1, 2, 3],
        [0, 4, 255],
        [64, 66, 68, 192, 224, 255],
        [0, 33, 35],
        [0, 128, 255],
        [255],
        [2, 5, 8, 7, 1, 4, 9, 11, 0],
    ],
)
def test_what_may_be_classes_is_refused_by_its_values(tmp_path: Path, values: list[float]) -> None:
    named = ", ".join(map(str, sorted(values)))
    with pytest.raises(InputError, match=f"holds the values {named}, classes perhaps.*: recode it"):
        CloudRaster(save(tmp_path / "classes.tif", values))


def test_rare_classes_of_a_large_map_are_not_missed(tmp_path: Path) -> None:
    values = np.ones((1, 2100, 2100), np.uint8)
    values[0, 2099, 2099] = 3
    with pytest.raises(InputError, match="holds the values 1, 3, classes perhaps"):
        CloudRaster(write(tmp_path / "classes.tif", values))


def test_what_is_doubtful_is_said(tmp_path: Path) -> None:
    with CloudRaster(save(tmp_path / "clouds.tif", [0, 1])) as raster:
        expected = "0 and 1 are taken for clear and cloud; if they are percent, add --cloud-scale 100"
        assert expected in raster.doubts[0]
    with CloudRaster(save(tmp_path / "nodata.tif", [0, 255], nodata=255)) as raster:
        assert "nothing is cloud; if 255 means cloud, take that declaration away" in raster.doubts[0]
    with CloudRaster(save(tmp_path / "nodata.tif", [0, 1], nodata=1)) as raster:
        assert "nothing is cloud; if 1 means cloud, take that declaration away" in raster.doubts[0]
    with CloudRaster(save(tmp_path / "cloud_mask.tif", [0, 1])) as raster:
        assert (raster.high, raster.doubts) == (1.0, [])
    with CloudRaster(save(tmp_path / "mask_of_cloud_probability.tif", [0, 1])) as raster:
        assert "0 and 1 are taken for clear and cloud" in raster.doubts[0]
    for name, values in (("a.tif", [0, 1]), ("b.tif", [0, 255])):
        with CloudRaster(save(tmp_path / name, values, name="cloud mask", nodata=255)) as raster:
            assert not raster.doubts


def test_pixels_under_the_mask_of_the_file_are_not_looked_at(tmp_path: Path) -> None:
    path = save(tmp_path / "cloud.tif", [0, 1, 7])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.array([[255, 255, 0]] * 2, np.uint8))
    assert first_row(path) == [0, 1, 0]


def test_several_bands_and_a_map_without_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 3 bands, must have one"):
        CloudRaster(write(tmp_path / "rgb.tif", np.zeros((3, 2, 2), np.uint8)))
    with pytest.raises(InputError, match="holds no data, give another"):
        CloudRaster(save(tmp_path / "empty.tif", [255, 255], nodata=255))


def test_a_patch_of_a_dataset_may_hold_one_value(tmp_path: Path) -> None:
    assert read_cloud(save(tmp_path / "percent.tif", [70, 70])).tolist() == [[[pytest.approx(0.7)] * 2] * 2]
    assert (read_cloud(save(tmp_path / "mask.tif", [255, 255])) == 1).all()


def test_a_map_of_percent_without_clouds_is_told_by_its_name_or_by_the_user(tmp_path: Path) -> None:
    product = save(tmp_path / "MSK_CLDPRB_20m.tif", [0, 1])
    with CloudRaster(product) as raster:
        assert raster.read()[0, 0].tolist() == pytest.approx([0, 0.01])
        assert "percent, as its name says: nothing is cloud; if 1 means cloud, add" in raster.doubts[0]
    assert first_row(save(tmp_path / "map.tif", [0, 1], name="probability")) == pytest.approx([0, 0.01])
    assert first_row(save(tmp_path / "cloud_probability_mask.tif", [0, 1])) == [0, 1]
    for path, scale in ((product, 1), (save(tmp_path / "clouds.tif", [0, 1]), 100)):
        with CloudRaster(path, scale=scale) as raster:
            assert raster.read()[0, 0].tolist() == pytest.approx([0, 1 / scale])
            assert not raster.doubts


def test_probabilities_of_8_bit_that_are_named_so_are_no_percent(tmp_path: Path) -> None:
    path = save(tmp_path / "S2_CLP.tif", [0, 51, 255])
    assert first_row(path) == pytest.approx([0, 0.2, 1])
    with CloudRaster(path) as raster:
        doubt = f"{path}: 255 is taken for certainly cloud, as its name says"
        assert raster.doubts == [f"{doubt}; if it holds percent, add --cloud-scale 100"]


@pytest.mark.parametrize("name", ["Fmask.tif", "T33UUP_SCL_20m.tif", "QA_mask.tif"])
def test_classes_that_are_0_and_1_alone_are_no_mask(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, [0, 1])
    if "SCL" in name:
        assert first_row(path) == [0, 0]
        return
    with pytest.raises(InputError, match="holds the values 0, 1, classes perhaps"):
        CloudRaster(path)


def test_the_user_says_what_means_cloud(tmp_path: Path) -> None:
    few = save(tmp_path / "few.tif", [0, 40, 60])
    with pytest.raises(InputError, match=r"or say with --cloud-scale what means certainly cloud"):
        CloudRaster(few)
    for values, scale, expected in (
        ([0, 40, 60], 100, [0, 0.4, 0.6]),
        ([0, 51, 255], 255, [0, 0.2, 1]),
        ([0, 50, 255], 100, [0, 0.5, 0]),
        ([0, 5000, 10000], 10_000, [0, 0.5, 1]),
    ):
        with CloudRaster(save(tmp_path / "map.tif", values, "uint16"), scale=scale) as raster:
            assert raster.read()[0, 0].tolist() == pytest.approx(expected)
    with pytest.raises(InputError, match=r"values from 0 to 60, and --cloud-scale is 50; name the value"):
        CloudRaster(few, scale=50)


@pytest.mark.parametrize("name", ["cs", "cs_cdf", "clear"])
def test_maps_that_are_high_where_it_is_clear_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"is named {name}, high where it is clear; .* 1 minus this one"):
        CloudRaster(save(tmp_path / "map.tif", [0.2, 0.9], "float32", name=name))


@pytest.mark.parametrize("stem", ["20200101_T33UUP_cs_cdf", "T33_cs", "CloudScorePlus_roi", "a.CS_CDF_2"])
def test_so_are_files_that_are_named_so(tmp_path: Path, stem: str) -> None:
    path = save(tmp_path / f"{stem}.tif", [0.2, 0.9], "float32")
    with pytest.raises(InputError, match=r"high where it is clear; .* --cloud-scale 1"):
        CloudRaster(path)
    with CloudRaster(path, scale=1) as raster:
        assert raster.read()[0, 0].tolist() == pytest.approx([0.2, 0.9])
    own = save(tmp_path / f"own_{stem}.tif", [0.2, 0.9], "float32", name="cloud probability")
    assert first_row(own) == pytest.approx([0.2, 0.9])


@pytest.mark.parametrize("stem", ["clear_day_mask", "s2_cs_17_clouds", "tics", "cloud"])
def test_other_names_are_no_reason_to_refuse(tmp_path: Path, stem: str) -> None:
    assert first_row(save(tmp_path / f"{stem}.tif", [0.2, 0.9], "float32")) == pytest.approx([0.2, 0.9])


@pytest.mark.parametrize("fill", [127, 254, 255])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_number_above_percent_marks_missing_data(tmp_path: Path, fill: int, dtype: str) -> None:
    values = [*range(100), fill]
    expected = [*(value / 100 for value in range(100)), 0]
    assert first_row(save(tmp_path / "map.tif", values, dtype)) == pytest.approx(expected)
    with CloudRaster(tmp_path / "map.tif") as raster:
        assert f"pixels that are {fill} hold no data, though undeclared" in raster.doubts[0]


@pytest.mark.parametrize(("values", "expected"), [([0.1, 0.93], [0.1, 0.93]), ([0.5, 88.5], [0.005, 0.885])])
@pytest.mark.parametrize("fill", [101, 254, 255])
def test_so_it_does_beside_fractions(
    tmp_path: Path, values: list[float], expected: list[float], fill: int
) -> None:
    found = first_row(save(tmp_path / "map.tif", [*values, fill], "float32"))
    assert found == pytest.approx([*expected, 0])


def test_a_number_that_may_be_the_next_percent_is_refused_unless_a_name_or_the_user_says_it(
    tmp_path: Path,
) -> None:
    values = [*range(102)]
    with pytest.raises(InputError, match=r"up to 100 and 101, which may mark .* -a_nodata 101\)"):
        CloudRaster(save(tmp_path / "map.tif", values))
    expected = [*(value / 100 for value in range(101)), 0]
    assert first_row(save(tmp_path / "MSK_CLDPRB.tif", values)) == pytest.approx(expected)
    with CloudRaster(tmp_path / "map.tif", scale=100) as raster:
        assert raster.read()[0, 0].tolist() == pytest.approx(expected)
    with CloudRaster(tmp_path / "map.tif", scale=255) as raster:
        assert raster.read()[0, 0].tolist() == pytest.approx([value / 255 for value in range(102)])
    with pytest.raises(InputError, match="up to 99 and 200, which may mark"):
        CloudRaster(save(tmp_path / "other.tif", [*range(100), 200]))
    low = save(tmp_path / "low.tif", [*range(110)])  # several numbers above 100 are no fill
    assert first_row(low) == pytest.approx([value / 255 for value in range(110)])
