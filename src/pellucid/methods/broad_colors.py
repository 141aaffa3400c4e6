"""Pictures whose broad colours one model predicts and whose detail another one draws."""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

# How many deviations a Gaussian blur reaches.
REACH = 2.5


def with_broad_colors(drawn: Tensor, broad: Tensor, detail: float) -> Tensor:
    """Return pictures, (B, C, H, W), with the detail of `drawn` and all broader colours of `broad`.

    Args:
        drawn: pictures, (B, C, H, W).
        broad: pictures of the same size.
        detail: deviation in pixels of the blur that takes detail away; 0: `broad` alone, inf: `drawn` alone.
    """
    if not detail:
        return broad
    return drawn if math.isinf(detail) else broad + drawn - _blur(drawn, detail)


def _blur(image: Tensor, deviation: float) -> Tensor:
    """Return images, (B, C, H, W), under a Gaussian; they are mirrored beyond their edges."""
    for axis in (2, 3):
        reach = min(math.ceil(REACH * deviation), image.shape[axis] - 1)
        at = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
        line = (-at.square() / (2 * deviation**2)).exp()
        line = (line / line.sum()).view([-1 if each == axis else 1 for each in range(4)])
        border = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        image = pad(image, border, mode="reflect")
        image = conv2d(image, line.expand(image.shape[1], -1, -1, -1), groups=image.shape[1])
    return image
