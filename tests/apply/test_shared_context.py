"""Scenes of one day show each other's ground."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many import call
from rasterio.transform import Affine
from scenes import BANDS, read, write
from tests.apply.test_ground_scenes import OPTIONS, SIZE, fields, method

from pellucid.apply.info import inform
from pellucid.apply.remove_clouds import look_at_scene, restore_scene
from pellucid.apply.scene_list import SceneJob
from pellucid.apply.shared_context import SavedSums, share_context
from pellucid.data.gdal_open import open_raster
from pellucid.methods.scene_sums import CELL

BARE = replace(OPTIONS, html=False, painted=False, sidecars=False, device="cpu")
RED = np.array([900] * 10 + [10, 900, 900], np.uint16)[:, None, None]


def halves(folder: Path, **profile: Any) -> tuple[Path, Path]:
    """A clear scene of bright ground, and west of it one under cloud."""
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    clear = (fields() * 0.2 + RED).astype(np.uint16)
    write(folder / "a_20240601.tif", clear, BANDS, transform=place)
    write(
        folder / "b_20240601.tif",
        np.full_like(clear, 8000),
        BANDS,
        transform=place * Affine.translation(-SIZE, 0),
        **profile,
    )
    return folder / "a_20240601.tif", folder / "b_20240601.tif"


def collected(folder: Path, scene: Path) -> Path:
    path = folder / f"{scene.stem}.sums"
    given = {"sar": None, "cloud": None, "method": method(), "options": BARE}
    look_at_scene(scene, folder / "out.tif", context=[path], **given)
    return path


def test_a_scene_under_cloud_takes_the_colours_of_its_clear_neighbour(tmp_path: Path) -> None:
    clear, covered = halves(tmp_path)
    context = [collected(tmp_path, scene) for scene in (covered, clear)]
    errors = []
    for paths in (context[:1], context):
        restore_scene(covered, tmp_path / "out.tif", method=method(), options=BARE, context=paths)
        errors.append(np.abs(read(tmp_path / "out.tif").astype(float) - read(clear)).mean())
    assert errors[1] < errors[0] / 3
    assert inform(tmp_path / "out.tif")["inputs"]["context"] == ["a_20240601.sums"]


def test_a_scene_alone_is_as_without_its_file_and_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear, _ = halves(tmp_path)
    values = read(clear)
    values[:, :, 110:] = 7500
    scene = write(tmp_path / "s2.tif", values, BANDS)
    restore_scene(scene, tmp_path / "out.tif", method=method(), options=BARE)
    expected = read(tmp_path / "out.tif")
    path = collected(tmp_path, scene)
    monkeypatch.setattr(
        "pellucid.apply.shared_context.collect_scene", lambda *_: pytest.fail("a second look")
    )
    restore_scene(scene, tmp_path / "out.tif", method=method(), options=BARE, context=[path])
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), expected)


def test_sums_come_back_as_they_were_and_damaged_ones_are_none(tmp_path: Path) -> None:
    clear, _ = halves(tmp_path)
    path = collected(tmp_path, clear)
    found = SavedSums.load(path)
    assert found is not None
    assert found.sums.count > SIZE**2 / 2
    assert set(found.sums.cells) == {(0, 0)}
    assert found.corner == (500_000, 5_000_000)
    again = tmp_path / "again.sums"
    found.save(again)
    assert again.read_bytes() == path.read_bytes()
    path.write_bytes(path.read_bytes()[:-100])
    assert SavedSums.load(path) is None
    assert SavedSums.load(tmp_path / "none.sums") is None


def test_cells_lie_where_they_are_on_the_grid_of_another_scene_and_only_of_one_that_fits(
    tmp_path: Path,
) -> None:
    clear, _ = halves(tmp_path)
    found = SavedSums.load(collected(tmp_path, clear))
    assert found is not None
    step = 10 * CELL
    south_east = replace(found, corner=(500_000 + 3 * step, 5_000_000 - 2 * step))
    assert set(south_east.seen_from(found).cells) == {(2, 3)}
    assert set(found.seen_from(south_east).cells) == {(-2, -3)}
    other = replace(found, about=found.about.replace("32633", "32632"))
    assert not other.seen_from(found).cells


def test_scenes_of_a_day_share_and_those_without_a_day_do_not(tmp_path: Path) -> None:
    first, second = halves(tmp_path)
    values = read(first)
    others = [write(tmp_path / name, values, BANDS) for name in ("c_20240603.tif", "d.tif", "e.tif")]
    others.append(write(tmp_path / "f_20240601.tif", values, BANDS, crs="EPSG:32632"))
    jobs = [SceneJob(path, tmp_path / "out" / path.name) for path in (first, second, *others)]
    stems = [[path.stem for path in job.context] for job in share_context(jobs, tmp_path)]
    pair = ["a_20240601", "b_20240601"]
    assert stems == [pair, pair[::-1], ["c_20240603"], ["d"], ["e"], ["f_20240601"]]


def test_parts_of_an_array_share_too_and_give_the_same(tmp_path: Path) -> None:
    halves(tmp_path / "scenes")
    quick = ("--no-preview", "--no-html", "--no-painted", "--no-sidecars", "--shared-context", "--workers", 1)
    words = ("remove-clouds", tmp_path / "scenes" / "*.tif", *map(str, quick))
    plan = call(*words, "-o", tmp_path / "whole", "--dry-run")
    assert "with 1 more of its day" not in plan.output
    assert "1 more of its day" in " ".join(plan.output.split())
    assert call(*words, "-o", tmp_path / "whole").exit_code == 0
    for part in ("2/2", "1/2"):
        assert call(*words, "-o", tmp_path / "parts", "--part", part).exit_code == 0
    for name in ("a_20240601.tif", "b_20240601.tif"):
        np.testing.assert_array_equal(read(tmp_path / "whole" / name), read(tmp_path / "parts" / name))
    with open_raster(tmp_path / "parts" / "b_20240601.tif") as file:
        assert "a_20240601.sums" in file.tags()["PELLUCID_INPUTS"]
    again = call(*words, "-o", tmp_path / "parts")
    assert "2 were done already" in again.output


def test_a_model_that_looks_at_tiles_alone_shares_nothing(tmp_path: Path) -> None:
    halves(tmp_path)
    words = ("remove-clouds", tmp_path / "*.tif", "-o", tmp_path / "out", "--shared-context")
    result = call(*words, "-m", "cross_attention")
    assert (result.exit_code, "looks at tiles alone" in " ".join(result.output.split())) == (2, True)
    assert not (tmp_path / "out").exists()
    one = call("remove-clouds", tmp_path / "a_20240601.tif", "-o", tmp_path / "o.tif", "--shared-context")
    assert (one.exit_code, "--shared-context does not apply" in " ".join(one.output.split())) == (2, True)
