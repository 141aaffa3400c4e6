"""How much better `ground` would paint if it knew more than it can see: what its errors come from.

    PELLUCID_DATA=../shared/data python -m benchmarks.ground_ceilings [SOURCES.yaml]

Under simulated skies, of which the exact map is known, its result is brought to the true mean colour of what
is hidden, 13 numbers, or its regression is told which pixels are clear, or also the true colours of all that
is not wholly hidden; the rest is as ever. PSNR of the cloudy pixels, and of those through which some of the
ground's light comes.
"""

import copy
import sys
from dataclasses import replace
from math import nan
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks.hidden_ground import restore
from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.data.cloud_score import cloud_score
from pellucid.evaluation.figures import CLEAR_MEAN, CLOUDY, baselines
from pellucid.evaluation.sources import read_sources
from pellucid.methods.ground import Ground
from pellucid.metrics import psnr
from pellucid.networks._clearness import Clear, Seen

# Shares of the ground's light that pass a pixel of which the colour is told: where next to nothing is hidden,
# half of it, most of it, and all.
TOLD = {
    "which pixels are clear": 0.95,
    "colours under thin haze": 0.5,
    "under haze": 0.2,
    "all colours": -1.0,
}
REGIONS = {"cloudy": (0.0, 1 - CLOUDY), "light 35 to 50 %": (0.35, 0.5), "light below 2 %": (0.0, 0.02)}


def main() -> None:
    """Print the table."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("benchmarks/ground_skies.yaml")
    method = load("ground", device="cpu")
    if not isinstance(method, Ground):
        raise TypeError("the model that ships is no ground")
    images, found = read_sources(method, path), dict[str, list[list[float]]]()
    for i in track(range(len(images)), "skies"):
        for name, figures in measure(method, images[i]).items():
            found.setdefault(name, []).append(figures)
    table = Table("what is known", *REGIONS, title=f"PSNR in dB, {len(images)} images")
    for name, rows in found.items():
        columns = ([x for x in column if x == x] or [nan] for column in zip(*rows, strict=True))
        table.add_row(name, *(f"{fmean(column):.2f}" for column in columns))
    Console().print(table)


@torch.inference_mode()
def measure(method: Ground, batch: Batch) -> dict[str, list[float]]:
    """Return the PSNR in each region, NaN where it is empty, by what is known."""
    truth, cloud = batch.target, batch.cloud
    if truth is None or cloud is None:
        raise ValueError("the images need targets and exact maps of clouds")
    light, given = 1 - cloud, replace(batch, target=None, cloud=None)
    masks = [(light >= low) & (light <= high) & batch.valid for low, high in REGIONS.values()]
    hidden = masks[0]  # cloudy
    found = (cloud_score(batch.degraded, method.optical.bands) > CLOUDY).float()
    maps = {"mean of the clear pixels": cloud, "mean of those that the built-in score finds": found}
    images = {
        name: baselines(replace(batch, cloud=each), method.mean_spectrum)[CLEAR_MEAN]
        for name, each in maps.items()
    }
    if given.sar is not None:
        bare = replace(given, sar=torch.full_like(given.sar, torch.nan))
        images["nothing, without radar"] = restore(method, bare)
    images["nothing"] = restored = restore(method, given)
    off = ((restored - truth) * hidden).sum((2, 3), keepdim=True) / hidden.sum().clamp(min=1)
    images["the mean colour of what is hidden"] = restored - off
    for name, least in TOLD.items():
        images[name] = restore(_told(method, truth, light > least), given)
    return {
        name: [float(psnr(image, truth, mask)) if mask.any() else nan for mask in masks]
        for name, image in images.items()
    }


def _told(method: Ground, truth: Tensor, known: Tensor) -> Ground:
    """Return the method, whose regression is told the colours of the pixels that are known, and no others."""
    other, judge = copy.copy(method), method._judge

    def tell(batch: Batch, seen: Seen) -> Clear:
        clear = judge(batch, seen)
        return clear._replace(
            worth=known.float(), colours=clear.colours.where(~known, other._spread(truth).nan_to_num())
        )

    other._judge = tell  # type: ignore[method-assign]
    return other


if __name__ == "__main__":
    main()
