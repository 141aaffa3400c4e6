import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from pellucid.data.geotiff import Grid, open_raster
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.raster import read_optical, read_radar
from pellucid.datasets.synthetic import Config, SyntheticScenes
from pellucid.errors import InputError
from pellucid.simulate.clouds import CloudOptions
from pellucid.simulate.landscape import Landscape, make_scene
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


def test_the_same_seed_gives_the_same_scene() -> None:
    one, same, other = make_scene(64, 3), make_scene(64, 3), make_scene(64, 4)
    torch.testing.assert_close(one.optical, same.optical, rtol=0, atol=0)
    torch.testing.assert_close(one.radar_db, same.radar_db, rtol=0, atol=0)
    assert torch.equal(one.land_cover, same.land_cover)
    assert not torch.equal(one.optical, other.optical)


@pytest.mark.parametrize("size", [(16, 16), (40, 97)])
def test_a_scene_has_the_size_asked_for_and_plausible_values(size: tuple[int, int]) -> None:
    for seed in range(4):
        scene = make_scene(size, seed)
        assert scene.optical.shape == (13, *size)
        assert scene.radar_db.shape == (2, *size)
        assert scene.land_cover.shape == size
        assert scene.optical.dtype == scene.radar_db.dtype == torch.float32
        assert scene.optical.min() > 0
        assert scene.optical.max() <= 1
        assert scene.radar_db.isfinite().all()


def test_a_tiny_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 x 16"):
        make_scene(8, 0)


def test_classes_look_as_they_do_to_both_satellites() -> None:
    sums: dict[int, list[torch.Tensor]] = {}
    towns = []
    for seed in range(24):
        scene = make_scene(128, seed)
        for cover in scene.land_cover.unique().tolist():
            here = scene.land_cover == cover
            if here.sum() > 100:
                mean = torch.cat([scene.optical[:, here].mean(1), scene.radar_db[:, here].mean(1)])
                sums.setdefault(cover, []).append(mean)
                if cover == 50:  # roads are dark, walls are bright
                    towns.append(scene.radar_db[0, here].quantile(0.9))
    looks = {cover: torch.stack(means).mean(0) for cover, means in sums.items()}
    trees, water, walls = looks[10], looks[80], torch.stack(towns).mean()
    red, infrared, shortwave = (BANDS.index(band) for band in ("B04", "B08", "B11"))
    assert trees[infrared] > 2 * trees[red]
    assert water[shortwave] < 0.5 * trees[shortwave]
    assert water[13] < trees[13] - 6  # VV, dB
    assert walls > trees[13] + 4
    assert all(look[13] > look[14] + 3 for look in looks.values())  # VV above VH


def test_scenes_have_the_brightness_of_real_ones(data_folder: Path) -> None:
    real = []
    for path in sorted((data_folder / "sen12mscr" / "s2_cloudfree").glob("*.tif")):
        with rasterio.open(path) as file:
            real.append(torch.from_numpy(file.read().astype(np.float32) / 10_000).mean((1, 2)))
    low, high = torch.stack(real).quantile(torch.tensor([0.1, 0.9]), dim=0)
    made = torch.stack([make_scene(96, seed).optical.mean((1, 2)) for seed in range(30)]).median(0).values
    keep = torch.tensor([band != "B10" for band in BANDS])  # some real ones hold thin cirrus
    assert ((made > 0.8 * low) & (made < 1.2 * high))[keep].all()


def test_speckle_has_the_looks_of_sentinel_1() -> None:
    ratios = []
    for seed in range(12):
        scene = make_scene(160, seed)
        power = 10 ** (scene.radar_db[1] / 10)
        water = scene.land_cover == 80
        inner = torch.nn.functional.avg_pool2d(water[None].float(), 9, 1, 4)[0] == 1
        if inner.sum() > 400:
            ratios.append(power[inner].mean() ** 2 / power[inner].var())
    assert ratios
    assert 3.0 < torch.stack(ratios).median() < 5.0


def test_a_dataset_of_scenes_gives_the_same_item_every_time() -> None:
    data = SyntheticScenes(Config(num_scenes=3, size=32, seed=5))
    assert len(data) == len(data.keys) == len(set(data.groups)) == 3
    item, again = data[1], data[1]
    assert item.key == (data.keys[1],)
    assert torch.equal(item.degraded, again.degraded)
    assert torch.equal(item.degraded, make_scene(32, 6).optical[None])
    assert item.sar is not None
    assert item.sar.min() >= 0
    assert item.sar.max() <= 1
    assert item.valid.all()
    with pytest.raises(IndexError):
        data[3]


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
    options = CloudOptions(cover=(0.0, 0.0), overcast=0.0, thin=0.0, haze=0.0)
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


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
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
