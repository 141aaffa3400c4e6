"""How well `ground` paints hidden parts of clear scenes, or finds and paints what simulated clouds hide.

Each guide is taken away in turn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from pellucid.build.datasets import read_source
from pellucid.config import Config
from pellucid.data.batch import Batch
from pellucid.data.ranges import Bands
from pellucid.datasets._augment import cloud_over, map_images
from pellucid.datasets._augment_guides import finish_older, smooth_noise
from pellucid.datasets._listing import Patches
from pellucid.evaluation.figures import CLEAR_MEAN, CLOUDY, baselines
from pellucid.methods.method import Method
from pellucid.metrics import psnr
from pellucid.simulate.clouds import SkyOptions

# Size in pixels of the hidden patches (deviation of the Gaussian that smooths the noise), and hidden share.
MASKS = ((3.0, 0.1), (24.0, 0.3), (8.0, 0.6), (32.0, 0.9), (32.0, 1.0))
# Skies that are simulated over each scene, and the share of cloudy pixels below which one is left out.
SKIES, LEAST = 6, 0.05
# Pixels of a scene that are evaluated, on each side, about its centre.
SIDE = 256
ALL, NO_RADAR, NO_OLDER, NO_GUIDE = "all guides", "no radar", "no older date", "no guide"
FIGURES = (CLEAR_MEAN, NO_GUIDE, NO_OLDER, NO_RADAR, ALL)

Row = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """A clear scene with radar: where it lies, the data set that it is of, and how it is read."""

    place: str
    source: str
    patches: Patches
    index: int

    def read(self, stride: int) -> Batch:
        """Return the middle of the scene, without clouds, its sides multiples of `stride`."""
        batch = self.patches[self.index]
        batch = replace(batch, degraded=batch.reference(), target=None, cloud=None)
        height, width = batch.degraded.shape[-2:]
        sides = [min(side // stride * stride, SIDE) for side in (height, width)]
        top, left = (height - sides[0]) // 2, (width - sides[1]) // 2
        return map_images(batch, lambda image: image[..., top : top + sides[0], left : left + sides[1]])


def name_sources(config: Config) -> list[str]:
    """Return the data set that each training source is of: its folder beside those of the others."""
    roots = [source.root.parts for source in config.data.train if hasattr(source, "root")]
    shared = min((len(root) - 1 for root in roots), default=0)
    while any(root[:shared] != roots[0][:shared] for root in roots):
        shared -= 1
    sources = config.data.train
    return [source.root.parts[shared] if hasattr(source, "root") else source.name for source in sources]


def find_scenes(config: Config) -> list[Scene]:
    """Return the clear scenes of the training sources that have radar, those that they exclude too."""
    scenes = []
    for source, name in zip(config.data.train, name_sources(config), strict=True):
        if not hasattr(source, "root") or getattr(source, "cloudy_root", None):
            continue  # made up, or not clear
        patches = read_source(source.model_copy(update={"exclude": ()}), config)
        sar = patches[0].sar
        if sar is not None and sar.isfinite().any():
            scenes += [Scene(place, name, patches, i) for i, place in enumerate(patches.groups)]
    return scenes


def draw_hidden(height: int, width: int, deviation: float, share: float, seed: int) -> Tensor:
    """Return where a scene is hidden, (1, 1, H, W) bool: patches that cover `share` of it."""
    field = smooth_noise((height, width), deviation, torch.Generator().manual_seed(seed))
    return (field >= torch.quantile(field, 1 - share))[None, None]


@torch.inference_mode()
def score(
    method: Method, scene: Scene, figures: Sequence[str] = FIGURES, *, skies: bool = False
) -> list[Row]:
    """Return a row per mask: the PSNR of the hidden pixels in dB, by what is given, and of the clear mean.

    With `skies`, a row per simulated sky, of whose clouds the model is told nothing.
    """
    clear, bands = scene.read(method.stride), method.optical.bands
    present = clear.degraded.isfinite().flatten(2).any(2)[0]
    rows = []
    for share, covered in _under_skies(clear, bands) if skies else _with_parts_hidden(clear):
        batch = finish_older(covered, bands)
        assert batch.cloud is not None
        where = (batch.cloud > CLOUDY) & clear.valid
        mean = baselines(replace(batch, target=clear.degraded), method.mean_spectrum).get(CLEAR_MEAN)
        given = replace(batch, cloud=None) if skies else batch
        images = {
            CLEAR_MEAN: mean,
            **{name: restore(method, variant) for name, variant in _variants(given, figures)},
        }

        def measure(image: Tensor | None, where: Tensor = where) -> float:
            if image is None:
                return nan
            return float(psnr(image[:, present], clear.degraded[:, present], where))

        found = {name: measure(image) for name, image in images.items()}
        same = {NO_OLDER: ALL, NO_GUIDE: NO_RADAR}  # where there is no older date
        found = {figure: found[figure if figure in found else same[figure]] for figure in figures}
        rows.append({"place": scene.place, "source": scene.source, "hidden": share, **found})
    return rows


def _with_parts_hidden(clear: Batch) -> Iterator[tuple[float, Batch]]:
    """Yield each mask's share, and the scene without what it hides, which its cloud map names."""
    height, width = clear.degraded.shape[-2:]
    for seed, (deviation, share) in enumerate(MASKS):
        hidden = draw_hidden(height, width, deviation, share, seed)
        yield share, replace(clear, degraded=clear.degraded * ~hidden, cloud=hidden.float())


def _under_skies(clear: Batch, bands: Bands) -> Iterator[tuple[float, Batch]]:
    """Yield each sky's share of cloudy pixels, and the scene under it with its exact cloud map."""
    for seed in range(SKIES):
        generator = torch.Generator().manual_seed(seed)
        batch = cloud_over(replace(clear, target=clear.degraded), bands, generator, SkyOptions())
        assert batch.cloud is not None
        share = float((batch.cloud[clear.valid] > CLOUDY).float().mean())
        if share >= LEAST:
            yield share, replace(batch, target=None)


def _variants(batch: Batch, figures: Sequence[str]) -> Iterator[tuple[str, Batch]]:
    """Yield name and batch of the wanted figures; where there is no older date, none twice."""
    sar, older = (None if x is None else torch.full_like(x, torch.nan) for x in (batch.sar, batch.older))
    variants = {ALL: batch, NO_RADAR: replace(batch, sar=sar)}
    if batch.older is not None and batch.older.isfinite().any():
        variants[NO_OLDER] = replace(batch, older=older)
        variants[NO_GUIDE] = replace(batch, sar=sar, older=older)
    yield from ((name, given) for name, given in variants.items() if name in figures)


def restore(method: Method, batch: Batch) -> Tensor:
    """Return the restored images as the shipped weights make them on a CPU, (B, C, H, W)."""
    with torch.autocast("cpu", torch.bfloat16):
        return method.restore(batch).float()


def mean_of(rows: Sequence[Row], figure: str, least: float = 0.0, below: float = 1.0) -> float:
    """Return the mean of a figure over the rows that hide such a share; NaN if there are none."""
    chosen = [row[figure] for row in rows if least <= row["hidden"] < below]
    return fmean(chosen) if chosen else nan


def by_place(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each place."""
    places = dict.fromkeys(row["place"] for row in rows)
    return {place: [row for row in rows if row["place"] == place] for place in places}
