import pytest
import torch
from loss_batches import flat, loss_batch, noisy, term

from pellucid.losses.perceptual import PerceptualLoss


def test_perceptual_is_the_mean_squared_difference_of_features() -> None:
    restored, made = noisy()
    assert made.target is not None
    loss = term("perceptual")
    assert isinstance(loss, PerceptualLoss)
    (first,), (second,) = loss.network(restored), loss.network(made.target)
    torch.testing.assert_close(loss(restored, made), (first - second).square().mean())


def test_perceptual_refuses_what_is_neither_grey_nor_rgb() -> None:
    with pytest.raises(ValueError, match="the image has 2 bands, VGG needs grey or RGB"):
        term("perceptual")(flat(0.3), loss_batch(target=flat(0.5)))
