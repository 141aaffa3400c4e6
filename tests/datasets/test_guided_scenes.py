from pathlib import Path

import numpy as np
import pytest
import torch
from rasters import write_raster

from pellucid.data.ranges import SENTINEL2
from pellucid.datasets.guided_scenes import Config, GuidedScenes
from pellucid.errors import InputError

SIDE = 24
LEVEL_2A = tuple(band for band in SENTINEL2.bands if band != "B10")


def write_scene(path: Path, *, bands: tuple[str, ...] = SENTINEL2.bands, value: int = 900) -> None:
    noise = np.random.default_rng(0).integers(5, 300, (len(bands), SIDE, SIDE))
    write_raster(path, (value + noise).astype(np.uint16), bands)


def write_radar(path: Path, values: dict[str, float]) -> None:
    images = [np.full((SIDE, SIDE), value, np.float32) for value in values.values()]
    write_raster(path, np.stack(images), tuple(values))


def test_what_a_scene_lacks_is_nan(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", bands=LEVEL_2A)
    batch = GuidedScenes(Config(root=tmp_path))[0]
    assert batch.target is not None
    assert batch.sar is not None
    assert batch.older is not None
    lacks = [image.isnan().all() for image in batch.target[0]]
    assert [band for band, is_nan in zip(SENTINEL2.bands, lacks, strict=True) if is_nan] == ["B10"]
    assert batch.sar.isnan().all()
    assert batch.older.isnan().all()
    assert batch.valid.all()


def test_missing_polarisations_and_numbers_for_no_data_are_nan(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scene(tmp_path / "s2" / f"{name}.tif")
    write_radar(tmp_path / "s1" / "a.tif", {"VV": -10})
    write_radar(
        tmp_path / "s1" / "b.tif", {"ASC_VV_dB": -10, "ASC_VH_dB": -13, "DESC_VV_dB": -9999, "DESC_VH_dB": -5}
    )
    roots = {"root": tmp_path / "s2", "radar_root": tmp_path / "s1"}
    vv = GuidedScenes(Config(**roots))[0].sar
    first = GuidedScenes(Config(**roots, radar_bands=("ASC_VV", "ASC_VH")))[1].sar
    other = GuidedScenes(Config(**roots, radar_bands=("DESC_VV", "DESC_VH")))
    assert vv is not None
    assert first is not None
    torch.testing.assert_close(vv[0, :, 0, 0], torch.tensor([15 / 25, torch.nan]), equal_nan=True)
    torch.testing.assert_close(first[0, :, 0, 0], torch.tensor([15 / 25, 19.5 / 32.5]))
    sar = other[1].sar
    assert sar is not None
    torch.testing.assert_close(sar[0, :, 0, 0], torch.tensor([torch.nan, 27.5 / 32.5]), equal_nan=True)
    with pytest.raises(InputError, match="has none of DESC_VV, DESC_VH, but VV"):
        other[0]
    with pytest.raises(InputError, match=r"more than one band that may be VV \(ASC_VV_dB, DESC_VV_dB\)"):
        GuidedScenes(Config(**roots))[1]


def test_other_dates_come_by_name_or_by_expression_in_order_of_their_numbers(tmp_path: Path) -> None:
    for number, value in ((2, 200), (9, 900), (10, 1500)):
        write_scene(tmp_path / "s2" / f"x_{number}.tif", value=value)
    write_scene(tmp_path / "s2" / "y_1.tif")
    write_scene(tmp_path / "old" / "x_9.tif", value=4000)
    data = GuidedScenes(Config(root=tmp_path / "s2", group="^([xy])", older="^([xy])"))
    assert data.keys == ("x_2", "x_9", "x_10", "y_1")
    assert data.groups == ("x", "x", "x", "y")
    assert [list(data.companions(i)) for i in range(4)] == [[1, 2], [0, 2], [0, 1], []]
    for i, other in ((0, 1), (1, 0), (2, 1)):
        torch.testing.assert_close(data[i].older, data[other].target)
    named = GuidedScenes(Config(root=tmp_path / "s2", older_root=tmp_path / "old"))
    older = named[1].older
    assert older is not None
    assert older.mean() > 0.4
    assert named[0].older is not None
    assert named[0].older.isnan().all()


def test_a_cloudy_scene_has_the_clear_date_before_it(tmp_path: Path) -> None:
    for name in ("x_08", "x_10"):
        write_scene(tmp_path / "clear" / f"{name}.tif", value=100 * int(name[2:]))
    write_scene(tmp_path / "cloudy" / "x_11.tif", value=6000)
    write_raster(tmp_path / "map" / "x_11.tif", np.full((1, SIDE, SIDE), 70, np.uint8), ("CLP",))
    options = {
        "root": tmp_path / "clear",
        "cloudy_root": tmp_path / "cloudy",
        "cloud_root": tmp_path / "map",
        "cloud_scale": 100,
    }
    data = GuidedScenes(Config(**options, older="^(x)"))
    clear = GuidedScenes(Config(root=tmp_path / "clear"))
    batch = data[0]
    assert not data.is_clear
    assert data.keys == ("x_11",)
    torch.testing.assert_close(batch.target, clear[1].target)
    torch.testing.assert_close(batch.older, clear[0].target)
    assert batch.degraded.mean() > 0.5
    assert batch.cloud is not None
    torch.testing.assert_close(batch.cloud, torch.full_like(batch.cloud, 0.7))
    with pytest.raises(InputError, match="has no clear scene"):
        GuidedScenes(Config(**options))


def test_small_scenes_are_mirrored_into_pixels_that_are_not_valid(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif")
    small, large = GuidedScenes(Config(root=tmp_path))[0], GuidedScenes(Config(root=tmp_path, pad=64))[0]
    assert large.degraded.shape[-2:] == large.valid.shape[-2:] == (64, 64)
    assert large.valid.sum() == SIDE**2
    torch.testing.assert_close(large.degraded[..., :SIDE, :SIDE], small.degraded)
    torch.testing.assert_close(large.degraded[..., SIDE : 2 * SIDE, :SIDE], small.degraded.flip(-2))


def test_guides_of_another_size_are_refused(tmp_path: Path) -> None:
    write_scene(tmp_path / "s2" / "a.tif")
    write_raster(tmp_path / "s1" / "a.tif", np.full((2, 8, 8), -9, np.float32), ("VV", "VH"))
    with pytest.raises(InputError, match="differ in size"):
        GuidedScenes(Config(root=tmp_path / "s2", radar_root=tmp_path / "s1"))[0]


def test_wrong_folders_patterns_and_exclusions_are_refused(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif")
    for options, text in (
        ({"root": tmp_path / "none"}, "is no folder"),
        ({"root": tmp_path, "pattern": "*.png"}, "fits the pattern"),
        ({"root": tmp_path, "exclude": ("b",)}, "fits no sample"),
        ({"root": tmp_path, "exclude": ("a",)}, "takes every scene out"),
    ):
        with pytest.raises(InputError, match=text):
            GuidedScenes(Config.model_validate(options))
