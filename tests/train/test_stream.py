from dataclasses import replace
from functools import partial

import pytest
import torch
from tests.datasets.test_augment import STRONG, make_batch, make_slice
from torch.nn.functional import avg_pool2d

from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL2
from pellucid.datasets import _listing
from pellucid.datasets._augment import (
    AugmentConfig,
    LowResolutionAugment,
    change_clouds,
    change_low_resolution,
)
from pellucid.errors import InputError
from pellucid.train import stream as stream_module
from pellucid.train.stream import Centres, Change, TrainingStream


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


def test_a_tile_that_does_not_divide_by_the_scale_is_refused() -> None:
    stream = TrainingStream([(SlicePatches("s"), 1.0, keep)], length=1, tile=30, augment=STRONG, seed=0)
    with pytest.raises(InputError, match=r"data\.tile is 30, must be a multiple of method\.scale, 4"):
        stream[0]


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


class DatedPatches(Patches):
    """Three dates of one spot, and a place of its own; each as bright as its number."""

    has_older = True

    def __getitem__(self, index: int) -> Batch:
        batch = make_batch(self.keys[index])
        image = torch.full_like(batch.degraded, 0.1 + 0.1 * index)
        return replace(batch, target=image, older=torch.full_like(image, torch.nan))

    def companions(self, index: int) -> list[int]:
        return [i for i in range(3) if i != index] if index < 3 else []


def test_other_dates_are_drawn_and_missing_ones_are_nan_whatever_the_source() -> None:
    sources: list[tuple[_listing.Patches, float, Change]] = [
        (DatedPatches("held", "a", "b", "c"), 1.0, keep),
        (Patches("x"), 1.0, keep),
    ]
    stream = TrainingStream(sources, length=64, tile=32, augment=STRONG, seed=0, hold_out=("held",))
    batch = Batch.cat([stream[i] for i in range(64)])
    assert batch.older is not None
    pairs = {(key, round(float(older.mean()), 3)) for key, older in zip(batch.key, batch.older, strict=True)}
    found = {(key, value) for key, value in pairs if value == value}
    assert found == {("a_1", 0.3), ("b_2", 0.2)}
    assert {key for key, _ in pairs - found} == {"c_3", "x_0"}
