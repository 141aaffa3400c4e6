"""The detail of the ground that shines through thin cloud, added to what is painted."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from pellucid.networks._strips import by_strips

# Detail is what is smaller than about 24 pixels: than 3 x 3 cells of this size, blurred twice.
DETAIL_CELL = 4


def add_detail(
    colours: Tensor, image: Tensor, confidence: Tensor, sure: Tensor, keep: Tensor, values: Tensor
) -> Tensor:
    """Return the result, (B, C, H, W): what is seen as far as `keep` says, else colours and painted image.

    They are mixed by `confidence`, and the detail of the colours is added as far as `sure`, (B, 1, H, W) in
    [0, 1], says. Thin cloud adds what is smooth: under it the ground has lost its colours, not its detail.
    """
    looks = (colours, image, confidence, sure)
    cells = torch.cat(by_strips(_pool_missing, *looks), 1)
    for _ in range(2):
        cells = avg_pool2d(cells, 3, stride=1, padding=1)
    smooth = interpolate(cells, scale_factor=DETAIL_CELL, mode="bilinear")
    return by_strips(_with_detail, smooth, keep, values, *looks)[0]


def _pool_missing(colours: Tensor, image: Tensor, confidence: Tensor, sure: Tensor) -> tuple[Tensor, Tensor]:
    """Return means over cells of what the mixed image lacks of the colours, times `sure`, and of that."""
    missing = sure * (1 - confidence) * (colours - image)
    return avg_pool2d(missing, DETAIL_CELL), avg_pool2d(sure, DETAIL_CELL)


def _with_detail(smooth: Tensor, keep: Tensor, values: Tensor, *looks: Tensor) -> tuple[Tensor]:
    colours, image, confidence, sure = looks
    mixed = torch.lerp(image, colours, confidence)
    detail = sure * (colours - mixed) - smooth[:, :-1] * (sure / (smooth[:, -1:] + 1e-3))
    return (torch.lerp(mixed + detail, values, keep).clamp(0, 1),)
