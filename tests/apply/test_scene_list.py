from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from products import UPPER_LEFT, write_product
from rasterio.transform import Affine
from scenes import write

from pellucid.apply.scene_list import SceneJob, choose_part, is_many, list_scenes
from pellucid.data.gdal_open import open_raster
from pellucid.errors import InputError


def image(path: Path, east: float = 500_000) -> Path:
    place = Affine(10, 0, east, 0, -10, 5_000_000)
    return write(path, np.ones((1, 20, 20), np.uint16), transform=place)


def listed(folder: Path, **given: Path) -> dict[str, SceneJob]:
    jobs = list_scenes(folder / "scenes" / "*.tif", folder / "out", **given)
    return {job.scene.stem: job for job in jobs}


def test_a_pattern_and_a_list_mean_many_scenes_and_a_file_means_one(tmp_path: Path) -> None:
    assert is_many(Path("scenes/*.tif"))
    assert is_many(Path("scenes.csv"))
    assert not is_many(Path("S2.tif"))
    assert not is_many(image(tmp_path / "a[1].tif"))


def test_guides_of_the_same_name_belong_to_a_scene(tmp_path: Path) -> None:
    for name in ("a", "b_S2"):
        image(tmp_path / "scenes" / f"{name}.tif")
    radar = [image(tmp_path / "s1" / name) for name in ("a.tif", "b_S1.tif")]
    dates = [image(tmp_path / "old" / name) for name in ("a.tif", "a_2019.tif", "ab.tif")]
    found = listed(tmp_path, sar_dir=tmp_path / "s1", reference_dir=tmp_path / "old")
    assert [found[name].sar for name in ("a", "b_S2")] == radar
    assert found["a"].references == tuple(dates[:2])
    assert found["a"].out == tmp_path / "out" / "a.tif"


def test_without_equal_names_place_and_day_decide(tmp_path: Path) -> None:
    image(tmp_path / "scenes" / "S2_20240610.tif")
    image(tmp_path / "s1" / "x_20240609.tif", east=900_000)  # another place
    image(tmp_path / "s1" / "x_20240520.tif")
    nearest = image(tmp_path / "s1" / "x_20240612.tif", east=500_020)
    assert listed(tmp_path, sar_dir=tmp_path / "s1")["S2_20240610"].sar == nearest


def test_a_scene_without_radar_of_its_own_says_so(tmp_path: Path) -> None:
    image(tmp_path / "scenes" / "a.tif")
    image(tmp_path / "s1" / "b.tif", east=900_000)
    problem = listed(tmp_path, sar_dir=tmp_path / "s1")["a"].problem
    assert problem is not None
    assert "no radar scene belongs to" in problem


def test_a_scene_whose_place_is_not_known_says_so(tmp_path: Path) -> None:
    write(tmp_path / "scenes" / "a.tif", np.ones((1, 20, 20), np.uint16), crs=None)
    image(tmp_path / "s1" / "b.tif")
    problem = listed(tmp_path, sar_dir=tmp_path / "s1")["a"].problem
    assert problem is not None
    assert "by name, and without a CRS its place is not known" in problem


def test_a_scene_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    image(tmp_path / "s1" / "b.tif")
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "a.tif").write_text("no raster")
    problem = listed(tmp_path, sar_dir=tmp_path / "s1")["a"].problem
    assert problem is not None
    assert "a.tif is no readable raster" in problem


def test_a_product_finds_its_radar_by_place_and_each_file_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_product(tmp_path / "scenes")
    place = Affine(10, 0, UPPER_LEFT[0], 0, -10, UPPER_LEFT[1])
    radar = [
        write(tmp_path / "s1" / name, np.ones((2, 120, 120), np.float32), transform=place)
        for name in ("x_20230603.tif", "x_20230801.tif")
    ]
    image(tmp_path / "s1" / "elsewhere.tif")
    opened = list[str]()

    def open_it(path: Path | str) -> Any:
        opened.append(Path(path).name if isinstance(path, Path) else "product")
        return open_raster(path)

    monkeypatch.setattr("pellucid.apply.scene_list.open_raster", open_it)
    (job,) = list_scenes(tmp_path / "scenes" / "*.SAFE", tmp_path / "out", sar_dir=tmp_path / "s1")
    assert job.sar == radar[0]
    assert sorted(opened) == ["elsewhere.tif", "product", "x_20230603.tif", "x_20230801.tif"]


def test_radar_that_days_do_not_tell_apart_is_not_guessed(tmp_path: Path) -> None:
    image(tmp_path / "scenes" / "a.tif")
    for name in ("b", "c"):
        image(tmp_path / "s1" / f"{name}.tif")
    problem = listed(tmp_path, sar_dir=tmp_path / "s1")["a"].problem
    assert problem is not None
    assert "put days into their names" in problem


def test_a_list_names_scenes_and_guides(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("scene,sar,reference,cloud\na.tif,s1.tif,o1.tif| older dates/o2.tif,\nb.tif,,,c.tif\n")
    first, second = list_scenes(path, tmp_path / "out")
    assert first.inputs == tuple(
        tmp_path / name for name in ("a.tif", "s1.tif", "o1.tif", "older dates/o2.tif")
    )
    assert (second.sar, second.references, second.cloud) == (None, (), tmp_path / "c.tif")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scene,radar\na.tif,b.tif\n", "has the columns scene, radar; needed is scene"),
        ("scene\n", "names no scene"),
        ("scene,sar\n,s1.tif\n", "line 2: names no scene"),
        ("scene\nx/a.tif\ny/a.tif\n", "would both become"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        list_scenes(path, tmp_path / "out")


def test_parts_share_the_scenes_without_overlap() -> None:
    jobs = [SceneJob(Path(f"{i}.tif"), Path("out")) for i in range(7)]
    parts = [choose_part(jobs, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(chain(*parts), key=jobs.index) == jobs
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b"])
def test_a_part_that_is_none_is_refused(part: str) -> None:
    with pytest.raises(InputError, match="must be one of so many parts, such as 3/20"):
        choose_part([], part)


def test_a_pattern_that_nothing_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="check name or pattern"):
        list_scenes(tmp_path / "*.tif", tmp_path / "out")
    image(tmp_path / "a.tif")
    with pytest.raises(InputError, match="where the results go; name another -o"):
        list_scenes(tmp_path / "*.tif", tmp_path)
