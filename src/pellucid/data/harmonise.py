"""Other dates of a place, of any sensor, brought to the colours of a scene.

Each date has its own ridge regression of the scene's bands on its bands, over pixels that are clear in both;
where several dates are clear, each counts by how well it explains the scene. The prior says that a band of
the same name has the same value, and that a band without one tells nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.data.sums import Sums

# Pixels that tell as much as one that is independent of its neighbours.
ALIKE = 16.0
# Standard deviations of the prior: of a slope, of the constant in [0, 1], and of what a date cannot explain.
SLOPE, CONSTANT, NOISE = 0.3, 0.05, 0.02


def date_sums(older: Tensor, scene: Tensor, clear: Tensor) -> Sums:
    """Return what a regression of the scene on another date needs; over the parts of a scene it adds.

    Args:
        older: (B, K, H, W) in about [0, 1], NaN where the date is cloudy or has no data.
        scene: (B, C, H, W) in [0, 1]; not finite where it has no data.
        clear: (B, 1, H, W), from 0 to 1, how surely a pixel of the scene shows clear ground.
    """
    known = older.isfinite().all(1, keepdim=True) & scene.isfinite().all(1, keepdim=True)
    return Sums.over(_features(older), scene.nan_to_num(), clear * known) * (1 / ALIKE)


class Colours:
    """How a date becomes a scene, from the sums over all of it.

    Args:
        sums: from `date_sums`, added up; of B images, or of one scene with B = 1.
        date_bands: K names, "" where a band has none.
        bands: C names.
    """

    def __init__(self, sums: Sums, date_bands: Sequence[str], bands: Sequence[str]) -> None:
        mean = sums.gram.new_zeros(1 + len(date_bands), len(bands))
        for at, name in enumerate(date_bands):
            for to, other in enumerate(bands):
                mean[1 + at, to] = float(bool(name) and name == other)
        precision = torch.full_like(mean, SLOPE**-2)
        precision[0] = CONSTANT**-2
        self.weights, _ = sums.solve(mean, precision, mean.new_full((len(bands),), NOISE**2))
        # (..., C), the variance that stays, with the prior's as one pixel's worth
        self.variance = (sums.residual(self.weights) + NOISE**2) / (sums.count + 1)

    def apply(self, older: Tensor) -> Tensor:
        """Return the date in the scene's bands and colours, (B, C, H, W), NaN where it shows no ground."""
        image = torch.einsum("bdhw,bdc->bchw", _features(older), self.weights)
        return image.clamp(0, 1).where(older.isfinite().all(1, keepdim=True), torch.nan)


def merge_dates(images: Sequence[Tensor], colours: Sequence[Colours]) -> Tensor:
    """Return the mean of the dates where they are clear, each weighted by how well it explains the scene.

    Args:
        images: (B, C, H, W) each, from `Colours.apply`.
        colours: of each date.
    """
    total, weights = torch.zeros_like(images[0]), torch.zeros_like(images[0])
    for image, found in zip(images, colours, strict=True):
        weight = image.isfinite() / found.variance[..., None, None]
        total, weights = total + weight * image.nan_to_num(), weights + weight
    return total / weights.where(weights > 0, torch.nan)


def _features(older: Tensor) -> Tensor:
    """Return a constant one and the bands, (B, 1 + K, H, W), 0 where they are not known."""
    return torch.cat([torch.ones_like(older[:, :1]), older.nan_to_num()], dim=1)
