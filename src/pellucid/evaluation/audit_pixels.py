"""Faults that the pixels of one place betray: clouds, snow, offsets, shifts, radar that is cut off.

What is measured is told from what is normal by limits that leave real, sound patches alone: of SEN12MS-CR,
OSCD, TerraMesh, BigEarthNet and others, none that looks sound crosses one.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from pellucid.data.cloud_score import NEEDED, cloud_score
from pellucid.data.ranges import Bands
from pellucid.evaluation.check_images import MANY_CLIPPED

# A finding: what kind, in two or three words, and the rest of a sentence whose subject is the image.
Found = tuple[str, str]

# Share of a target that may be cloudy, and of a place that may have snow on one date alone.
MANY_CLOUDS, MUCH_SNOW = 0.05, 0.3
# Pixels that clouds have at least: bright roofs of a small patch have less.
CLOUD_PIXELS = 1000
# Reflectance in B02 and B04 of clouds that are no bright roof or soil, and in B10 of cirrus.
BRIGHT_B02, BRIGHT_B04, CIRRUS_B10 = 0.2, 0.15, 0.015
# Pixels about snow that may be snow in part, which looks like cloud.
NEAR_SNOW = 10
# Snow index (B03 - B11) / (B03 + B11) and B03 of snow; Dozier 1989, doi:10.1016/0034-4257(89)90101-6.
SNOW_INDEX, SNOW_B03 = 0.4, 0.15
# Share of the radar at its highest value, and at its lowest, from which it counts as cut off.
SATURATED, DARKENED = 0.01, 0.05
# A wrapped value jumps by nearly its whole range: shares of the range, and of the pairs of neighbours.
JUMP, HALF_JUMP, MANY_JUMPS = 0.8, (0.4, 0.6), 0.002
# Share of dark pixels at 0 or below in a visible band, from which an offset was taken off twice; and what the
# offset is in reflectance, with how far two dates may differ from that.
MANY_ZEROS, OFFSET, OFFSET_SPREAD = 0.05, 0.1, 0.02
MIN_BANDS = 4
VISIBLE = ("B02", "B03", "B04")
# Pixels that a shift is searched within, and by which images must be apart: two dates, radar and optical
# (edges of sound radar lie up to 3 pixels beside those of the optical image).
REACH, SHIFTED, RADAR_SHIFTED = 16, 2.0, 4.0
# A shift is believed if its correlation is at least this, so many deviations above the mean of all shifts,
# and so many times that of every shift elsewhere; and if so much of the place is seen on both.
MIN_PEAK, MIN_SIGMA, MIN_RATIO, MIN_SEEN = 0.1, 5.0, 1.25, 0.2
# Pixels about holes and along the border that do not count.
BORDER = 3
# Side of a fingerprint, and of the mean that is taken off it.
PRINT_SIDE, PRINT_MEAN = 32, 9


class View(NamedTuple):
    """An optical image: reflectance (C, H, W), not clipped, where it is valid (H, W), and its bands."""

    values: Tensor
    valid: Tensor
    bands: Bands

    def clouds(self) -> Tensor:
        """Return where it is cloudy, (H, W) bool, without shadows; nowhere if bands are missing."""
        bands = tuple(band for band in self.bands if band != "B08")  # without it, no shadows are found
        if not NEEDED.issubset(bands):
            return torch.zeros_like(self.valid)
        chosen = self.values[[self.bands.index(band) for band in bands]]
        return (cloud_score(chosen.clamp(0, 1), bands)[0] > 0.5) & self.valid

    def sure_clouds(self) -> Tensor:
        """Return where it is cloudy and as bright as clouds, or cirrus, far from snow, (H, W) bool."""
        band = dict(zip(self.bands, self.values, strict=True))
        if not NEEDED.issubset(band):
            return torch.zeros_like(self.valid)
        is_sure = (band["B02"] > BRIGHT_B02) & (band["B04"] > BRIGHT_B04)
        if "B10" in band:
            is_sure = is_sure | (band["B10"] > CIRRUS_B10)
        near_snow = max_pool2d(self.snow().float()[None], 2 * NEAR_SNOW + 1, 1, NEAR_SNOW)[0] > 0
        return self.clouds() & is_sure & ~near_snow

    def snow(self) -> Tensor:
        """Return where it is snowy, (H, W) bool; nowhere if bands are missing."""
        if not {"B03", "B11"} <= {*self.bands}:
            return torch.zeros_like(self.valid)
        green, infrared = (self.values[self.bands.index(band)] for band in ("B03", "B11"))
        index = (green - infrared) / (green + infrared).clamp(min=1e-6)
        return (index > SNOW_INDEX) & (green > SNOW_B03) & self.valid

    def edges(self, smooth: int = 1, reach: int = 1) -> Tensor:
        """Return how much the logarithm of the visible bands changes about each pixel, (H, W)."""
        at = [self.bands.index(band) for band in VISIBLE if band in self.bands] or [0]
        return _edges(self.values[at].mean(0).clamp(min=1e-3).log(), most=1.0, smooth=smooth, reach=reach)


def find_radar_faults(backscatter: Tensor, names: Bands, unit: str) -> Iterator[Found]:
    """Yield what is wrong with radar, (P, H, W), NaN where there is none: cut off, or wrapped around."""
    for name, band in zip(names, backscatter, strict=True):
        known = band[band.isfinite()]
        if not known.numel() or known.min() == known.max():
            continue
        low, high = float(known.min()), float(known.max())
        for value, end, limit in ((high, "highest", SATURATED), (low, "lowest", DARKENED)):
            share = float((known == value).float().mean())
            if share > limit:
                yield "saturated radar", f"has {share:.1%} of {name} at its {end} value, {value:.4g} {unit}"
        if _is_wrapped(band, high - low):
            yield (
                "wrapped radar",
                f"jumps by nearly all of {low:.4g} to {high:.4g} {unit} between neighbours in {name}",
            )


def find_target_faults(view: View) -> Iterator[Found]:
    """Yield what is wrong with a cloud-free image: clouds, and values that an offset pushed to 0."""
    num = max(1, int(view.valid.sum()))
    is_scaled = float((view.values > 1).float().mean()) <= MANY_CLIPPED
    cloudy = int(view.sure_clouds().sum())
    if is_scaled and cloudy > max(MANY_CLOUDS * num, CLOUD_PIXELS):
        share = cloudy / num
        yield "clouds in a target", f"is {share:.0%} cloudy and is to be cloud-free"
    at = [view.bands.index(band) for band in VISIBLE if band in view.bands]
    if at:
        share = float(((view.values[at] <= 0).any(0) & view.valid).sum() / num)
        if share > MANY_ZEROS:
            yield (
                "wrong offset",
                f"has {share:.0%} of its pixels at 0 or below in a visible band, an offset taken off twice?",
            )


def find_date_faults(target: View, other: View) -> Iterator[Found]:
    """Yield how two dates of a place contradict each other: snow on one, an offset in one, a shift."""
    if _differ_by_offset(target, other, target.valid & other.valid):
        yield (
            "wrong offset",
            "differs from the other date by 0.1 in reflectance in every band, as an offset of 1000 DN",
        )
    seen = target.valid & other.valid & ~target.clouds() & ~other.clouds()
    if seen.float().mean() < MIN_SEEN:
        return
    snow, others = (float((view.snow() & seen).sum() / seen.sum()) for view in (target, other))
    if abs(snow - others) > MUCH_SNOW:
        yield (
            "snow on one date",
            f"has snow on {snow:.0%} of what is clear on both dates, the other date on {others:.0%}",
        )
    yield from find_shift(target.edges(), other.edges(), seen, "the other date", SHIFTED)


def find_radar_shift(target: View, radar: Tensor) -> Iterator[Found]:
    """Yield a shift of radar, (P, H, W), NaN where there is none, against a clear image."""
    known = radar[radar.isfinite().flatten(1).any(1)]
    if len(known):
        seen = target.valid & known.isfinite().all(0) & ~target.clouds()
        radar_edges = _edges(known.nan_to_num().mean(0), most=10.0, smooth=5, reach=2)
        yield from find_shift(target.edges(smooth=3, reach=2), radar_edges, seen, "the radar", RADAR_SHIFTED)


def find_shift(one: Tensor, other: Tensor, seen: Tensor, what: str, least: float) -> Iterator[Found]:
    """Yield by how many pixels, `least` or more, the edges of two images, (H, W), lie apart where `seen`."""
    holes = pad((~seen).float()[None, None], [BORDER] * 4, value=1)  # along the border there are no edges
    inside = max_pool2d(holes, 2 * BORDER + 1, 1)[0, 0] == 0
    if inside.float().mean() < MIN_SEEN:
        return
    score = _correlate(one, other, inside)
    peak, side = float(score.max()), score.shape[1]
    row, column = divmod(int(score.argmax()), side)
    near = torch.zeros_like(score, dtype=torch.bool)
    near[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = True
    rest = score[~near]
    is_sure = peak >= max(
        MIN_PEAK, float(rest.mean() + MIN_SIGMA * rest.std()), MIN_RATIO * float(rest.max())
    )
    down, right = row - side // 2, column - side // 2
    if is_sure and (down**2 + right**2) ** 0.5 >= least:
        yield (
            "misregistration",
            f"lies {down:+d} rows and {right:+d} columns away from where {what} has the same edges",
        )


def fingerprint(image: Tensor) -> Tensor:
    """Return what tells patches apart whatever their brightness, of (C, H, W): 1024 numbers of norm 1.

    Fingerprints of one image have a product of 1, of two dates of a place 0.3 to 0.96, of different places
    below 0.4; of an image without detail it is 0.
    """
    small = interpolate(image.nan_to_num().mean(0)[None, None], (PRINT_SIDE, PRINT_SIDE), mode="area")
    mean = avg_pool2d(pad(small, [PRINT_MEAN // 2] * 4, mode="reflect"), PRINT_MEAN, 1)
    detail = (small - mean).flatten()
    detail = detail - detail.mean()
    return detail / detail.norm() if detail.norm() > 1e-5 * small.abs().max() else torch.zeros_like(detail)


def _is_wrapped(band: Tensor, span: float) -> bool:
    jumps = torch.cat([band.diff(dim=dim).flatten() for dim in (0, 1)]).abs() / span
    jumps = jumps[jumps.isfinite()]
    large = float((jumps > JUMP).float().mean()) if jumps.numel() else 0.0
    half = float(((jumps > HALF_JUMP[0]) & (jumps < HALF_JUMP[1])).float().mean()) if jumps.numel() else 0.0
    return large > max(MANY_JUMPS, 2 * half)


def _differ_by_offset(one: View, other: View, seen: Tensor) -> bool:
    """Return whether the dark ends of all bands that both have lie an offset apart, all in one direction."""
    bands = [band for band in one.bands if band in other.bands]
    if len(bands) < MIN_BANDS or not seen.any():
        return False
    darkest = [
        view.values[[view.bands.index(band) for band in bands]][:, seen].quantile(0.02, dim=1)
        for view in (one, other)
    ]
    apart = darkest[0] - darkest[1]
    same = (apart > 0).all() | (apart < 0).all()
    return bool(same & ((apart.abs() - OFFSET).abs() < OFFSET_SPREAD).all())


def _edges(image: Tensor, *, most: float, smooth: int = 1, reach: int = 1) -> Tensor:
    """Return the gradient's magnitude, (H, W), at most `most`, and 0 along the border.

    Of the mean over `smooth` pixels, an odd number, between pixels `reach` away on both sides.
    """
    image = avg_pool2d(image[None, None], smooth, 1, smooth // 2)[0, 0]
    inner, step = slice(reach, -reach), 2 * reach
    down, right = image[step:, inner] - image[:-step, inner], image[inner, step:] - image[inner, :-step]
    return pad((down.square() + right.square()).sqrt().clamp(max=most), [reach] * 4)


def _correlate(one: Tensor, other: Tensor, inside: Tensor) -> Tensor:
    """Return the correlation for every shift of `one` against `other` up to `REACH`, rows by columns."""
    weight = inside.float()
    size = [2 * side for side in one.shape]
    flat = [(image - (image * weight).sum() / weight.sum()) * weight for image in (one, other)]
    ahead, behind = (torch.fft.rfft2(image / image.norm().clamp(min=1e-9), s=size) for image in flat)
    score = torch.fft.irfft2(behind.conj() * ahead, s=size).roll((REACH, REACH), (0, 1))
    return score[: 2 * REACH + 1, : 2 * REACH + 1]
