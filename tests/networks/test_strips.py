from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pellucid.networks._strips import STRIP, by_strips


def pixels(image: Tensor, missing: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
    assert missing is None
    return weight * image.tanh(), avg_pool2d(image, 8)


@torch.inference_mode()
@pytest.mark.parametrize("height", [4 * STRIP, 4 * STRIP + 8])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_strips_give_what_the_whole_image_does(height: int, layout: torch.memory_format) -> None:
    image = torch.rand(2, 5, height, 24).contiguous(memory_format=layout)
    weight = torch.rand(2, 1, height, 24)
    for whole, found in zip(pixels(image, None, weight), by_strips(pixels, image, None, weight), strict=True):
        assert torch.equal(found, whole)
        assert found.stride() == whole.stride()


def count_calls(calls: list[int]) -> Callable[[Tensor], tuple[Tensor]]:
    def work(image: Tensor) -> tuple[Tensor]:
        calls.append(image.shape[2])
        return (image.square(),)

    return work


def test_images_are_whole_where_gradients_are_wanted() -> None:
    calls: list[int] = []
    image = torch.rand(1, 2, 2 * STRIP, 3, requires_grad=True)
    by_strips(count_calls(calls), image)[0].sum().backward()
    assert image.grad is not None
    torch.testing.assert_close(image.grad, 2 * image.detach())
    with torch.no_grad():
        by_strips(count_calls(calls), image)
    assert calls == [2 * STRIP, STRIP, STRIP]
