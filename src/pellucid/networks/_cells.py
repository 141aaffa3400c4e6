"""What the regression of `ground` misses, in cells of a few pixels, carried from clear ones to others."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

# Side in pixels of the cells that carry the residual; radius in cells of the two blurs, each of which is done
# twice, and how far they reach.
RESIDUAL_CELL, BLURS, REACH = 8, (8, 2), 20


class Cells(NamedTuple):
    """The residual that is carried to each cell of `RESIDUAL_CELL` pixels, and how near clear pixels are."""

    residual: Tensor  # (B, 13 + E, h, w)
    near: Tensor  # (B, 2, h, w), of both scales

    @staticmethod
    def enlarge(values: Tensor, like: Tensor) -> Tensor:
        """Return values of cells pixel by pixel, (B, K, H, W)."""
        grown = interpolate(values, scale_factor=RESIDUAL_CELL, mode="bilinear")
        return grown[..., : like.shape[-2], : like.shape[-1]]


class Means(NamedTuple):
    """Means over cells: of the weight, and of features and values times the weight."""

    weight: Tensor  # (B, 1, h, w)
    features: Tensor  # (B, D', h, w)
    values: Tensor  # (B, 13 + E, h, w)

    def residual(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight, and what a regression with weights of (B, D', 13 + E) misses, times it."""
        with torch.autocast(weights.device.type, enabled=False):
            return self.weight, self.values - torch.einsum("bdc,bdhw->bchw", weights, self.features)


def pool_residual(colours: Tensor, solved: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return means over cells of the weight, and of what the regression misses times it."""
    return _pool(weight, RESIDUAL_CELL), _pool(weight * (colours - solved), RESIDUAL_CELL)


def _pool(x: Tensor, cell: int) -> Tensor:
    below, right = -x.shape[-2] % cell, -x.shape[-1] % cell
    return avg_pool2d(pad(x, (0, right, 0, below)), cell)


def blur_cells(x: Tensor, radius: int) -> Tensor:
    """Return the mean over a square of 2 radius + 1 cells, twice; outside is 0."""
    rows, columns = (_mean_twice(size, radius, x.device) for size in x.shape[-2:])
    return rows @ x @ columns


def _mean_twice(size: int, radius: int, device: torch.device) -> Tensor:
    """Return the symmetric matrix, (size, size), of the mean over 2 radius + 1 places of a line, twice."""
    place = torch.arange(size, device=device)
    mean = ((place[:, None] - place).abs() <= radius).float() / (2 * radius + 1)
    return mean @ mean
