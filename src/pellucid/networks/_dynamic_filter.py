"""A filter whose kernels are generated for each pixel and channel, without ever holding the kernels."""

from collections.abc import Iterator
from itertools import product
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.networks._fused import is_fused
from pellucid.networks._linear import linear

# Pixels that a CPU filters at once, so that they stay in its second-level cache through all taps.
PIXELS_AT_ONCE = 2048


def dynamic_filter(image: Tensor, features: Tensor, weight: Tensor, bias: Tensor, *, slope: float) -> Tensor:
    """Return the image, each pixel and channel filtered by a K x K kernel of its own.

    The kernels are leaky_relu(conv1x1(features)); K*K times as large as the image, they are generated and
    used tap by tap, and generated again for the gradient. Nothing is flipped; borders are replicated.

    Args:
        image: (B, C, H, W).
        features: (B, D, H, W); its dtype is that of the computation.
        weight: (C*K*K, D, 1, 1) of the convolution; channel c, row y, column x is at (c * K + y) * K + x.
        bias: (C*K*K,).
        slope: of the LeakyReLU for negative values; 1 for none.

    Returns:
        (B, C, H, W) in the dtype of `features`, channels-last.
    """
    channels = image.shape[1]
    num_taps = len(weight) // channels
    margin = isqrt(num_taps) // 2
    by_tap = weight.to(features.dtype).reshape(channels, num_taps, -1).transpose(0, 1).contiguous()
    bias_by_tap = bias.to(features.dtype).reshape(channels, num_taps).T.contiguous()
    pixels = features.permute(0, 2, 3, 1)
    if is_fused(features):
        from pellucid.networks import _kernels

        whole = image.permute(0, 2, 3, 1).to(features.dtype).contiguous()
        found = _kernels.dynamic_filter(whole, pixels.contiguous(), by_tap, bias_by_tap, slope)
        return found.permute(0, 3, 1, 2)
    # Cast last: automatic mixed precision pads in float32.
    padded = _replicated(image, margin).permute(0, 2, 3, 1).to(features.dtype)
    out = _Filter.apply(padded.contiguous(), pixels, by_tap, bias_by_tap, slope)  # type: ignore[no-untyped-call]
    return out.permute(0, 3, 1, 2)


def _replicated(image: Tensor, margin: int) -> Tensor:
    """Return an image, (B, C, H, W), with its borders repeated `margin` times outwards."""
    if not torch.compiler.is_compiling():
        return F.pad(image, (margin,) * 4, mode="replicate")
    # The compiled gradient of F.pad fails where the image is channels-last (torch 2.13).
    rows, columns = (
        torch.arange(-margin, side + margin, device=image.device).clamp(0, side - 1)
        for side in image.shape[-2:]
    )
    return image.index_select(-2, rows).index_select(-1, columns)


class _Filter(torch.autograd.Function):
    """The sum over taps; images are (B, H, W, C), weights (taps, C, D), biases (taps, C)."""

    @staticmethod
    def forward(
        ctx: Any, padded: Tensor, features: Tensor, weight: Tensor, bias: Tensor, slope: float
    ) -> Tensor:
        ctx.save_for_backward(padded, features, weight, bias)
        ctx.slope = slope
        batch, height, width, _ = features.shape
        out = padded.new_zeros(batch, height, width, padded.shape[-1])
        rows = max(1, PIXELS_AT_ONCE // (batch * width)) if out.device.type == "cpu" else height
        for top in range(0, height, rows):
            part, above = out[:, top : top + rows], features[:, top : top + rows]
            for tap, (y, x) in enumerate(_offsets(len(weight))):
                kernel = F.leaky_relu_(linear(above, weight[tap], bias[tap]), slope)
                part.addcmul_(kernel, padded[:, top + y : top + y + part.shape[1], x : x + width])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        padded, features, weight, bias = ctx.saved_tensors
        _, height, width, _ = features.shape
        exact = torch.promote_types(grad.dtype, torch.float32)  # half precision would spoil the sums
        grad_padded = torch.zeros_like(padded, dtype=exact)
        grad_features = torch.zeros_like(features, dtype=exact)
        grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
        for tap, (y, x) in enumerate(_offsets(len(weight))):
            raw = linear(features, weight[tap], bias[tap])
            here = slice(None), slice(y, y + height), slice(x, x + width)
            grad_raw = torch.where(raw > 0, grad, grad * ctx.slope).mul_(padded[here])
            grad_padded[here] += F.leaky_relu_(raw, ctx.slope).mul_(grad)
            grad_features += grad_raw @ weight[tap]
            grad_rows = grad_raw.flatten(0, 2)
            grad_weight[tap] = grad_rows.T @ features.flatten(0, 2)
            grad_bias[tap] = grad_rows.sum(0)
        return grad_padded.to(padded.dtype), grad_features.to(features.dtype), grad_weight, grad_bias, None


def _offsets(num_taps: int) -> Iterator[tuple[int, int]]:
    """Yield row and column of each tap of a square kernel."""
    side = range(isqrt(num_taps))
    return product(side, side)
