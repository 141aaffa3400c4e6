"""Pairs of radar and colour for `benchmarks.color_prior`: pictures, and scenes that are rendered like them.

Pictures of one source look alike, in radar and in colour; scenes look as this package renders decibels. A
look is given to other pairs by the quantiles of its radar, and mean and deviation of its colours, over towns.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from pellucid.data.ranges import SENTINEL1
from pellucid.datasets import guided_scenes, sar_optical
from pellucid.datasets._listing import Patches, Wanted

# Folders of scenes and of their radar, whether they are Level 1C, and whether their radar lost its speckle.
SCENES = (
    ("sen12mscr/s2_cloudfree", "sen12mscr/s1", True, False, r"^(oriolac|ROIs\d+_\w+?_\d+)"),
    ("terramesh/S2L1C", "terramesh/S1RTC", True, False, ""),
    ("oscd_two_dates/s2_older", "oscd_two_dates/s1_older", True, True, r"^([a-z]+)"),
    ("oscd_two_dates/s2_newer", "oscd_two_dates/s1_newer", True, True, r"^([a-z]+)"),
    ("sen1floods11_s1s2/s2_clear", "sen1floods11_s1s2/s1", True, False, ""),
    ("bigearthnet_s1s2/s2_clear", "bigearthnet_s1s2/s1", False, False, ""),
    ("biomassters/s2_clear", "biomassters/s1", False, True, r"^([0-9a-f]+)_"),
)
# Pictures, and the folders of each source; r_000 to r_004 are scenes of the first two sources above.
PICTURES = (("sar_optical", "r_005"), ("sar_optical_more", "r_020"))
SCENE_LOOK, TOWNS = "scenes", "oscd"
# Reflectance that is black, by level, and from there to white; and the gamma of a screen, nearly.
BLACK, WHITE, GAMMA = {True: (0.035, 0.055, 0.085), False: (0.0, 0.01, 0.015)}, 0.26, 1.6
# One city by two names.
SAME = {"bercy": "paris"}
# Larger scenes are cut into parts of this side.
SIDE = 256
# Decibels from black to white in a radar picture of scenes.
DECIBELS = SENTINEL1.high[0] - SENTINEL1.low[0]
LOOKS = 257
# Deviation of a lake's colour, and the colour in the look of scenes.
WATER, WATER_SPREAD = (0.10, 0.16, 0.17), 0.035


@dataclass(frozen=True)
class Pair:
    """One radar image, (H, W), and the colours of the place, (3, H, W), both in [0, 1].

    `place` belongs to one fold; `look` names how both are rendered; a `smooth` radar has lost its speckle.
    """

    key: str
    place: str
    look: str
    radar: Tensor
    color: Tensor
    smooth: bool = False


@dataclass(frozen=True)
class Look:
    """Quantiles of the radar, (257,), and mean and deviation of colours, (3,), of the towns of a source."""

    radar: Tensor
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, pairs: Sequence[Pair], generator: torch.Generator) -> Self:
        """Return what is alike in pairs of one look."""
        radar = torch.cat([speckled(pair, generator).radar.flatten()[::17] for pair in pairs])
        color = torch.cat([pair.color.flatten(1)[:, ::17] for pair in pairs], dim=1)
        quantiles = torch.quantile(radar[:: -(-len(radar) // (1 << 23))], torch.linspace(0, 1, LOOKS))
        return cls(quantiles, color.mean(1), color.std(1))


def read_pairs(data: Path) -> list[Pair]:
    """Return every pair of the sources above, those of scenes once per polarisation."""
    pairs = []
    for folder, region in PICTURES:
        pictures = sar_optical.SarOptical(sar_optical.Config(root=data / folder, folders=(region,)))
        for key, batch in _batches(pictures):
            pairs.append(Pair(key, key if region == "r_020" else region, region, batch[0][0], batch[1]))
    for at, (optical, radar, is_raw, smooth, group) in enumerate(SCENES):
        bands = ("ASC_VV", "ASC_VH") if "biomassters" in radar else ()
        config = guided_scenes.Config(
            root=data / optical, radar_root=data / radar, radar_bands=bands, group=group
        )
        scenes = guided_scenes.build(config, Wanted(("B04", "B03", "B02"), SENTINEL1.bands))
        for (key, (sar, reflectance)), place in zip(_batches(scenes), scenes.groups, strict=True):
            color = _render(reflectance, BLACK[is_raw])
            name = f"{radar.partition('_')[0]}/{SAME.get(place, place)}"
            for number, band in enumerate(sar):
                if band.isfinite().all():
                    whole = Pair(f"{at} {key} {number}", name, SCENE_LOOK, band, color, smooth)
                    pairs += _cut(whole)
    return pairs


def folds(pairs: Sequence[Pair], count: int = 3) -> list[set[str]]:
    """Return the places of each fold: of r_020 a run of pictures, of scenes every third place."""
    pictures = list(dict.fromkeys(pair.place for pair in pairs if pair.look == "r_020"))
    scenes = sorted({pair.place for pair in pairs if pair.look == SCENE_LOOK})
    return [
        {place for at, place in enumerate(pictures) if at * count // len(pictures) == fold}
        | set(scenes[fold::count])
        for fold in range(count)
    ]


def find_looks(pairs: Sequence[Pair], generator: torch.Generator) -> dict[str, Look]:
    """Return the looks of pairs by their names."""
    towns = [pair for pair in pairs if pair.look != SCENE_LOOK or pair.place.startswith(TOWNS)]
    names = dict.fromkeys(pair.look for pair in towns)
    return {name: Look.of([pair for pair in towns if pair.look == name], generator) for name in names}


def change_look(pair: Pair, looks: Mapping[str, Look], look: str) -> Pair:
    """Return the pair as it might look in another source."""
    if look == pair.look:
        return pair
    before, after = looks[pair.look], looks[look]
    steps = before.radar + 1e-6 * torch.arange(LOOKS)
    right = torch.searchsorted(steps, pair.radar.contiguous()).clamp(1, LOOKS - 1)
    share = ((pair.radar - steps[right - 1]) / (steps[right] - steps[right - 1])).clamp(0, 1)
    radar = torch.lerp(after.radar[right - 1], after.radar[right], share)
    gain = (after.deviation / before.deviation)[:, None, None]
    color = (pair.color - before.mean[:, None, None]) * gain + after.mean[:, None, None]
    return replace(pair, look=look, radar=radar, color=color.clamp(0, 1))


def speckled(pair: Pair, generator: torch.Generator) -> Pair:
    """Return the pair with the speckle of four looks on a radar that lost it; it must look as scenes do."""
    if not pair.smooth:
        return pair
    level = _speckle(pair.radar.shape, generator)
    return replace(pair, radar=(pair.radar + 10 / DECIBELS * (level + 1e-4).log10()).clamp(0, 1))


def zoomed(pair: Pair, generator: torch.Generator) -> Pair:
    """Return a random part of the pair, or all of it made smaller, by up to e to the power of 0.3."""
    zoom = math.exp(0.6 * float(torch.rand((), generator=generator)) - 0.3)
    side = min(pair.radar.shape)
    cut = round(side / max(zoom, 1))
    top, left = (int(torch.randint(size - cut + 1, (), generator=generator)) for size in pair.radar.shape)
    radar, color = (image[..., top : top + cut, left : left + cut] for image in (pair.radar, pair.color))
    new = max(96, SIDE if zoom > 1 else round(side * zoom) // 32 * 32)
    radar = interpolate(radar[None, None], (new, new), mode="nearest")[0, 0]
    color = interpolate(color[None], (new, new), mode="bilinear", antialias=True)[0]
    return replace(pair, radar=radar, color=color)


def flooded(pair: Pair, looks: Mapping[str, Look], generator: torch.Generator) -> Pair:
    """Return the pair with lakes: dark and even in radar, dark in colour."""
    size = pair.radar.shape
    coarse, fine = (_relief(size, side, generator) for side in (32, 8))
    height, share = coarse + 0.35 * fine, 0.6 + 0.35 * float(torch.rand((), generator=generator))
    is_lake = height > torch.quantile(height, share)
    look = looks[pair.look]
    at = int(0.02 * (LOOKS - 1) * torch.rand((), generator=generator))
    amplitude = _speckle(size, generator).sqrt()
    if pair.look == SCENE_LOOK:
        water = (look.radar[at] + 20 / DECIBELS * (amplitude + 1e-3).log10()).clamp(0, 1)
    else:
        water = (look.radar[at] * amplitude).clamp(0, 1)
    tint = torch.tensor(WATER) + WATER_SPREAD * torch.randn(3, generator=generator)
    scenes = looks[SCENE_LOOK]
    tint = (tint - scenes.mean) * look.deviation / scenes.deviation + look.mean
    color = torch.where(is_lake, tint.clamp(0.01, 1)[:, None, None], pair.color)
    return replace(pair, radar=torch.where(is_lake, water, pair.radar), color=color)


def _speckle(size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return the speckle of four looks, power of mean 1."""
    return torch.stack([torch.empty(*size).exponential_(generator=generator) for _ in range(4)]).mean(0)


def _relief(size: Sequence[int], side: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(1, 1, *(length // side + 3 for length in size), generator=generator)
    return interpolate(noise, tuple(size), mode="bicubic")[0, 0]


def _render(reflectance: Tensor, black: Sequence[float]) -> Tensor:
    """Return the picture, (3, H, W) in [0, 1], of the reflectance of red, green and blue."""
    return ((reflectance - torch.tensor(black)[:, None, None]) / WHITE).clamp(0, 1) ** (1 / GAMMA)


def _batches(patches: Patches) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    for at, key in enumerate(patches.keys):
        batch = patches[at]
        sar = batch.sar if batch.sar is not None else torch.full_like(batch.valid, torch.nan)
        yield key, (sar[0].float(), batch.reference()[0].float())


def _cut(pair: Pair) -> list[Pair]:
    """Return the pair in parts of 256 pixels; a smaller one is mirrored to sides that divide by 32."""
    height, width = pair.radar.shape
    if max(height, width) <= SIDE:
        border = (0, -width % 32, 0, -height % 32)
        radar, color = (
            pad(pair.radar[None], border, mode="reflect")[0],
            pad(pair.color, border, mode="reflect"),
        )
        return [replace(pair, radar=radar, color=color)]
    parts = []
    for top in range(0, height - SIDE + 1, SIDE):
        for left in range(0, width - SIDE + 1, SIDE):
            at = (..., slice(top, top + SIDE), slice(left, left + SIDE))
            parts.append(
                replace(pair, key=f"{pair.key} {top} {left}", radar=pair.radar[at], color=pair.color[at])
            )
    return parts
