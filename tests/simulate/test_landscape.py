from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from pellucid.data.ranges import SENTINEL2
from pellucid.simulate.landscape import make_scene

BANDS = SENTINEL2.bands


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
