"""A light network that says how sure it is, after UnCRtainTS (Ebel et al. 2023, arXiv:2304.05464).

Inverted bottlenecks at full resolution, attention with one learned query per head, and a variance for each
pixel and band. There it attends to the dates of a time series; here, of one date, to optical and radar.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

# Groups of channels that are normalised together.
GROUPS = 4
# Logarithms of variances: of reflectance, standard deviations of 0.002 to 1.
LOG_VARIANCE = (-12.0, 0.0)
# The first guess of the standard deviation is 0.1.
FIRST_LOG_VARIANCE = -4.6


@dataclass(frozen=True)
class Config:
    """Size of the network; the defaults have 627 066 parameters.

    Attributes:
        optical_bands: C, channels of `degraded` and of the result.
        radar_bands: P, channels of `sar`.
        width: channels at full resolution; divides by `num_heads` and 4.
        num_encoder: inverted bottlenecks of each sensor.
        num_decoder: inverted bottlenecks after both were merged.
        expansion: hidden channels of an inverted bottleneck, as a multiple of `width`.
        num_heads: of the attention; each weighs a group of channels.
        key: channels of a head's query and keys.
        cell: side in pixels of the cells in which the attention is computed.
    """

    optical_bands: int = 13
    radar_bands: int = 2
    width: int = 128
    num_encoder: int = 1
    num_decoder: int = 5
    expansion: int = 2
    num_heads: int = 16
    key: int = 4
    cell: int = 8


class SqueezeExcitation(nn.Module):
    """Scale channels by gates that are computed from their means (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, h, w)."""
        gate: Tensor = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu())
        return x * gate.sigmoid()


class InvertedBottleneck(nn.Module):
    """Widen, filter each channel, gate, narrow, and add (MBConv; Sandler et al. 2018, arXiv:1801.04381).

    It begins as the identity, so that a deep stack learns from the first step on.
    """

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * channels
        self.widen = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, hidden)
        self.filter = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.gate = SqueezeExcitation(hidden, max(4, channels // 4))
        self.narrow = nn.Conv2d(hidden, channels, 1)
        self.act = nn.SiLU()
        nn.init.zeros_(self.narrow.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, h, w)."""
        hidden = self.act(self.filter(self.act(self.norm(self.widen(x)))))
        return x + self.narrow(self.gate(hidden))


class LightAttention(nn.Module):
    """Merge the features of S sensors: each head asks one learned query of each cell (L-TAE, Garnot 2020)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.cell, self.num_heads = config.cell, config.num_heads
        self.keys = nn.Conv2d(config.width, config.num_heads * config.key, 1)
        self.query = nn.Parameter(torch.randn(config.num_heads, config.key) / config.key**0.5)

    def forward(self, sensors: list[Tensor]) -> Tensor:
        """Return the weighted mean of S tensors of (B, D, H, W), each head of its own D / heads channels."""
        height, width = sensors[0].shape[-2:]
        cell = min(self.cell, height, width)
        scores = []
        for features in sensors:
            keys = self.keys(avg_pool2d(features, cell)).unflatten(1, (self.num_heads, -1))
            scores.append(torch.einsum("bnkhw,nk->bnhw", keys, self.query))
        weights = torch.stack(scores).softmax(0)  # (S, B, heads, h, w)
        merged = torch.zeros_like(sensors[0])
        for features, weight in zip(sensors, weights, strict=True):
            grown = interpolate(weight, size=(height, width), mode="bilinear")[
                :, :, None
            ]  # (B, heads, 1, H, W)
            merged = merged + (features.unflatten(1, (self.num_heads, -1)) * grown).flatten(1, 2)
        return merged


class UncrtainNet(nn.Module):
    """The whole network; sides must divide by `stride`."""

    gives_deviation = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        if width % config.num_heads or width % GROUPS:
            raise ValueError(f"width is {width}, must divide by num_heads = {config.num_heads} and {GROUPS}")
        self.stride = config.cell
        self.optical = self._encoder(config.optical_bands, config)
        self.radar = self._encoder(config.radar_bands, config)
        self.attend = LightAttention(config)
        blocks = [InvertedBottleneck(width, config.expansion) for _ in range(config.num_decoder)]
        self.decoder = nn.Sequential(*blocks)
        self.image = nn.Conv2d(width, config.optical_bands, 1)
        self.log_variance = nn.Conv2d(width, config.optical_bands, 1)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, FIRST_LOG_VARIANCE)  # type: ignore[arg-type]

    @staticmethod
    def _encoder(bands: int, config: Config) -> nn.Sequential:
        blocks = [InvertedBottleneck(config.width, config.expansion) for _ in range(config.num_encoder)]
        return nn.Sequential(nn.Conv2d(bands, config.width, 3, padding=1), *blocks)

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:
        """Restore `degraded`, (B, C, H, W), guided by `sar`, (B, P, H, W).

        Returns:
            (B, 2 C, H, W): the image, neither activated nor clipped, and the logarithm of the variance of
            its error, within `LOG_VARIANCE`.
        """
        merged = self.attend([self.optical(degraded), self.radar(sar)])
        features = self.decoder(merged)
        low, high = LOG_VARIANCE
        log_variance = self.log_variance(features).float().clamp(low, high)
        return torch.cat([self.image(features).float(), log_variance], 1)


def build(config: Config) -> UncrtainNet:
    """Return the network, in channels-last layout."""
    return UncrtainNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
