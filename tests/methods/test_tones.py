import pytest
import torch
from torch import Tensor

from pellucid.methods.tones import Tones, describe

DARK, BRIGHT = (0.1, 0.2, 0.6), (0.8, 0.7, 0.4)


def radar(level: float, seed: int, size: tuple[int, int] = (64, 48)) -> Tensor:
    """Speckle about a level, (1, 1, H, W)."""
    noise = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed))
    return (level + 0.05 * noise).clamp(0, 1)


def taught() -> Tones:
    """Dark radar is of blue pictures, bright radar of sand."""
    pairs = [(0.2, DARK), (0.7, BRIGHT)]
    return Tones.of(
        (radar(level, seed), torch.tensor(color).view(1, 3, 1, 1).expand(1, 3, 64, 48))
        for seed in range(6)
        for level, color in pairs
    )


def test_a_picture_gets_the_colour_of_those_whose_radar_is_alike() -> None:
    tones = taught()
    assert tones(radar(0.2, 10)) == pytest.approx(DARK, abs=0.05)
    assert tones(radar(0.7, 11, size=(80, 96))) == pytest.approx(BRIGHT, abs=0.05)


def test_radar_like_none_gets_the_mean_colour_of_all() -> None:
    checks = (torch.arange(64)[:, None] // 16 + torch.arange(64)) % 2 * 1.0
    middle = [(dark + bright) / 2 for dark, bright in zip(DARK, BRIGHT, strict=True)]
    assert taught()(checks[None, None]) == pytest.approx(middle, abs=0.02)


def test_the_table_is_all_there_is_to_know() -> None:
    tones = taught()
    again = Tones(tones.table)
    assert again(radar(0.4, 12)) == tones(radar(0.4, 12))
    assert len(tones.table) == 12
    assert tones.table[0][-3:] == DARK


def test_statistics_of_an_image_of_one_value_and_of_a_tiny_one() -> None:
    flat = describe(torch.full((1, 1, 40, 40), 0.3))
    assert flat.tolist() == pytest.approx([0, 0, *[0.3] * 8, *[0] * 6], abs=1e-6)
    black, white = torch.zeros(1, 1, 5, 3), torch.ones(1, 1, 5, 3)
    assert describe(black)[:3].tolist() == [1, 0, 0]
    assert describe(white)[:3].tolist() == [0, 1, 1]
