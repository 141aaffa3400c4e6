"""GLF-CR: global-local fusion of optical and radar features for cloud removal.

Two streams of dense blocks with window attention; after every block radar features, filtered by kernels that
both streams generate for each pixel, flow into the optical stream and back. Parameters are named as published
by Xu et al. 2022, doi:10.1016/j.isprsjprs.2022.08.002.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pellucid.networks._dynamic_filter import dynamic_filter
from pellucid.networks._fused import is_fused
from pellucid.networks._linear import Linear
from pellucid.networks._windows import Windows, relative_positions, window_order

# Negative slope of the kernel generator's LeakyReLU, in the published code.
SLOPE = 0.1
# On a CPU attention looks at so many windows at once, which keeps their logits in its second-level cache.
WINDOWS_AT_ONCE = 8
# Sides of windows whose pixels a GPU kernel holds at once.
KERNEL_WINDOWS = (4, 8)


@dataclass(frozen=True)
class Config:
    """Size of the network; the defaults are the published ones, 14 827 373 parameters.

    Attributes:
        optical_bands: C, channels of `degraded` and of the result.
        radar_bands: P, channels of `sar`.
        width: channels of each stream, which work at half of the resolution.
        growth: channels that each layer of a dense block adds.
        num_blocks: dense blocks, each followed by a fusion of the streams.
        num_layers: layers of a dense block; every second one shifts its windows.
        num_heads: attention heads; must divide `growth`.
        window: side of an attention window, in pixels at half of the resolution; even.
        mlp_ratio: hidden channels of a layer's perceptron, as a multiple of `growth`.
        kernel: side of the dynamic filter's kernels, in pixels; odd.
        head_width: channels of the last convolution's input, at full resolution.
        drop_path: chance to skip residual branches in training: 0 in the first layer, this in the last.
    """

    optical_bands: int = 13
    radar_bands: int = 2
    width: int = 96
    growth: int = 48
    num_blocks: int = 6
    num_layers: int = 5
    num_heads: int = 8
    window: int = 8
    mlp_ratio: int = 2
    kernel: int = 5
    head_width: int = 64
    drop_path: float = 0.2


class DropPath(nn.Module):
    """Drop a residual branch for each sample at random, and scale up those that stay."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, (windows, B, L, D), times 0 or 1 / (1 - rate) per sample; unchanged in evaluation."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(1, x.shape[1], 1, 1).bernoulli_(keep).div_(keep)


class WindowAttention(nn.Module):
    """Attention within windows of both streams; radar attention logits correct the optical ones."""

    def __init__(self, channels: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.scale = (channels // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv, self.qkv_SAR = Linear(channels, 3 * channels), Linear(channels, 3 * channels)
        self.attn_fuse_1x1conv = nn.Conv2d(num_heads, num_heads, 1)
        self.proj, self.proj_SAR = Linear(channels, channels), Linear(channels, channels)

    def forward(self, optical: Tensor, radar: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the attended tokens of both streams, (N, L, D) each: the L pixels of each of N windows.

        The mask, (M, 1, L, L), is added to the logits of the last M windows.
        """
        sizes, biases = self.parts(len(optical), mask)
        optical_parts = self.split(self.qkv(optical), sizes)
        radar_parts = self.split(self.qkv_SAR(radar), sizes)
        fused, plain = [], []
        for (query, key, value), radar_part, bias in zip(optical_parts, radar_parts, biases, strict=True):
            fused.append(_lean(self.attend_fused, query, key, value, *radar_part[:2], bias.to(query.dtype)))
            plain.append(_lean(self.attend, *radar_part, bias.to(query.dtype)))
        return self.proj(self.join(fused)), self.proj_SAR(self.join(plain))

    def parts(self, count: int, mask: Tensor | None) -> tuple[list[int], list[Tensor]]:
        """Return into how many windows each to divide `count`, and what is added to their logits."""
        table = self.relative_position_bias_table
        at_once = WINDOWS_AT_ONCE if table.device.type == "cpu" else count
        pairs = table.index_select(0, relative_positions(self.window, table.device))  # (L*L, heads)
        bias = pairs.T.contiguous().view(1, self.num_heads, self.window**2, self.window**2)
        sizes = _sizes(count - (0 if mask is None else len(mask)), at_once)
        biases = [bias] * len(sizes)
        if mask is not None:
            edges = mask.split(_sizes(len(mask), at_once))
            sizes += [len(edge) for edge in edges]
            biases += [bias + edge for edge in edges]
        return sizes, biases

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Return the attended values, (n, heads, L, d); the bias is (1 or n, heads, L, L)."""
        # A gradient for the bias the fused kernel has not, and it is slow on a CPU: a head has few channels.
        if torch.is_grad_enabled() or query.device.type == "cpu":
            return _weigh((query @ key.mT).add_(bias), value)
        mask = bias.expand(len(query), -1, -1, -1)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)

    def attend_fused(
        self, query: Tensor, key: Tensor, value: Tensor, radar_query: Tensor, radar_key: Tensor, bias: Tensor
    ) -> Tensor:
        """Return the optical values attended by the corrected logits, (n, heads, L, d)."""
        logits = query @ key.mT  # (n, heads, L, L)
        # Bias and mask are equal in both streams, so they cancel in the difference.
        gain = (radar_query @ radar_key.mT).sub_(logits)
        gate = self.fuse(gain).sigmoid_()
        return _weigh(logits.addcmul_(gain, gate).add_(bias), value)

    def fuse(self, logits: Tensor) -> Tensor:
        """Return the 1 x 1 convolution over heads as a matrix product, far faster for so few channels."""
        weight, bias = self.attn_fuse_1x1conv.parameters()
        mix = weight.flatten(1).to(logits.dtype).expand(len(logits), -1, -1)
        mixed = torch.bmm(mix, logits.flatten(2))  # (n, heads, L*L)
        return mixed.add_(bias.to(logits.dtype)[:, None]).view_as(logits)

    def split(self, tokens: Tensor, sizes: list[int]) -> Iterator[tuple[Tensor, ...]]:
        """Return (N, L, 3 D) as scaled query, key and value, (n, heads, L, d), contiguous, of each part."""
        query, key, value = tokens.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).contiguous()
        return zip(*(kind.split(sizes) for kind in (query * self.scale, key, value)), strict=True)

    def join(self, heads: list[Tensor]) -> Tensor:
        """Return parts of (n, heads, L, d) as (N, L, D)."""
        return torch.cat(heads).transpose(1, 2).flatten(2)


def _weigh(logits: Tensor, value: Tensor) -> Tensor:
    """Return the means of values by the softmax of logits, (n, heads, L, d).

    The product is transposed, (d, L): on a CPU one with few columns takes four times as long.
    """
    return (value.mT @ logits.softmax(-1).mT).mT


def _sizes(count: int, at_once: int) -> list[int]:
    """Return parts of at most `at_once` that sum to `count`."""
    return [min(at_once, count - first) for first in range(0, count, at_once)]


def _lean(function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """Call `function`; in training its inner tensors are recomputed for the gradient instead of kept."""
    if torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return function(*arguments)


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def _mlp(channels: int, hidden: int) -> nn.Sequential:
    first, second = Linear(channels, hidden), Linear(hidden, channels)
    return nn.Sequential(OrderedDict[str, nn.Module](fc1=first, gelu=nn.GELU(), fc2=second))


class DenseLayer(nn.Module):
    """Append to each stream `growth` channels: a convolution, window attention and a perceptron."""

    def __init__(self, channels: int, config: Config, *, shifted: bool, drop_path: float) -> None:
        super().__init__()
        growth = config.growth
        self.window, self.shift = config.window, config.window // 2 if shifted else 0
        self.conv = nn.Sequential(_conv(channels, growth), nn.ReLU(inplace=True))
        self.conv_SAR = nn.Sequential(_conv(channels, growth), nn.ReLU(inplace=True))
        self.attn = WindowAttention(growth, config.num_heads, config.window)
        self.norm2, self.norm2_SAR = nn.LayerNorm(growth), nn.LayerNorm(growth)
        hidden = config.mlp_ratio * growth
        self.mlp, self.mlp_SAR = _mlp(growth, hidden), _mlp(growth, hidden)
        self.drop_path = DropPath(drop_path)

    def forward(self, optical: Tensor, radar: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, channels + growth, h, w) of both streams."""
        x, y = self.conv(optical), self.conv_SAR(radar)
        new_x, new_y = self.at_once(x, y) if self.suits_kernel(x) else self.in_windows(x, y)
        return torch.cat([optical, new_x], 1), torch.cat([radar, new_y], 1)

    def in_windows(self, optical: Tensor, radar: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams, (B, growth, h, w) each, after window attention and perceptron."""
        # What follows the convolution works on single pixels or windows, hence in the order of windows.
        batch, _, height, width = optical.shape
        windows = window_order(batch, height, width, self.window, self.shift, optical.device)
        x, y = windows.cut(optical), windows.cut(radar)  # (N, L, growth)
        attended_x, attended_y = self.attn(x, y, windows.mask)
        new_x = self.finish(windows, x, attended_x, self.norm2, self.mlp)
        return new_x, self.finish(windows, y, attended_y, self.norm2_SAR, self.mlp_SAR)

    def suits_kernel(self, image: Tensor) -> bool:
        """Whether `at_once` can be used for such an image."""
        return is_fused(image) and not self.training and self.window in KERNEL_WINDOWS

    def at_once(self, optical: Tensor, radar: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same as `in_windows`, by GPU kernels that keep all of a window on the chip."""
        from pellucid.networks import _kernels

        attn = self.attn
        fuse = attn.attn_fuse_1x1conv
        streams: tuple[tuple[Any, ...], ...] = (
            (attn.qkv, attn.proj, self.norm2, self.mlp.fc1, self.mlp.fc2),
            (attn.qkv_SAR, attn.proj_SAR, self.norm2_SAR, self.mlp_SAR.fc1, self.mlp_SAR.fc2),
        )
        shift = 0 if min(optical.shape[-2:]) <= self.window else self.shift
        x, y = _kernels.window_layer(
            optical.permute(0, 2, 3, 1).contiguous(),
            radar.permute(0, 2, 3, 1).contiguous(),
            [attn.relative_position_bias_table, fuse.weight, fuse.bias],
            [weight for layers in streams for layer in layers for weight in (layer.weight, layer.bias)],
            self.window,
            shift,
        )
        return x.permute(0, 3, 1, 2), y.permute(0, 3, 1, 2)

    def finish(
        self, windows: Windows, x: Tensor, attended: Tensor, norm: nn.Module, mlp: nn.Module
    ) -> Tensor:
        """Return tokens plus both residual branches as an image, (B, growth, h, w)."""
        x = x.unflatten(0, (-1, windows.size[0]))  # (windows, B, L, growth)
        x = x + self.drop_path(attended.view_as(x))
        return windows.join((x + self.drop_path(mlp(norm(x)))).flatten(0, 1))


class DenseBlock(nn.Module):
    """Layers that each see the outputs of all before, fused by a convolution, plus the input."""

    def __init__(self, config: Config, rates: list[float]) -> None:
        super().__init__()
        widths = [config.width + i * config.growth for i in range(config.num_layers)]
        self.convs = nn.ModuleList(
            DenseLayer(width, config, shifted=i % 2 == 1, drop_path=rate)
            for i, (width, rate) in enumerate(zip(widths, rates, strict=True))
        )
        channels = config.width + config.num_layers * config.growth
        self.LFF, self.LFF_SAR = _conv(channels, config.width), _conv(channels, config.width)

    def forward(self, optical: Tensor, radar: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, width, h, w) of both streams."""
        x, y = optical, radar
        for layer in self.convs:
            x, y = layer(x, y)
        return self.LFF(x) + optical, self.LFF_SAR(y) + radar


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with LeakyReLU between them, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        activation = nn.LeakyReLU(SLOPE, inplace=True)
        self.stem = nn.Sequential(_conv(channels, channels), activation, _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, h, w)."""
        return self.stem(x) + x


class FilterGenerator(nn.Module):
    """Filter the radar features with a kernel per pixel and channel that both streams generate."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        activation = nn.LeakyReLU(SLOPE, inplace=True)
        self.fac_warp = nn.Sequential(
            nn.Sequential(_conv(2 * channels, channels), activation),
            ResidualBlock(channels),
            ResidualBlock(channels),
            nn.Sequential(nn.Conv2d(channels, channels * kernel**2, 1)),
        )

    def forward(self, optical: Tensor, radar: Tensor) -> Tensor:
        """Return the filtered radar features, (B, channels, h, w)."""
        features = self.fac_warp[:-1](torch.cat([optical, radar], 1))
        last = self.fac_warp[-1]
        return dynamic_filter(radar, features, *last.parameters(), slope=SLOPE)


class GlfCrNet(nn.Module):
    """The whole network; sides must divide by `stride`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        _check(config)
        width, count = config.width, config.num_blocks
        self.stride = 2 * config.window
        self.SFENet1 = nn.Conv2d(4 * config.optical_bands, width, 5, padding=2)
        self.SFENet2 = _conv(width, width)
        self.SFENet1_SAR = nn.Conv2d(4 * config.radar_bands, width, 5, padding=2)
        self.SFENet2_SAR = _conv(width, width)
        self.RDBs = nn.ModuleList(DenseBlock(config, rates) for rates in _drop_paths(config))
        self.DF = nn.ModuleList(FilterGenerator(width, config.kernel) for _ in range(count))
        self.sar_fuse_1x1conv = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(count))
        self.opt_distribute_1x1conv = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(count))
        self.GFF = nn.Sequential(nn.Conv2d(count * width, width, 1), _conv(width, width))
        self.UPNet = nn.Sequential(
            _conv(width, 4 * config.head_width),
            nn.PixelShuffle(2),
            _conv(config.head_width, config.optical_bands),
        )

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:
        """Restore `degraded`, (B, C, H, W), guided by `sar`, (B, P, H, W); neither activated nor clipped."""
        shallow = self.SFENet1(self.unshuffle(degraded))  # (B, width, H/2, W/2)
        optical = self.SFENet2(shallow)
        radar = self.SFENet2_SAR(self.SFENet1_SAR(self.unshuffle(sar)))
        outputs = []
        for index, block in enumerate(self.RDBs):
            optical, radar = self.fuse(index, *block(optical, radar))
            outputs.append(optical)
        deep = self.GFF(torch.cat(outputs, 1)) + shallow
        return self.UPNet(deep) + degraded  # (B, C, H, W)

    def unshuffle(self, image: Tensor) -> Tensor:
        """Return 2 x 2 pixels as channels, (B, 4 C, H/2, W/2), in the layout and dtype of the weights."""
        pixels = F.pixel_unshuffle(image.to(self.SFENet1.weight.dtype), 2)
        return pixels.contiguous(memory_format=torch.channels_last)

    def fuse(self, index: int, optical: Tensor, radar: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams after filtered radar has entered the optical one, and that the radar one."""
        filtered = self.DF[index](optical, radar)
        gain = filtered - optical
        fused = torch.addcmul(optical, gain, self.sar_fuse_1x1conv[index](gain).sigmoid())
        rest = fused - filtered
        # The published code adds to the radar features as they were before the filter.
        return fused, torch.addcmul(radar, rest, self.opt_distribute_1x1conv[index](rest).sigmoid())


def _drop_paths(config: Config) -> list[list[float]]:
    """Return the rate of each layer of each block, rising in equal steps from 0."""
    count = config.num_layers
    step = config.drop_path / max(1, config.num_blocks * count - 1)
    return [[step * (block * count + i) for i in range(count)] for block in range(config.num_blocks)]


def _check(config: Config) -> None:
    if config.growth % config.num_heads:
        raise ValueError(f"num_heads is {config.num_heads}, must divide growth = {config.growth}")
    if config.window % 2 or config.window < 2:
        raise ValueError(f"window is {config.window} px, must be even; the published one is 8")
    if config.kernel % 2 == 0:
        raise ValueError(f"kernel is {config.kernel} px, must be odd; the published one is 5")


def build(config: Config) -> GlfCrNet:
    """Return the network, in channels-last layout."""
    return GlfCrNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
