from dataclasses import replace

import pytest
import torch
from loss_batches import flat, loss_batch, noisy, term


def test_an_error_under_cloud_counts_three_times_that_in_the_clear() -> None:
    cloud = torch.zeros(1, 1, 16, 16)
    cloud[..., :8, :] = 1
    made = replace(loss_batch(target=flat(0.5)), cloud=cloud)
    restored = flat(0.5)
    restored[..., :8, :] += 0.1
    cloudy = term("cloudy_l1")(restored, made).item()
    clear = term("cloudy_l1")(restored.flip(2), made).item()
    assert cloudy == pytest.approx(3 * clear)
    assert cloudy + clear == pytest.approx(0.1)  # as much as without weights


def test_without_a_cloud_map_it_is_the_mean_absolute_error() -> None:
    restored, made = noisy()
    made = replace(made, cloud=None)
    torch.testing.assert_close(term("cloudy_l1")(restored, made), term("l1")(restored, made))
