import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.apply.restored_share import SPECK_REACH_PX, restored_share, without_specks
from pellucid.data.cloud_score import box_mean


def square(side: int, size: int = 64) -> Tensor:
    cloudy = torch.zeros(1, size, size, dtype=torch.bool)
    cloudy[:, 30 : 30 + side, 30 : 30 + side] = True
    return cloudy


def blobs(size: int = 128) -> Tensor:
    noise = torch.rand(1, size, size, generator=torch.Generator().manual_seed(0))
    smooth = box_mean(box_mean(noise, 5), 5)
    return smooth > smooth.quantile(0.6)


@pytest.mark.parametrize("side", [1, 2])
def test_a_speck_is_not_restored(side: int) -> None:
    assert not restored_share(square(side), 4, 16).any()


@pytest.mark.parametrize("side", [3, 4, 9])
def test_a_small_cloud_is_restored_with_a_round_margin_and_a_feather(side: int) -> None:
    share = restored_share(square(side), 4, 16)
    inside = np.zeros((64, 64), bool)
    inside[30 : 30 + side, 30 : 30 + side] = True
    y, x = np.mgrid[:64, :64]
    away = np.hypot(
        np.maximum(0, np.maximum(30 - y, y - (29 + side))), np.maximum(0, np.maximum(30 - x, x - (29 + side)))
    )
    assert (share[away <= 4] > 1 - 1e-9).all()
    assert (share[away > 4 + 16 * 2**0.5] == 0).all()
    assert 0 < share[30, 30 - 8] < 1
    assert restored_share(square(side), 4, 0)[26, 26] == 0  # a square would hold it


def test_salt_noise_of_1_percent_restores_next_to_nothing() -> None:
    noise = torch.rand(1, 512, 512, generator=torch.Generator().manual_seed(0)) < 0.01
    assert noise.float().mean() > 0.009
    assert (restored_share(noise, 4, 16) > 0).mean() < 0.001
    whole = blobs(512)
    told = restored_share(whole | noise, 4, 16)
    assert ((told > 0) & (restored_share(whole, 4, 16) == 0)).mean() < 0.001


def test_a_real_mask_stays_as_it_is_and_holes_in_it_do_too() -> None:
    cloudy = blobs()
    assert (without_specks(cloudy) == cloudy).float().mean() > 0.999
    pepper = torch.rand(cloudy.shape, generator=torch.Generator().manual_seed(1)) < 0.01
    assert restored_share(cloudy & ~pepper, 4, 16)[cloudy[0].numpy()].min() > 1 - 1e-9


def test_a_line_of_two_pixels_is_cloud_also_at_the_edge_of_the_scene() -> None:
    line = torch.zeros(1, 40, 40, dtype=torch.bool)
    line[:, :, 20:22] = True
    assert (without_specks(line) == line).all()
    edge = torch.zeros(1, 40, 40, dtype=torch.bool)
    edge[:, :1] = True  # what a scene shows of a wider cloud
    assert (without_specks(edge) == edge).all()


def test_a_pixel_depends_on_those_within_the_reach_alone() -> None:
    cloudy, reach = blobs(), SPECK_REACH_PX + 4 + 16
    cloudy &= torch.rand(cloudy.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    part = restored_share(cloudy[:, 30 - reach : 70 + reach, 20:], 4, 16)
    whole = restored_share(cloudy, 4, 16)[30:70, 20 + reach :]
    np.testing.assert_allclose(part[reach:-reach, reach:], whole, atol=1e-9)


def test_nothing_cloudy_restores_nothing() -> None:
    assert not restored_share(torch.zeros(1, 20, 20, dtype=torch.bool), 4, 16).any()
