from dataclasses import replace
from pathlib import Path

import golden
import pytest
import torch
from loss_batches import flat, loss_batch

from pellucid.losses.l1 import l1
from pellucid.losses.multi_scale import multi_scale


def test_l1_and_multi_scale_equal_the_published_ones(golden_folder: Path) -> None:
    published = golden.arrays(golden_folder, "sr3_losses")
    made = loss_batch(target=published["hr"])
    # Published as a sum; here, as every term, a mean.
    total = l1(published["pred"], made) * published["pred"].numel()
    torch.testing.assert_close(total, published["l1_sum"], **golden.TOLERANCE)
    torch.testing.assert_close(
        multi_scale(published["pred"], made), published["multi_scale"], **golden.TOLERANCE
    )


def test_multi_scale_counts_a_constant_error_at_every_scale() -> None:
    assert multi_scale(flat(0.3), loss_batch(target=flat(0.5))).item() == pytest.approx(3 * 0.04)


def test_multi_scale_reduces_images_whose_sides_do_not_divide() -> None:
    made = loss_batch(target=torch.zeros(1, 2, 15, 18))
    error = torch.full((1, 2, 15, 18), 0.2)
    error[..., 12:, :] = error[..., 16:] = 7
    valid = error[:, :1] < 1
    loss = multi_scale(error, replace(made, valid=valid))
    assert loss.item() == pytest.approx(3 * 0.04)
