"""SR3's U-Net: it estimates the noise in a noised image, conditioned on the enlarged low-resolution image.

Saharia et al. 2021, arXiv:2104.07636. Parameter names follow the published checkpoints.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from pellucid.data.batch import Condition

# Longest period of the noise level's encoding is 2 pi times this. Vaswani et al. 2017, arXiv:1706.03762
MAX_PERIOD = 1e4


@dataclass(frozen=True)
class Config:
    """Size of the network; the defaults are those of the published x8 "light", with cross-attention.

    Attributes:
        bands: C, channels of the condition and of the result.
        width: channels at full resolution.
        multipliers: channels per level, in multiples of `width`; each level halves the sides.
        num_blocks: residual blocks per level on the way down; the way up has one more.
        attention: sides in pixels of the levels with attention, for an image whose side is `image_size`; the
            innermost level always has it once; sides that no level has are ignored.
        image_size: side in pixels to which `attention` refers; the network takes any size.
        groups: of the group norms; must divide `width`.
        num_heads: of each attention; must divide its channels.
        dropout: probability of dropping a feature in each residual block, in training.
        use_cross_attention: attend to the encoded condition too; without, it is the published base model.
        checkpointing: recompute features in the backward pass: slower training in less memory.
    """

    bands: int = 1
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    num_blocks: int = 2
    attention: tuple[int, ...] = (16,)
    image_size: int = 256
    groups: int = 32
    num_heads: int = 4
    dropout: float = 0.2
    use_cross_attention: bool = True
    checkpointing: bool = False


class NoiseLevelEncoding(nn.Module):
    """Sines, then cosines, of the noise level at `width` / 2 frequencies from 1 down to 1e-4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, c_noise: Tensor) -> Tensor:
        """Return (B, width)."""
        half = self.width // 2
        steps = torch.arange(half, dtype=c_noise.dtype, device=c_noise.device) / half
        angles = c_noise[:, None] * torch.exp(-math.log(MAX_PERIOD) * steps)  # (B, width / 2)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


def _norm_conv(channels_in: int, channels_out: int, *, groups: int, dropout: float = 0.0) -> nn.Module:
    block = nn.Sequential(
        nn.GroupNorm(groups, channels_in),
        nn.SiLU(inplace=True),
        nn.Dropout(dropout),
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
    )
    return nn.Sequential(OrderedDict(block=block))


class ResBlock(nn.Module):
    """Twice norm, SiLU, dropout and convolution, between them a shift by noise level; added to the input."""

    def __init__(self, channels_in: int, channels_out: int, config: Config) -> None:
        super().__init__()
        shift = nn.Sequential(nn.Linear(config.width, channels_out))
        self.noise_func = nn.Sequential(OrderedDict(noise_func=shift))
        self.block1 = _norm_conv(channels_in, channels_out, groups=config.groups)
        self.block2 = _norm_conv(channels_out, channels_out, groups=config.groups, dropout=config.dropout)
        same = channels_in == channels_out
        self.res_conv = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Return (B, channels_out, h, w)."""
        features = self.block1(x) + self.noise_func(level)[:, :, None, None]
        return self.block2(features) + self.res_conv(x)


class SelfAttention(nn.Module):
    """Every pixel attends to every pixel; the result is added to the input."""

    def __init__(self, channels: int, *, groups: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, h, w)."""
        query, key, value = _heads(self.qkv(self.norm(x)), self.num_heads).chunk(3, dim=3)
        return x + self.out(_attend(query, key, value, like=x))


class CrossAttention(nn.Module):
    """Every pixel attends to every pixel of a context, averaged to its resolution; added to the input."""

    def __init__(self, channels: int, context_channels: int, *, groups: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(groups, channels)
        self.norm_context = nn.GroupNorm(groups, context_channels)
        self.to_q = nn.Conv2d(channels, channels, 1, bias=False)
        self.to_k = nn.Conv2d(context_channels, channels, 1, bias=False)
        self.to_v = nn.Conv2d(context_channels, channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return (B, channels, h, w) for a `context` of (B, context_channels, H, W)."""
        if context.shape[-2:] != x.shape[-2:]:
            context = interpolate(context, size=x.shape[-2:], mode="area")  # (B, context_channels, h, w)
        context = self.norm_context(context)
        query = _heads(self.to_q(self.norm(x)), self.num_heads)
        key, value = _heads(self.to_k(context), self.num_heads), _heads(self.to_v(context), self.num_heads)
        return x + self.out(_attend(query, key, value, like=x))


def _heads(image: Tensor, num_heads: int) -> Tensor:
    """Return (B, D, h, w) as (B, num_heads, h*w, D / num_heads)."""
    return image.flatten(2).unflatten(1, (num_heads, -1)).mT


def _attend(query: Tensor, key: Tensor, value: Tensor, *, like: Tensor) -> Tensor:
    """Return the attended values, in the shape of `like`, (B, D, h, w)."""
    # The fused kernel needs contiguous memory. The published scale is that of all heads together.
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    gathered = scaled_dot_product_attention(query, key, value, scale=like.shape[1] ** -0.5)
    return gathered.transpose(1, 2).flatten(2).mT.unflatten(2, like.shape[-2:])


class Block(nn.Module):
    """A residual block, at some levels followed by attention."""

    def __init__(self, channels_in: int, channels_out: int, config: Config, *, attends: bool) -> None:
        super().__init__()
        self.res_block = ResBlock(channels_in, channels_out, config)
        sizes = {"groups": config.groups, "num_heads": config.num_heads}
        self.attn = SelfAttention(channels_out, **sizes) if attends else None
        crosses = attends and config.use_cross_attention
        self.cross_attn = CrossAttention(channels_out, config.width, **sizes) if crosses else None

    def forward(self, x: Tensor, level: Tensor, context: Tensor | None) -> Tensor:
        """Return (B, channels_out, h, w)."""
        x = self.res_block(x, level)
        if self.attn is not None:
            x = self.attn(x)
        return x if self.cross_attn is None else self.cross_attn(x, context)


def _down(channels: int) -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, channels, 3, stride=2, padding=1)))


def _up(channels: int) -> nn.Module:
    enlarge, conv = nn.Upsample(scale_factor=2.0), nn.Conv2d(channels, channels, 3, padding=1)
    return nn.Sequential(OrderedDict[str, nn.Module](enlarge=enlarge, conv=conv))


class Sr3Unet(nn.Module):
    """The whole network; sides must divide by `stride`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        _check(config)
        width = config.width
        self.stride = 2 ** (len(config.multipliers) - 1)
        self.checkpointing = config.checkpointing
        self.noise_level_mlp = nn.Sequential(
            NoiseLevelEncoding(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )
        crosses = config.use_cross_attention
        self.condition_encoder = nn.Conv2d(config.bands, width, 3, padding=1) if crosses else None
        skips, self.downs = _way_down(config)
        inner = skips[-1]
        self.mid = nn.ModuleList(Block(inner, inner, config, attends=attends) for attends in (True, False))
        self.ups = _way_up(config, skips)
        self.final_conv = _norm_conv(width * config.multipliers[0], config.bands, groups=config.groups)

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        """Return (B, C, H, W), usually the noise in `x_t`.

        Args:
            x_t: (B, C, H, W), the noised image; without noise it lies in [-1, 1].
            c_noise: (B,), the noise level: the square root of the image's share of the variance.
            condition: its `degraded`, (B, C, H, W) in [-1, 1], is the enlarged image of low resolution.
        """
        if condition.degraded is None:
            raise ValueError("the condition has no degraded image, sr3_unet needs one")
        level = self.noise_level_mlp(c_noise.to(x_t.dtype))  # (B, width)
        context = None if self.condition_encoder is None else self.condition_encoder(condition.degraded)
        x = torch.cat([condition.degraded, x_t], dim=1)  # (B, 2 C, H, W)
        skips = []
        for layer in self.downs:
            x = self.run(layer, x, level, context)
            skips.append(x)
        for layer in self.mid:
            x = self.run(layer, x, level, context)
        for layer in self.ups:
            if isinstance(layer, Block):
                x = torch.cat([x, skips.pop()], dim=1)
            x = self.run(layer, x, level, context)
        return self.final_conv(x)  # (B, C, H, W)

    def run(self, layer: nn.Module, x: Tensor, level: Tensor, context: Tensor | None) -> Tensor:
        """Return the features after one layer; `checkpointing` does not keep those inside it."""
        if not isinstance(layer, Block):
            return layer(x)
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, x, level, context, use_reentrant=False)
        return layer(x, level, context)


def _way_down(config: Config) -> tuple[list[int], nn.ModuleList]:
    """Return the channels after each layer on the way down, and these layers."""
    channels = [config.width]
    layers = nn.ModuleList([nn.Conv2d(2 * config.bands, config.width, 3, padding=1)])
    for depth, multiplier in enumerate(config.multipliers):
        if depth:
            layers.append(_down(channels[-1]))
            channels.append(channels[-1])
        for _ in range(config.num_blocks):
            here = multiplier * config.width
            layers.append(Block(channels[-1], here, config, attends=_attends(config, depth)))
            channels.append(here)
    return channels, layers


def _way_up(config: Config, skips: list[int]) -> nn.ModuleList:
    """Return the layers on the way up, which take the outputs of the way down, from the last to the first."""
    skips = skips.copy()
    layers, channels = nn.ModuleList(), skips[-1]
    for depth in reversed(range(len(config.multipliers))):
        for _ in range(config.num_blocks + 1):
            here = config.multipliers[depth] * config.width
            layers.append(Block(channels + skips.pop(), here, config, attends=_attends(config, depth)))
            channels = here
        if depth:
            layers.append(_up(channels))
    return layers


def _attends(config: Config, depth: int) -> bool:
    return config.image_size >> depth in config.attention


def _check(config: Config) -> None:
    if not config.multipliers or min(config.multipliers) < 1 or config.num_blocks < 1:
        raise ValueError(
            f"multipliers is {config.multipliers} and num_blocks {config.num_blocks}, "
            "a network has at least one level with one block"
        )
    if config.width % 2:
        raise ValueError(f"width is {config.width}, must be even; the published ones are 32 and 64")
    if config.width % config.groups:
        raise ValueError(f"groups is {config.groups}, must divide width = {config.width}")
    depths = [depth for depth in range(len(config.multipliers)) if _attends(config, depth)]
    for channels in {config.multipliers[depth] * config.width for depth in (*depths, -1)}:
        if channels % config.num_heads:
            raise ValueError(
                f"num_heads is {config.num_heads}, must divide the {channels} channels of a level"
            )


def build(config: Config) -> Sr3Unet:
    """Return the network, in channels-last layout, with random weights as published: orthogonal, biases 0."""
    network = Sr3Unet(config)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)  # Saxe et al. 2014, arXiv:1312.6120
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
