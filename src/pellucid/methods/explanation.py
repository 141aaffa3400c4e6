"""What happened inside a method: the layers between a cloudy image and its restored one."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.methods.ground import Ground
from pellucid.methods.method import Method
from pellucid.methods.regression import Regression
from pellucid.networks.cross_attention import CrossAttentionNet

# Features of the guides that are shown one by one.
STRONGEST = 3
# Where the pixels lie whose attention is shown, in shares of height and width.
FOLLOWED = ((0.25, 0.25), (0.5, 0.5), (0.75, 0.75))


class Layer(NamedTuple):
    """A layer of one image: its name, and its values, (C, H, W).

    Its kind is "image" (bands of the method), "radar", "share" (1 channel, from 0 to 1), "difference" (bands
    of the method), "deviation" (likewise), "colours" (3 channels, from 0 to 1) or "attention" (1 channel,
    from 0 on); `at` is the row and column that an attention belongs to.
    """

    name: str
    kind: str
    values: Tensor
    at: tuple[int, int] | None = None


@torch.inference_mode()
def explain(method: Method, batch: Batch) -> list[Layer]:
    """Return what is worth a look inside a method that restores one image, B = 1, in the order of the work.

    Raises:
        InputError: if the method is neither of ground nor of cross-attention.
    """
    layers = [Layer("cloudy", "image", batch.degraded[0])]
    if batch.sar is not None and batch.sar.isfinite().any():
        layers.append(Layer("radar", "radar", batch.sar[0]))
    if isinstance(method, Ground):
        return layers + _inside_ground(method, batch)
    if isinstance(method, Regression) and isinstance(method.network, CrossAttentionNet):
        return layers + _inside_cross_attention(method, batch)
    raise InputError("this model shows nothing of its inside; use --model ground or --model cross_attention")


def feature_shares(features: Tensor, weights: Tensor) -> Tensor:
    """Return (D,), how much of the variance of the regressed bands each feature makes; they sum to 1.

    Args:
        features: (D, H, W).
        weights: (D, C) of the regression.
    """
    parts = features.flatten(1).var(1) * weights.square().sum(1)
    return parts / parts.sum().clamp(min=1e-12)


def main_colours(parts: Tensor) -> Tensor:
    """Return (3, H, W) in [0, 1]: the three principal components of D images, (D, H, W), as colours.

    Each goes from its 2nd to its 98th percentile; one without variance is 0.5. The sign is that in which the
    largest loading is positive, so that it does not depend on the machine.
    """
    flat = parts.flatten(1).double()
    flat = flat - flat.mean(1, keepdim=True)
    _, axes = torch.linalg.eigh(flat @ flat.mT)
    axes = axes.flip(1)[:, :3]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    found = axes.mT @ flat
    ordered = found.sort(1).values
    low, high = (ordered[:, round(q * (flat.shape[1] - 1)), None] for q in (0.02, 0.98))
    is_flat = high - low < 1e-6
    shown = ((found - low) / (high - low).where(~is_flat, 1)).clamp(0, 1).where(~is_flat, 0.5)
    result = shown.new_full((3, flat.shape[1]), 0.5)
    result[: len(shown)] = shown
    return result.float().unflatten(1, parts.shape[1:])


def _inside_ground(method: Ground, batch: Batch) -> list[Layer]:
    seen, clear, features, solution, painted = method.inside(batch)
    at, estimate = method.channels(), method.estimate(batch)
    weights = solution.weights[0][:, at]
    cells = method.network.carry(clear.colours - painted.solved, clear.worth * seen.valid)
    carried = cells.enlarge(cells.residual, features)
    layers = [Layer("clear, as judged", "share", painted.confidence[0])]
    if any(guide is not None and guide.isfinite().any() for guide in (batch.sar, batch.older)):
        layers += _features(features[0], weights)
    layers += [
        Layer("regression alone", "image", painted.solved[0, at]),
        Layer("residual, carried", "difference", carried[0, at]),
        Layer("result", "image", estimate.image[0]),
    ]
    if estimate.cloud is not None and estimate.deviation is not None:
        layers.append(Layer("painted", "share", estimate.cloud[0]))
        layers.append(Layer("deviation", "deviation", estimate.deviation[0]))
    return layers


def _features(features: Tensor, weights: Tensor) -> list[Layer]:
    """Return what the guides say: main colours, and the features that make most of the regression."""
    shares = feature_shares(features, weights)
    parts = features * weights.norm(dim=1)[:, None, None]
    layers = [Layer("guides, main colours", "colours", main_colours(parts))]
    for i in shares.argsort(descending=True)[:STRONGEST].tolist():
        low, high = features[i].aminmax()
        values = (features[i : i + 1] - low) / (high - low).clamp(min=1e-6)
        layers.append(Layer(f"guides, feature {i + 1}, {float(shares[i]):.0%}", "share", values))
    return layers


def _inside_cross_attention(method: Regression, batch: Batch) -> list[Layer]:
    """Return features of the radar, where some pixels look in it, what it changes, and the result."""
    network, taken = method.network, list[tuple[Tensor, Tensor]]()
    assert isinstance(network, CrossAttentionNet)
    hook = network.cross_attn.register_forward_hook(lambda _, inputs, __: taken.append(inputs))
    try:
        result = method.restore(batch)
    finally:
        hook.remove()
    assert batch.sar is not None
    optical, radar = taken[0]
    height, width = optical.shape[-2:]
    even = replace(batch, sar=batch.sar.mean((2, 3), keepdim=True).expand_as(batch.sar))
    enlarged = _enlarge(main_colours(radar[0]), network.stride)
    layers = [Layer("radar features, main colours", "colours", enlarged)]
    for y, x in FOLLOWED:
        row, column = int(y * height), int(x * width)
        weight = network.cross_attn.attention(optical, radar, row * width + column)
        values = _enlarge(weight[0].unflatten(0, (height, width))[None], network.stride)
        at = (row * network.stride, column * network.stride)
        layers.append(Layer("attention", "attention", values, at))
    return [
        *layers,
        Layer("changed by radar's detail", "difference", (result - method.restore(even))[0]),
        Layer("result", "image", result[0]),
    ]


def _enlarge(values: Tensor, times: int) -> Tensor:
    """Return (C, H, W) with each pixel `times` times in each row and column."""
    return values.repeat_interleave(times, 1).repeat_interleave(times, 2)
