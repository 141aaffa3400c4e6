"""Random changes of the guides beside a scene, and masks that hide parts of it."""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from pellucid.data.batch import Batch
from pellucid.data.older import CLOUDY, close_holes, harmonise_dates, keep_ground, mask_clouds, surely_clear
from pellucid.data.ranges import SENTINEL1, Bands
from pellucid.simulate.clouds import SkyOptions, add_clouds

# Looks of the radar whose speckle is simulated: 4 is that of GRD products, 64 hardly any.
LOOKS = (3.0, 64.0)
# Limits of the cloud score with which the clouds of other dates are masked: sharp and lax ones.
LIMITS = (0.2, 0.6)
# Deviation in pixels of the Gaussian that smooths the noise of hidden parts: small and large patches.
PATCH_PX = (1.5, 48.0)
# Probability that all is hidden, and that it is all on one side of a straight line.
ALL, HALF = 0.06, 0.12


def add_speckle(sar: Tensor, generator: torch.Generator) -> Tensor:
    """Return VV and VH, (B, 2, H, W) in [0, 1], with gamma-distributed speckle on their linear power."""
    looks = math.exp(_between((math.log(LOOKS[0]), math.log(LOOKS[1])), generator))
    speckle = torch._standard_gamma(torch.full(sar.shape, looks), generator=generator) / looks
    low, high = (torch.tensor(limits).view(-1, 1, 1) for limits in (SENTINEL1.low, SENTINEL1.high))
    return (sar + 10 * speckle.clamp(min=1e-6).log10() / (high - low)).clamp(0, 1)


def shift_image(image: Tensor, reach: float, generator: torch.Generator) -> Tensor:
    """Return (B, C, H, W) moved by up to `reach` pixels, at most 1, each way; bilinear."""
    for dim in (-2, -1):
        by = reach * _between((-1, 1), generator)
        if by == 0:
            continue
        margin = (0, 0, 1, 1) if dim == -2 else (1, 1, 0, 0)
        near = pad(image, margin, mode="replicate").narrow(dim, 2 if by > 0 else 0, image.shape[dim])
        image = torch.lerp(image, near, abs(by))
    return image


def drop_polarisation(sar: Tensor, generator: torch.Generator) -> Tensor:
    """Return VV and VH with one of them NaN: VH three times of four."""
    sar = sar.clone()
    sar[:, int(_between((0, 1), generator) < 0.75)] = torch.nan
    return sar


def hide_parts(batch: Batch, generator: torch.Generator) -> Batch:
    """Return the clear images with random parts set to 0, which `cloud`, 0 or 1, names exactly."""
    clear = batch.reference()
    hidden = torch.stack([draw_mask(image.shape[-2:], generator) for image in clear])
    return replace(batch, degraded=clear * ~hidden, cloud=hidden.to(clear.dtype))


def draw_mask(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return random parts of an image, (1, H, W) bool: patches of one size, one side of a line, or all."""
    kind, cover = _between((0, 1), generator), _between((0, 1), generator)
    if kind < ALL:
        return torch.ones(1, *size, dtype=torch.bool)
    if kind < ALL + HALF:
        angle = _between((0, 2 * math.pi), generator)
        y, x = (torch.arange(side, dtype=torch.float32) for side in size)
        field = math.sin(angle) * y[:, None] + math.cos(angle) * x
    else:
        sigma = math.exp(_between((math.log(PATCH_PX[0]), math.log(PATCH_PX[1])), generator))
        field = smooth_noise(size, sigma, generator)
    return (field > torch.quantile(field.flatten(), 1 - cover))[None]


def smooth_noise(size: tuple[int, ...], deviation: float, generator: torch.Generator) -> Tensor:
    """Return noise, (H, W), under a Gaussian of this deviation in pixels; it goes on at the other side."""
    from scipy.ndimage import gaussian_filter

    noise = torch.randn(*size, generator=generator).numpy()
    return torch.from_numpy(gaussian_filter(noise, deviation, mode="wrap", truncate=2.5))


def cloud_older(older: Tensor, bands: Bands, generator: torch.Generator) -> Tensor:
    """Return other dates, (B, C, H, W), under simulated clouds, which are not masked yet."""
    known = older.isfinite()
    covered = [add_clouds(image.nan_to_num(), bands, generator, SkyOptions())[0] for image in older]
    return torch.stack(covered).where(known, torch.nan)


def finish_older(batch: Batch, bands: Bands, limit: float = CLOUDY) -> Batch:
    """Return the batch with `older` as a model gets it: clouds masked, in the colours of `degraded`.

    What is clear in the scene is what the built-in score calls so, never what a cloud map says; hidden
    pixels hold no data.

    Args:
        batch: with `older` of the same bands, as it was.
        bands: names of the bands.
        limit: of the score with which the clouds of `older` are masked.
    """
    if batch.older is None:
        return batch
    older = mask_clouds(batch.older, bands, limit)
    older = keep_ground(older, batch.older, bands, batch.degraded, bands)
    clear = surely_clear(batch.degraded, bands) & batch.valid
    return replace(batch, older=close_holes(harmonise_dates([older], batch.degraded, clear, bands)))


def _between(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * float(torch.rand((), generator=generator))
