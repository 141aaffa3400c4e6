import dataclasses

import pytest
import torch
from torch import Tensor

from pellucid.networks.uncrtaints import (
    FIRST_LOG_VARIANCE,
    LOG_VARIANCE,
    Config,
    InvertedBottleneck,
    LightAttention,
    UncrtainNet,
    build,
)

TINY = Config(optical_bands=4, radar_bands=1, width=8, num_decoder=2, num_heads=2, cell=4)


def inputs(size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    batch, height, width = size
    return (
        torch.rand(batch, 4, height, width, generator=generator),
        torch.rand(batch, 1, height, width, generator=generator),
    )


def network(seed: int = 0) -> UncrtainNet:
    torch.manual_seed(seed)
    return build(TINY)


@pytest.mark.parametrize("size", [(1, 8, 12), (2, 20, 16)])
def test_image_and_variance_have_the_size_of_the_input(size: tuple[int, int, int]) -> None:
    output = network()(*inputs(size))
    assert output.shape == (size[0], 8, *size[1:])
    assert torch.allclose(output[:, 4:], torch.tensor(FIRST_LOG_VARIANCE))  # nothing is learned yet


def test_the_largest_size_is_light() -> None:
    with torch.device("meta"):
        made = build(Config())
    assert sum(weight.numel() for weight in made.parameters()) == 627_066


def test_gradients_reach_every_parameter() -> None:
    made = network()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    made(*inputs((2, 8, 8))).square().sum().backward()
    reached = {
        name for name, weight in made.named_parameters() if weight.grad is not None and weight.grad.any()
    }
    # What is added to all keys, the softmax over them takes out: its gradient is 0 but for rounding.
    assert reached | {"attend.keys.bias"} == {name for name, _ in made.named_parameters()}


def test_a_bottleneck_begins_as_the_identity() -> None:
    block, x = InvertedBottleneck(8, 2), torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(block(x) - block.narrow.bias[:, None, None], x)


def test_attention_takes_the_sensor_that_fits_its_query() -> None:
    attend = LightAttention(dataclasses.replace(TINY, width=2, num_heads=1, key=1))
    with torch.no_grad():
        attend.keys.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))  # the key is the first channel
        attend.keys.bias.zero_()
        attend.query.fill_(50.0)
    one, other = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    one[:, 0], one[:, 1], other[:, 1] = 1.0, 0.3, 0.7
    torch.testing.assert_close(attend([one, other]), one)
    torch.testing.assert_close(attend([other, one]), one)
    torch.testing.assert_close(attend([other, other]), other)


def test_variances_are_bounded() -> None:
    made = network()
    with torch.no_grad():
        made.log_variance.weight.normal_(std=1000)
        found = made(*inputs((1, 8, 8)))[:, 4:]
    assert (found.min().item(), found.max().item()) == LOG_VARIANCE


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width is 8, must divide by num_heads = 3"):
        build(dataclasses.replace(TINY, num_heads=3))
