from dataclasses import replace

import pytest
import torch
from loss_batches import loss_batch, noisy, term
from tests.losses.test_shelf import needs_of

from pellucid.errors import InputError
from pellucid.losses.lpips import LpipsLoss, build


def test_lpips_is_the_distance_that_evaluation_reports() -> None:
    restored, made = noisy()
    loss = term("lpips")
    assert isinstance(loss, LpipsLoss)
    torch.testing.assert_close(loss(restored, made), loss.distance(restored, made.reference()).mean())


def test_an_image_without_a_valid_pixel_is_left_out() -> None:
    restored, made = noisy()
    first = loss_batch(target=made.reference()[:1])
    valid = made.valid.clone()
    valid[1] = False
    torch.testing.assert_close(
        term("lpips")(restored, replace(made, valid=valid)), term("lpips")(restored[:1], first)
    )


def test_lpips_needs_weights_and_colours() -> None:
    with pytest.raises(InputError, match="name a file or URL in `lpips_weights`"):
        build(needs_of(bands=3))
    with pytest.raises(InputError, match="sees grey or three bands, the method has 13"):
        build(needs_of(bands=13))
