from dataclasses import replace

import pytest
import torch
from tests.datasets.test_augment import make_batch

from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.datasets._augment import AugmentConfig, change_clouds
from pellucid.datasets._augment_guides import (
    add_speckle,
    cloud_older,
    draw_mask,
    drop_polarisation,
    finish_older,
    hide_parts,
    shift_image,
)
from pellucid.simulate.landscape import make_scene

BANDS = SENTINEL2.bands


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_guided() -> Batch:
    clear = make_scene(64, 1).optical[None]
    older = clear * 0.8
    lacking = clear.clone()
    lacking[:, BANDS.index("B10")] = torch.nan
    valid = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    sar = torch.full((1, 2, 64, 64), 0.5)
    cloud = torch.zeros(1, 1, 64, 64)
    return Batch(degraded=lacking, target=lacking, older=older, sar=sar, cloud=cloud, valid=valid, key=("a",))


def test_speckle_keeps_the_mean_power_and_what_is_missing() -> None:
    sar = torch.full((1, 2, 128, 128), 0.5)
    sar[:, 1] = torch.nan
    noisy = add_speckle(sar, rng())
    power = 10 ** (SENTINEL1.from_unit(noisy[0])[0] / 10)
    expected = 10 ** (SENTINEL1.from_unit(sar[0])[0] / 10)
    assert noisy[:, 0].std() > 0.01
    assert abs(power.mean() / expected.mean() - 1) < 0.05
    assert noisy[:, 1].isnan().all()


def test_an_image_moves_by_a_part_of_a_pixel() -> None:
    ramp = torch.arange(16.0).expand(1, 2, 16, 16)
    moved = shift_image(ramp, 0.5, rng()) - ramp
    inner = moved[..., 1:-1]
    torch.testing.assert_close(inner, inner[..., :1].expand_as(inner))
    assert 0 < inner.abs().max() <= 0.5
    assert torch.equal(shift_image(ramp, 0, rng()), ramp)


def test_one_polarisation_is_dropped() -> None:
    gone = [drop_polarisation(torch.zeros(1, 2, 4, 4), rng(i)).isnan().all((0, 2, 3)) for i in range(40)]
    assert all(int(each.sum()) == 1 for each in gone)
    assert 20 < sum(bool(each[1]) for each in gone) < 40


def test_masks_run_from_little_to_everything() -> None:
    shares = [float(draw_mask((48, 48), rng(i)).float().mean()) for i in range(100)]
    assert min(shares) < 0.1
    assert max(shares) == 1
    assert 0.3 < sum(shares) / len(shares) < 0.7


def test_hidden_parts_are_zero_and_named_exactly() -> None:
    batch = make_guided()
    hidden = hide_parts(batch, rng(3))
    assert hidden.cloud is not None
    assert batch.target is not None
    assert set(hidden.cloud.unique().tolist()) <= {0.0, 1.0}
    assert hidden.degraded[:, BANDS.index("B10")].isnan().all()
    red = BANDS.index("B04")
    assert torch.equal(hidden.degraded[:, red] == 0, hidden.cloud[:, 0] == 1)
    torch.testing.assert_close(hidden.target, batch.target, equal_nan=True)


def test_another_date_takes_the_colours_of_the_scene_and_its_bands() -> None:
    batch = make_guided()
    assert batch.older is not None
    assert batch.target is not None
    older = finish_older(batch, BANDS).older
    assert older is not None
    assert older[:, BANDS.index("B10")].isnan().all()
    assert older.isfinite().any()
    before, after = ((x - batch.target).abs().nanmean() for x in (batch.older, older))
    assert after < before / 2


def test_a_date_without_a_clear_pixel_in_common_keeps_its_own_colours() -> None:
    batch = make_guided()
    assert batch.older is not None
    older = finish_older(replace(batch, degraded=batch.degraded * 0), BANDS).older
    assert older is not None
    known = older.isfinite()
    assert known.any()
    torch.testing.assert_close(older[known], batch.older[known], atol=0.02, rtol=0.05)


def test_clouds_over_other_dates_are_masked_by_the_score() -> None:
    batch = make_guided()
    assert batch.older is not None
    for seed in range(8):
        cloudy = cloud_older(batch.older, BANDS, rng(seed))
        assert cloudy.isfinite().all()
        masked = finish_older(replace(batch, older=cloudy), BANDS).older
        assert masked is not None
        if masked.isnan().float().mean() > 0.5:
            return
    pytest.fail("no simulated cloud was masked")


@pytest.mark.parametrize("seed", range(6))
def test_a_changed_sample_keeps_missing_bands_and_is_finite_elsewhere(seed: int) -> None:
    augment = AugmentConfig(
        gain=0.3, hide=0.5, speckle=0.5, move=0.5, drop_polarisation=0.3, cloud_older=0.5, drop_older=0.2,
        give_cloud=0.5,
    )  # fmt: skip
    batch = change_clouds(make_guided(), rng(seed), augment=augment, bands=BANDS, is_clear=True)
    assert batch.target is not None
    kept = [i for i, band in enumerate(BANDS) if band != "B10"]
    for image in (batch.degraded, batch.target):
        assert image[:, kept].isfinite().all()
        assert image[:, BANDS.index("B10")].isnan().all()


def test_an_image_may_stay_clear() -> None:
    augment = AugmentConfig(leave=1.0)
    batch = change_clouds(make_batch("a"), rng(), augment=augment, bands=BANDS, is_clear=True)
    assert batch.target is not None
    assert batch.degraded.equal(batch.target)
    assert batch.cloud is not None
    assert not batch.cloud.any()


def test_without_new_options_a_sample_changes_as_before() -> None:
    batch = change_clouds(make_batch("a"), rng(), augment=AugmentConfig(), bands=BANDS, is_clear=True)
    assert batch.older is None
    assert batch.cloud is not None
    assert batch.cloud.isfinite().all()
