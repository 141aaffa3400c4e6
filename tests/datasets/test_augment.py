import colorsys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pellucid.data.batch import Batch
from pellucid.data.cloud_score import cloud_score
from pellucid.data.ranges import SENTINEL2
from pellucid.datasets._augment import (
    AugmentConfig,
    LowResolutionAugment,
    PictureAugment,
    change_clouds,
    change_low_resolution,
    change_pair,
    cloud_over,
    jitter_color,
    random_crop,
    random_gain,
    random_radar,
    random_turn,
    shift_hue,
    turn,
)
from pellucid.simulate.clouds import SkyOptions

STRONG = AugmentConfig(scale=0.4, gain=0.3, simulate=0.5, drop_radar=0.3, radar_shift=0.05)

ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def make_batch(name: str = "a", size: int = 48) -> Batch:
    """All images of a batch show the same ramp, so that they stay alike as long as they move together."""
    ramp = torch.linspace(0.05, 0.4, size * size).view(1, 1, size, size)
    return Batch(
        degraded=ramp.repeat(1, 13, 1, 1),
        target=ramp.repeat(1, 13, 1, 1),
        sar=ramp.repeat(1, 2, 1, 1),
        cloud=ramp.clone(),
        valid=torch.ones(1, 1, size, size, dtype=torch.bool),
        key=(name,),
    )


def make_slice(name: str = "s", size: int = 48, scale: int = 4) -> Batch:
    """Both images of a slice show the same ramp: the degraded one holds the mean of each block."""
    rows = torch.arange(size).view(1, 1, size, 1)
    target = (rows * size + torch.arange(size)) / size**2
    return Batch(
        degraded=avg_pool2d(target, scale),
        target=target,
        valid=torch.ones_like(target, dtype=torch.bool),
        key=(name,),
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_all_images_move_together(seed: int) -> None:
    batch = random_crop(make_batch(), 32, 0.4, generator(seed))
    batch = random_turn(batch, AugmentConfig(), generator(seed))
    assert batch.target is not None
    assert batch.sar is not None
    assert batch.cloud is not None
    for image in (batch.target, batch.sar, batch.cloud):
        torch.testing.assert_close(image[:, :1], batch.degraded[:, :1])


def test_a_gain_keeps_degraded_and_target_alike_and_within_range() -> None:
    batch = random_gain(make_batch(), 0.5, generator(3))
    assert batch.target is not None
    torch.testing.assert_close(batch.degraded, batch.target)
    assert not torch.equal(batch.degraded, make_batch().degraded)
    assert 0 <= batch.degraded.min() <= batch.degraded.max() <= 1


def test_radar_that_is_dropped_is_nan() -> None:
    dropped = random_radar(make_batch(), AugmentConfig(drop_radar=1.0), generator())
    assert dropped.sar is not None
    assert dropped.sar.isnan().all()


def test_clouds_leave_the_target_alone_and_say_where_they_are() -> None:
    batch = cloud_over(make_batch(), SENTINEL2.bands, generator(1), SkyOptions(overcast=1.0, thin=0.0))
    assert batch.target is not None
    assert batch.cloud is not None
    assert torch.equal(batch.target, make_batch().target)  # type: ignore[arg-type]
    assert batch.cloud.mean() > 0.5


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_clouds_may_be_told_as_the_score_sees_them(share: float) -> None:
    batch = change_clouds(
        make_batch(),
        generator(1),
        augment=AugmentConfig(score_clouds=share),
        bands=SENTINEL2.bands,
        is_clear=True,
    )
    is_scored = torch.equal(batch.cloud, cloud_score(batch.degraded, SENTINEL2.bands))  # type: ignore[arg-type]
    assert is_scored == bool(share)


@pytest.mark.parametrize("seed", range(5))
def test_both_images_of_a_slice_move_together(seed: int) -> None:
    batch = random_crop(make_slice(), 24, 0.0, generator(seed))
    batch = random_turn(batch, AugmentConfig(), generator(seed))
    assert batch.target is not None
    assert (batch.target.shape, batch.degraded.shape) == ((1, 1, 24, 24), (1, 1, 6, 6))
    torch.testing.assert_close(avg_pool2d(batch.target, 4), batch.degraded)


def test_crops_of_a_slice_reach_its_corners() -> None:
    crops = [random_crop(make_slice(), 24, 0.0, generator(seed)) for seed in range(300)]
    values = {float(image.flatten()[i]) for image in (crop.degraded for crop in crops) for i in (0, -1)}
    low = make_slice().degraded.flatten()
    assert float(low[0]) in values
    assert float(low[-1]) in values


def test_a_zoomed_slice_keeps_its_scale() -> None:
    batch = random_crop(make_slice(), 24, 0.4, generator(2))
    assert batch.target is not None
    assert (batch.target.shape, batch.degraded.shape) == ((1, 1, 24, 24), (1, 1, 6, 6))
    torch.testing.assert_close(batch.target.mean(), batch.degraded.mean(), rtol=0.02, atol=0)


def change(batch: Batch, seed: int = 0, **options: object) -> Batch:
    augment = LowResolutionAugment.model_validate(options)
    return change_low_resolution(batch, generator(seed), augment=augment)


def test_nothing_changes_where_nothing_is_asked_for() -> None:
    assert torch.equal(change(make_slice()).degraded, make_slice().degraded)


def test_only_the_low_resolution_changes_and_stays_in_range() -> None:
    options = {"noise": 1.0, "noise_std": (0.3, 0.5), "blur": 1.0, "intensity": 1.0}
    batch, before = change(make_slice(), **options), make_slice()
    assert batch.target is not None
    assert before.target is not None
    assert torch.equal(batch.target, before.target)
    assert torch.equal(batch.valid, before.valid)
    assert not torch.equal(batch.degraded, before.degraded)
    assert 0 <= batch.degraded.min() <= batch.degraded.max() <= 1


def test_intensity_is_a_factor_and_a_shift_within_their_ranges() -> None:
    low = make_slice().degraded * 0.5 + 0.2  # so that nothing is clipped
    pairs = set()
    for seed in range(20):
        image = change(replace(make_slice(), degraded=low), seed, intensity=1.0).degraded
        contrast = float((image.max() - image.min()) / (low.max() - low.min()))
        brightness = float((image - contrast * low).mean())
        assert 0.85 <= contrast <= 1.15
        assert -0.1 <= brightness <= 0.1
        torch.testing.assert_close(image, contrast * low + brightness)
        pairs.add((contrast, brightness))
    assert len(pairs) == 20


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    flat = replace(make_slice(), degraded=torch.full((1, 1, 100, 100), 0.5))
    noisy = change(flat, noise=1.0, noise_std=(0.03, 0.03)).degraded
    assert noisy.std() == pytest.approx(0.03, rel=0.05)
    assert noisy.mean() == pytest.approx(0.5, abs=0.002)


def test_blur_is_gaussian_in_pixels_of_the_low_resolution() -> None:
    blurred = change(make_slice(), blur=1.0, blur_sigma=(0.7, 0.7)).degraded
    expected = gaussian_filter(make_slice().degraded[0, 0].numpy(), 0.7)
    np.testing.assert_allclose(blurred[0, 0], expected, atol=1e-6)


def test_each_change_comes_as_often_as_asked() -> None:
    for name, share in (("noise", 0.3), ("blur", 0.2), ("intensity", 0.3)):
        before = make_slice().degraded
        changed = [
            not torch.equal(change(make_slice(), i, **{name: share}).degraded, before) for i in range(500)
        ]
        assert sum(changed) / 500 == pytest.approx(share, abs=0.06)


def make_pair(side: int = 24) -> Batch:
    sar = torch.rand(1, 1, side, side, generator=generator())
    target = torch.rand(1, 3, side, side, generator=generator(1))
    valid = torch.ones(1, 1, side, side, dtype=torch.bool)
    return Batch(
        degraded=sar.repeat(1, 3, 1, 1), sar=sar, target=target, valid=valid, key=("a",), prompt=("",)
    )


def change_colors(seed: int = 0, **keys: Any) -> Batch:
    return change_pair(make_pair(), generator(seed), augment=PictureAugment(**keys))


def target_of(batch: Batch) -> Tensor:
    assert batch.target is not None
    return batch.target


@pytest.mark.parametrize("name", list(ENHANCERS))
def test_a_change_of_color_is_that_of_pillow(name: str) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = torch.from_numpy(stored / np.float32(255)).permute(2, 0, 1)[None]
    factor = 1 + 0.5 * (2 * float(torch.rand((), generator=generator(7))) - 1)
    changed = jitter_color(image, generator(7), augment=PictureAugment(**{name: 0.5}))
    pillow = np.asarray(
        ImageEnhance.__dict__[ENHANCERS[name].__name__](Image.fromarray(stored)).enhance(factor)
    )
    # Pillow rounds to 8 bit, grey included.
    np.testing.assert_allclose(changed[0].permute(1, 2, 0) * 255, pillow, atol=2)


@pytest.mark.parametrize("shift", [0.0, 0.05, -0.3, 0.5])
def test_hues_turn_as_in_colorsys(shift: float) -> None:
    image = torch.rand(1, 3, 4, 5, generator=generator())
    image[..., 0, 0] = 0.3  # grey has no hue
    image[..., 0, 1] = 0
    shifted = shift_hue(image, shift)
    for y in range(4):
        for x in range(5):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[0, :, y, x].tolist())
            expected = colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)
            np.testing.assert_allclose(shifted[0, :, y, x], expected, atol=1e-5)


def test_nothing_changes_where_nothing_is_wanted() -> None:
    pair, same = make_pair(), change_colors()
    assert all(torch.equal(image, same.images()[name]) for name, image in pair.images().items())


def test_colors_change_the_picture_alone_and_noise_the_radar_alone() -> None:
    pair = make_pair()
    colored = change_colors(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
    assert torch.equal(colored.degraded, pair.degraded)
    assert not torch.allclose(target_of(colored), target_of(pair), atol=0.01)
    noisy = change_colors(radar_noise=0.05)
    assert torch.equal(target_of(noisy), target_of(pair))
    assert noisy.sar is not None
    assert pair.sar is not None
    assert torch.equal(noisy.degraded, noisy.sar.repeat(1, 3, 1, 1))
    inside = (pair.sar > 0.2) & (pair.sar < 0.8)
    assert float((noisy.sar - pair.sar)[inside].std()) == pytest.approx(0.05, rel=0.1)


def test_the_same_seed_makes_the_same_change() -> None:
    keys = {"rotation": 10, "hue": 0.05, "radar_noise": 0.01}
    first, again, other = change_colors(3, **keys), change_colors(3, **keys), change_colors(4, **keys)
    assert torch.equal(target_of(first), target_of(again))
    assert torch.equal(first.degraded, again.degraded)
    assert not torch.equal(target_of(first), target_of(other))


def test_a_quarter_turn_is_exact_and_a_small_one_turns_all_images_alike() -> None:
    pair = make_pair()
    quarter = turn(pair, 90)
    torch.testing.assert_close(target_of(quarter), target_of(pair).rot90(1, (-2, -1)), atol=1e-5, rtol=0)
    small = turn(pair, 8)
    assert torch.equal(small.degraded[:, 0], small.degraded[:, 1])
    assert not small.valid[0, 0, 0, 0]
    assert small.valid[0, 0, 4:-4, 4:-4].all()
    assert target_of(small).isfinite().all()


def test_a_turn_moves_a_point_about_the_centre_counterclockwise_by_its_angle() -> None:
    side, at = 41, (5, 20)
    image = torch.zeros(1, 1, side, side)
    image[0, 0, at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2] = 1
    valid = torch.ones(1, 1, side, side, dtype=torch.bool)
    turned = turn(Batch(degraded=image, valid=valid, key=("a",)), 30).degraded[0, 0]
    where = torch.arange(side, dtype=torch.float32)
    y, x = ((turned.sum(dim) * where).sum() / turned.sum() for dim in (1, 0))
    assert float(x) == pytest.approx(20 - 15 * 0.5, abs=0.2)
    assert float(y) == pytest.approx(20 - 15 * 0.866, abs=0.2)
