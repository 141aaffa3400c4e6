"""Products of pixels with a matrix, by the faster of PyTorch's libraries."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.functional import linear as linear_layer


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the product of (..., D) with a matrix, (D', D), plus (D',), as a linear layer has it: (..., D').

    In float32 on a CPU it is a 1 x 1 convolution, which is oneDNN's: linear layers are MKL's, and on an AMD
    EPYC take twice as long.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return linear_layer(x, weight, bias)
    rows = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # channels last
    return conv2d(rows, weight[..., None, None], bias).permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """A linear layer whose product is that of `linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as the layer names it
        """Return (..., D') for (..., D)."""
        return linear(input, self.weight, self.bias)
