"""The mean colour that a picture probably has, by the training pictures whose radar is alike."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

if TYPE_CHECKING:
    from pellucid.methods.method import Method

# What is compared of two radar images: quantiles, and deviations of means over squares of so many pixels.
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
SIDES = (1, 2, 4, 8, 16, 32)
# Pixels of which quantiles are taken, at most, spread evenly.
NUM_COMPARED = 1 << 20
# Of the regression: the distance, in standard deviations of a statistic, at which pictures are half alike is
# about 1.2 times this; the variance of a mean colour that its radar does not explain, as a share.
REACH, UNEXPLAINED = 13.4, 0.05
# Numbers of a colour: red, green, blue.
NUM_COLORS = 3


class Tones:
    """Kernel regression from the statistics of a radar image to the mean colour of its picture.

    Args:
        table: (N, F + 3), statistics of each training picture's radar, see `describe`, and its mean colour.
    """

    def __init__(self, table: Sequence[Sequence[float]]) -> None:
        self.table = tuple(tuple(row) for row in table)
        known, colors = torch.tensor(self.table, dtype=torch.float64).tensor_split([-NUM_COLORS], dim=1)
        self._mean, self._deviation = known.mean(0), known.std(0, correction=0).clamp(min=1e-6)
        self._known, self._middle = self._scaled(known), colors.mean(0)
        alike = self._compare(self._known) + UNEXPLAINED * torch.eye(len(known), dtype=known.dtype)
        self._weights = torch.linalg.solve(alike, colors - self._middle)  # (N, 3)

    @classmethod
    def of(cls, pairs: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """Return what pairs of radar, (1, P, H, W), and picture, (1, 3, H, W), both in [0, 1], teach."""
        rows = [[*describe(sar).tolist(), *picture.mean((0, 2, 3)).tolist()] for sar, picture in pairs]
        return cls([[round(value, 4) for value in row] for row in rows])

    def __call__(self, sar: Tensor) -> tuple[float, ...]:
        """Return the mean colour in [0, 1] of the picture that radar, (1, P, H, W) in [0, 1], belongs to."""
        seen = self._scaled(describe(sar).double()[None])
        color = self._middle + self._compare(seen) @ self._weights
        return tuple(color[0].clamp(0, 1).tolist())

    def _scaled(self, statistics: Tensor) -> Tensor:
        return (statistics - self._mean) / self._deviation

    def _compare(self, seen: Tensor) -> Tensor:
        return (-torch.cdist(seen, self._known).square() / (2 * REACH**2)).exp()


def expected_tone(method: "Method", sar: Tensor, drawn: Sequence[float]) -> tuple[float, ...] | None:
    """Return the mean colour that a picture of this mean colour is shifted to; None: it stays as it is.

    It is that of similar radar; where a prior predicts the picture, which knows more of water, the mean of
    both.
    """
    if method.tones is None:
        return None
    likely = method.tones(sar)
    if method.prior is None or (method.sampling is not None and math.isinf(method.sampling.detail)):
        return likely
    return tuple((one + other) / 2 for one, other in zip(likely, drawn, strict=True))


def describe(sar: Tensor) -> Tensor:
    """Return the statistics of a radar image, (1, P, H, W) in [0, 1], by which it is compared, (F,)."""
    image = sar.float().cpu().mean(1, keepdim=True)
    values = image.flatten()
    values = values[:: -(-len(values) // NUM_COMPARED)]
    means = [avg_pool2d(image, [min(side, size) for size in image.shape[-2:]]) for side in SIDES]
    deviations = torch.stack([mean.std(correction=0) for mean in means])
    ends = torch.stack([(values <= 0).float().mean(), (values >= 1).float().mean(), values.mean()])
    return torch.cat([ends, torch.quantile(values, values.new_tensor(QUANTILES)), deviations])
