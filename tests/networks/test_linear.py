"""Products of pixels with a matrix: those of a linear layer, whichever library makes them."""

import pytest
import torch
from torch import nn

from pellucid.networks import _linear
from pellucid.networks._linear import Linear


@pytest.mark.parametrize("shape", [(7,), (1, 7), (5, 3, 7), (2, 3, 4, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_the_linear_layer(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = Linear(7, 5, bias=bias), nn.Linear(7, 5, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape).requires_grad_()
    torch.testing.assert_close(ours(x), theirs(x))
    found, wanted = (torch.autograd.grad(layer(x).square().sum(), x)[0] for layer in (ours, theirs))
    torch.testing.assert_close(found, wanted)


def test_rows_that_do_not_lie_side_by_side_are_taken_too() -> None:
    x, layer = torch.randn(2, 6, 4).mT, nn.Linear(6, 3)
    torch.testing.assert_close(_linear.linear(x, layer.weight, layer.bias), layer(x))


def test_half_precision_stays_with_the_linear_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_linear, "conv2d", None)
    layer, x = Linear(6, 3), torch.randn(2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
