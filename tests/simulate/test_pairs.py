import csv
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from pellucid.data.gdal_open import open_raster
from pellucid.data.geotiff import Grid
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.raster import read_optical, read_radar
from pellucid.errors import InputError
from pellucid.simulate.clouds import SkyOptions
from pellucid.simulate.landscape import Landscape
from pellucid.simulate.pairs import simulate_pairs, write_pair

BANDS = SENTINEL2.bands


def plain_scene(side: int = 32) -> Landscape:
    level = torch.linspace(0.02, 0.4, 13).view(-1, 1, 1)
    return Landscape(
        optical=level * torch.ones(13, side, side),
        radar_db=torch.full((2, side, side), -12.5),
        land_cover=torch.zeros(side, side, dtype=torch.uint8),
    )


def write_clear(path: Path, bands: tuple[str, ...], side: int = 48) -> None:
    values = np.random.default_rng(0).integers(500, 3000, (len(bands), side, side)).astype(np.uint16)
    if "B10" in bands:
        values[bands.index("B10")] = 12
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(10, 0, 600_000, 0, -10, 5_000_000)
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=len(bands), dtype="uint16", nodata=0,
        crs="EPSG:32632", transform=transform,
    ) as file:  # fmt: skip
        file.write(values)
        file.descriptions = bands


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_written_pair_reads_back_as_it_was(tmp_path: Path) -> None:
    scene = plain_scene()
    degraded = (scene.optical + 0.3).clamp(max=1)
    degraded[:, :4] = 0  # missing
    cloud = torch.full((1, 32, 32), 0.25)
    paths = write_pair(tmp_path, "place", scene, degraded, cloud)
    read, valid = read_optical(paths.cloudy, BANDS)
    torch.testing.assert_close(read, degraded, rtol=0, atol=5.1e-5)
    assert not valid[:, :4].any()
    assert valid[:, 4:].all()
    torch.testing.assert_close(read_optical(paths.clear, BANDS)[0], scene.optical, rtol=0, atol=5.1e-5)
    assert paths.radar is not None
    torch.testing.assert_close(read_radar(paths.radar), SENTINEL1.to_unit(scene.radar_db))
    with rasterio.open(paths.cloud) as file:
        assert (file.read() == 0.25).all()
        assert file.res == (10, 10)
        assert file.crs.to_epsg() == 32633


def test_a_scene_without_radar_writes_no_radar_file(tmp_path: Path) -> None:
    scene = plain_scene()
    silent = Landscape(scene.optical, scene.radar_db * torch.nan, scene.land_cover)
    paths = write_pair(tmp_path, "place", silent, scene.optical, torch.zeros(1, 32, 32))
    assert paths.radar is None
    assert not (tmp_path / "s1").exists()


def test_pairs_are_listed_with_their_splits_and_repeat_with_the_seed(tmp_path: Path) -> None:
    counts: list[int] = []
    first = simulate_pairs(tmp_path / "a", count=4, size=32, seed=1, progress=counts.append)
    simulate_pairs(tmp_path / "b", count=4, size=32, seed=1)
    assert counts == [1, 2, 3, 4]
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    with first.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["1", "1", "2", "3"]
    for _, *folders, name in rows:
        assert all((first.parent / folder / name).is_file() for folder in folders)


def test_users_own_scenes_keep_their_place_and_their_bands(tmp_path: Path) -> None:
    twelve = tuple(band for band in BANDS if band != "B10")
    write_clear(tmp_path / "clear" / "one.tif", BANDS)
    write_clear(tmp_path / "clear" / "sub" / "two.tif", twelve)
    options = SkyOptions(cover=(0.0, 0.0), overcast=0.0, thin=0.0, haze=0.0)
    listing = simulate_pairs(
        tmp_path / "out", count=4, size=32, seed=0, clear=tmp_path / "clear", options=options
    )
    with listing.open(encoding="utf-8") as file:
        places = {row["name"]: row["split_group"] for row in csv.DictReader(file)}
    assert sorted(places.values()) == ["one", "one", "sub_two", "sub_two"]
    assert not (tmp_path / "out" / "s1").exists()
    for name, place in places.items():
        with (
            rasterio.open(tmp_path / "out" / "s2_cloudy" / f"{name}.tif") as cut,
            rasterio.open(tmp_path / "clear" / f"{place.replace('_', '/')}.tif") as whole,
        ):
            window = rasterio.windows.from_bounds(*cut.bounds, transform=whole.transform)
            assert cut.descriptions == whole.descriptions
            assert cut.crs == whole.crs
            assert (cut.read() == whole.read(window=window)).all()


def test_a_folder_without_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no GeoTIFF"):
        simulate_pairs(tmp_path / "out", count=1, size=32, seed=0, clear=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_scene_smaller_than_a_patch_is_refused(tmp_path: Path) -> None:
    write_clear(tmp_path / "clear" / "one.tif", BANDS, side=24)
    with pytest.raises(InputError, match="24 x 24 pixels, patches need 32"):
        simulate_pairs(tmp_path / "out", count=1, size=32, seed=0, clear=tmp_path / "clear")


def test_a_bad_scene_ends_it_before_a_pair_is_written(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_clear(tmp_path / "clear" / f"{name}.tif", BANDS)
    (tmp_path / "clear" / "c.tif").write_bytes((tmp_path / "clear" / "a.tif").read_bytes()[:3000])
    with pytest.raises(InputError, match=r"c.tif"):
        simulate_pairs(tmp_path / "out", count=3, size=32, seed=0, clear=tmp_path / "clear")
    assert not (tmp_path / "out").exists()


def test_scenes_whose_pairs_would_have_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a_b", "a/b"):
        write_clear(tmp_path / "clear" / f"{name}.tif", BANDS)
    with pytest.raises(InputError, match="would have one name, a_b; rename one"):
        simulate_pairs(tmp_path / "out", count=2, size=32, seed=0, clear=tmp_path / "clear")


def test_what_lies_in_the_output_is_no_clear_scene(tmp_path: Path) -> None:
    write_clear(tmp_path / "a.tif", SENTINEL2.bands)
    out, given = tmp_path / "out", {"count": 2, "size": 32, "seed": 0}
    simulate_pairs(out, clear=tmp_path, **given)
    first = files_of(out)
    simulate_pairs(out, clear=tmp_path, **given)
    assert files_of(out) == first
    with pytest.raises(InputError, match=r"holds no GeoTIFF \(\.tif\) beside those in .*out; give"):
        simulate_pairs(out, clear=out / "s2_cloudfree", **given)


def test_pairs_of_two_kinds_are_not_mixed(tmp_path: Path) -> None:
    write_clear(tmp_path / "clear" / "a.tif", BANDS)
    kinds = {"made_up": None, "cut": tmp_path / "clear"}
    for name, clear in kinds.items():
        for _ in range(2):  # its own may be made again
            simulate_pairs(tmp_path / name, count=1, size=32, seed=0, clear=clear)
    for name, clear in zip(reversed(kinds), kinds.values(), strict=True):
        with pytest.raises(InputError, match="it lists another dataset"):
            simulate_pairs(tmp_path / name, count=1, size=32, seed=0, clear=clear)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="choose another"):
        simulate_pairs(tmp_path / "out", count=1, size=32, seed=0)


def test_no_two_made_up_places_overlap(tmp_path: Path) -> None:
    simulate_pairs(tmp_path, count=3, size=16, seed=0)
    grids = []
    for path in sorted((tmp_path / "s1").iterdir()):
        with open_raster(path) as radar, open_raster(tmp_path / "s2_cloudy" / path.name) as optical:
            assert Grid.of(radar).matches(Grid.of(optical))
            grids.append(Grid.of(radar))
    lefts = sorted(grid.transform.c for grid in grids)
    assert [right - left for left, right in itertools.pairwise(lefts)] == [160, 160]


def test_a_folder_with_another_dataset_is_refused_and_its_own_may_be_made_again(tmp_path: Path) -> None:
    for _ in range(2):
        simulate_pairs(tmp_path / "own", count=3, size=16, seed=0)
    for name, text in (
        ("data.csv", "1,s1,s2_cloudfree,s2_cloudy,ROIs1158_spring_s1_1_p30.tif\n"),
        ("data.csv", ""),
        ("index.csv", "name,place\na,b\n"),
    ):
        folder = tmp_path / "other"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        with pytest.raises(InputError, match=f"cannot write .*{name}: it lists another dataset"):
            simulate_pairs(folder, count=3, size=16, seed=0)
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name).read_text() == text
        (folder / name).unlink()


def test_a_pair_never_replaces_a_file_of_others(tmp_path: Path) -> None:
    (tmp_path / "s2_cloudy").mkdir()
    (tmp_path / "s2_cloudy" / "synthetic_1.tif").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"synthetic_1\.tif: a file is there that pellucid did not write"):
        simulate_pairs(tmp_path, count=2, size=16, seed=0)
    assert (tmp_path / "s2_cloudy" / "synthetic_1.tif").read_bytes() == b"mine"
    assert not (tmp_path / "s2_cloudfree").exists()


def test_a_pipe_in_place_of_the_list_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.csv")
    with pytest.raises(InputError, match="it lists another dataset"):
        simulate_pairs(tmp_path, count=1, size=32, seed=0)
