"""A small U-Net that works at half the resolution inside and gives a map of the input's size."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, pixel_shuffle

from pellucid.networks._strips import STRIP, pays

# What convolutions see beyond an image: 0, or its outermost pixels.
Beyond = Literal["zeros", "replicate"]


class _Convolution(nn.Conv2d):
    """A 3 x 3 convolution that sees 0 or the outermost pixels beyond an image."""

    def __init__(self, channels_in: int, channels: int, beyond: Beyond) -> None:
        super().__init__(channels_in, channels, 3, padding=1, padding_mode=beyond)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, H, W)."""
        if self.padding_mode == "zeros":
            return super().forward(x)
        return conv2d(padded(x, 1, "replicate"), self.weight, self.bias)


class _Block(nn.Module):
    """Two convolutions beside a shortcut; no normalisation, so that absolute values stay visible."""

    def __init__(self, channels_in: int, channels: int, beyond: Beyond) -> None:
        super().__init__()
        self.first = _Convolution(channels_in, channels, beyond)
        self.second = _Convolution(channels, channels, beyond)
        self.shortcut = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        self.act = nn.SiLU(inplace=True)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, h, w)."""
        return self.shortcut(x) + self.second(self.act(self.first(x)))


def _halved(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Return a 3 x 3 convolution of `pixel_unshuffle(x, 2)`, as one of 6 x 6 and stride 2."""
    weight = layer.weight.unflatten(1, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
    weight = weight.contiguous(memory_format=torch.channels_last)
    if layer.padding_mode == "zeros":
        return conv2d(x, weight, layer.bias, stride=2, padding=2)
    return conv2d(padded(x, 2, "replicate"), weight, layer.bias, stride=2)


def _doubled(x: Tensor) -> Tensor:
    """Return (B, 4 C, h, w) as (B, C, 2 h, 2 w), blurred by [1 2 1] / 4 along rows and columns.

    The four pixels that a shuffle makes of one come of weights of their own: unlike on even ground, a pattern
    of 2 pixels, of which the blur leaves nothing. Beyond the edges lies a pixel of the other kind, too.
    """
    height, width = x.shape[2:]
    if not pays(x):
        return blur(padded(pixel_shuffle(x, 2), 1, "reflect"))
    size = (len(x), x.shape[1] // 4, 2 * height, 2 * width)
    whole = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for start in range(0, height, STRIP):
        stop = min(start + STRIP, height)
        pixels = pixel_shuffle(x[:, :, max(start - 1, 0) : stop + 1], 2)
        with torch.autocast(x.device.type, enabled=False):
            pixels = pad(pixels, (1, 1, int(start == 0), int(stop == height)), mode="reflect")
        first = int(start > 0)
        whole[:, :, 2 * start : 2 * stop] = blur(pixels)[:, :, first : first + 2 * (stop - start)]
    return whole


def blur(x: Tensor) -> Tensor:
    """Return maps, (B, C, H + 2, W + 2), blurred by [1 2 1] / 4 along rows and columns, (B, C, H, W)."""
    line = x.new_tensor([0.25, 0.5, 0.25])
    weight = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return conv2d(x, weight, groups=len(weight))


def padded(x: Tensor, pixels: int, beyond: Literal["reflect", "replicate"]) -> Tensor:
    """Return maps, (B, C, H, W), with so many pixels more on each side, in their own precision.

    Automatic precision would take them through float32, and that is slow on a CPU; likewise in `enlarge`.
    """
    with torch.autocast(x.device.type, enabled=False):
        return pad(x, 4 * (pixels,), mode=beyond)


def enlarge(x: Tensor) -> Tensor:
    """Return an image at twice its resolution, bilinear, in its own precision."""
    with torch.autocast(x.device.type, enabled=False):
        if x.dtype == torch.float32 and x.is_contiguous() and pays(x):
            return _twice(_twice(x, 3), 2)  # half of the time
        return interpolate(x, scale_factor=2, mode="bilinear")


def _twice(x: Tensor, dim: int) -> Tensor:
    """Return maps with twice as many places along a dimension, between which values are linear."""
    end = x.shape[dim] - 1
    one, other = x.narrow(dim, 0, end), x.narrow(dim, 1, end)
    made = x.new_empty(*x.shape[: dim + 1], 2, *x.shape[dim + 1 :])
    first, second = made.unbind(dim + 1)
    torch.lerp(other, one, 0.25, out=first.narrow(dim, 1, end))
    torch.lerp(one, other, 0.25, out=second.narrow(dim, 0, end))
    first.narrow(dim, 0, 1).copy_(x.narrow(dim, 0, 1))
    second.narrow(dim, end, 1).copy_(x.narrow(dim, end, 1))
    return made.flatten(dim, dim + 1)


class SmallUNet(nn.Module):
    """Encoder at 1/2, 1/4, ... of the resolution, decoder back to it.

    Args:
        channels_in: of the input.
        channels_out: of the map.
        widths: channels at 1/2, 1/4 ... of the resolution.
        detail: channels of a shallow branch at full resolution; 0: none, the map is made at 1/2.
        beyond: what the layers at 1 and 1/2 of the resolution see beyond the image: 0, or its outermost
            pixels, so that no thin line along the edges is made; the deeper ones always see 0.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        widths: tuple[int, ...],
        *,
        detail: int = 0,
        beyond: Beyond = "zeros",
    ) -> None:
        super().__init__()
        self.stride = 2 ** len(widths)
        self.first = _Convolution(4 * channels_in, widths[0], beyond)
        self.down = nn.ModuleList(
            _Block(before, width, beyond if level == 0 else "zeros")
            for level, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.up = nn.ModuleList(
            _Block(widths[level + 1] + widths[level], widths[level], beyond if level == 0 else "zeros")
            for level in range(len(widths) - 2, -1, -1)
        )
        self.detail = _Convolution(channels_in, detail, beyond) if detail else None
        self.widen = nn.Conv2d(widths[0], 4 * (detail or channels_out), 1)
        self.last = _Convolution(2 * detail, channels_out, beyond) if detail else None
        for layer in (self.first, self.detail, self.widen, self.last):
            if layer is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return (B, channels_out, H, W).

        Args:
            x: (B, channels_in, H, W); sides divide by `stride`.
            bias: (B, widths[0]), added at every pixel.
        """
        h = _halved(x, self.first)
        if bias is not None:
            h = h + bias[..., None, None]
        kept = []
        for at, block in enumerate(self.down):
            h = block(h if at == 0 else nn.functional.avg_pool2d(h, 2))
            kept.append(h)
        for block, skip in zip(self.up, kept[-2::-1], strict=True):
            h = block(torch.cat([enlarge(h), skip], dim=1))
        h = _doubled(self.widen(h))
        if self.detail is None or self.last is None:
            return h
        return self.last(nn.functional.silu(torch.cat([h, self.detail(x)], dim=1)))


def as_multiplied(x: Tensor) -> Tensor:
    """Return x as the convolutions of this precision want it, so that each need not convert it."""
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return x.to(dtype, memory_format=torch.channels_last)
