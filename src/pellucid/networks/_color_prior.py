"""Broad colours of a picture, from radar: a small network on what is seen around each cell at all scales."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, silu

from pellucid.networks._small_unet import blur, padded

# Side in pixels of the cells whose colours are predicted; squares of 1, 2, 4, ... cells are seen around each.
CELL, LEVELS = 4, 6
# Rows of cells that go through the networks at once, for the sake of memory.
STRIP = 64
# What is known of a square: mean, deviation of its pixels, the same relative to the mean, that of its cells,
# share of black pixels, mean among those of the whole picture, logarithm of the mean.
PER_LEVEL = 7
# What is known of the picture: quantiles, shares of black and white pixels, mean, deviations of means over
# squares of so many pixels, the same of their logarithms.
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
SIDES, LOG_SIDES = (1, 2, 4, 8, 16, 32), (1, 4, 8, 16, 32)
NUM_FEATURES = LEVELS * PER_LEVEL + len(QUANTILES) + 3 + len(SIDES) + len(LOG_SIDES)
# Every third pixel is looked at for quantiles, and of large images at most about so many.
SPACING, NUM_LOOKED_AT = 3, 1 << 20
# Pixels up to the first are black for a square, up to the second for a picture; keeps quotients finite.
DARK, BLACK, SMALL = 0.01, 0.004, 0.03
# How many deviations a feature may lie from its mean: beyond, it says nothing more.
FARTHEST = 4.0


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        width: of its two hidden layers.
        members: networks that were trained apart, whose mean is the result.
    """

    width: int = 96
    members: int = 6


class ColorPrior(nn.Module):
    """A mean of small networks, each from the features of a cell to its colour."""

    center: Tensor
    spread: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, members = config.width, config.members
        self.register_buffer("center", torch.zeros(NUM_FEATURES))
        self.register_buffer("spread", torch.ones(NUM_FEATURES))
        self.first = nn.ModuleList(nn.Linear(NUM_FEATURES, width) for _ in range(members))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(members))
        self.last = nn.ModuleList(nn.Linear(width, 3) for _ in range(members))

    def forward(self, sar: Tensor) -> Tensor:
        """Return the picture, (B, 3, H, W) float32 in [0, 1], of radar, (B, 1, H, W) in [0, 1].

        Sides must divide by `CELL`.
        """
        with torch.autocast(sar.device.type, enabled=False):  # variances are small differences
            strips = describe_cells(sar.float()).split(STRIP, dim=2)
            colors = torch.cat([self._mean(strip) for strip in strips], dim=2)
            return interpolate(colors, size=sar.shape[-2:], mode="bilinear").clamp(0, 1)

    def _mean(self, features: Tensor) -> Tensor:
        """Return the mean of what the members give for features (B, F, h, w), as (B, 3, h, w)."""
        cells = features.permute(0, 2, 3, 1)
        members = torch.stack([self.color(cells, i) for i in range(self.config.members)])
        return members.mean(0).permute(0, 3, 1, 2)

    def color(self, features: Tensor, member: int, drop: float = 0.0) -> Tensor:
        """Return the colours, (..., 3), that one network gives for features, (..., `NUM_FEATURES`).

        `drop` is the share of the hidden units that training leaves out.
        """
        x = ((features - self.center) / self.spread).clamp(-FARTHEST, FARTHEST)
        hidden = nn.functional.dropout(silu(self.first[member](x)), drop, training=drop > 0)
        hidden = hidden + silu(self.second[member](hidden))
        out: Tensor = self.last[member](nn.functional.dropout(hidden, drop, training=drop > 0))
        return out


def describe_cells(sar: Tensor) -> Tensor:
    """Return features of cells, (B, `NUM_FEATURES`, H / `CELL`, W / `CELL`), of radar, (B, 1, H, W)."""
    means = avg_pool2d(sar, CELL)
    dark = avg_pool2d((sar < DARK).to(sar.dtype), CELL)
    sums = torch.cat([means, avg_pool2d(sar.square(), CELL), means.square(), dark], dim=1)
    size, whole = means.shape[-2:], _describe(sar)
    low, middle, high = (whole[:, QUANTILES.index(at), None, None, None] for at in (0.1, 0.5, 0.9))
    found = []
    for _ in range(LEVELS):
        sums = blur(padded(sums, 1, "replicate"))
        mean, squares, of_cells, share = interpolate(sums, size=size, mode="bilinear").split(1, dim=1)
        deviation, coarse = ((each - mean.square()).clamp(min=1e-6).sqrt() for each in (squares, of_cells))
        found += [mean, deviation, deviation / (mean + SMALL), coarse / (mean + SMALL), share]
        found += [(mean - middle) / (high - low + SMALL), (mean + SMALL).log()]
        if min(sums.shape[-2:]) > 1:
            sums = avg_pool2d(sums, 2, ceil_mode=True, count_include_pad=False)
    return torch.cat([*found, whole[:, :, None, None].expand(-1, -1, *size)], dim=1)


def _describe(sar: Tensor) -> Tensor:
    """Return what is known of whole pictures, (B, 21)."""
    values = sar.flatten(1)
    values = values[:, :: max(SPACING, -(-values.shape[1] // NUM_LOOKED_AT))]
    quantiles = torch.stack([torch.quantile(each, each.new_tensor(QUANTILES)) for each in values])
    ends = [(values <= BLACK).float().mean(1), (values >= 1).float().mean(1), values.mean(1)]
    means = {side: avg_pool2d(sar, [min(side, size) for size in sar.shape[-2:]]).flatten(1) for side in SIDES}
    deviations = [means[side].std(1, correction=0) for side in SIDES]
    deviations += [(means[side] + SMALL).log().std(1, correction=0) for side in LOG_SIDES]
    return torch.cat([quantiles, torch.stack([*ends, *deviations], dim=1)], dim=1)


def build(config: Config) -> ColorPrior:
    """Return the network, with random weights."""
    if config.width < 1 or config.members < 1:
        raise ValueError(f"width is {config.width} and members {config.members}, both must be 1 or more")
    return ColorPrior(config)
