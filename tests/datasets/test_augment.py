from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import avg_pool2d

from pellucid.data.batch import Batch
from pellucid.data.cloud_score import cloud_score
from pellucid.data.ranges import SENTINEL2
from pellucid.datasets import _listing
from pellucid.datasets._augment import (
    AugmentConfig,
    LowResolutionAugment,
    change_clouds,
    change_low_resolution,
    cloud_over,
    random_crop,
    random_gain,
    random_radar,
    random_turn,
)
from pellucid.errors import InputError
from pellucid.simulate.clouds import CloudOptions
from pellucid.train import stream as stream_module
from pellucid.train.stream import Centres, Change, TrainingStream

STRONG = AugmentConfig(scale=0.4, gain=0.3, simulate=0.5, drop_radar=0.3, radar_shift=0.05)


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


def keep(batch: Batch, _: torch.Generator) -> Batch:
    return batch


class Patches(_listing.Patches):
    def __init__(self, *groups: str) -> None:
        self.groups = groups
        self.keys = tuple(f"{group}_{i}" for i, group in enumerate(groups))
        self.num_read = 0

    def __getitem__(self, index: int) -> Batch:
        self.num_read += 1
        return make_batch(self.keys[index])


class SlicePatches(Patches):
    def __getitem__(self, index: int) -> Batch:
        return make_slice(self.keys[index])


def make_stream(
    *, seed: int = 0, hold_out: tuple[str, ...] = (), augment: AugmentConfig = STRONG
) -> TrainingStream:
    change = partial(change_clouds, augment=augment, bands=SENTINEL2.bands)
    sources: list[tuple[Patches, float, Change]] = [
        (Patches("x", "x", "y"), 1.0, partial(change, is_clear=False)),
        (Patches("clear"), 1.0, partial(change, is_clear=True)),
    ]
    return TrainingStream(sources, length=64, tile=32, augment=augment, seed=seed, hold_out=hold_out)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("index", [0, 17, 63])
def test_a_sample_depends_on_seed_and_number_alone(index: int) -> None:
    first, second = make_stream(), make_stream()
    for i in range(5):
        second[i]
    a, b = first[index], second[index]
    assert a.key == b.key
    for name, image in a.images().items():
        torch.testing.assert_close(image, b.images()[name], rtol=0, atol=0, equal_nan=True)


def test_another_seed_gives_other_samples() -> None:
    assert not torch.equal(make_stream(seed=0)[3].degraded, make_stream(seed=1)[3].degraded)


def test_a_place_that_is_held_out_never_appears() -> None:
    stream = make_stream(hold_out=("x",))
    assert stream.places == {"y", "clear"}
    assert {stream[i].key[0].split("_")[0] for i in range(40)} == {"y", "clear"}


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="no patch left"):
        make_stream(hold_out=("clear",))


def test_a_patch_smaller_than_the_tile_is_refused() -> None:
    stream = TrainingStream([(Patches("x"), 1.0, keep)], length=1, tile=64, augment=STRONG, seed=0)
    with pytest.raises(InputError, match=r"48 x 48 pixels, data\.tile needs 64"):
        stream[0]


def test_the_middle_of_a_patch_is_cut_out_of_all_its_images() -> None:
    centres = Centres(Patches("x", "y"), 20)
    assert (len(centres), centres.keys, centres.groups) == (2, ("x_0", "y_1"), ("x", "y"))
    for name, image in centres[1].images().items():
        torch.testing.assert_close(image, make_batch().images()[name][..., 14:34, 14:34])
    small = Centres(SlicePatches("x"), 24)[0]
    torch.testing.assert_close(avg_pool2d(small.target, 4), small.degraded)
    torch.testing.assert_close(small.target, make_slice().target[..., 12:36, 12:36])
    with pytest.raises(InputError, match=r"x_0 has 48 x 48 pixels, data.tile needs 49; lower it"):
        Centres(Patches("x"), 49)[0]


def test_clear_sources_always_lie_under_simulated_clouds() -> None:
    stream = make_stream(augment=AugmentConfig(flip=False, turn=False))
    for i in range(30):
        sample = stream[i]
        assert sample.target is not None
        changed = not torch.equal(sample.degraded, sample.target)
        assert changed == sample.key[0].startswith("clear")


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
    batch = cloud_over(make_batch(), SENTINEL2.bands, generator(1), CloudOptions(overcast=1.0, thin=0.0))
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


def test_patches_that_are_kept_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    one = sum(image.nbytes for image in make_batch().images().values())
    for limit, expected in ((10 * one, 3), (2 * one, 64), (0, 64)):
        monkeypatch.setattr(stream_module, "CACHED", limit)
        patches = Patches("x", "y", "z")
        stream = TrainingStream([(patches, 1.0, keep)], length=64, tile=32, augment=STRONG, seed=0)
        for i in range(64):
            stream[i]
        kept = stream.kept[0]
        assert kept.num_bytes == len(kept.kept) * one <= max(limit, one)
        assert patches.num_read <= expected
        assert patches.num_read >= min(expected, 20)


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


def test_a_tile_that_does_not_divide_by_the_scale_is_refused() -> None:
    stream = TrainingStream([(SlicePatches("s"), 1.0, keep)], length=1, tile=30, augment=STRONG, seed=0)
    with pytest.raises(InputError, match=r"data\.tile is 30, must be a multiple of method\.scale, 4"):
        stream[0]


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


def test_a_sample_of_slices_depends_on_seed_and_number_alone() -> None:
    options = LowResolutionAugment(noise=0.5, blur=0.5, intensity=0.5)

    def make(seed: int) -> TrainingStream:
        sources = [(SlicePatches("s", "t"), 1.0, partial(change_low_resolution, augment=options))]
        return TrainingStream(sources, length=64, tile=24, augment=AugmentConfig(), seed=seed)

    first, second, other = make(0), make(0), make(1)
    second[3]
    samples = [(first[i], second[i], other[i]) for i in (0, 17, 63)]
    for a, b, c in samples:
        assert a.key == b.key
        assert all(torch.equal(image, b.images()[name]) for name, image in a.images().items())
        assert not torch.equal(a.degraded, c.degraded)
