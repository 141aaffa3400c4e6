"""The ground method on whole scenes: its guides, its bands, one look at all of the scene."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.transform import Affine
from scenes import BANDS, constant, read, sure_of_what_is_clear, write

from pellucid.apply.options import SceneOptions
from pellucid.apply.remove_clouds import check_scene, restore_scene
from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.errors import InputError
from pellucid.methods.ground import Ground, GroundConfig
from pellucid.methods.method import Estimate
from pellucid.networks.ground import Config, build

SIZE = 160
OPTIONS = SceneOptions(tile=96, overlap=32, preview=False)


def method() -> Ground:
    torch.manual_seed(0)
    tiny = Config(features=6, widths=(8, 12), clear_widths=(8, 8), detail=4, refine=8)
    network = sure_of_what_is_clear(build(tiny).eval())
    return Ground(network, GroundConfig(), optical=SENTINEL2, radar=SENTINEL1)


def fields(seed: int = 0) -> NDArray[np.uint16]:
    """Dark, smooth ground, (13, SIZE, SIZE)."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(300, 600, (13, SIZE // 16, SIZE // 16))
    coarse[10] = 10  # no cirrus in B10
    return coarse.repeat(16, 1).repeat(16, 2).astype(np.uint16)


def cloudy(scene: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The same with thick cloud over the right third."""
    covered = scene.copy()
    covered[:, :, 110:] = 7500
    return covered


def radar(path: Path, *polarisations: str) -> Path:
    values = np.random.default_rng(1).uniform(-20, -5, (len(polarisations), SIZE, SIZE)).astype(np.float32)
    return write(path, values, polarisations)


def restore(folder: Path, scene: Path, **given: object) -> NDArray[np.uint16]:
    options = given.pop("options", OPTIONS)
    restore_scene(scene, folder / "out.tif", method=method(), options=options, **given)  # type: ignore[arg-type]
    return read(folder / "out.tif")


def test_clear_ground_passes_through_and_cloud_is_painted(tmp_path: Path) -> None:
    scene = fields()
    path = write(tmp_path / "s2.tif", cloudy(scene), BANDS)
    found = restore(tmp_path, path, sar=radar(tmp_path / "s1.tif", "VV", "VH"))
    assert (found[:, :, :90] == scene[:, :, :90]).all()
    assert found[:, :, 120:].max() < 2500


def test_older_date_of_another_sensor_shows_what_the_cloud_hides(tmp_path: Path) -> None:
    scene = fields()
    path = write(tmp_path / "s2.tif", cloudy(scene), BANDS)
    other = np.stack([scene[7] / 50.0, scene[3] / 40.0 + 3, scene[1] / 60.0, scene[11] / 30.0]).astype(
        np.float32
    )
    older = write(tmp_path / "older.tif", other, ("", "", "", ""))
    hidden = (slice(None), slice(None), slice(120, None))
    without, with_it = (restore(tmp_path, path, references=references) for references in ([], [older]))
    errors = [
        np.abs(found[hidden].astype(float) - scene[hidden])[[7, 3, 1, 11]].mean()
        for found in (without, with_it)
    ]
    assert errors[1] < errors[0] / 2


def test_clouds_of_a_reference_are_masked_and_dates_fill_each_other(tmp_path: Path) -> None:
    scene = fields()
    path = write(tmp_path / "s2.tif", cloudy(scene), BANDS)
    first, second = scene.copy(), scene.copy()
    first[:, :80, 100:] = 8000
    second[:, 80:, 100:] = 8000
    older = [write(tmp_path / f"{i}.tif", date, BANDS) for i, date in enumerate((first, second))]
    found = restore(tmp_path, path, references=older)
    assert np.abs(found[:, :, 120:].astype(float) - scene[:, :, 120:]).mean() < 100


def test_result_does_not_depend_on_the_batch_and_hardly_on_the_tiles(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", cloudy(fields()), BANDS)
    results = [
        restore(
            tmp_path, path, options=SceneOptions(tile=tile, overlap=32, batch=batch, preview=False)
        ).astype(int)
        for tile, batch in ((96, 1), (96, 3), (160, 1))
    ]
    assert np.abs(results[1] - results[0]).max() <= 1
    assert np.abs(results[2] - results[0]).mean() < 10


@pytest.mark.parametrize("bands", [("B02", "B03", "B04", "B08"), BANDS[::-1], (*BANDS, "SCL")])
def test_any_bands_in_any_order_come_back_in_place(tmp_path: Path, bands: tuple[str, ...]) -> None:
    scene = cloudy(fields())
    at = [BANDS.index(band) if band in BANDS else 0 for band in bands]
    found = restore(tmp_path, write(tmp_path / "s2.tif", scene[at], bands))
    assert (found[:, :, :90] == scene[at][:, :, :90]).all()
    painted = [i for i, band in enumerate(bands) if band in BANDS]
    assert found[painted][:, :, 120:].max() < 2500
    if "SCL" in bands:
        assert (found[-1] == scene[0]).all()


def test_bands_without_names_are_named_by_the_user(tmp_path: Path) -> None:
    scene = cloudy(fields())[[1, 2, 3, 7]]
    path = write(tmp_path / "s2.tif", scene, ("", "", "", ""))
    with pytest.raises(InputError, match="--bands B02,B03,B04,B08"):
        restore(tmp_path, path)
    options = SceneOptions(tile=96, overlap=32, preview=False, bands=("B02", "B03", "B04", "B08"))
    assert restore(tmp_path, path, options=options)[:, :, 120:].max() < 2500


@pytest.mark.parametrize("polarisations", [("VV",), ("VH",), ("VH", "VV")])
def test_one_polarisation_is_enough(tmp_path: Path, polarisations: tuple[str, ...]) -> None:
    path = write(tmp_path / "s2.tif", cloudy(fields()), BANDS)
    assert restore(tmp_path, path, sar=radar(tmp_path / "s1.tif", *polarisations))[:, :, 120:].max() < 2500


def test_deviation_is_that_of_painted_pixels_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", cloudy(fields()), BANDS)
    restore(tmp_path, path, uncertainty=tmp_path / "std.tif")
    deviation = read(tmp_path / "std.tif")
    assert not deviation[:, :, :90].any()
    assert (deviation[:, :, 120:] > 0).all()


def test_cloud_map_that_is_given_decides(tmp_path: Path) -> None:
    scene = fields()
    path = write(tmp_path / "s2.tif", scene, BANDS)
    mask = np.zeros((1, SIZE, SIZE), np.uint8)
    mask[:, :40] = 1
    report = restore_scene(
        path,
        tmp_path / "out.tif",
        method=method(),
        cloud=write(tmp_path / "mask.tif", mask, ("",)),
        options=OPTIONS,
    )
    found = read(tmp_path / "out.tif")
    assert (found[:, 60:] == scene[:, 60:]).all()
    assert (found[:, :40] != scene[:, :40]).any()
    assert 40 * SIZE <= report.num_restored <= 60 * SIZE


def test_guides_are_told_by_the_dry_run(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", cloudy(fields()), BANDS)
    older = write(tmp_path / "older.tif", fields(), BANDS)
    text = check_scene(path, tmp_path / "out.tif", references=[older], method=method(), options=OPTIONS)
    assert "with 1 other date;" in text


def refused(folder: Path, **given: object) -> str:
    path = write(folder / "s2.tif", cloudy(fields()), BANDS)
    with pytest.raises(InputError) as error:
        restore(folder, path, **given)
    assert not list(folder.glob("out*"))
    return str(error.value)


def test_reference_of_another_grid_is_refused_or_aligned(tmp_path: Path) -> None:
    older = write(tmp_path / "older.tif", fields(), BANDS)
    with rasterio.open(older, "r+") as file:
        file.transform = file.transform * Affine.translation(20, 0)
    assert "--align" in refused(tmp_path, references=[older])
    path = write(tmp_path / "s2.tif", cloudy(fields()), BANDS)
    options = SceneOptions(tile=96, overlap=32, preview=False, align=True)
    assert restore(tmp_path, path, references=[older], options=options)[:, :, 120:].max() < 2500


def test_reference_of_another_place_is_refused(tmp_path: Path) -> None:
    older = write(tmp_path / "older.tif", fields(), BANDS)
    with rasterio.open(older, "r+") as file:
        file.transform = file.transform * Affine.translation(2000, 0)
    options = SceneOptions(tile=96, overlap=32, preview=False, align=True)
    assert "does not overlap" in refused(tmp_path, references=[older], options=options)


def test_reference_that_is_clear_only_under_the_cloud_is_refused(tmp_path: Path) -> None:
    covered = fields()
    covered[:, :, :120] = 8000
    older = write(tmp_path / "older.tif", covered, BANDS)
    assert "no clear pixel in common" in refused(tmp_path, references=[older])


def test_reference_of_a_scene_that_shows_no_ground_is_refused_for_that(tmp_path: Path) -> None:
    older = write(tmp_path / "older.tif", fields(), BANDS)
    cloud = write(tmp_path / "cloud.tif", np.full((1, *fields().shape[1:]), 100, np.uint8), ("cloud",))
    assert "shows no ground whose colours it could take; leave it out" in refused(
        tmp_path, references=[older], cloud=cloud
    )


def test_radar_of_unknown_polarisation_is_refused(tmp_path: Path) -> None:
    assert "unknown polarisation" in refused(tmp_path, sar=radar(tmp_path / "s1.tif", ""))


def test_reference_for_a_model_that_takes_none_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", fields(), BANDS)
    with pytest.raises(InputError, match="leave out --reference"):
        restore_scene(path, tmp_path / "out.tif", references=[path], method=constant(0.5), options=OPTIONS)


def test_tiles_that_a_map_says_are_clear_cost_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, cloud = cloudy(fields()), np.zeros((1, SIZE, SIZE), np.uint8)
    cloud[:, :, 130:] = 1
    path, given = write(tmp_path / "s2.tif", scene, BANDS), write(tmp_path / "cloud.tif", cloud)
    calls, estimate = list[int](), Ground.estimate

    def count(self: Ground, batch: Batch, *rest: Any, **named: bool) -> Estimate:
        calls.append(1)
        return estimate(self, batch, *rest, **named)

    monkeypatch.setattr(Ground, "estimate", count)
    few = restore(tmp_path, path, cloud=given, options=replace(OPTIONS, tile=64))
    num_few = len(calls)
    monkeypatch.setattr("pellucid.apply.remove_clouds._Mosaic.cut", _cut_everything)
    every = restore(tmp_path, path, cloud=given, options=replace(OPTIONS, tile=64, resume=False))
    assert num_few < len(calls) - num_few
    assert (few == every).all()
    assert (few[:, :, :100] == scene[:, :, :100]).all()


def _cut_everything(mosaic: Any, top: int, left: int) -> Batch:
    tile = mosaic.tiles[top, left] = mosaic.scene.cut(top, left)
    return tile.batch


def test_a_scene_without_clear_ground_is_painted_in_usual_colours_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "s2.tif", cloudy(fields()), BANDS)
    part = (cloudy(fields())[:1] > 5000).astype(np.float32)
    for values, is_warned in ((part, False), (np.ones_like(part), True)):
        caplog.clear()
        restore(tmp_path, path, cloud=write(tmp_path / "cloud.tif", values, ("cloud",)))
        assert ("hardly any clear ground" in caplog.text) == is_warned
