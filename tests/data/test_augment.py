import pytest
import torch

from pellucid.config import AugmentConfig
from pellucid.data.augment import (
    TrainingStream,
    cloud_over,
    random_crop,
    random_gain,
    random_radar,
    random_turn,
)
from pellucid.data.batch import Batch
from pellucid.data.clouds import CloudOptions
from pellucid.data.ranges import SENTINEL2

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


class Patches:
    def __init__(self, *groups: str) -> None:
        self.groups = groups
        self.keys = tuple(f"{group}_{i}" for i, group in enumerate(groups))

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Batch:
        return make_batch(self.keys[index])


def make_stream(
    *, seed: int = 0, hold_out: tuple[str, ...] = (), augment: AugmentConfig = STRONG
) -> TrainingStream:
    sources = [(Patches("x", "x", "y"), 1.0, False), (Patches("clear"), 1.0, True)]
    return TrainingStream(
        sources, length=64, tile=32, bands=SENTINEL2.bands, augment=augment, seed=seed, hold_out=hold_out
    )


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
    stream = TrainingStream(
        [(Patches("x"), 1.0, False)], length=1, tile=64, bands=SENTINEL2.bands, augment=STRONG, seed=0
    )
    with pytest.raises(ValueError, match=r"48 x 48 pixels, data\.tile needs 64"):
        stream[0]


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
