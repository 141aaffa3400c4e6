"""The plain published formulation of each network, with the same weights, as the baseline for speed.

The layout is contiguous, windows are cut by rolling and copying, attention keeps its logits in memory, and
the dynamic filter keeps all kernels and the unfolded image in memory.
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.networks import glf_cr
from pellucid.networks.cross_attention import CrossAttention, CrossAttentionNet
from pellucid.networks.glf_cr import DenseLayer, FilterGenerator, WindowAttention

# Logit of two pixels that share a window only because the image was rolled, as published.
FORBIDDEN = -100.0


def plain(network: nn.Module, side: int) -> nn.Module:
    """Return the published formulation for `side` x `side` pixels, with a copy of the weights."""
    copied = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if isinstance(copied, CrossAttentionNet):
        copied.cross_attn.__class__ = PlainCrossAttention
        return copied
    return PlainGlfCr(copied, side // 2)


class PlainCrossAttention(CrossAttention):
    """Attention of every optical to every radar pixel, with all pairs in memory."""

    def forward(self, optical: Tensor, radar: Tensor) -> Tensor:
        """Return (B, D, h, w)."""
        queries, keys = optical.flatten(2).transpose(1, 2), radar.flatten(2).transpose(1, 2)
        query, key, value = (
            projected.reshape(*projected.shape[:2], self.num_heads, -1).transpose(1, 2)
            for projected in (self.q_proj(queries), self.k_proj(keys), self.v_proj(keys))
        )
        weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)
        merged = self.proj((weights @ value).transpose(1, 2).reshape(queries.shape))
        return merged.transpose(1, 2).reshape(optical.shape)


class PlainGlfCr(nn.Module):
    """GLF-CR for one size, (B, C, 2 side, 2 side)."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network = network
        layers = [module for module in network.modules() if isinstance(module, DenseLayer)]
        self.masks = {layer: _mask(layer, side) for layer in layers}
        self.index = _relative_positions(layers[0].window)

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        net: Any = self.network
        shallow = net.SFENet1(F.pixel_unshuffle(degraded, 2))
        x, y = net.SFENet2(shallow), net.SFENet2_SAR(net.SFENet1_SAR(F.pixel_unshuffle(sar, 2)))
        outputs = []
        for number, block in enumerate(net.RDBs):
            dense_x, dense_y = x, y
            for layer in block.convs:
                dense_x, dense_y = self.layer(layer, dense_x, dense_y)
            x, y = block.LFF(dense_x) + x, block.LFF_SAR(dense_y) + y
            filtered = dynamic_filter(y, net.DF[number], torch.cat([x, y], 1))
            fused = x + (filtered - x) * torch.sigmoid(net.sar_fuse_1x1conv[number](filtered - x))
            gate = torch.sigmoid(net.opt_distribute_1x1conv[number](fused - filtered))
            x, y = fused, y + (fused - filtered) * gate
            outputs.append(x)
        return net.UPNet(net.GFF(torch.cat(outputs, 1)) + shallow) + degraded

    def layer(self, layer: DenseLayer, optical: Tensor, radar: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams with the layer's output appended."""
        size = optical.shape[-2:]
        mask = self.masks[layer]
        shift = 0 if mask is None else layer.shift
        x = layer.conv(optical).flatten(2).transpose(1, 2)  # (B, h*w, growth)
        y = layer.conv_SAR(radar).flatten(2).transpose(1, 2)
        windows = [cut(tokens.unflatten(1, size), layer.window, shift) for tokens in (x, y)]
        attended = self.attention(layer.attn, windows[0], windows[1], mask)
        x = x + join(attended[0], layer.window, shift, size)
        x = x + layer.mlp(layer.norm2(x))
        y = y + join(attended[1], layer.window, shift, size)
        y = y + layer.mlp_SAR(layer.norm2_SAR(y))
        image_x, image_y = (tokens.transpose(1, 2).reshape(len(tokens), -1, *size) for tokens in (x, y))
        return torch.cat((optical, image_x), 1), torch.cat((radar, image_y), 1)

    def attention(
        self, attention: WindowAttention, optical: Tensor, radar: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the attended tokens of both streams, (N, L, D)."""
        x_logits, x_value = self.logits(attention, attention.qkv(optical), mask)
        y_logits, y_value = self.logits(attention, attention.qkv_SAR(radar), mask)
        gate = torch.sigmoid(attention.attn_fuse_1x1conv(y_logits - x_logits))
        x_logits = x_logits + (y_logits - x_logits) * gate
        x = (x_logits.softmax(dim=-1) @ x_value).transpose(1, 2).reshape(optical.shape)
        y = (y_logits.softmax(dim=-1) @ y_value).transpose(1, 2).reshape(radar.shape)
        return attention.proj(x), attention.proj_SAR(y)

    def logits(self, attention: WindowAttention, qkv: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits, (N, heads, L, L), and values, (N, heads, L, d)."""
        count, length, _ = qkv.shape
        heads = attention.num_heads
        query, key, value = qkv.reshape(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        logits = (query * attention.scale) @ key.transpose(-2, -1)
        bias = attention.relative_position_bias_table[self.index].reshape(length, length, heads)
        logits = logits + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            by_window = logits.reshape(-1, len(mask), heads, length, length)
            logits = (by_window + mask.unsqueeze(1).unsqueeze(0)).reshape(-1, heads, length, length)
        return logits, value


def dynamic_filter(image: Tensor, generator: FilterGenerator, both: Tensor) -> Tensor:
    """Return (B, C, h, w) filtered by kernels, (B, C*K*K, h, w), that are kept in memory."""
    kernels = F.leaky_relu(generator.fac_warp(both), glf_cr.SLOPE)
    batch, channels, height, width = image.shape
    taps = kernels.shape[1] // channels
    side = math.isqrt(taps)
    unfolded = F.unfold(F.pad(image, (side // 2,) * 4, mode="replicate"), side)
    sizes = (batch, channels, taps, height, width)
    return (unfolded.reshape(sizes) * kernels.reshape(sizes)).sum(2)


def cut(image: Tensor, window: int, shift: int) -> Tensor:
    """Return (B, h, w, D), rolled by `shift`, as windows, (N, L, D)."""
    rolled = torch.roll(image, (-shift, -shift), (1, 2)) if shift else image
    batch, height, width, channels = image.shape
    blocks = rolled.reshape(batch, height // window, window, width // window, window, channels)
    return blocks.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window**2, channels)


def join(windows: Tensor, window: int, shift: int, size: torch.Size) -> Tensor:
    """Return windows, (N, L, D), as tokens of images, (B, h*w, D)."""
    height, width = size
    blocks = windows.view(-1, height // window, width // window, window, window, windows.shape[-1])
    image = blocks.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, height, width, windows.shape[-1])
    return (torch.roll(image, (shift, shift), (1, 2)) if shift else image).flatten(1, 2)


def _mask(layer: DenseLayer, side: int) -> Tensor | None:
    """Return what is added to the logits of each window, (windows, L, L); None if nothing."""
    if layer.shift == 0 or side <= layer.window:
        return None
    parts = (slice(-layer.window), slice(-layer.window, -layer.shift), slice(-layer.shift, None))
    regions = torch.zeros(1, side, side, 1)
    for number, (rows, columns) in enumerate((rows, columns) for rows in parts for columns in parts):
        regions[:, rows, columns] = number
    pixels = cut(regions, layer.window, 0)[..., 0]
    return (pixels.unsqueeze(1) != pixels.unsqueeze(2)) * FORBIDDEN


def _relative_positions(window: int) -> Tensor:
    """Return the row of the table of biases for each pair of a window's pixels, (L*L,)."""
    pixels = torch.cartesian_prod(torch.arange(window), torch.arange(window))  # (L, 2)
    steps = pixels[:, None] - pixels[None] + window - 1  # (L, L, 2)
    return (steps[..., 0] * (2 * window - 1) + steps[..., 1]).flatten()
