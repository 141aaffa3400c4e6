import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.datasets._augment import PictureAugment, change_pair, jitter_color, shift_hue, turn

ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_pair(side: int = 24) -> Batch:
    sar = torch.rand(1, 1, side, side, generator=rng())
    target = torch.rand(1, 3, side, side, generator=rng(1))
    valid = torch.ones(1, 1, side, side, dtype=torch.bool)
    return Batch(
        degraded=sar.repeat(1, 3, 1, 1), sar=sar, target=target, valid=valid, key=("a",), prompt=("",)
    )


def change(seed: int = 0, **keys: Any) -> Batch:
    return change_pair(make_pair(), rng(seed), augment=PictureAugment(**keys))


def target_of(batch: Batch) -> Tensor:
    assert batch.target is not None
    return batch.target


@pytest.mark.parametrize("name", list(ENHANCERS))
def test_a_change_of_color_is_that_of_pillow(name: str) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = torch.from_numpy(stored / np.float32(255)).permute(2, 0, 1)[None]
    factor = 1 + 0.5 * (2 * float(torch.rand((), generator=rng(7))) - 1)
    changed = jitter_color(image, rng(7), augment=PictureAugment(**{name: 0.5}))
    pillow = np.asarray(
        ImageEnhance.__dict__[ENHANCERS[name].__name__](Image.fromarray(stored)).enhance(factor)
    )
    # Pillow rounds to 8 bit, grey included.
    np.testing.assert_allclose(changed[0].permute(1, 2, 0) * 255, pillow, atol=2)


@pytest.mark.parametrize("shift", [0.0, 0.05, -0.3, 0.5])
def test_hues_turn_as_in_colorsys(shift: float) -> None:
    image = torch.rand(1, 3, 4, 5, generator=rng())
    image[..., 0, 0] = 0.3  # grey has no hue
    image[..., 0, 1] = 0
    shifted = shift_hue(image, shift)
    for y in range(4):
        for x in range(5):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[0, :, y, x].tolist())
            expected = colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)
            np.testing.assert_allclose(shifted[0, :, y, x], expected, atol=1e-5)


def test_nothing_changes_where_nothing_is_wanted() -> None:
    pair, same = make_pair(), change()
    assert all(torch.equal(image, same.images()[name]) for name, image in pair.images().items())


def test_colors_change_the_picture_alone_and_noise_the_radar_alone() -> None:
    pair = make_pair()
    colored = change(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
    assert torch.equal(colored.degraded, pair.degraded)
    assert not torch.allclose(target_of(colored), target_of(pair), atol=0.01)
    noisy = change(radar_noise=0.05)
    assert torch.equal(target_of(noisy), target_of(pair))
    assert noisy.sar is not None
    assert pair.sar is not None
    assert torch.equal(noisy.degraded, noisy.sar.repeat(1, 3, 1, 1))
    inside = (pair.sar > 0.2) & (pair.sar < 0.8)
    assert float((noisy.sar - pair.sar)[inside].std()) == pytest.approx(0.05, rel=0.1)


def test_the_same_seed_makes_the_same_change() -> None:
    keys = {"rotation": 10, "hue": 0.05, "radar_noise": 0.01}
    first, again, other = change(3, **keys), change(3, **keys), change(4, **keys)
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
