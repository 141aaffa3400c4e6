"""The detail of the ground that shines through thin cloud, added to what is painted."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from pellucid.networks._strips import by_strips

# Detail is what is smaller than about 24 pixels: than 3 x 3 cells of this size, blurred twice.
DETAIL_CELL = 4


def add_detail(
    colours: Tensor, image: Tensor, sure: Tensor, keep: Tensor | None = None, values: Tensor | None = None
) -> Tensor:
    """Return what is painted with the detail of the colours as far as `sure` says, (B, C, H, W) in [0, 1].

    Thin cloud adds what is smooth: under it the ground has lost its colours, not its detail.

    Args:
        colours: (B, C, H, W), without haze.
        image: (B, C, H, W), what is painted.
        sure: (B, 1, H, W) in [0, 1], how sure the colours are.
        keep: (B, 1, H, W), how far `values` come in its place; None: nowhere.
        values: (B, C, H, W), what is seen.
    """
    looks = (colours, image, sure)
    cells = torch.cat(by_strips(_pool_missing, *looks), 1)
    for _ in range(2):
        cells = avg_pool2d(cells, 3, stride=1, padding=1)
    smooth = interpolate(cells, scale_factor=DETAIL_CELL, mode="bilinear")
    return by_strips(_with_detail, *looks, smooth, keep, values)[0]


def _pool_missing(colours: Tensor, image: Tensor, sure: Tensor) -> tuple[Tensor, Tensor]:
    """Return means over cells of what the image lacks of the colours, times `sure`, and of that."""
    return avg_pool2d(sure * (colours - image), DETAIL_CELL), avg_pool2d(sure, DETAIL_CELL)


def _with_detail(
    colours: Tensor,
    image: Tensor,
    sure: Tensor,
    smooth: Tensor,
    keep: Tensor | None,
    values: Tensor | None,
) -> tuple[Tensor]:
    detail = sure * (colours - image) - smooth[:, :-1] * (sure / (smooth[:, -1:] + 1e-3))
    result = (image + detail).clamp(0, 1)
    return (result if keep is None or values is None else result.lerp(values, keep),)
