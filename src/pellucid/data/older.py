"""Another date of a place as a guide: its clouds masked, its colours those of the scene, as at inference."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.data.cloud_score import REACH_PX, box_mean, cloud_score, widen
from pellucid.data.harmonise import Colours, date_sums, merge_dates

# Cloud score below which a pixel counts as clear ground, and pixels around the others that do not count.
CLEAR, MARGIN = 0.2, 4
# Above it, another date counts as cloudy. At 0.2 a third of 17 clear cities would, at 0.5 an eighth does.
CLOUDY = 0.5
# A cloud over another date is taller and wider than this many pixels: bright roofs and bare fields are not.
# Of 17 clear cities 1.5 % is masked, where it was 12 %; of what is more than half cloud 79 %, where it was
# 89 %. At four cities results gain 0.7 dB by clear dates, 0.35 dB by cloudy ones.
SMALLEST_CLOUD = 6
# How far around a pixel its own clouds are looked for.
MASK_REACH_PX = REACH_PX + SMALLEST_CLOUD + MARGIN
# Detail is what is smaller than a square of this radius; it is compared within one of the other, in these
# bands. Of pixels masked in both of two cloudy dates (90 pairs of a place, 494,000 pixels) 0.07 % have a
# correlation above 0.3 and none above 0.5; of the halls that were masked in Rio de Janeiro three quarters
# have one above 0.7.
DETAIL_PX, COMPARED_PX, CORRELATED = 2, 8, 0.6
# How bright the other date may be in its first such band, as a share of the scene: haze and shadow let detail
# through.
LEVELS = (0.6, 1.15)
COMPARED = ("B02", "B03", "B04", "B08", "B11", "B12")
# Two dates are one where at least so many bands have the same values, but for this much.
FEWEST_SAME, SAME = 3, 1e-5
# A hole is filled where such a share of the square of this radius around a pixel is known. At four cities (48
# images): 31.63 dB over cloudy pixels; with a radius of 8 31.59, of 32 31.60, with holes as they are 31.53.
FILL_PX, FILL_SHARE = 16, 0.3
# On pixels so far away it depends whether the ground shows in both dates.
TWICE_REACH_PX = 2 * DETAIL_PX + COMPARED_PX


def surely_clear(image: Tensor, bands: Sequence[str]) -> Tensor:
    """Return where the built-in score finds clear ground, (B, 1, H, W) bool, with a margin about clouds.

    `image` is (B, C, H, W) in [0, 1]; bands that are NaN are missing. Pixels without data are not clear.
    """
    return _clear_ground(image, cloud_score(image, tuple(bands)), CLEAR)


def far_from_clouds(cloud: Tensor, limit: float = CLEAR) -> Tensor:
    """Return where no pixel near has a cloud probability of `limit` or more, of (B, 1, H, W)."""
    return widen(cloud, MARGIN) < limit


def mask_clouds(older: Tensor, bands: Sequence[str], limit: float = CLOUDY) -> Tensor:
    """Return another date, (B, C, H, W), NaN where the built-in score finds cloud or shadow, or near it.

    Small bright and dark places stay: a model can do with a small cloud in a guide, not without towns. Cirrus
    that only B10 shows stays too: it lies over whole scenes, and hides little.
    """
    reach = SMALLEST_CLOUD // 2
    seen = [i for i, band in enumerate(bands) if band != "B10"]
    score = cloud_score(older[:, seen], tuple(bands[i] for i in seen))
    for sign in (-1, 1):  # grey-scale opening
        score = sign * widen(sign * score, reach)
    return older.where(_clear_ground(older, score, limit), torch.nan)


def keep_ground(
    masked: Tensor, older: Tensor, bands: Sequence[str], scene: Tensor, scene_bands: Sequence[str]
) -> Tensor:
    """Return another date as masked, but for what the scene shows too: halls and snow are no clouds then.

    Clouds move, so detail that two dates have in common is the ground's, and it is no haze unless brighter.

    Args:
        masked: (B, C, H, W), from `mask_clouds`.
        older: the same before it was masked.
        bands: C names.
        scene: (B, C', H, W); NaN where it is missing, or 0 in all bands.
        scene_bands: C' names.
    """
    shared = [name for name in COMPARED if name in bands and name in scene_bands]
    if not shared or not (masked.isnan() & older.isfinite()).any():
        return masked
    now = scene[:, [scene_bands.index(name) for name in shared]]
    then = older[:, [bands.index(name) for name in shared]]
    known = [(x.nan_to_num() != 0).any(1, keepdim=True) for x in (now, then)]
    both = (known[0] & known[1]).to(then.dtype)
    a, b = (_detail(x.nan_to_num(), both) for x in (now, then))
    common, own, other = (box_mean(x, COMPARED_PX) for x in (a * b, a * a, b * b))
    alike = (common / (own * other).sqrt().clamp(min=1e-8)).mean(1, keepdim=True) > CORRELATED
    level = box_mean(then[:, :1].nan_to_num(), COMPARED_PX) / box_mean(now[:, :1].nan_to_num(), COMPARED_PX)
    alike = alike & (level > LEVELS[0]) & (level < LEVELS[1])
    return masked.where(~alike | repeats(older, bands, scene, scene_bands), older)


def close_holes(older: Tensor) -> Tensor:
    """Return a date, (B, C, H, W), whose small holes (NaN) have the mean of what lies around them.

    So have the rims of larger ones: without, what is painted changes abruptly where the date ends.
    """
    known = older.isfinite().any(1, keepdim=True)
    if known.all() or not known.any():
        return older
    share = box_mean(known.to(older.dtype), FILL_PX)
    mean = box_mean(older.nan_to_num(), FILL_PX) / share.clamp(min=1e-6)
    mean = mean.where(older.isfinite().any(3, keepdim=True).any(2, keepdim=True), torch.nan)
    return older.where(known | (share < FILL_SHARE), mean)


def repeats(older: Tensor, bands: Sequence[str], scene: Tensor, scene_bands: Sequence[str]) -> Tensor:
    """Return where another date holds the scene's own pixels, (B, 1, H, W) bool: they tell nothing new.

    So do composites that contain the scene, with its clouds. Arguments as of `keep_ground`.
    """
    shared = [name for name in bands if name in scene_bands and name]
    if len(shared) < FEWEST_SAME:
        return torch.zeros_like(older[:, :1], dtype=torch.bool)
    now = scene[:, [scene_bands.index(name) for name in shared]].clamp(0, 1)
    then = older[:, [list(bands).index(name) for name in shared]]
    return ((now - then).abs() < SAME).all(1, keepdim=True) & (then != 0).any(1, keepdim=True)


def _detail(image: Tensor, known: Tensor) -> Tensor:
    """Return what of an image is small, 0 where it is not known; what is not known counts nowhere."""
    smooth = box_mean(image * known, DETAIL_PX) / box_mean(known, DETAIL_PX).clamp(min=1e-6)
    return (image - smooth) * known


def _clear_ground(image: Tensor, score: Tensor, limit: float) -> Tensor:
    """Return where an image holds data and no score near is `limit` or more, (B, 1, H, W) bool."""
    return far_from_clouds(score, limit) & (image.nan_to_num() != 0).any(1, keepdim=True)


def harmonise_dates(dates: Sequence[Tensor], scene: Tensor, clear: Tensor, bands: Sequence[str]) -> Tensor:
    """Return all dates as one, in the colours of the scene, (B, C, H, W).

    Args:
        dates: (B, C, H, W) each, of the bands of the scene, NaN where cloudy; a band may be missing (NaN).
        scene: (B, C, H, W) in [0, 1]; bands that are NaN are missing, and stay so in the result.
        clear: (B, 1, H, W), where the scene is clear: bool, or from 0 to 1.
        bands: C names.
    """
    return torch.cat(
        [
            _harmonise([d[i : i + 1] for d in dates], scene[i : i + 1], clear[i : i + 1], bands)
            for i in range(len(scene))
        ]
    )


def _harmonise(dates: Sequence[Tensor], scene: Tensor, clear: Tensor, bands: Sequence[str]) -> Tensor:
    """Return what `harmonise_dates` does, of one place."""
    result, at = torch.full_like(scene, torch.nan), _present(scene)
    images, colours = [], []
    for date in dates:
        known = _present(date)
        if not known or not at:
            continue
        older, now = date[:, known], scene[:, at]
        names, wanted = [bands[i] for i in known], [bands[i] for i in at]
        found = Colours(date_sums(older, now, clear.to(now.dtype)), names, wanted)
        images.append(found.apply(older))
        colours.append(found)
    if images:
        result[:, at] = merge_dates(images, colours)
    return result


def _present(image: Tensor) -> list[int]:
    """Return the channels that hold any data."""
    return image.isfinite().any(dim=3).any(dim=2).any(dim=0).nonzero().flatten().tolist()
