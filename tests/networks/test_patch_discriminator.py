import pytest
import torch

from pellucid.networks import _patch_discriminator as patches


@pytest.mark.parametrize(("sides", "cells"), [((32, 24), (4, 3)), ((9, 17), (1, 2))])
def test_each_patch_is_rated(sides: tuple[int, int], cells: tuple[int, int]) -> None:
    network = patches.build(patches.Config(bands=2, width=8))
    assert network(torch.rand(3, 2, *sides)).shape == (3, 1, *cells)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    network = patches.build(patches.Config(bands=3, width=8))
    network(torch.rand(1, 3, 32, 32)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_a_patch_has_54_pixels_a_side() -> None:
    network = patches.build(patches.Config(width=8)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):  # which would join all patches of an image
            module.forward = lambda x: x  # type: ignore[method-assign]
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    network(image)[0, 0, 8, 8].backward()
    seen = image.grad.abs().sum((0, 1, 3)).nonzero()
    assert seen.max() - seen.min() + 1 == 54


def test_no_image_influences_another() -> None:
    network = patches.build(patches.Config(width=8))
    images = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))


def test_channels_that_no_norm_divides_are_refused() -> None:
    with pytest.raises(ValueError, match="width is 12, must divide by 8"):
        patches.build(patches.Config(width=12))
