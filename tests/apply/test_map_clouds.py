import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import scenes as made
import torch
from PIL import Image
from products import write_product, zip_product
from rasterio._err import CPLE_AppDefinedError
from typer.testing import CliRunner

from pellucid.apply import map_clouds as cloud_maps
from pellucid.apply.cloud_scorers import MODEL_BANDS, find_scorer, to_mask
from pellucid.apply.map_clouds import check_clouds, map_clouds
from pellucid.apply.options import CloudMapOptions
from pellucid.build.method import load
from pellucid.cli import app
from pellucid.data.cloud_raster import CloudRaster
from pellucid.data.cloud_score import cloud_score
from pellucid.data.gdal_open import open_raster
from pellucid.data.geotiff import Grid
from pellucid.data.ranges import SENTINEL2
from pellucid.errors import InputError

BANDS = SENTINEL2.bands
QUICK = CloudMapOptions(scorer="built-in", preview=False)
# Reflectance of 13 bands: clear land and a cloud.
LAND = (0.13, 0.10, 0.09, 0.08, 0.11, 0.20, 0.24, 0.23, 0.27, 0.05, 0.001, 0.18, 0.10)
CLOUD = (0.45, 0.43, 0.41, 0.42, 0.43, 0.47, 0.50, 0.48, 0.52, 0.15, 0.010, 0.40, 0.30)


def cloudy(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    """Digital numbers of land with a cloud, uneven."""
    values = np.tile(np.array(LAND).reshape(-1, 1, 1), (1, height, width))
    values[:, height // 4 : height // 2, width // 5 : width // 2] = np.array(CLOUD).reshape(-1, 1, 1)
    uneven = 0.8 + 0.4 * np.random.default_rng(seed).random((1, height, width))
    return (values * uneven * 10_000).astype(np.uint16)


def write(path: Path, values: np.ndarray, names: tuple[str, ...] = BANDS, **profile: Any) -> Path:
    return made.write(path, values, names, **profile)


def read(path: Path) -> np.ndarray:
    with open_raster(path) as file:
        return file.read(1)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two scenes, one in a folder of its own."""
    write(tmp_path / "scenes" / "a.tif", cloudy())
    write(tmp_path / "scenes" / "east" / "b.tif", cloudy(seed=1))
    return tmp_path / "scenes"


def test_a_map_has_the_probabilities_of_s2cloudless_on_the_grid_of_its_scene(tmp_path: Path) -> None:
    values = cloudy()
    values[:, :6, :9] = 0
    scene = write(tmp_path / "scenes" / "s.tif", values)
    report = map_clouds(scene.parent, tmp_path / "maps", masks=tmp_path / "masks")
    assert (report.num_done, report.num_skipped, report.failures) == (1, 0, ())
    reflectance = torch.from_numpy(values.astype(np.float32) / 10_000)
    expected = find_scorer("s2cloudless")(reflectance, (reflectance != 0).any(0, keepdim=True), BANDS)
    expected[:6, :9] = np.nan
    with open_raster(tmp_path / "maps" / "s.tif") as file, open_raster(scene) as source:
        assert Grid.of(file) == Grid.of(source)
        assert (file.count, file.dtypes, file.descriptions) == (1, ("float32",), ("cloud probability",))
        assert np.isnan(file.nodata)
        assert file.tags()["SCORER"].startswith("s2cloudless 1.")
        np.testing.assert_array_equal(file.read(1), expected)
    with open_raster(tmp_path / "masks" / "s.tif") as file:
        assert (file.dtypes, file.nodata, file.tags()["THRESHOLD"]) == (("uint8",), 255, "0.4")
        np.testing.assert_array_equal(file.read(1), to_mask(expected))
        assert set(np.unique(file.read(1))) == {0, 1, 255}
    assert Image.open(report.sheet or "").size[0] > 3 * 256


def test_a_map_serves_as_the_cloud_map_of_a_restoration(tmp_path: Path) -> None:
    values = cloudy()
    values[:, :, :20] = 0
    scene = write(tmp_path / "s.tif", values)
    map_clouds(scene, tmp_path / "maps", masks=tmp_path / "masks", options=QUICK)
    for folder in ("maps", "masks"):
        with CloudRaster(tmp_path / folder / "s.tif") as cloud:
            found = cloud.read()[0]
        assert (found[:, :20] == 0).all()
        assert found[12:18, 23:26].min() > 0.9
        assert found[30:, 30:].max() < 0.1


def test_windows_leave_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = cloudy(90, 110)
    values[:, 60:64, 40:70] = 0
    scene = write(tmp_path / "s.tif", values)
    monkeypatch.setattr(cloud_maps, "WINDOW", 16)
    steps: list[float] = []
    map_clouds(
        scene,
        tmp_path / "maps",
        masks=tmp_path / "masks",
        options=QUICK,
        progress=lambda done, total: steps.append(done / total),
    )
    expected = cloud_score(torch.from_numpy(values.astype(np.float32) / 10_000), BANDS)[0].numpy()
    expected[60:64, 40:70] = np.nan
    found = read(tmp_path / "maps" / "s.tif")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(read(tmp_path / "masks" / "s.tif"), to_mask(found))
    assert steps == sorted(steps)
    assert steps[-1] == 1
    assert len(steps) > 6 * 7


def test_what_is_there_is_skipped_unless_forced(scenes: Path, tmp_path: Path) -> None:
    maps, masks = tmp_path / "maps", tmp_path / "masks"
    assert map_clouds(scenes, maps, options=QUICK).num_done == 2
    assert sorted(path.relative_to(maps) for path in maps.rglob("*.*")) == [Path("a.tif"), Path("east/b.tif")]
    with rasterio.open(maps / "a.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:  # by hand
        file.write(np.full((1, 40, 56), 0.9, np.float32))
    report = map_clouds(scenes, maps, options=QUICK)
    assert (report.num_done, report.num_skipped) == (0, 2)
    # Masks that are wanted later are made of the maps that are there.
    report = map_clouds(scenes, maps, masks=masks, options=QUICK)
    assert (report.num_done, report.num_skipped) == (2, 0)
    assert (read(masks / "a.tif") == 1).all()
    report = map_clouds(scenes, maps, masks=masks, options=replace(QUICK, force=True))
    assert (report.num_done, report.num_skipped) == (2, 0)
    assert 0 < (read(masks / "a.tif") == 1).mean() < 0.5


CHANGES = {
    "threshold": ({"threshold": 0.2}, False, True),
    "growth": ({"dilation_size": 5}, False, True),
    "offset": ({"offset": -1000}, True, True),
    "scorer": ({"scorer": "s2cloudless"}, True, True),
    "sheet": ({"preview": True}, False, False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_made_with_other_settings_is_made_anew_and_that_is_said(
    change: str, scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings, changes_maps, changes_masks = CHANGES[change]
    options: Any = replace(QUICK, **settings)
    folders = tmp_path / "maps", tmp_path / "masks"
    made = {folder: (folder / "a.tif", folder / "east" / "b.tif") for folder in folders}
    map_clouds(scenes, folders[0], masks=folders[1], options=QUICK)
    before = {path: path.stat().st_mtime_ns for paths in made.values() for path in paths}
    planned = check_clouds(scenes, folders[0], masks=folders[1], options=options)
    report = map_clouds(scenes, folders[0], masks=folders[1], options=options)
    assert (report.num_done, report.num_skipped) == ((2, 0) if changes_masks else (0, 2))
    assert (planned.num_done, planned.num_skipped) == (report.num_done, report.num_skipped)
    for folder, changed in zip(folders, (changes_maps, changes_masks), strict=True):
        assert all((path.stat().st_mtime_ns > before[path]) == changed for path in made[folder])
    assert (
        "2 results made with other settings, or before an input changed: made anew" in caplog.text
    ) == changes_masks
    map_clouds(scenes, tmp_path / "fresh", masks=tmp_path / "fresh_masks", options=options)
    for path in made[folders[0]] + made[folders[1]]:
        fresh = tmp_path / ("fresh" if path.is_relative_to(folders[0]) else "fresh_masks") / path.name
        there = fresh if fresh.exists() else fresh.with_name("east") / path.name
        assert path.read_bytes() == there.read_bytes()


def test_maps_of_other_weights_are_made_anew(scenes: Path, tmp_path: Path) -> None:
    first, second = load("ground", device="cpu"), load("ground", device="cpu")
    second.origin = ("mine", "0" * 64)
    options = CloudMapOptions(scorer="ground", preview=False)
    for method, done in ((first, 2), (first, 0), (second, 2), (second, 0)):
        assert map_clouds(scenes, tmp_path / "maps", options=options, method=method).num_done == done


def test_the_map_of_a_scene_that_changed_since_is_made_anew(scenes: Path, tmp_path: Path) -> None:
    map_clouds(scenes, tmp_path / "maps", options=QUICK)
    write(scenes / "a.tif", cloudy(seed=2))
    report = map_clouds(scenes, tmp_path / "maps", options=QUICK)
    assert (report.num_done, report.num_skipped) == (1, 1)
    map_clouds(scenes, tmp_path / "fresh", options=QUICK)
    assert (tmp_path / "maps" / "a.tif").read_bytes() == (tmp_path / "fresh" / "a.tif").read_bytes()


@pytest.mark.parametrize("folder", ["maps", "masks"])
def test_what_is_no_map_is_not_taken_for_one_nor_replaced_unless_forced(
    folder: str, scenes: Path, tmp_path: Path
) -> None:
    write(tmp_path / folder / "a.tif", cloudy())
    kept = (tmp_path / folder / "a.tif").read_bytes()
    for call in (map_clouds, check_clouds):
        with pytest.raises(InputError, match=r"a\.tif: a file is there that is no cloud .* --force"):
            call(scenes, tmp_path / "maps", masks=tmp_path / "masks", options=QUICK)
    assert (tmp_path / folder / "a.tif").read_bytes() == kept
    forced = replace(QUICK, force=True)
    report = map_clouds(scenes, tmp_path / "maps", masks=tmp_path / "masks", options=forced)
    assert (report.num_done, report.failures) == (2, ())
    assert set(np.unique(read(tmp_path / "masks" / "a.tif"))) == {0, 1}


def test_the_sheet_shows_also_the_scenes_that_were_done_before(scenes: Path, tmp_path: Path) -> None:
    options, out = replace(QUICK, preview=True), tmp_path / "maps"
    sheet = map_clouds(scenes, out, options=options).sheet
    assert sheet
    whole = sheet.read_bytes()
    for lost in (next(out.glob("*.tif")), sheet):
        lost.unlink()
        assert map_clouds(scenes, out, options=options).sheet == sheet
        assert sheet.read_bytes() == whole


def test_a_bad_file_does_not_stop_the_rest(scenes: Path, tmp_path: Path) -> None:
    (scenes / "a_broken.tif").write_bytes(b"no raster")
    write(scenes / "radar.tif", np.zeros((2, 40, 56), np.float32), ("VV", "VH"))
    whole = write(scenes / "spoilt.tif", cloudy(), compress="DEFLATE").read_bytes()
    (scenes / "spoilt.tif").write_bytes(whole[:10_000] + bytes(10_000) + whole[20_000:])
    for report in (
        check_clouds(scenes, tmp_path / "maps", options=QUICK),
        map_clouds(scenes, tmp_path / "maps", options=QUICK),
    ):
        assert report.num_done == 2
        reasons = {failure.path.name: failure.reason for failure in report.failures}
        assert list(reasons) == ["a_broken.tif", "radar.tif", "spoilt.tif"]
        assert "is no readable raster" in reasons["a_broken.tif"]
        assert "is damaged" in reasons["spoilt.tif"]
        assert "lacks the bands B02, B04" in reasons["radar.tif"]
    made = sorted(path.name for path in (tmp_path / "maps").rglob("*") if path.is_file())
    assert made == ["a.tif", "b.tif"]


def test_several_processes_make_the_same_maps(scenes: Path, tmp_path: Path) -> None:
    (scenes / "broken.tif").write_bytes(b"no raster")
    map_clouds(scenes, tmp_path / "one", options=QUICK)
    report = map_clouds(scenes, tmp_path / "two", options=replace(QUICK, workers=2))
    assert (report.num_done, [failure.path.name for failure in report.failures]) == (2, ["broken.tif"])
    for name in ("a.tif", "east/b.tif"):
        np.testing.assert_array_equal(read(tmp_path / "two" / name), read(tmp_path / "one" / name))


def test_results_inside_the_folder_and_hidden_files_are_no_scenes(scenes: Path) -> None:
    write(scenes / ".c.tif", cloudy())
    for _ in range(2):
        report = map_clouds(
            scenes, scenes / "maps", masks=scenes / "masks", options=replace(QUICK, force=True)
        )
        assert report.num_done == 2


def test_an_offset_is_taken_off_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = cloudy()
    write(tmp_path / "old" / "s.tif", values)
    write(tmp_path / "new" / "s.tif", values + 1000)
    for name, offset in (("old", "auto"), ("new", "auto"), ("wrong", "none")):
        folder = tmp_path / ("new" if name == "wrong" else name)
        map_clouds(folder, tmp_path / "maps" / name, options=replace(QUICK, offset=offset, preview=True))
        assert caplog.text.count("the offset of processing baseline 04.00 is taken off") == (name == "new")
        caplog.clear()
    old, new, wrong = (read(tmp_path / "maps" / name / "s.tif") for name in ("old", "new", "wrong"))
    np.testing.assert_allclose(old, new, atol=1e-5)
    assert np.abs(old - wrong).max() > 0.5


def test_ten_bands_suffice_where_that_is_said(tmp_path: Path) -> None:
    values = cloudy()
    write(tmp_path / "all" / "s.tif", values)
    few = values[[BANDS.index(band) for band in MODEL_BANDS]]
    write(tmp_path / "few" / "s.tif", few, ())
    options = CloudMapOptions(preview=False)
    map_clouds(tmp_path / "all", tmp_path / "maps", options=options)
    report = map_clouds(tmp_path / "few", tmp_path / "few_maps", options=options)
    assert "has 10 bands without names, needed are 13" in report.failures[0].reason
    map_clouds(tmp_path / "few", tmp_path / "few_maps", options=replace(options, all_bands=False))
    np.testing.assert_array_equal(read(tmp_path / "few_maps" / "s.tif"), read(tmp_path / "maps" / "s.tif"))


def test_level_2a_is_for_the_built_in_score_alone(tmp_path: Path) -> None:
    names = tuple(band for band in BANDS if band != "B10")
    write(tmp_path / "s2" / "s.tif", np.delete(cloudy(), BANDS.index("B10"), axis=0), names)
    report = map_clouds(tmp_path / "s2", tmp_path / "maps", options=CloudMapOptions(preview=False))
    assert "lacks the band B10" in report.failures[0].reason
    assert "give the Level-1C product" in report.failures[0].reason
    assert map_clouds(tmp_path / "s2", tmp_path / "maps", options=QUICK).num_done == 1


def test_folders_that_cannot_be_used_are_refused(scenes: Path, tmp_path: Path) -> None:
    def refuse(message: str, *, source: Path = scenes, out: Path = tmp_path / "maps", **options: Any) -> None:
        masks = options.pop("masks", None)
        for call in (map_clouds, check_clouds):
            with pytest.raises(InputError, match=message):
                call(source, out, masks=masks, options=replace(QUICK, **options))
        assert not (tmp_path / "maps").exists()

    refuse("does not exist; name a folder", source=tmp_path / "none")
    refuse(r"no scene .* fits 'S2\*', change the folder", pattern="S2*")
    refuse("'/x' is no pattern", pattern="/x")
    refuse("a.tif: it is an input; name another file", out=scenes)
    refuse("a.tif: it is an input; name another file", masks=scenes)
    refuse("masks and maps have the same names", masks=tmp_path / "maps")
    (scenes / "a.vrt").write_bytes((scenes / "a.tif").read_bytes())
    refuse("would both become .*; rename one", pattern="a.*")


def test_an_unwritable_place_is_named_scene_by_scene(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "east").write_text("a file where a folder should be")
    report = map_clouds(scenes, tmp_path / "maps", options=QUICK)
    assert report.num_done == 1
    assert "cannot make the folder" in report.failures[0].reason


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), CPLE_AppDefinedError(3, 1, "IO error writing tag data")]
)
def test_a_full_disk_stops_all_with_one_sentence_and_leaves_nothing(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cloud_maps, "write_cog", full)
    with pytest.raises(InputError, match=r"cannot write .*a.tif: .*; free the disk .*; what is finished was"):
        map_clouds(scenes, tmp_path / "maps", options=QUICK)
    assert not (tmp_path / "maps").exists()


def test_the_command_maps_lists_failures_and_says_so_by_its_exit_code(scenes: Path, tmp_path: Path) -> None:
    def call(*words: str | Path) -> tuple[int, str]:
        given = ["clouds", scenes, "-o", tmp_path / "maps", "--scorer", "built-in", *words]
        result = CliRunner().invoke(app, [str(word) for word in given])
        return result.exit_code, " ".join(result.output.split())

    assert call("--dry-run") == (0, "2 scenes would be mapped")
    assert not (tmp_path / "maps").exists()
    code, text = call("--mask", tmp_path / "masks")
    assert code == 0
    assert text.startswith("2 scenes mapped in")
    assert str(tmp_path / "maps" / "clouds.png") in text
    (scenes / "bad.tif").write_bytes(b"no raster")
    code, text = call("--threshold", "0.5")
    assert code == 1
    assert "0 scenes mapped" in text
    assert "2 were there already" in text
    assert f"failed: the optical scene {scenes / 'bad.tif'} is no readable raster" in text
    assert call("--pattern", "none*")[0] == 2
    assert call("--offset", "much")[0] == 2


def test_without_s2cloudless_nothing_begins_and_the_command_offers_ground(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s2cloudless.cloud_detector", None)
    result = CliRunner().invoke(app, ["clouds", str(scenes), "-o", str(tmp_path / "maps")])
    assert result.exit_code == 2
    assert "--scorer ground" in " ".join(result.output.split())
    assert not (tmp_path / "maps").exists()
    call = ["clouds", str(scenes), "-o", str(tmp_path / "maps"), "--scorer", "ground", "--no-preview"]
    assert CliRunner().invoke(app, call).exit_code == 0
    with open_raster(tmp_path / "maps" / "a.tif") as file:
        assert file.tags()["SCORER"] == "pellucid ground"


def test_windows_of_ground_agree_with_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = write(tmp_path / "s2" / "s.tif", cloudy(300, 340))
    method, options = load("ground", device="cpu"), CloudMapOptions(scorer="ground", preview=False)
    map_clouds(scene, tmp_path / "whole", options=options, method=method)
    monkeypatch.setattr("pellucid.apply.map_clouds.WINDOW", 128)
    map_clouds(scene, tmp_path / "parts", options=options, method=method)
    whole, parts = (read(tmp_path / name / "s.tif") for name in ("whole", "parts"))
    assert np.abs(whole - parts).mean() < 0.01


def test_a_mask_that_came_with_a_real_scene_is_made_again(data_folder: Path, tmp_path: Path) -> None:
    # The masks beside these patches are those of s2cloudless at a threshold of 0.7.
    name, root = "oriolac_5254.tif", data_folder / "sen12mscr"
    options = CloudMapOptions(threshold=0.7, preview=False)
    map_clouds(root / "s2_cloudy" / name, tmp_path / "maps", masks=tmp_path / "masks", options=options)
    np.testing.assert_array_equal(read(tmp_path / "masks" / name), read(root / "mask" / name))


def test_products_are_mapped_as_scenes(tmp_path: Path) -> None:
    product = write_product(tmp_path / "scenes", level="L1C")
    archive = zip_product(write_product(tmp_path / "scenes", level="L2A"))
    options = CloudMapOptions(scorer="built-in", preview=False)
    for scenes, number in ((tmp_path / "scenes", 2), (product, 1), (archive, 1)):
        report = map_clouds(scenes, tmp_path / f"maps_{scenes.stem}", options=options)
        assert (report.num_done, report.failures) == (number, ())
    assert (tmp_path / f"maps_{product.stem}" / product.name).with_suffix(".tif").is_file()
