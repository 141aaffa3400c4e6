"""A simple cloud and shadow score, for scenes without a cloud map.

Clouds and haze are brighter in blue than red surfaces of the same brightness (Zhang et al. 2002,
doi:10.1016/S0034-4257(02)00034-2), cirrus shines in B10, snow is dark in B11, and a shadow is a spot near
a cloud that is much darker in B08 and B11 than its surroundings and is not water. The limits were chosen on
pairs of SEN12MS-CR, which are top-of-atmosphere reflectance; on Level 2A, haze is found less often.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from pellucid.data.batch import Batch

# Reflectance. HOT = B02 - B04 / 2: 0.04 to 0.08 over clear land and water, above 0.1 in haze and cloud.
HAZE = (0.08, 0.13)
# Reflectance in B10: below 0.015 where dry air lets the ground through, above 0.024 in cirrus.
CIRRUS = (0.015, 0.035)
# Snow index (B03 - B11) / (B03 + B11) of bright pixels; clouds stay below 0.5 (Zhu and Woodcock 2012,
# doi:10.1016/j.rse.2011.10.028, use 0.8 for snow without cloud above).
SNOW, SNOW_BRIGHT = (0.5, 0.65), 0.25
# B08 and B11 of a shadow relative to the mean of the clear surroundings.
SHADOW_B08, SHADOW_B11 = (0.6, 0.8), (0.68, 0.88)
# Reflectance in B11: water lies below, land in shadow above.
WATER = (0.015, 0.045)
# Pixels (of 10 m) around a shadow within which its cloud and clear surroundings are searched; half of this
# is the radius of the two box filters that average the surroundings.
NEAR = 80
# Share of these surroundings that must be cloud (26 pixels), so that a few bright roofs throw no shadow.
ENOUGH = 0.001
# Radius in pixels of the box filter that smooths the score.
SMOOTH = 2
# The score of a pixel depends on pixels up to this distance: cut windows wider by it.
REACH_PX = NEAR + 2 * SMOOTH
# Bands without which there is no score.
NEEDED = frozenset({"B02", "B04"})


def cloud_score(optical: Tensor, bands: tuple[str, ...]) -> Tensor:
    """Return how likely each pixel is to lie under cloud, haze or cloud shadow.

    Args:
        optical: (..., C, H, W) reflectance in [0, 1]; pixels that are 0 in all bands hold no data. A band
            that is NaN counts as missing.
        bands: names of the channels. B02 and B04 are needed; without B10, cirrus is not found, without B03 or
            B11 snow counts as cloud, and without B08 or B11 shadows are not found.

    Returns:
        (..., 1, H, W) in [0, 1]; above 0.5 is cloud or shadow. Windows cut with a margin of `REACH_PX` have
        the score of the whole scene.
    """
    if not NEEDED.issubset(bands):
        raise ValueError(f"the cloud score needs B02 and B04, got {', '.join(bands)}; give a cloud map")
    band = {name: optical[..., i : i + 1, :, :] for i, name in enumerate(bands)}
    score = rise(band["B02"] - band["B04"] / 2, HAZE).nan_to_num()
    if {"B03", "B11"} <= band.keys():
        ratio = (band["B03"] - band["B11"]) / (band["B03"] + band["B11"]).clamp(min=1e-6)
        ratio = ratio.nan_to_num()
        score = torch.minimum(score, 1 - rise(ratio, SNOW) * (band["B02"] > SNOW_BRIGHT))
    if "B10" in band:
        score = torch.maximum(score, rise(band["B10"], CIRRUS).nan_to_num())
    score = box_mean(score, SMOOTH)
    if {"B08", "B11"} <= band.keys():
        score = torch.maximum(score, _shadow(band["B08"], band["B11"], score, _holds_data(optical)))
    return score


def cloud_map(batch: Batch, bands: tuple[str, ...]) -> Tensor | None:
    """Return the batch's cloud map, or else its cloud score, (B, 1, H, W); None if `bands` are too few.

    It is None because zeros would mean that all is clear, and ones that all is cloud.
    """
    if batch.cloud is None and NEEDED.issubset(bands):
        return cloud_score(batch.degraded, bands)
    return batch.cloud


def _holds_data(optical: Tensor) -> Tensor:
    """Return which pixels are not 0 in all bands, (..., 1, H, W); the first bands mostly say it of all."""
    found = torch.zeros_like(optical[..., :1, :, :], dtype=torch.bool)
    for band in optical.split(1, -3):
        found = found | (band.nan_to_num() != 0)
        if not torch.compiler.is_exporting() and found.all():
            break
    return found


def _shadow(b08: Tensor, b11: Tensor, cloud: Tensor, valid: Tensor) -> Tensor:
    """Return how likely each pixel is to lie in the shadow of one of the clouds."""
    if not torch.compiler.is_exporting() and not (cloud > 0.5).any():  # it would find none
        return torch.zeros_like(cloud)
    known = b08.isfinite() & b11.isfinite()
    b08, b11 = b08.nan_to_num(), b11.where(known, 0)  # water throws no shadow
    clear = ((cloud <= 0.5) & valid & known).to(cloud.dtype)
    weight = _surroundings(clear).clamp(min=1e-3)
    dark = 1 - rise(b08 / (_surroundings(b08 * clear) / weight).clamp(min=1e-6), SHADOW_B08)
    dark = dark * (1 - rise(b11 / (_surroundings(b11 * clear) / weight).clamp(min=1e-6), SHADOW_B11))
    return box_mean(dark * rise(b11, WATER) * (box_mean((cloud > 0.5).float(), NEAR) > ENOUGH), SMOOTH)


def rise(values: Tensor, limits: tuple[float, float]) -> Tensor:
    """Return 0 below the first limit, 1 above the second, and a straight line between."""
    low, high = limits
    return ((values - low) / (high - low)).clamp(0, 1)


def _surroundings(values: Tensor) -> Tensor:
    return box_mean(box_mean(values, NEAR // 2), NEAR // 2)


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Return the mean over a square, at the edges over its part inside; as fast for a large radius."""
    for dim, border in ((-2, (0, 0, radius + 1, radius)), (-1, (radius + 1, radius))):
        size, side = values.shape[dim], 2 * radius + 1
        at = torch.arange(size, device=values.device)
        count = (at + radius + 1).clamp(max=size) - (at - radius).clamp(min=0)
        sums = pad(values.double(), border).cumsum(dim)
        total = sums.narrow(dim, side, size) - sums.narrow(dim, 0, size)
        values = (total / count.view(-1, *[1] * (-1 - dim))).to(values.dtype)
    return values


def widen(score: Tensor, pixels: int) -> Tensor:
    """Return the maximum over so many pixels on each side, (..., H, W): along rows, then along columns.

    On a CPU this takes a fortieth of the time of a pooling layer.
    """
    for dim in (-1, -2):
        most = score.clone()
        for step in range(1, min(pixels, score.shape[dim] - 1) + 1):
            rest = score.shape[dim] - step
            for start, of in ((0, step), (step, 0)):
                part = most.narrow(dim, start, rest)
                torch.maximum(part, score.narrow(dim, of, rest), out=part)
        score = most
    return score
