import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rasters import write_raster

from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.datasets.sen12ms_cr import Config, Sen12MsCr, name_patch
from pellucid.errors import InputError
from pellucid.metrics import legacy_psnr, legacy_ssim

SIDE = 16
# The names by which the widely reused loader leaks test places into training.
TRAIN_ROIS = ("ROIs1158_spring_1", "ROIs1868_summer_7", "ROIs1868_summer_11", "ROIs1970_fall_1")
TEST_ROIS = (
    "ROIs1158_spring_106",
    "ROIs1158_spring_123",
    "ROIs1158_spring_140",
    "ROIs1868_summer_73",
    "ROIs1868_summer_119",
    "ROIs1970_fall_139",
)


def write_optical(path: Path, seed: int = 0, side: int = SIDE) -> np.ndarray:
    values = np.random.default_rng(seed).integers(1, 9000, (13, side, side)).astype(np.uint16)
    write_raster(path, values, SENTINEL2.bands)
    return values


def write_radar(path: Path, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).uniform(-30, 0, (2, SIDE, SIDE)).astype(np.float32)
    write_raster(path, values, SENTINEL1.bands)
    return values


def write_folders(root: Path, names: tuple[str, ...], *, radar: bool = True) -> None:
    for seed, name in enumerate(names):
        write_optical(root / "s2_cloudy" / f"{name}.tif", seed)
        write_optical(root / "s2_cloudfree" / f"{name}.tif", seed + 100)
        if radar:
            write_radar(root / "s1" / f"{name}.tif", seed)


def write_rois(root: Path, patches: tuple[str, ...]) -> None:
    """Write patches such as `ROIs1158_spring_1_p30` in the dataset's own folders."""
    for seed, name in enumerate(patches):
        season, number, patch = name.rsplit("_", 2)
        for kind in ("s1", "s2", "s2_cloudy"):
            path = root / f"{season}_{kind}" / f"{kind}_{number}" / f"{season}_{kind}_{number}_{patch}.tif"
            (write_radar if kind == "s1" else write_optical)(path, seed)


def config(root: Path, **options: object) -> Config:
    return Config(root=root, **options)


def centre(image: torch.Tensor | None) -> torch.Tensor:
    assert image is not None
    return image[..., 64:192, 64:192]


# REFERENCE: means and deviations that the published loader gives on its own two scenes, centre crop of 128.
@pytest.mark.parametrize("legacy_fill", [True, False])
@pytest.mark.parametrize(
    ("split", "key", "means", "psnr", "ssim"),
    [
        (
            "test",
            "ROIs1970_fall_139_p839",
            (0.27315109, 0.13131330, 0.47170283),
            12.980359754757036,
            0.5508124828338623,
        ),
        (
            "train",
            "ROIs2017_winter_112_p797",
            (0.07199001, 0.15208515, 0.52239038),
            19.441548271777684,
            0.7099975943565369,
        ),
    ],
)
def test_patches_have_the_statistics_of_the_published_loader(
    data_folder: Path,
    split: str,
    key: str,
    means: tuple[float, float, float],
    psnr: float,
    ssim: float,
    legacy_fill: bool,
) -> None:
    data = Sen12MsCr(config(data_folder / "sen12mscr", split=split, legacy_fill=legacy_fill))
    batch = data[data.keys.index(key)]
    degraded, target, sar = centre(batch.degraded), centre(batch.target), centre(batch.sar)
    found = [image.double().mean().item() for image in (degraded, target, sar)]
    assert found == pytest.approx(means, abs=2e-7)
    if split == "test":
        deviations = [image.double().std(correction=0).item() for image in (degraded, target, sar)]
        assert deviations == pytest.approx((0.18463519, 0.05733732, 0.13727557), abs=3e-6)
        assert [degraded.max().item(), target.max().item()] == pytest.approx((0.8229, 0.3661), abs=1e-6)
    assert legacy_psnr(degraded, target).item() == pytest.approx(psnr, abs=1e-5)
    assert legacy_ssim(degraded, target).item() == pytest.approx(ssim, abs=1e-5)
    assert batch.valid.all()


def test_the_real_patches_keep_their_splits_and_places(data_folder: Path) -> None:
    data = Sen12MsCr(config(data_folder / "sen12mscr"))
    assert len(data) == 11
    assert dict(zip(data.keys, data.groups, strict=True))["oriolac_5278"] == "T2"
    counts = [len(Sen12MsCr(config(data_folder / "sen12mscr", split=s))) for s in ("train", "val", "test")]
    assert counts == [8, 2, 1]


def test_real_pairs_without_radar_have_nan_in_its_place(data_folder: Path) -> None:
    data = Sen12MsCr(config(data_folder / "sen12mscr_optical", exclude=("ROIs1158_spring_26",)))
    assert len(data) == 35
    assert "ROIs1158_spring_26" not in data.groups
    batch = data[0]
    assert batch.sar is not None
    assert batch.sar.shape == (1, 2, 256, 256)
    assert batch.sar.isnan().all()
    assert batch.degraded.isfinite().all()


def test_values_are_reflectance_and_scaled_decibels(tmp_path: Path) -> None:
    write_folders(tmp_path, ("ROIs1158_spring_1_p30",))
    stored = write_optical(tmp_path / "s2_cloudy" / "ROIs1158_spring_1_p30.tif", seed=7)
    backscatter = write_radar(tmp_path / "s1" / "ROIs1158_spring_1_p30.tif", seed=7)
    batch = Sen12MsCr(config(tmp_path))[0]
    np.testing.assert_allclose(batch.degraded[0], stored / 1e4, atol=1e-6)
    assert batch.sar is not None
    np.testing.assert_allclose(batch.sar[0, 0], (backscatter[0].clip(-25, 0) + 25) / 25, atol=1e-6)
    np.testing.assert_allclose(batch.sar[0, 1], (backscatter[1] + 32.5) / 32.5, atol=1e-6)
    assert batch.key == ("ROIs1158_spring_1_p30",)
    assert batch.cloud is not None
    assert batch.cloud.shape == batch.valid.shape == (1, 1, SIDE, SIDE)


def test_chosen_bands_and_polarisations_come_in_the_order_asked_for(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a",))
    all_bands = Sen12MsCr(config(tmp_path))[0]
    some = Sen12MsCr(config(tmp_path), bands=("B04", "B03", "B02"), radar=("VH",))[0]
    torch.testing.assert_close(some.degraded, all_bands.degraded[:, [3, 2, 1]])
    assert all_bands.sar is not None
    torch.testing.assert_close(some.sar, all_bands.sar[:, 1:])


def test_without_blue_or_red_there_is_no_cloud_map(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a",))
    assert Sen12MsCr(config(tmp_path), bands=("B08", "B04"))[0].cloud is None


def test_pixels_missing_in_either_image_are_invalid_and_zero_in_both(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a",))
    for folder, column in (("s2_cloudy", 0), ("s2_cloudfree", 1)):
        values = np.full((13, SIDE, SIDE), 3000, dtype=np.uint16)
        values[:, :, column] = 0
        write_raster(tmp_path / folder / "a.tif", values, SENTINEL2.bands)
    batch = Sen12MsCr(config(tmp_path))[0]
    assert batch.target is not None
    assert batch.cloud is not None
    assert batch.valid[0, 0].all(0).tolist() == [False, False] + [True] * (SIDE - 2)
    for image in (batch.degraded, batch.target, batch.cloud):
        assert image[..., :2].count_nonzero() == 0


def test_a_missing_radar_pixel_is_nan_or_in_legacy_the_mean_over_both_bands(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a",))
    values = np.empty((2, SIDE, SIDE), dtype=np.float32)
    values[0], values[1] = -10, -20
    values[0, 3, 4] = np.nan
    write_raster(tmp_path / "s1" / "a.tif", values, SENTINEL1.bands)
    plain = Sen12MsCr(config(tmp_path))[0].sar
    legacy = Sen12MsCr(config(tmp_path, legacy_fill=True))[0].sar
    assert plain is not None
    assert legacy is not None
    assert plain[0, 0].isnan().nonzero().tolist() == [[3, 4]]
    filled = np.nanmean(values)
    assert legacy[0, 0, 3, 4].item() == pytest.approx((filled + 25) / 25, abs=1e-6)
    write_raster(tmp_path / "s1" / "a.tif", 10 ** (values / 10), SENTINEL1.bands)
    with pytest.raises(InputError, match="holds linear power, legacy_fill needs dB"):
        Sen12MsCr(config(tmp_path, legacy_fill=True))[0]


def test_a_list_of_five_columns_and_one_of_seven_give_the_same_patch(tmp_path: Path) -> None:
    write_folders(tmp_path, ("ROIs1158_spring_1_p30", "ROIs1158_spring_9_p1"))
    (tmp_path / "data.csv").write_text(
        "1,s1,s2_cloudfree,s2_cloudy,ROIs1158_spring_1_p30.tif\n"
        "3,s1,s2_cloudfree,s2_cloudy,ROIs1158_spring_9_p1.tif\n"
    )
    for folder, kind in (("s1", "s1"), ("s2_cloudfree", "s2"), ("s2_cloudy", "s2_cloudy")):
        path = tmp_path / folder / "ROIs1158_spring_1_p30.tif"
        (tmp_path / "seven" / folder).mkdir(parents=True)
        (tmp_path / "seven" / folder / f"ROIs1158_spring_{kind}_1_p30.tif").write_bytes(path.read_bytes())
    (tmp_path / "seven" / "list.csv").write_text(
        "2, s1, s2_cloudfree, s2_cloudy, ROIs1158_spring_s2_1_p30.tif,"
        " ROIs1158_spring_s1_1_p30.tif, ROIs1158_spring_s2_cloudy_1_p30.tif\n"
    )
    five = Sen12MsCr(config(tmp_path, split="train"))
    seven = Sen12MsCr(config(tmp_path / "seven", csv="list.csv", split="val"))
    assert five.keys == seven.keys == ("ROIs1158_spring_1_p30",)
    assert five.groups == seven.groups == ("ROIs1158_spring_1",)
    for name, image in five[0].images().items():
        torch.testing.assert_close(image, seven[0].images()[name], equal_nan=True)


@pytest.mark.parametrize(
    ("old", "new", "encoding"),
    [
        ("1,", "1,", "utf-8-sig"),
        (",", ";", "utf-8"),
        ("s1,", ".\\s1,", "utf-8"),
        ("1,s1", "1.0,s1", "utf-8"),
        ("\n", ",,\n", "utf-8"),
    ],
)
def test_a_list_from_a_spreadsheet_gives_the_same_patches(
    tmp_path: Path, old: str, new: str, encoding: str
) -> None:
    write_folders(tmp_path, ("ROIs1158_spring_1_p30",))
    row = "1,s1,s2_cloudfree,s2_cloudy,ROIs1158_spring_1_p30.tif\n"
    (tmp_path / "data.csv").write_text(row.replace(old, new), encoding=encoding)
    data = Sen12MsCr(config(tmp_path, split="train"))
    assert (data.keys, data.groups) == (("ROIs1158_spring_1_p30",), ("ROIs1158_spring_1",))
    assert data[0].sar is not None


def test_places_are_read_from_an_index_with_a_byte_order_mark(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a", "b"))
    (tmp_path / "index.csv").write_text("name;split_group\na;here\nb;here\n", encoding="utf-8-sig")
    assert Sen12MsCr(config(tmp_path)).groups == ("here", "here")


def test_files_of_a_mac_are_no_patches_and_the_case_of_a_suffix_does_not_matter(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a", "b"))
    for folder in ("s1", "s2_cloudy", "s2_cloudfree"):
        (tmp_path / folder / "._a.tif").write_bytes(b"\0\5\x16\7")
        (tmp_path / folder / "b.tif").rename(tmp_path / folder / "b.TIF")
    assert Sen12MsCr(config(tmp_path)).keys == ("a", "b")


def test_splits_that_are_none_are_named_before_the_list_that_has_its_own(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a",))
    (tmp_path / "data.csv").write_text("1,s1,s2_cloudfree,s2_cloudy,a.tif\n")
    (tmp_path / "junk.tif").write_bytes(b"II*\0\xff")
    (tmp_path / "good.json").write_text('{"train": ["a"]}')
    with pytest.raises(InputError, match=r"the splits .*junk\.tif is not in UTF-8"):
        Sen12MsCr(config(tmp_path, splits=tmp_path / "junk.tif"))
    with pytest.raises(InputError, match=r"data\.csv has its own split column"):
        Sen12MsCr(config(tmp_path, splits=tmp_path / "good.json"))


def test_the_own_folders_of_the_dataset_are_paired(tmp_path: Path) -> None:
    write_rois(tmp_path, ("ROIs1158_spring_1_p30", "ROIs1158_spring_17_p30", "ROIs1158_spring_1_p31"))
    data = Sen12MsCr(config(tmp_path))
    assert sorted(data.keys) == ["ROIs1158_spring_17_p30", "ROIs1158_spring_1_p30", "ROIs1158_spring_1_p31"]
    batch = Batch.cat([data[i] for i in range(3)])
    torch.testing.assert_close(batch.degraded, batch.target)  # the same seed wrote both


def test_no_test_place_leaks_into_training_by_its_prefix(tmp_path: Path) -> None:
    write_rois(tmp_path, tuple(f"{roi}_p30" for roi in TRAIN_ROIS + TEST_ROIS))
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": TRAIN_ROIS, "val": [], "test": TEST_ROIS}))
    train = Sen12MsCr(config(tmp_path, split="train", splits=splits))
    test = Sen12MsCr(config(tmp_path, split="test", splits=splits))
    by_substring = [roi for roi in TEST_ROIS if any(name in roi for name in TRAIN_ROIS)]
    assert len(by_substring) == 6
    assert set(train.groups) == set(TRAIN_ROIS)
    assert set(test.groups) == set(TEST_ROIS)
    without = Sen12MsCr(config(tmp_path, exclude=("ROIs1158_spring_1",)))
    assert set(without.groups) == set(TRAIN_ROIS[1:] + TEST_ROIS)


def test_a_patch_name_loses_its_sensor_and_tells_its_place() -> None:
    for kind in ("s1_", "s2_", "s2_cloudy_", ""):
        assert name_patch(f"ROIs1158_spring_{kind}1_p30") == ("ROIs1158_spring_1_p30", "ROIs1158_spring_1")
    assert name_patch("my_scene") == ("my_scene", "my_scene")


def test_images_of_different_size_are_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a",))
    write_optical(tmp_path / "s2_cloudfree" / "a.tif", side=SIDE + 4)
    with pytest.raises(InputError, match=r"the images of a differ in size"):
        Sen12MsCr(config(tmp_path))[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,s1,s2_cloudfree,s2_cloudy", "line 1 has 4 columns; 5 .* or 7"),
        ("split,s1,s2_cloudfree,s2_cloudy,a.tif", "begins with 'split'; 1 .*no header"),
        ("1,s1,s2_cloudfree,s2_cloudy,b.tif", r"b\.tif is missing; patch b needs it"),
    ],
)
def test_a_bad_row_of_a_list_is_named(tmp_path: Path, row: str, message: str) -> None:
    write_folders(tmp_path, ("a",))
    (tmp_path / "data.csv").write_text(f"{row}\n")
    with pytest.raises(InputError, match=message):
        Sen12MsCr(config(tmp_path))


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it has no data\.csv, no s2_cloudy/ and no ROIs"):
        Sen12MsCr(config(tmp_path))
    with pytest.raises(InputError, match="is no folder"):
        Sen12MsCr(config(tmp_path / "none"))


def test_a_split_that_nothing_defines_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a",))
    with pytest.raises(InputError, match=r"does not say which patch is of the split 'test'"):
        Sen12MsCr(config(tmp_path, split="test"))
    (tmp_path / "data.csv").write_text("1,s1,s2_cloudfree,s2_cloudy,a.tif\n")
    with pytest.raises(InputError, match="has no patch of the split 'test'"):
        Sen12MsCr(config(tmp_path, split="test"))


def test_an_exclusion_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, ("a",))
    with pytest.raises(InputError, match="'b' fits no sample"):
        Sen12MsCr(config(tmp_path, exclude=("b",)))
