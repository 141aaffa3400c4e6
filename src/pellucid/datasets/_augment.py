"""Random changes of training samples, each drawn once for all images of a sample."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from pellucid.data.batch import Batch
from pellucid.data.cloud_score import cloud_score
from pellucid.data.older import CLOUDY
from pellucid.data.ranges import Bands
from pellucid.data.schema import Strict
from pellucid.datasets._augment_guides import (
    LIMITS,
    add_speckle,
    cloud_older,
    drop_polarisation,
    finish_older,
    hide_parts,
    shift_image,
)
from pellucid.simulate.clouds import SkyOptions, add_clouds

# Weights of red, green and blue in grey: ITU-R BT.601.
GREY = (0.299, 0.587, 0.114)


class LowResolutionAugment(Strict):
    """Random changes of the low-resolution image alone, in training: each probability with its ranges."""

    intensity: float = Field(0.0, ge=0, le=1)
    contrast: tuple[float, float] = (0.85, 1.15)
    brightness: tuple[float, float] = (-0.1, 0.1)
    noise: float = Field(0.0, ge=0, le=1)
    noise_std: tuple[float, float] = (0.01, 0.05)
    blur: float = Field(0.0, ge=0, le=1)
    blur_sigma: tuple[float, float] = (0.3, 0.8)
    """In pixels of the low resolution."""


class PictureAugment(Strict):
    """Random changes of pictures and their radar, in training; 0 switches each off."""

    rotation: float = Field(0.0, ge=0, le=45)
    """Degrees: both are turned by an angle in [-rotation, rotation]; pixels from outside are not valid."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """The picture alone is multiplied by a factor in [1 - brightness, 1 + brightness]."""
    contrast: float = Field(0.0, ge=0, lt=1)
    """Likewise, about the picture's mean grey."""
    saturation: float = Field(0.0, ge=0, lt=1)
    """Likewise, about each pixel's grey."""
    hue: float = Field(0.0, ge=0, le=0.5)
    """Its hues are shifted by a part in [-hue, hue] of the colour circle."""
    radar_noise: float = Field(0.0, ge=0, lt=1)
    """Standard deviation of Gaussian noise on the radar alone, in [0, 1]."""


class AugmentConfig(Strict):
    """Random changes of a training sample, each drawn once for all its images."""

    flip: bool = True
    """Mirror at random, left to right."""
    turn: bool = True
    """Turn at random by a multiple of 90 degrees."""
    scale: float = Field(0.0, ge=0, lt=1)
    """Zoom by a factor in [1 - scale, 1 + scale]."""
    gain: float = Field(0.0, ge=0, lt=1)
    """Reflectance is multiplied by a factor in [1 - gain, 1 + gain], one per image and one per band."""
    simulate: float = Field(0.0, ge=0, le=1)
    """Probability of replacing a pair's cloudy image by its clear one under simulated clouds; of an
    autoencoder's image, probability of simulating clouds over it."""
    score_clouds: float = Field(0.0, ge=0, le=1)
    """Probability of replacing the exact simulated cloud map by the built-in score, as at inference."""
    radar_shift: float = Field(0.0, ge=0, lt=1)
    """Standard deviation of a constant added to each polarisation, in units of its range."""
    drop_radar: float = Field(0.0, ge=0, le=1)
    """Probability of removing a sample's radar."""
    drop_polarisation: float = Field(0.0, ge=0, le=1)
    """Probability of removing one polarisation of a sample's radar, mostly VH."""
    speckle: float = Field(0.0, ge=0, le=1)
    """Probability of speckle on a sample's radar: multiplicative gamma noise on its linear power."""
    drop_older: float = Field(0.0, ge=0, le=1)
    """Probability of removing a sample's other dates."""
    cloud_older: float = Field(0.0, ge=0, le=1)
    """Probability of simulated clouds over a sample's other dates, which the built-in score then masks."""
    move: float = Field(0.0, ge=0, le=1)
    """Radar and other dates are each moved by up to so many pixels each way."""
    hide: float = Field(0.0, ge=0, le=1)
    """Probability of hiding random parts of the clear image (0, with the exact map as `cloud`), in place of
    real or simulated clouds."""
    leave: float = Field(0.0, ge=0, le=1)
    """Probability of leaving the clear image as it is, in place of simulated clouds."""
    give_cloud: float = Field(1.0, ge=0, le=1)
    """Probability of keeping the cloud map of a sample without hidden parts; else it is NaN."""
    low_resolution: LowResolutionAugment = LowResolutionAugment()
    """Changes of low-resolution slices alone."""
    picture: PictureAugment = PictureAugment()
    """Changes of pictures of radar and colour."""


def random_crop(batch: Batch, tile: int, scale: float, generator: torch.Generator) -> Batch:
    """Return a square of `tile` pixels, zoomed by a factor in [1 - scale, 1 + scale] about it.

    It begins where a pixel of low resolution does. Zoomed, that resolution is resampled itself.
    """
    factor = batch.scale
    height, width = batch.degraded.shape[-2:]
    zoom = 1 + scale * (2 * _uniform(generator) - 1)
    side = min(round(tile / factor / zoom), height, width)  # in pixels of `degraded`, as y and x are
    y, x = _draw(height - side + 1, generator), _draw(width - side + 1, generator)

    def cut(image: Tensor) -> Tensor:
        k = image.shape[-1] // width
        square = image[..., k * y : k * (y + side), k * x : k * (x + side)]
        return square if side * factor == tile else _resize(square, k * tile // factor)

    return map_images(batch, cut)


def random_turn(batch: Batch, augment: AugmentConfig, generator: torch.Generator) -> Batch:
    """Return the batch flipped and turned by quarter turns, where `augment` allows."""
    flip = augment.flip and _chance(0.5, generator)
    turns = _draw(4, generator) if augment.turn else 0

    def turn(image: Tensor) -> Tensor:
        return torch.rot90(image.flip(-1) if flip else image, turns, (-2, -1))

    return map_images(batch, turn)


def random_gain(batch: Batch, gain: float, generator: torch.Generator) -> Batch:
    """Return the batch with its optical images brightened or darkened alike, overall and per band."""
    if gain == 0:
        return batch
    bands = batch.degraded.shape[1]
    overall = 1 + gain * (2 * torch.rand(1, generator=generator) - 1)
    each = 1 + gain / 2 * (2 * torch.rand(bands, 1, 1, generator=generator) - 1)
    degraded = (batch.degraded * overall * each).clamp(max=1)
    target, older = (
        None if image is None else (image * overall * each).clamp(max=1)
        for image in (batch.target, batch.older)
    )
    return replace(batch, degraded=degraded, target=target, older=older)


def random_radar(batch: Batch, augment: AugmentConfig, generator: torch.Generator) -> Batch:
    """Return the batch with its radar changed, of which a polarisation or all may be removed."""
    if batch.sar is None:
        return batch
    if _chance(augment.drop_radar, generator):
        return replace(batch, sar=torch.full_like(batch.sar, torch.nan))
    sar = _shift(batch.sar, augment.radar_shift, generator)
    if augment.move:
        sar = shift_image(sar, augment.move, generator)
    if augment.speckle and _chance(augment.speckle, generator):
        sar = add_speckle(sar, generator)
    if augment.drop_polarisation and _chance(augment.drop_polarisation, generator):
        sar = drop_polarisation(sar, generator)
    return replace(batch, sar=sar)


def random_older(batch: Batch, augment: AugmentConfig, bands: Bands, generator: torch.Generator) -> Batch:
    """Return the batch with its other dates moved, cloudy in part or removed, then as a model gets them."""
    if batch.older is None or not batch.older.isfinite().any():
        return batch
    if augment.drop_older and _chance(augment.drop_older, generator):
        return replace(batch, older=torch.full_like(batch.older, torch.nan))
    older, limit = batch.older, CLOUDY
    if augment.move:
        older = shift_image(older, augment.move, generator)
    if augment.cloud_older and _chance(augment.cloud_older, generator):
        older, limit = cloud_older(older, bands, generator), _between(LIMITS, generator)
    return finish_older(replace(batch, older=older), bands, limit)


def change_clouds(
    batch: Batch, generator: torch.Generator, *, augment: AugmentConfig, bands: Bands, is_clear: bool
) -> Batch:
    """Return the batch with another brightness and guides and, at times, hidden parts or simulated clouds.

    The optical bands are for the spectra of the clouds, which are always simulated over a clear image.
    """
    batch = random_gain(batch, augment.gain, generator)
    if augment.hide and _chance(augment.hide, generator):
        batch = hide_parts(batch, generator)
    else:
        if is_clear or _chance(augment.simulate, generator):
            if augment.leave and _chance(augment.leave, generator):
                clear = batch.reference()
                batch = replace(batch, degraded=clear, cloud=torch.zeros_like(clear[:, :1]))
            else:
                batch = cloud_over(batch, bands, generator, SkyOptions())
            if augment.score_clouds and _chance(augment.score_clouds, generator):
                batch = replace(batch, cloud=cloud_score(batch.degraded, bands))
        if augment.give_cloud < 1 and batch.cloud is not None and not _chance(augment.give_cloud, generator):
            batch = replace(batch, cloud=torch.full_like(batch.cloud, torch.nan))
    batch = random_radar(batch, augment, generator)
    return random_older(batch, augment, bands, generator)


def change_low_resolution(
    batch: Batch, generator: torch.Generator, *, augment: LowResolutionAugment
) -> Batch:
    """Return the batch with its degraded image alone changed: contrast and brightness, noise, then blur.

    Each has its probability, and is clipped to [0, 1]. Contrast is a factor about black, brightness is added.
    """
    from scipy.ndimage import gaussian_filter

    image = batch.degraded
    if _chance(augment.intensity, generator):
        contrast, brightness = (_between(x, generator) for x in (augment.contrast, augment.brightness))
        image = (contrast * image + brightness).clamp(0, 1)
    if _chance(augment.noise, generator):
        noise = torch.randn(image.shape, generator=generator)
        image = (image + _between(augment.noise_std, generator) * noise).clamp(0, 1)
    if _chance(augment.blur, generator):
        sigma = _between(augment.blur_sigma, generator)
        image = torch.from_numpy(gaussian_filter(image.numpy(), (0, 0, sigma, sigma), mode="reflect"))
    return replace(batch, degraded=image)


def cloud_over(batch: Batch, bands: Bands, generator: torch.Generator, options: SkyOptions) -> Batch:
    """Return the batch with its cloudy images replaced by its targets under simulated clouds."""
    if batch.target is None:
        raise ValueError("clouds can only be simulated over a clear image, the batch has no target")
    covered = [add_clouds(clear, bands, generator, options) for clear in batch.target]
    degraded, cloud = (torch.stack(images) for images in zip(*covered, strict=True))
    return replace(batch, degraded=degraded * batch.valid, cloud=cloud)


def map_images(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """Return the batch with each of its images changed."""
    return replace(batch, **{name: change(image) for name, image in batch.images().items()})  # type: ignore[arg-type]


def _resize(image: Tensor, tile: int) -> Tensor:
    if image.dtype == torch.bool:
        return interpolate(image.float(), (tile, tile), mode="nearest").bool()
    return interpolate(image, (tile, tile), mode="bilinear", antialias=True)


def _between(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * _uniform(generator)


def _draw(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=generator))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _chance(probability: float, generator: torch.Generator) -> bool:
    return _uniform(generator) < probability


def change_image(batch: Batch, generator: torch.Generator, *, augment: AugmentConfig, bands: Bands) -> Batch:
    """Return a batch of `SingleImages` with another brightness and, at times, under simulated clouds.

    `gain` and `simulate` change optical images, `radar_shift` radar: images without `bands`.
    """
    if bands:
        batch = random_gain(batch, augment.gain, generator)
        if torch.rand((), generator=generator) < augment.simulate:
            batch = cloud_over(batch, bands, generator, SkyOptions())
        image = batch.degraded
    else:
        image = _shift(batch.degraded, augment.radar_shift, generator) * batch.valid
    return replace(batch, degraded=image, target=image, cloud=None)


def _shift(image: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Return the image with a constant added to each band."""
    return (image + deviation * torch.randn(image.shape[1], 1, 1, generator=generator)).clamp(0, 1)


def change_pair(batch: Batch, generator: torch.Generator, *, augment: PictureAugment) -> Batch:
    """Return the batch turned by a small angle, its target in other colours, its radar with noise.

    `degraded` follows the radar, in as many equal channels as it had.
    """
    if augment.rotation:
        batch = turn(batch, augment.rotation * _between((-1, 1), generator))
    if batch.target is not None:
        batch = replace(batch, target=jitter_color(batch.target, generator, augment=augment))
    if batch.sar is not None and augment.radar_noise:
        noise = torch.randn(batch.sar.shape, generator=generator)
        sar = (batch.sar + augment.radar_noise * noise).clamp(0, 1)
        batch = replace(batch, sar=sar, degraded=sar.expand_as(batch.degraded).contiguous())
    return batch


def turn(batch: Batch, degrees: float) -> Batch:
    """Return the batch with every image turned about its centre, counterclockwise; bilinear.

    Pixels from outside are mirrored, and not `valid`.
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
        image = shift_hue(image, augment.hue * _between((-1, 1), generator))
    return image


def shift_hue(image: Tensor, shift: float) -> Tensor:
    """Return (B, 3, H, W) in [0, 1] with hues shifted by `shift` of the circle: red by 1/3 becomes green."""
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
    return _between((1 - spread, 1 + spread), generator)
