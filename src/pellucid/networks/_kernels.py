"""Parts of networks as one GPU kernel each, in Triton, for inference; only imported where they are used.

PyTorch brings Triton with its builds for CUDA. Each kernel has the same function in plain PyTorch beside the
network that uses it, for CPUs and for training.
"""

from collections.abc import Sequence
from math import isqrt

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.networks._windows import mask_by_kind, relative_positions

# Pixels and channels of a program of the dynamic filter, and its warps.
FILTER_BLOCK, FILTER_WARPS = (128, 32), 4
WINDOW_WARPS = 4
# Pixels of a program of the perceptron.
FINISH_BLOCK, FINISH_WARPS = 64, 4


@torch.library.custom_op("pellucid::dynamic_filter", mutates_args=())
def dynamic_filter(image: Tensor, features: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Return what `_dynamic_filter.dynamic_filter` does, (B, H, W, C).

    Args:
        image: (B, H, W, C), contiguous.
        features: (B, H, W, D), contiguous; all are of its dtype.
        weight: (taps, C, D), contiguous.
        bias: (taps, C), contiguous.
        slope: of the LeakyReLU for negative values.
    """
    batch, height, width, depth = features.shape
    taps, channels, _ = weight.shape
    out = torch.empty_like(image)
    block, across = FILTER_BLOCK
    count = batch * height * width
    _filter[(triton.cdiv(count, block), triton.cdiv(channels, across))](
        image, features, weight, bias, out, count, height, width, slope,
        CHANNELS=channels, DEPTH=depth, SIDE=isqrt(taps), BLOCK=block, ACROSS=across,
        DEEP=_padded(depth), PRECISION=_precision(features), num_warps=FILTER_WARPS,
    )  # fmt: skip
    return out


@dynamic_filter.register_fake
def _(image: Tensor, features: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:  # noqa: ARG001
    return torch.empty_like(image)


@torch.library.custom_op("pellucid::window_layer", mutates_args=())
def window_layer(
    optical: Tensor, radar: Tensor, shared: Sequence[Tensor], own: Sequence[Tensor], window: int, shift: int
) -> tuple[Tensor, Tensor]:
    """Return both streams after window attention and perceptron, as in GLF-CR's dense layers.

    Args:
        optical: (B, h, w, D), contiguous; the dtype is that of the computation.
        radar: likewise.
        shared: table of relative positions, (pairs, heads); weight (heads, heads) and bias (heads,) of the
            fusion of the logits.
        own: weight and bias of qkv, proj, norm, fc1 and fc2 of the optical stream, then of the radar one.
        window: side of a window, a power of 2; it divides the sides.
        shift: pixels by which the image is rolled up and left first.
    """
    batch, height, width, channels = optical.shape
    positions, mix, mix_bias = shared
    heads, precision = len(mix), _precision(optical)
    table = added_to_logits(positions, window, shift, optical.dtype)
    attended = torch.empty_like(optical), torch.empty_like(radar)
    half = len(own) // 2
    _attend[(batch * (height // window) * (width // window),)](
        optical, radar, *attended, table, mix, mix_bias, *own[:2], *own[half : half + 2],
        height, width, (channels // heads) ** -0.5,
        CHANNELS=channels, HEADS=heads, WINDOW=window, SHIFT=shift, LENGTH=window**2,
        PAD=_padded(channels), PRECISION=precision, num_warps=WINDOW_WARPS,
    )  # fmt: skip
    outs = torch.empty_like(optical), torch.empty_like(radar)
    count, hidden = batch * height * width, len(own[6])
    for x, found, out, weights in zip(
        (optical, radar), attended, outs, (own[2:half], own[half + 2 :]), strict=True
    ):
        _finish[(triton.cdiv(count, FINISH_BLOCK),)](
            x, found, out, *weights, count,
            CHANNELS=channels, PAD=_padded(channels), HIDDEN=hidden, DEEP=_padded(hidden),
            BLOCK=FINISH_BLOCK, PRECISION=precision, num_warps=FINISH_WARPS,
        )  # fmt: skip
    return outs


@window_layer.register_fake
def _(
    optical: Tensor,
    radar: Tensor,
    shared: Sequence[Tensor],  # noqa: ARG001
    own: Sequence[Tensor],  # noqa: ARG001
    window: int,  # noqa: ARG001
    shift: int,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(optical), torch.empty_like(radar)


def added_to_logits(positions: Tensor, window: int, shift: int, dtype: torch.dtype) -> Tensor:
    """Return what is added to the logits of a window, (kinds, heads, L, L), from (pairs, heads).

    Windows that are not shifted are of one kind; others lie inside, at the right, below or in the corner.
    """
    length, heads = window**2, positions.shape[1]
    pairs = positions.detach().index_select(0, relative_positions(window, positions.device))
    table = pairs.T.reshape(1, heads, length, length)
    if shift:
        table = table + mask_by_kind(window, shift, positions.device)[:, None]
    return table.to(dtype).contiguous()


def _padded(size: int) -> int:
    """Return the next power of 2 that a matrix product accepts."""
    return max(16, triton.next_power_of_2(size))


def _precision(values: Tensor) -> str:
    """Return how float32 is multiplied: as PyTorch is set to do it."""
    allowed = values.dtype != torch.float32 or torch.backends.cuda.matmul.allow_tf32
    return "tf32" if allowed else "tf32x3"


@triton.jit
def _filter(
    image, features, weight, bias, out, count, height, width, slope,
    CHANNELS: tl.constexpr, DEPTH: tl.constexpr, SIDE: tl.constexpr, BLOCK: tl.constexpr,
    ACROSS: tl.constexpr, DEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Filter BLOCK pixels in ACROSS channels: each tap's kernel is made, used and forgotten."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)
    deep = tl.arange(0, DEEP)
    inside, known = pixel < count, channel < CHANNELS
    x, y, sample = pixel % width, pixel // width % height, pixel // (width * height)
    at = pixel[:, None].to(tl.int64)
    wanted = inside[:, None] & (deep < DEPTH)[None, :]
    said = tl.load(features + at * DEPTH + deep[None, :], mask=wanted, other=0.0)
    fits = (deep < DEPTH)[:, None] & known[None, :]
    total = tl.zeros((BLOCK, ACROSS), tl.float32)
    for tap in range(SIDE * SIDE):
        row = tap * CHANNELS + channel
        matrix = tl.load(weight + row[None, :] * DEPTH + deep[:, None], mask=fits, other=0.0)
        kernel = tl.dot(said, matrix, input_precision=PRECISION)
        kernel += tl.load(bias + row, mask=known, other=0.0).to(tl.float32)[None, :]
        kernel = tl.where(kernel > 0, kernel, kernel * slope)
        above = tl.minimum(tl.maximum(y + tap // SIDE - SIDE // 2, 0), height - 1)
        beside = tl.minimum(tl.maximum(x + tap % SIDE - SIDE // 2, 0), width - 1)
        near = ((sample * height + above) * width + beside)[:, None].to(tl.int64)
        near = image + near * CHANNELS + channel[None, :]
        total += kernel * tl.load(near, mask=inside[:, None] & known[None, :], other=0.0).to(tl.float32)
    place = out + at * CHANNELS + channel[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=inside[:, None] & known[None, :])


@triton.jit
def _attend(
    optical, radar, optical_out, radar_out, table, mix, mix_bias, qkv_o, qkv_bias_o, qkv_r, qkv_bias_r,
    height, width, scale,
    CHANNELS: tl.constexpr, HEADS: tl.constexpr, WINDOW: tl.constexpr, SHIFT: tl.constexpr,
    LENGTH: tl.constexpr, PAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Let the pixels of one window attend to each other, in both streams.

    Heads are so narrow that all channels are multiplied, those of other heads by 0, which tensor cores do
    faster than heads can be moved. The fusion of the heads' logits is a weight per channel, too.
    """
    across, down = width // WINDOW, height // WINDOW
    number = tl.program_id(0)
    right, below = number % across, number // across % down
    token, channel = tl.arange(0, LENGTH), tl.arange(0, PAD)
    row = (below * WINDOW + token // WINDOW + SHIFT) % height
    column = (right * WINDOW + token % WINDOW + SHIFT) % width
    pixel = (number // (across * down) * height + row) * width + column
    place = pixel[:, None] * CHANNELS + channel[None, :]
    known = channel < CHANNELS
    x = tl.load(optical + place, mask=known[None, :], other=0.0)
    query_o = (_linear(x, qkv_o, qkv_bias_o, CHANNELS, PAD, CHANNELS, PAD, PRECISION) * scale).to(x.dtype)
    qkv_o, qkv_bias_o = qkv_o + CHANNELS * CHANNELS, qkv_bias_o + CHANNELS
    key_o = tl.trans(_linear(x, qkv_o, qkv_bias_o, CHANNELS, PAD, CHANNELS, PAD, PRECISION).to(x.dtype))
    qkv_o, qkv_bias_o = qkv_o + CHANNELS * CHANNELS, qkv_bias_o + CHANNELS
    value_o = _linear(x, qkv_o, qkv_bias_o, CHANNELS, PAD, CHANNELS, PAD, PRECISION).to(x.dtype)
    y = tl.load(radar + place, mask=known[None, :], other=0.0)
    query_r = (_linear(y, qkv_r, qkv_bias_r, CHANNELS, PAD, CHANNELS, PAD, PRECISION) * scale).to(x.dtype)
    qkv_r, qkv_bias_r = qkv_r + CHANNELS * CHANNELS, qkv_bias_r + CHANNELS
    key_r = tl.trans(_linear(y, qkv_r, qkv_bias_r, CHANNELS, PAD, CHANNELS, PAD, PRECISION).to(x.dtype))
    qkv_r, qkv_bias_r = qkv_r + CHANNELS * CHANNELS, qkv_bias_r + CHANNELS
    value_r = _linear(y, qkv_r, qkv_bias_r, CHANNELS, PAD, CHANNELS, PAD, PRECISION).to(x.dtype)
    if SHIFT > 0:  # the last windows hold pixels that only rolling joined
        kind = 2 * (below == down - 1).to(tl.int32) + (right == across - 1).to(tl.int32)
        table += kind * HEADS * LENGTH * LENGTH
    head_of = channel // (CHANNELS // HEADS)
    attended_o = tl.zeros((LENGTH, PAD), tl.float32)
    attended_r = tl.zeros((LENGTH, PAD), tl.float32)
    for head in range(HEADS):
        mine = (head_of == head)[None, :]
        share = tl.load(mix + head * HEADS + head_of, mask=known, other=0.0)[None, :]
        logits_o = tl.dot(tl.where(mine, query_o, 0.0).to(x.dtype), key_o, input_precision=PRECISION)
        logits_r = tl.dot(tl.where(mine, query_r, 0.0).to(x.dtype), key_r, input_precision=PRECISION)
        mixed = tl.dot((query_r * share).to(x.dtype), key_r, input_precision=PRECISION)
        mixed = tl.dot((query_o * -share).to(x.dtype), key_o, mixed, input_precision=PRECISION)
        gate = tl.sigmoid(mixed + tl.load(mix_bias + head).to(tl.float32))
        bias = tl.load(table + (head * LENGTH + token[:, None]) * LENGTH + token[None, :]).to(tl.float32)
        logits_o += (logits_r - logits_o) * gate
        weights = _softmax(logits_o + bias).to(x.dtype)
        value = tl.where(mine, value_o, 0.0).to(x.dtype)
        attended_o = tl.dot(weights, value, attended_o, input_precision=PRECISION)
        weights = _softmax(logits_r + bias).to(x.dtype)
        value = tl.where(mine, value_r, 0.0).to(x.dtype)
        attended_r = tl.dot(weights, value, attended_r, input_precision=PRECISION)
    tl.store(optical_out + place, attended_o.to(x.dtype), mask=known[None, :])
    tl.store(radar_out + place, attended_r.to(x.dtype), mask=known[None, :])


@triton.jit
def _finish(
    x, attended, out, proj, proj_bias, norm, norm_bias, fc1, fc1_bias, fc2, fc2_bias, count,
    CHANNELS: tl.constexpr, PAD: tl.constexpr, HIDDEN: tl.constexpr, DEEP: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Project what was attended, add it, and add a perceptron of the sum, for BLOCK pixels."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, PAD)
    known = channel < CHANNELS
    place = pixel[:, None] * CHANNELS + channel[None, :]
    real = (pixel < count)[:, None] & known[None, :]
    z = tl.load(x + place, mask=real, other=0.0).to(tl.float32)
    gathered = tl.load(attended + place, mask=real, other=0.0)
    z += _linear(gathered, proj, proj_bias, CHANNELS, PAD, CHANNELS, PAD, PRECISION)
    centred = tl.where(known[None, :], z - (tl.sum(z, 1) / CHANNELS)[:, None], 0.0)
    spread = tl.rsqrt(tl.sum(centred * centred, 1) / CHANNELS + 1e-5)
    gain = tl.load(norm + channel, mask=known, other=0.0).to(tl.float32)
    offset = tl.load(norm_bias + channel, mask=known, other=0.0).to(tl.float32)
    even = (centred * spread[:, None] * gain[None, :] + offset[None, :]).to(gathered.dtype)
    inner = _linear(even, fc1, fc1_bias, HIDDEN, DEEP, CHANNELS, PAD, PRECISION)
    inner = 0.5 * inner * (1 + tl.erf(inner * 0.7071067811865476))
    z += _linear(inner.to(gathered.dtype), fc2, fc2_bias, CHANNELS, PAD, HIDDEN, DEEP, PRECISION)
    tl.store(out + place, z.to(gathered.dtype), mask=real)


@triton.jit
def _linear(
    x, weight, bias,
    COUNT: tl.constexpr, WIDE: tl.constexpr, DEPTH: tl.constexpr, DEEP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Return a linear layer with COUNT outputs, (..., WIDE) in float32; 0 beyond COUNT."""
    channel, deep = tl.arange(0, WIDE), tl.arange(0, DEEP)
    fits = (deep < DEPTH)[:, None] & (channel < COUNT)[None, :]
    place = weight + channel[None, :] * DEPTH + deep[:, None]
    matrix = tl.load(place, mask=fits, other=0.0).to(x.dtype)
    added = tl.load(bias + channel, mask=channel < COUNT, other=0.0).to(tl.float32)
    return tl.dot(x, matrix, input_precision=PRECISION) + added[None, :]


@triton.jit
def _softmax(logits):
    """Return the softmax of each row."""
    weights = tl.exp(logits - tl.max(logits, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]
