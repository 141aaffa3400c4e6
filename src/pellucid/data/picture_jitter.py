"""Random changes of pictures and the radar beside them: both turned, other colours, noise on the radar.

Each change of colour is what Pillow's ImageEnhance does, by a random factor; hues turn as in HSV.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from pellucid.data.batch import Batch
from pellucid.data_config import PictureAugment

# Weights of red, green and blue in grey: ITU-R BT.601.
GREY = (0.299, 0.587, 0.114)


def change_pair(batch: Batch, generator: torch.Generator, *, augment: PictureAugment) -> Batch:
    """Return the batch turned by a small angle, its target in other colours, its radar with noise.

    `degraded` follows the radar, in as many equal channels as it had.

    Args:
        batch: of `SarOptical`.
        generator: of everything random.
        augment: which changes there are.
    """
    if augment.rotation:
        batch = turn(batch, augment.rotation * _between(-1, 1, generator))
    if batch.target is not None:
        batch = replace(batch, target=jitter_color(batch.target, generator, augment=augment))
    if batch.sar is not None and augment.radar_noise:
        noise = torch.randn(batch.sar.shape, generator=generator)
        sar = (batch.sar + augment.radar_noise * noise).clamp(0, 1)
        batch = replace(batch, sar=sar, degraded=sar.expand_as(batch.degraded).contiguous())
    return batch


def turn(batch: Batch, degrees: float) -> Batch:
    """Return the batch with every image turned about its centre, counterclockwise; bilinear.

    What comes from outside is mirrored, and not `valid`.
    """
    height, width = batch.valid.shape[-2:]
    angle = math.radians(degrees)
    y, x = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in (height, width))
    y, x = torch.meshgrid(y, x, indexing="ij")
    from_x = (x * math.cos(angle) - y * math.sin(angle)) * 2 / width
    from_y = (x * math.sin(angle) + y * math.cos(angle)) * 2 / height
    grid = torch.stack([from_x, from_y], dim=-1)[None].float()  # (1, H, W, 2)
    inside = (grid.abs() <= 1).all(-1)[None]  # (1, 1, H, W)

    def cut(image: Tensor) -> Tensor:
        where = grid.expand(len(image), -1, -1, -1)
        return grid_sample(image.float(), where, padding_mode="reflection", align_corners=False)

    images = {name: cut(image) for name, image in batch.images().items() if name != "valid"}
    return replace(batch, valid=(cut(batch.valid) > 1 - 1e-4) & inside, **images)  # type: ignore[arg-type]


def jitter_color(image: Tensor, generator: torch.Generator, *, augment: PictureAugment) -> Tensor:
    """Return (B, 3, H, W) with brightness, contrast, saturation and hue changed, in this order."""
    if augment.brightness:
        image = (image * _factor(augment.brightness, generator)).clamp(0, 1)
    if augment.contrast:
        mean = _to_grey(image).mean((-2, -1), keepdim=True)
        image = (mean + _factor(augment.contrast, generator) * (image - mean)).clamp(0, 1)
    if augment.saturation:
        grey = _to_grey(image)
        image = (grey + _factor(augment.saturation, generator) * (image - grey)).clamp(0, 1)
    if augment.hue:
        image = shift_hue(image, augment.hue * _between(-1, 1, generator))
    return image


def shift_hue(image: Tensor, shift: float) -> Tensor:
    """Return (B, 3, H, W) in [0, 1] with hues moved by `shift` of the circle: red by 1/3 becomes green."""
    red, green, blue = image.unbind(1)
    value, strongest = image.max(1)
    chroma = value - image.amin(1)
    sextants = torch.stack([green - blue, blue - red, red - green], dim=1) / chroma.clamp(min=1e-9)[:, None]
    hue = sextants.gather(1, strongest[:, None])[:, 0] + 2 * strongest + 6 * shift
    # The channel n of a hue h, in sextants: V - C max(0, min(k, 4 - k, 1)), k = (n + h) mod 6, n = 5, 3, 1.
    k = torch.stack([(n + hue) % 6 for n in (5, 3, 1)], dim=1)
    part = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[:, None] - chroma[:, None] * part


def _to_grey(image: Tensor) -> Tensor:
    return (image * image.new_tensor(GREY).view(3, 1, 1)).sum(-3, keepdim=True)


def _factor(spread: float, generator: torch.Generator) -> float:
    return _between(1 - spread, 1 + spread, generator)


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
