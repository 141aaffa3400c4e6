import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from rasters import write_raster

from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.datasets.clear_scenes import ClearScenes, Config
from pellucid.errors import InputError

SIDE = 16


def write_scene(path: Path, *, bands: tuple[str, ...] = SENTINEL2.bands, add: int = 0) -> np.ndarray:
    values = np.random.default_rng(0).integers(5, 4000, (len(bands), SIDE, SIDE)).astype(np.uint16)
    write_raster(path, values + np.uint16(add), bands)
    return values / 1e4


def config(root: Path, **options: object) -> Config:
    return Config(root=root, **options)


def test_a_clear_scene_is_its_own_target_without_cloud_and_radar(tmp_path: Path) -> None:
    reflectance = write_scene(tmp_path / "summer" / "a.tif")
    data = ClearScenes(config(tmp_path))
    batch = data[0]
    np.testing.assert_allclose(batch.degraded[0], reflectance, atol=1e-6)
    assert data.keys == data.groups == batch.key == ("summer/a",)
    assert batch.target is not None
    assert batch.cloud is not None
    assert batch.sar is not None
    torch.testing.assert_close(batch.target, batch.degraded)
    assert batch.cloud.shape == (1, 1, SIDE, SIDE)
    assert not batch.cloud.any()
    assert batch.sar.shape == (1, 2, SIDE, SIDE)
    assert batch.sar.isnan().all()


def test_an_offset_is_found_in_the_values_or_taken_as_told(tmp_path: Path) -> None:
    reflectance = write_scene(tmp_path / "new.tif", add=1000)
    found = ClearScenes(config(tmp_path))[0].degraded[0]
    told = ClearScenes(config(tmp_path, offset=-1000))[0].degraded[0]
    kept = ClearScenes(config(tmp_path, offset="none"))[0].degraded[0]
    np.testing.assert_allclose(found, reflectance, atol=1e-6)
    np.testing.assert_allclose(told, reflectance, atol=1e-6)
    np.testing.assert_allclose(kept, reflectance + 0.1, atol=1e-6)


def test_radar_of_the_same_name_is_read_and_missing_radar_is_nan(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scene(tmp_path / "s2" / f"{name}.tif")
    radar = np.full((2, SIDE, SIDE), -10, dtype=np.float32)
    write_raster(tmp_path / "s1" / "b.tif", radar, SENTINEL1.bands)
    data = ClearScenes(config(tmp_path / "s2", radar_root=tmp_path / "s1"))
    without, with_radar = data[0].sar, data[1].sar
    assert without is not None
    assert with_radar is not None
    assert without.isnan().all()
    torch.testing.assert_close(with_radar[0, :, 0, 0], torch.tensor([15 / 25, 22.5 / 32.5]))
    one = ClearScenes(config(tmp_path / "s2", radar_root=tmp_path / "s1"), radar=("VH",))[1].sar
    torch.testing.assert_close(one, with_radar[:, 1:])


def test_places_come_from_the_expression(tmp_path: Path) -> None:
    for name in ("T32_a", "T32_b", "T33_a"):
        write_scene(tmp_path / f"{name}.tif")
    assert ClearScenes(config(tmp_path, group=r"^(T\d+)")).groups == ("T32", "T32", "T33")
    with pytest.raises(InputError, match="finds no place in the name 'T32_a'"):
        ClearScenes(config(tmp_path, group=r"(R\d+)"))
    for wrong in ("T32", "(T"):
        with pytest.raises(InputError, match="must be a regular expression with one group"):
            ClearScenes(config(tmp_path, group=wrong))


def test_scenes_are_left_out_by_key_file_name_place_or_wildcard(tmp_path: Path) -> None:
    for name in ("x/T32_a", "x/T32_b", "x/T33_a", "y/T33_b"):
        write_scene(tmp_path / f"{name}.tif")
    options = {"group": r"(T\d+)"}
    for exclude, left in (
        (("T32",), ("x/T33_a", "y/T33_b")),
        (("T33_b", "x/T33_a"), ("x/T32_a", "x/T32_b")),
        (("*_a",), ("x/T32_b", "y/T33_b")),
    ):
        assert ClearScenes(config(tmp_path, exclude=exclude, **options)).keys == left
    with pytest.raises(InputError, match="'T3' fits no sample"):
        ClearScenes(config(tmp_path, exclude=("T3",), **options))
    with pytest.raises(InputError, match="exclude takes every scene"):
        ClearScenes(config(tmp_path, exclude=("*",), **options))


def test_a_scene_without_b10_is_refused_where_all_bands_are_wanted(tmp_path: Path) -> None:
    twelve = tuple(band for band in SENTINEL2.bands if band != "B10")
    reflectance = write_scene(tmp_path / "l2a.tif", bands=twelve)
    with pytest.raises(InputError, match="lacks the band B10"):
        ClearScenes(config(tmp_path))[0]
    batch = ClearScenes(config(tmp_path), bands=("B12", "B02"))[0]
    np.testing.assert_allclose(batch.degraded[0], reflectance[[11, 1]], atol=1e-6)


def test_a_folder_without_scenes_or_radar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file in .* fits the pattern"):
        ClearScenes(config(tmp_path))
    with pytest.raises(InputError, match="is no folder"):
        ClearScenes(config(tmp_path / "none"))
    write_scene(tmp_path / "a.tif")
    with pytest.raises(InputError, match="holds no radar named like a scene, for instance a"):
        ClearScenes(config(tmp_path, radar_root=tmp_path / "s1"))


def test_radar_of_another_size_is_refused(tmp_path: Path) -> None:
    write_scene(tmp_path / "s2" / "a.tif")
    write_raster(tmp_path / "s1" / "a.tif", np.full((2, 8, 8), -9, dtype=np.float32), SENTINEL1.bands)
    with pytest.raises(InputError, match=r"has 8 x 8 pixels, its optical image 16 x 16"):
        ClearScenes(config(tmp_path / "s2", radar_root=tmp_path / "s1"))[0]


def test_terramesh_is_read_with_radar_and_without_its_offset(
    data_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = data_folder / "terramesh"
    with caplog.at_level(logging.WARNING):
        data = ClearScenes(config(root / "S2L1C", radar_root=root / "S1RTC"))
        batches = [data[i] for i in range(len(data))]
    assert len(data) == 5
    darkest = [batch.degraded.min().item() for batch in batches]
    assert max(darkest) < 0.01
    assert sum("offset of processing baseline" in message for message in caplog.messages) == 3
    assert all(batch.sar is not None and batch.sar.isfinite().all() for batch in batches)


def test_a_time_series_is_one_place(data_folder: Path) -> None:
    options = {"group": r"(ROIs\d+_\d+)", "exclude": ("*2018-04-11*",)}
    data = ClearScenes(config(data_folder / "sen12mscrts_roi146", **options))
    assert len(data) == 56
    assert set(data.groups) == {"ROIs2017_146"}
    assert len(set(data.keys)) == 56
