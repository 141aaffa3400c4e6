"""The sums behind a weighted linear regression: they add, over the parts of a scene and over its tiles."""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

# Rows of an image that are summed up at once on a CPU, where they stay in the cache of a core.
STRIP = 32


@dataclass(frozen=True)
class Sums:
    """Weighted sums over pixels with features phi (D) and values y (C), in float32.

    Attributes:
        gram: (..., D, D), of phi phi'.
        cross: (..., D, C), of phi y'.
        squares: (..., C), of y squared.
        count: (..., 1), of the weights.
    """

    gram: Tensor
    cross: Tensor
    squares: Tensor
    count: Tensor

    @classmethod
    def over(cls, features: Tensor, values: Tensor, weight: Tensor) -> Self:
        """Return the sums over each image.

        Args:
            features: (B, D, H, W).
            values: (B, C, H, W), finite.
            weight: (B, 1, H, W), 0 where a pixel does not count.
        """
        images = (features, values, weight)
        is_whole = torch.is_grad_enabled() or features.device.type != "cpu"
        rows = features.shape[2] if is_whole else STRIP
        strips = zip(*(image.split(rows, 2) for image in images), strict=True)
        parts = [cls._over(*(strip.float().flatten(2) for strip in each)) for each in strips]
        return sum(parts[1:], parts[0])

    @classmethod
    def _over(cls, phi: Tensor, y: Tensor, w: Tensor) -> Self:
        """Return the sums over pixels, (B, D, N), (B, C, N) and (B, 1, N)."""
        with torch.autocast(phi.device.type, enabled=False):
            return cls.of_weighted(phi * w, phi, y, w)

    @classmethod
    def of_weighted(cls, weighted: Tensor, phi: Tensor, y: Tensor, w: Tensor) -> Self:
        """Return the sums over pixels as `_over` takes them, with features times weight, (B, D, N)."""
        return cls(weighted @ phi.mT, weighted @ y.mT, (w * y.square()).sum(2), w.sum(2))

    def __add__(self, other: Self) -> Self:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return type(self)(*(a + b for a, b in pairs))

    def __mul__(self, share: Tensor | float) -> Self:
        """Return the sums with each weight times `share`, one number, or one for each of (...)."""

        def scaled(values: Tensor) -> Tensor:
            if not isinstance(share, Tensor):
                return values * share
            return values * share.reshape(share.shape + (1,) * (values.ndim - share.ndim))

        return type(self)(*(scaled(getattr(self, f.name)) for f in fields(self)))

    def residual(self, weights: Tensor) -> Tensor:
        """Return the weighted sum of (y - phi' W) squared, (..., C), for W of (..., D, C)."""
        fitted = (weights * (self.gram @ weights)).sum(-2) - 2 * (weights * self.cross).sum(-2)
        return (self.squares + fitted).clamp(min=0)

    def solve(self, mean: Tensor, precision: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior of the weights of y = phi' W + noise, band by band.

        Args:
            mean: (D, C) or (..., D, C), of the prior of W.
            precision: of that prior, (D, C), (..., D, C): the inverse of its variance.
            noise: (C,) or (..., C), variance of y about phi' W, above 0.

        Returns:
            W, (..., D, C), and its covariance, (..., C, D, D).
        """
        with torch.autocast(self.gram.device.type, enabled=False):
            per_band = noise.float()[..., None, None]  # (..., C, 1, 1)
            prior = torch.diag_embed(precision.float().mT)  # (..., C, D, D)
            inverse = prior + self.gram[..., None, :, :] / per_band
            factor = torch.linalg.cholesky(inverse)
            right = (precision * mean).float().mT + self.cross.mT / per_band[..., 0]  # (..., C, D)
            weights = torch.cholesky_solve(right[..., None], factor)[..., 0]
            return weights.mT, torch.cholesky_inverse(factor)
