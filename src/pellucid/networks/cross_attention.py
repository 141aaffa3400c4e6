"""Cross-attention cloud removal: at a quarter of the resolution optical pixels attend to radar pixels.

A gate computed from the radar features damps speckle; the decoder has skip connections from the optical
encoder. Parameter names follow the published checkpoints.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, scaled_dot_product_attention

from pellucid.networks._linear import Linear


@dataclass(frozen=True)
class Config:
    """Size of the network; the defaults are the published ones, 4 085 005 parameters.

    Attributes:
        optical_bands: C, channels of `degraded` and of the result.
        radar_bands: P, channels of `sar`.
        width: channels at full resolution; doubled at each of the two lower ones.
        num_heads: attention heads; must divide 4 * width.
        blend: estimate per pixel the share of the input to replace; as published, every pixel is replaced.
        ceiling: reflectance to which the encoder's input is clipped, so that the structure of thick clouds,
            brighter than any ground but snow, does not show in the result; 1: no clipping, as published.
        num_colors: K, ground colours averaged over the whole tile; each pixel is a mixture of them plus a
            difference. With none, as published, only radar is in view under a cloud of 40 pixels or more.
    """

    optical_bands: int = 13
    radar_bands: int = 2
    width: int = 64
    num_heads: int = 8
    blend: bool = False
    ceiling: float = 1.0
    num_colors: int = 0


def _conv_block(channels_in: int, channels_out: int) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(channels_in, channels_out, 3, padding=1),
        relu1=nn.ReLU(inplace=True),
        conv2=nn.Conv2d(channels_out, channels_out, 3, padding=1),
        relu2=nn.ReLU(inplace=True),
    )
    return nn.Sequential(layers)


class Encoder(nn.Module):
    """Features at full, half and quarter resolution."""

    def __init__(self, channels_in: int, width: int) -> None:
        super().__init__()
        self.E1 = _conv_block(channels_in, width)
        self.E2 = _conv_block(width, 2 * width)
        self.E3 = _conv_block(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features of width, 2 width and 4 width channels."""
        full = self.E1(x)
        half = self.E2(self.pool(full))
        return full, half, self.E3(self.pool(half))


class CrossAttention(nn.Module):
    """Every optical pixel (query) attends to every radar pixel (key, value); no residual."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = Linear(channels, channels)
        self.k_proj = Linear(channels, channels)
        self.v_proj = Linear(channels, channels)
        self.proj = Linear(channels, channels)

    def forward(self, optical: Tensor, radar: Tensor) -> Tensor:
        """Return (B, D, h, w) radar content gathered for each optical pixel."""
        radar_pixels = radar.flatten(2).mT  # (B, h*w, D)
        query = self.split(self.q_proj(optical.flatten(2).mT))  # (B, heads, h*w, D/heads)
        key = self.split(self.k_proj(radar_pixels))
        value = self.split(self.v_proj(radar_pixels))
        gathered = scaled_dot_product_attention(query, key, value)
        merged = self.proj(gathered.transpose(1, 2).flatten(2))  # (B, h*w, D)
        return merged.mT.unflatten(2, optical.shape[-2:])

    def attention(self, optical: Tensor, radar: Tensor, pixel: int) -> Tensor:
        """Return (B, h*w): how much one optical pixel attends to each radar pixel, a mean over the heads."""
        query = self.split(self.q_proj(optical.flatten(2).mT[:, pixel : pixel + 1]))
        key = self.split(self.k_proj(radar.flatten(2).mT))
        return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1).mean((1, 2))

    def split(self, tokens: Tensor) -> Tensor:
        """Return (B, N, D) tokens as (B, heads, N, D/heads), contiguous for the fused kernel."""
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2).contiguous()


class SpeckleGate(nn.Module):
    """Scale the gathered content by a gate in (0, 1) computed from the radar features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, channels, 1),
            nn.Sigmoid(),
        )
        self.gate_net = nn.ModuleDict({"gate_conv": conv})

    def forward(self, gathered: Tensor, radar: Tensor) -> Tensor:
        """Return (B, D, h, w)."""
        return gathered * self.gate_net["gate_conv"](radar)


class Palette(nn.Module):
    """The ground colours of a tile, each a weighted mean of its pixels."""

    def __init__(self, channels: int, bands: int, num_colors: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, num_colors, 1)
        # A prior for ground that the tile lacks: its colour, and the logarithm of the share of the tile that
        # this colour counts for.
        self.usual = nn.Parameter(torch.full((num_colors, bands), 0.15))
        self.log_doubt = nn.Parameter(torch.full((num_colors,), -3.0))

    def forward(self, optical: Tensor, seen: Tensor) -> Tensor:
        """Return (B, K, C) colours for features (B, D, h, w) of an image (B, C, 4 h, 4 w)."""
        weight = self.score(optical).flatten(2).sigmoid()  # (B, K, h*w)
        pixels = avg_pool2d(seen, CrossAttentionNet.stride).flatten(2)  # (B, C, h*w)
        doubt = self.log_doubt.exp()[:, None]
        total = weight @ pixels.mT / weight.shape[2]  # (B, K, C)
        return (doubt * self.usual + total) / (doubt + weight.mean(2, keepdim=True))


class Decoder(nn.Module):
    """Back to full resolution, with the optical features of each resolution joined in."""

    def __init__(self, width: int, bands: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.dec1 = _conv_block(6 * width, 2 * width)
        self.dec2 = _conv_block(3 * width, width)
        self.final_conv = nn.Conv2d(width, bands, 1)

    def forward(self, quarter: Tensor, half: Tensor, full: Tensor) -> Tensor:
        """Return (B, C, H, W), neither activated nor clipped."""
        x = self.dec1(torch.cat([self.up(quarter), half], dim=1))
        x = self.dec2(torch.cat([self.up(x), full], dim=1))
        return self.final_conv(x)


class CrossAttentionNet(nn.Module):
    """The whole network; sides must divide by `stride`."""

    stride = 4

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = 4 * config.width
        if channels % config.num_heads:
            raise ValueError(f"num_heads is {config.num_heads}, must divide 4 * width = {channels}")
        self.optical_encoder = Encoder(config.optical_bands, config.width)
        self.sar_encoder = Encoder(config.radar_bands, config.width)
        self.cross_attn = CrossAttention(channels, config.num_heads)
        self.speckle_gating = SpeckleGate(channels)
        refine = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.refinement = nn.ModuleDict({"refine_conv": refine})
        bands, num_colors = config.optical_bands, config.num_colors
        self.palette = Palette(channels, bands, num_colors) if num_colors else None
        self.decoder = Decoder(config.width, bands + num_colors + config.blend)
        self.blend, self.ceiling, self.num_colors = config.blend, config.ceiling, num_colors

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:
        """Restore `degraded`, (B, C, H, W), guided by `sar`, (B, P, H, W)."""
        seen = degraded if self.ceiling >= 1 else degraded.clamp(max=self.ceiling)
        full, half, quarter = self.optical_encoder(seen)
        *_, radar = self.sar_encoder(sar)
        gated = self.speckle_gating(self.cross_attn(quarter, radar), radar)
        refined = self.refinement["refine_conv"](torch.cat([gated, quarter], dim=1))  # (B, D, H/4, W/4)
        output = self.decoder(refined, half, full)
        painted, mixture, share = output.split((degraded.shape[1], self.num_colors, int(self.blend)), dim=1)
        if self.palette is not None:
            colors = self.palette(quarter, seen)  # (B, K, C)
            painted = painted + torch.einsum("bkhw,bkc->bchw", mixture.softmax(1), colors)
        if not self.blend:
            return painted
        return degraded + share.sigmoid() * (painted - degraded)


def build(config: Config) -> CrossAttentionNet:
    """Return the network, in channels-last layout, with random weights that keep the size of the signal.

    PyTorch's default weights shrink the variance to a sixth in each layer before a ReLU: after the six
    layers of an encoder nothing is left, and neither radar nor a wider view is ever learned.
    """
    network = CrossAttentionNet(config)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            # He et al. 2015, doi:10.1109/ICCV.2015.123
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        network.decoder.final_conv.weight.mul_(0.1)  # start near an even, dark image
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
