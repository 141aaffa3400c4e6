import torch

from pellucid.data.older import harmonise_dates, mask_clouds, surely_clear
from pellucid.data.ranges import SENTINEL2
from pellucid.simulate.landscape import make_scene

BANDS = SENTINEL2.bands


def test_a_white_square_and_its_margin_are_not_clear() -> None:
    image = make_scene(64, 2).optical[None]
    image[..., 20:40, 20:40] = 0.9
    clear = surely_clear(image, BANDS)
    assert not clear[..., 17:43, 17:43].any()
    assert clear.any()
    assert mask_clouds(image, BANDS)[..., 22:38, 22:38].isnan().all()


def test_another_date_keeps_its_roofs_and_loses_its_clouds() -> None:
    image = make_scene(96, 2).optical[None]
    image[..., 10:16, 10:40] = 0.9  # a hall of 60 m
    image[..., 50:80, 50:80] = 0.9
    found = mask_clouds(image, BANDS)
    assert found[..., 8:18, 8:42].isfinite().all()
    assert found[..., 48:82, 48:82].isnan().all()


def test_another_date_under_thin_cirrus_is_kept() -> None:
    older = torch.full((1, 13, 64, 64), 0.06)
    older[:, BANDS.index("B10")] = 0.04
    assert mask_clouds(older, BANDS).isfinite().all()
    assert not surely_clear(older, BANDS).any()


def test_dates_may_lack_other_bands_image_by_image() -> None:
    scene = torch.stack([make_scene(48, seed).optical for seed in (2, 3)])
    date = scene * 0.7 + 0.02
    date[0, BANDS.index("B08")] = torch.nan
    scene[1, BANDS.index("B10")] = torch.nan
    found = harmonise_dates([date], scene, torch.ones(2, 1, 48, 48), BANDS)
    assert found[0].isfinite().all()
    assert torch.equal(found[1].isnan(), scene[1].isnan())
    assert (found - scene).abs().nanmean() < 0.01
    nothing = harmonise_dates([torch.full_like(date, torch.nan)], scene, torch.ones(2, 1, 48, 48), BANDS)
    assert nothing.isnan().all()
