from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine
from scenes import (
    BANDS,
    EVERYTHING,
    OPTIONS,
    FakeMethod,
    constant,
    ground,
    identity,
    left_cloud,
    nothing_left,
    read,
    write,
)
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from pellucid.apply.remove_clouds import SceneReport, check_scene, restore_scene
from pellucid.data.batch import Batch
from pellucid.data.geotiff import Raster
from pellucid.data.ranges import SENTINEL1
from pellucid.errors import InputError


@pytest.mark.parametrize("size", [(75, 101), (32, 32), (5, 7), (1, 1), (33, 120)])
def test_a_network_that_returns_its_input_gives_the_scene_back(tmp_path: Path, size: tuple[int, int]) -> None:
    scene = ground(*size)
    report = restore_scene(
        write(tmp_path / "s2.tif", scene, BANDS),
        tmp_path / "out.tif",
        method=identity(),
        options=EVERYTHING,
    )
    assert (read(tmp_path / "out.tif") == scene).all()
    assert report.num_restored == report.num_valid == report.num_pixels == size[0] * size[1]


def test_the_identity_is_exact_in_floating_point_and_where_an_offset_is_taken_off(tmp_path: Path) -> None:
    numbers = ground() + np.uint16(1000)
    reflectance = np.random.default_rng(0).random((13, 75, 101), dtype=np.float32)
    reflectance[:, 20:30, 20:30] = np.nan
    for name, scene in (("numbers", numbers), ("reflectance", reflectance)):
        path = write(tmp_path / f"{name}.tif", scene, BANDS)
        report = restore_scene(path, tmp_path / "out.tif", method=identity(), options=EVERYTHING)
        np.testing.assert_array_equal(read(tmp_path / "out.tif"), scene)
        assert report.offset_dn == (-1000 if name == "numbers" else 0)
        assert (report.num_rows_before, report.num_rows) == (0, 3)


def test_everything_about_the_file_is_kept_and_the_result_is_cloud_optimized(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", ground(600, 520), BANDS, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.update_tags(PROCESSING_BASELINE="02.08", place="here")
        file.update_tags(2, wavelength="492", STATISTICS_MEAN="5")
        file.scales, file.offsets = (0.0001,) * 13, (0.0,) * 13
    options = replace(EVERYTHING, tile=256, overlap=32)
    restore_scene(path, tmp_path / "out.tif", method=constant(0.5), options=options)
    with rasterio.open(path) as before, rasterio.open(tmp_path / "out.tif") as after:
        for name in ("crs", "transform", "shape", "dtypes", "nodata", "descriptions", "scales", "offsets"):
            assert getattr(after, name) == getattr(before, name), name
        assert after.tags()["place"] == "here"
        own = {name: text for name, text in after.tags(2).items() if not name.startswith("STATISTICS_")}
        assert own == {"wavelength": "492"}
        assert after.tags(2)["STATISTICS_MEAN"] == "5000"
        assert after.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert after.overviews(1)
        assert (after.read() == 5000).all()


def test_bands_come_out_in_the_order_of_the_file_and_unknown_ones_unchanged(tmp_path: Path) -> None:
    scene = np.concatenate([ground()[::-1], ground(seed=1)[:1]])
    path = write(tmp_path / "s2.tif", scene, (*BANDS[::-1], "SCL"))
    spectrum = torch.linspace(0.1, 0.22, 13).view(1, 13, 1, 1)
    method = FakeMethod(lambda batch: spectrum.expand_as(batch.degraded))
    restore_scene(path, tmp_path / "out.tif", method=method, options=EVERYTHING)
    out = read(tmp_path / "out.tif")
    assert out[:13, 0, 0].tolist() == list(range(2200, 999, -100))
    assert (out[13] == scene[13]).all()


def test_the_result_does_not_depend_on_tile_overlap_or_batch(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", ground(), BANDS)
    results = []
    for tile, overlap, batch in ((32, 8, 1), (32, 0, 3), (64, 60, 2), (256, 32, 1)):
        options = replace(EVERYTHING, tile=tile, overlap=overlap, batch=batch)
        method = FakeMethod(lambda batch: 1 - batch.degraded)
        restore_scene(path, tmp_path / "out.tif", method=method, options=options)
        results.append(read(tmp_path / "out.tif"))
    assert all((result == results[0]).all() for result in results)
    assert (results[0] == 10_000 - ground()).all()


def test_tiles_that_disagree_pass_into_each_other_in_small_steps(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", ground(), BANDS)
    values = iter([0.2, 0.8] * 20)
    method = FakeMethod(lambda batch: torch.full_like(batch.degraded, next(values)))
    restore_scene(path, tmp_path / "out.tif", method=method, options=EVERYTHING)
    out = read(tmp_path / "out.tif").astype(int)
    largest = max(np.abs(np.diff(out, axis=axis)).max() for axis in (1, 2))
    assert np.ptp(out) > 5000
    assert largest <= 6000 / OPTIONS.overlap


def test_clear_pixels_pass_through_unchanged_and_the_edge_is_feathered(tmp_path: Path) -> None:
    scene = ground()
    report = restore_scene(
        write(tmp_path / "s2.tif", scene, BANDS),
        tmp_path / "out.tif",
        method=constant(0.5),
        cloud=left_cloud(tmp_path),
        options=replace(OPTIONS, margin_px=4, feather_px=8),
    )
    out = read(tmp_path / "out.tif")
    assert (out[:, :, :44] == 5000).all()
    assert (out[:, :, 52:] == scene[:, :, 52:]).all()
    mean = out[:10].mean(axis=(0, 1))[43:53]
    assert (np.diff(mean)[:9] < 0).all()
    assert report.num_restored == 75 * 52
    assert report.num_valid == 75 * 101


def test_clouds_are_found_without_a_map(tmp_path: Path) -> None:
    scene = ground(128, 160)
    scene[:, 30:60, 20:50] = 6000
    report = restore_scene(
        write(tmp_path / "s2.tif", scene, BANDS),
        tmp_path / "out.tif",
        method=constant(0.1),
        options=OPTIONS,
    )
    out = read(tmp_path / "out.tif")
    assert (out[:, 30:60, 20:50] == 1000).all()
    assert (out[:, :, 90:] == scene[:, :, 90:]).all()
    assert 900 < report.num_restored < 0.3 * report.num_pixels


def test_weights_do_not_depend_on_the_tiling(tmp_path: Path) -> None:
    scene = ground(240, 230)
    scene[:, 100:180, 60:150] = 6000
    scene[:, 190:220, 150:200] = 180
    path = write(tmp_path / "s2.tif", scene, BANDS)
    results = []
    for tile in (32, 512):
        restore_scene(
            path, tmp_path / "out.tif", method=constant(0.5), options=replace(OPTIONS, tile=tile, overlap=8)
        )
        results.append(read(tmp_path / "out.tif"))
    assert (results[0] == results[1]).all()


def test_a_clear_tile_costs_no_network(tmp_path: Path) -> None:
    method, scene = constant(0.5), ground()
    cloud = write(tmp_path / "cloud.tif", np.zeros((1, 75, 101), np.uint8))
    report = restore_scene(
        write(tmp_path / "s2.tif", scene, BANDS),
        tmp_path / "out.tif",
        method=method,
        cloud=cloud,
        options=OPTIONS,
    )
    assert method.num_calls == report.num_restored == 0
    assert (read(tmp_path / "out.tif") == scene).all()


@pytest.mark.parametrize("nodata", [0, 65535, 777])
def test_nodata_comes_out_as_nodata_and_never_bleeds(tmp_path: Path, nodata: int) -> None:
    scene = np.full((13, 75, 101), 3000, np.uint16)
    scene[:, 20:50, 30:60] = nodata
    blur = FakeMethod(lambda batch: avg_pool2d(batch.degraded, 9, 1, 4, count_include_pad=False))
    report = restore_scene(
        write(tmp_path / "s2.tif", scene, BANDS, nodata=nodata),
        tmp_path / "out.tif",
        method=blur,
        options=EVERYTHING,
    )
    assert (read(tmp_path / "out.tif") == scene).all()
    assert report.num_valid == report.num_restored == 75 * 101 - 900


def test_a_restored_pixel_never_takes_the_value_that_means_nodata(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", ground(), BANDS, nodata=5000)
    restore_scene(path, tmp_path / "out.tif", method=constant(0.5), options=EVERYTHING)
    assert (read(tmp_path / "out.tif") == 5001).all()


def test_radar_is_cut_like_the_scene(tmp_path: Path) -> None:
    power = np.random.default_rng(0).uniform(-24, -1, (2, 75, 101)).astype(np.float32)
    power[:, 40:, 40:] = np.nan
    expected = SENTINEL1.to_unit(torch.from_numpy(power)).nan_to_num(1.0).numpy()

    def show_radar(batch: Batch) -> Tensor:
        assert batch.sar is not None
        return batch.sar.nan_to_num(1.0)[:, [0, 1] * 6 + [0]]

    restore_scene(
        write(tmp_path / "s2.tif", ground(), BANDS),
        tmp_path / "out.tif",
        sar=write(tmp_path / "s1.tif", power),
        method=FakeMethod(show_radar),
        options=EVERYTHING,
    )
    np.testing.assert_array_equal(read(tmp_path / "out.tif")[:2], np.rint(expected.astype(float) * 10_000))


def test_cloudy_pixels_without_radar_stay_if_the_model_needs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    power = np.full((2, 75, 101), -10, np.float32)
    power[:, :10] = np.nan
    method, scene = constant(0.5), ground()
    method.radar_optional = False
    report = restore_scene(
        write(tmp_path / "s2.tif", scene, BANDS),
        tmp_path / "out.tif",
        sar=write(tmp_path / "s1.tif", power),
        method=method,
        cloud=left_cloud(tmp_path, columns=101),
        options=OPTIONS,
    )
    out = read(tmp_path / "out.tif")
    assert (out[:, :10] == scene[:, :10]).all()
    assert (out[:, 10:] == 5000).all()
    assert report.num_without_radar == 10 * 101
    assert "1010 cloudy pixels have no radar and stay as they were" in caplog.text


def test_radar_on_another_grid_is_refused_or_aligned(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(), BANDS)
    sar = write(
        tmp_path / "s1.tif",
        np.full((2, 200, 200), -12.5, np.float32),
        transform=Affine(20, 0, 499_000, 0, -20, 5_001_000),
    )
    out = tmp_path / "out.tif"
    with pytest.raises(InputError) as error:
        restore_scene(scene, out, sar=sar, method=identity(), options=EVERYTHING)
    assert "EPSG:32633, 200 x 200 px of 20 x 20 from (499000, 5001000)" in str(error.value)
    assert "EPSG:32633, 101 x 75 px of 10 x 10 from (500000, 5000000)" in str(error.value)
    assert nothing_left(tmp_path, {"s2.tif", "s1.tif"})
    method = FakeMethod(lambda batch: batch.sar[:, :1].expand_as(batch.degraded))  # type: ignore[index]
    restore_scene(scene, out, sar=sar, method=method, options=replace(EVERYTHING, align=True))
    assert (read(out) == 5000).all()


def interrupted(calls: int) -> FakeMethod:
    """A method whose user loses patience after so many tiles."""

    def restore(batch: Batch, noise: object = None) -> Tensor:
        if method.num_calls > calls:
            raise KeyboardInterrupt
        return avg_pool2d(batch.degraded, 9, 1, 4)

    method = FakeMethod(restore)
    return method


def test_an_interrupted_scene_goes_on_where_it_stopped_to_the_same_result(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(120, 101), BANDS)
    whole = interrupted(1000)
    restore_scene(scene, tmp_path / "whole.tif", method=whole, options=EVERYTHING)

    with pytest.raises(KeyboardInterrupt):
        restore_scene(scene, tmp_path / "out.tif", method=interrupted(14), options=EVERYTHING)
    assert not (tmp_path / "out.tif").exists()
    rest, steps = interrupted(1000), []
    report = restore_scene(
        scene,
        tmp_path / "out.tif",
        method=rest,
        options=EVERYTHING,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert (read(tmp_path / "out.tif") == read(tmp_path / "whole.tif")).all()
    assert report.num_restored == report.num_pixels
    assert (report.num_rows_before, report.num_rows) == (3, 5)
    assert steps[0] == (13, 20)  # four tiles a row, three rows done
    assert steps[-1] == (20, 20)
    assert (whole.num_calls, rest.num_calls) == (20, 12)  # the last row done is needed for its overlap
    assert nothing_left(tmp_path, {"s2.tif", "whole.tif", "out.tif"})


@pytest.mark.parametrize("change", [{"resume": False}, {"overlap": 4}, {"precision": "bf16"}])
def test_an_interrupted_scene_begins_anew_if_asked_to_or_if_options_changed(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    scene = write(tmp_path / "s2.tif", ground(120, 101), BANDS)
    with pytest.raises(KeyboardInterrupt):
        restore_scene(scene, tmp_path / "out.tif", method=interrupted(14), options=EVERYTHING)
    restore_scene(scene, tmp_path / "out.tif", method=constant(0.5), options=replace(EVERYTHING, **change))
    assert (read(tmp_path / "out.tif") == 5000).all()


def test_other_weights_begin_anew(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(120, 101), BANDS)
    first, second = interrupted(14), constant(0.5)
    first.network, second.network = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    with pytest.raises(KeyboardInterrupt):
        restore_scene(scene, tmp_path / "out.tif", method=first, options=EVERYTHING)
    restore_scene(scene, tmp_path / "out.tif", method=second, options=EVERYTHING)
    assert (read(tmp_path / "out.tif") == 5000).all()


def test_no_read_is_larger_than_a_tile_and_its_surroundings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = ground(400, 450)
    scene[:, 200:240, 200:240] = 6000
    path = write(tmp_path / "s2.tif", scene, BANDS, tiled=True, blockxsize=256, blockysize=256)
    sizes, read_array = [], Raster.read_array

    def watched(self: Raster, *args: Any, **options: Any) -> np.ndarray:
        values = read_array(self, *args, **options)
        sizes.append(values.shape[-2] * values.shape[-1])
        return values

    monkeypatch.setattr(Raster, "read_array", watched)
    monkeypatch.setattr("pellucid.apply.scene.GLANCE", 64)
    restore_scene(path, tmp_path / "out.tif", method=identity(), options=replace(OPTIONS, tile=64))
    assert max(sizes) <= (64 + 2 * 108) ** 2
    assert len(sizes) > 50


def test_a_level_2a_scene_needs_permission_to_lack_b10(tmp_path: Path) -> None:
    names = tuple(band for band in BANDS if band != "B10")
    scene = write(tmp_path / "s2.tif", np.delete(ground(), 10, axis=0), names)
    with pytest.raises(InputError, match=r"lacks the band B10 .* give the Level-1C product"):
        restore_scene(scene, tmp_path / "out.tif", method=identity(), options=EVERYTHING)
    options = replace(EVERYTHING, allow_missing=("B10",))
    restore_scene(scene, tmp_path / "out.tif", method=constant(0.5), options=options)
    assert read(tmp_path / "out.tif").shape == (12, 75, 101)


def test_the_preview_shows_before_and_after_side_by_side(tmp_path: Path) -> None:
    from PIL import Image

    report = restore_scene(
        write(tmp_path / "s2.tif", ground(), BANDS),
        tmp_path / "out.tif",
        method=constant(0.5),
        cloud=left_cloud(tmp_path),
        options=replace(OPTIONS, preview=True),
    )
    assert report.preview == tmp_path / "out.png"
    picture = np.asarray(Image.open(report.preview))
    before, after = picture[30:90, 10:105], picture[30:90, 117:212]
    assert (after[:, :30] == 255).all()
    assert before.max() < 128
    assert (before[:, 60:] == after[:, 60:]).mean() > 0.9


def test_a_check_says_what_would_be_done_and_writes_nothing(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(), BANDS)
    line = check_scene(scene, tmp_path / "out.tif", method=identity(), options=OPTIONS)
    assert "101 x 75 px" in line
    assert "12 tiles, without radar" in line
    assert nothing_left(tmp_path, {"s2.tif"})


def test_real_scenes_come_out_with_clear_pixels_unchanged(tmp_path: Path, data_folder: Path) -> None:
    root, name = data_folder / "sen12mscr", "oriolac_5349.tif"
    report: SceneReport = restore_scene(
        root / "s2_cloudy" / name,
        tmp_path / "out.tif",
        sar=root / "s1" / name,
        method=constant(0.1),
        cloud=root / "mask" / name,
        options=replace(OPTIONS, tile=128),
    )
    before, after = read(root / "s2_cloudy" / name), read(tmp_path / "out.tif")
    cloud = read(root / "mask" / name)[0] > 0
    assert (after[:, cloud] == 1000).all()
    changed = (before != after).any(axis=0)
    assert changed.sum() <= report.num_restored < 0.5 * report.num_pixels


def test_a_page_lies_beside_the_result_unless_it_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", ground(), BANDS)
    options = replace(OPTIONS, html=True)
    report = restore_scene(path, tmp_path / "out.tif", method=constant(0.5), options=options)
    assert report.page == tmp_path / "out.html"
    assert "pellucid" in report.page.read_text()
    report.page.write_text("notes of mine")
    with pytest.raises(InputError, match=r"out\.html: a file is there that pellucid did not write"):
        restore_scene(path, tmp_path / "out.tif", method=constant(0.5), options=options)
    assert report.page.read_text() == "notes of mine"
    assert restore_scene(path, tmp_path / "out.tif", method=constant(0.5), options=OPTIONS).page is None
