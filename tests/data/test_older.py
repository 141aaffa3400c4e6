import torch

from pellucid.data.older import (
    FILL_PX,
    close_holes,
    harmonise_dates,
    keep_ground,
    mask_clouds,
    repeats,
    surely_clear,
)
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


def roofs(level: float) -> torch.Tensor:
    """Return (1, 13, 128, 128): halls of 260 m, whose roofs are not even, on make-believe ground."""
    image = make_scene(128, 2).optical[None]
    uneven = 0.05 * torch.rand(26, 26, generator=torch.Generator().manual_seed(3))
    for top, left in ((20, 20), (20, 50), (50, 20), (50, 50)):
        image[..., top : top + 26, left : left + 26] = level + uneven
    return image


def test_large_roofs_that_both_dates_show_are_kept_and_clouds_are_not() -> None:
    older, scene = roofs(0.4), 0.99 * roofs(0.35)  # no pixel has the very same values
    masked = mask_clouds(older, BANDS)
    assert masked[..., 40:56, 40:56].isnan().any()
    kept = keep_ground(masked, older, BANDS, scene, BANDS)
    assert torch.equal(kept[..., 18:78, 18:78], older[..., 18:78, 18:78])
    # The scene is under cloud there, or lies elsewhere: nothing says that the roofs are none.
    cloud = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.6
    for other in (cloud.expand_as(scene), scene * 0, torch.full_like(scene, torch.nan)):
        unknown = keep_ground(masked, older, BANDS, other, BANDS)
        assert torch.equal(unknown.isnan(), masked.isnan())


def test_two_clouds_at_one_place_stay_masked_also_beside_a_common_edge_of_the_data() -> None:
    dates = []
    for seed in (0, 1):
        noise = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(seed))
        image = (0.5 + 0.2 * noise).repeat(1, 13, 1, 1)
        image[..., 90:] = 0
        dates.append(image)
    masked = mask_clouds(dates[0], BANDS)
    assert masked[..., :80].isnan().all()
    kept = keep_ground(masked, dates[0], BANDS, dates[1], BANDS)
    assert torch.equal(kept.isnan(), masked.isnan())


def test_dates_without_a_band_in_common_are_masked_by_their_looks_alone() -> None:
    older = roofs(0.4)
    masked = mask_clouds(older, BANDS)
    other = keep_ground(masked, older, BANDS, roofs(0.4)[:, :1], ("PAN",))
    assert torch.equal(other.isnan(), masked.isnan())


def test_what_two_dates_show_in_the_very_same_values_is_no_ground() -> None:
    older, scene = roofs(0.4), roofs(0.4)
    masked = mask_clouds(older, BANDS)
    assert masked[..., 40:56, 40:56].isnan().any()
    assert torch.equal(keep_ground(masked, older, BANDS, scene, BANDS).isnan(), masked.isnan())
    assert repeats(older, BANDS, scene, BANDS).all()
    assert not repeats(older, BANDS, scene + 1e-4, BANDS).any()
    assert not repeats(older[:, :2], BANDS[:2], scene, BANDS).any()  # two bands may agree by chance
    assert not repeats(0 * older, BANDS, 0 * scene, BANDS).any()


def test_small_holes_and_rims_are_filled_with_what_lies_around_them() -> None:
    older = torch.full((1, 13, 96, 96), 0.2)
    older[..., 48:] = 0.4
    whole = older.clone()
    older[..., 10:24, 10:24] = torch.nan  # small
    older[..., 40:, 30:] = torch.nan  # large
    older[:, BANDS.index("B10")] = torch.nan  # missing
    found = close_holes(older)
    seen = [i for i in range(13) if BANDS[i] != "B10"]
    assert found[:, BANDS.index("B10")].isnan().all()
    torch.testing.assert_close(found[:, seen, 8:26, 8:26], whole[:, seen, 8:26, 8:26])
    assert found[:, seen, 40:45, 60:].isfinite().all()
    assert found[:, seen, 70:, 70:].isnan().all()
    was = older.isfinite()
    assert torch.equal(found[was], older[was])
    part = close_holes(older[..., :80, :80])[..., : 80 - FILL_PX, : 80 - FILL_PX]
    torch.testing.assert_close(part, found[..., : 80 - FILL_PX, : 80 - FILL_PX], equal_nan=True)
