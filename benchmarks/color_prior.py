r"""Train the prior of broad colours of `sar_color`, and its table of mean colours by radar.

    python -m benchmarks.color_prior --folds               # what they reach on places that they have not seen
    python -m benchmarks.color_prior --run sar_color --out runs/sar_color   # the run with both, taught by all

r_006, the test region of `sar_color`, is in neither. About 2 minutes a fold on one core.
"""

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, mse_loss

from benchmarks.color_pairs import (
    SCENE_LOOK,
    Look,
    Pair,
    change_look,
    find_looks,
    flooded,
    folds,
    read_pairs,
    speckled,
    zoomed,
)
from pellucid.build.method import load
from pellucid.build.run import read_run, save_run
from pellucid.data.run_folder import CARD, find_run
from pellucid.methods.tones import Tones
from pellucid.metrics import psnr, ssim
from pellucid.networks._color_prior import CELL, ColorPrior, Config, describe_cells

# Times that each pair is rendered in each look, and cells that are kept of each rendering.
VERSIONS, CELLS = 3, 256
# Share of the renderings in which a pair keeps its own look, above the even share of all; share with lakes.
OWN_LOOK, LAKES = 0.5, 0.25
# How much each look counts, and within it alike every place of scenes, and every picture of the others.
COUNTS = {SCENE_LOOK: 0.4, "r_020": 0.4, "r_005": 0.2}
STEPS, BATCH, RATE, DECAY, DROP, JITTER, WARMUP = 1000, 2048, 4e-3, 0.3, 0.2, 0.1, 50
# Deviation of the gamma and gain of a radar picture.
CHANGE = 0.08
# `method.detail` of the new run, in pixels.
DETAIL = 2.0


class Samples(NamedTuple):
    """Cells: features (N, F), colours (N, 3), and how much each counts (N,)."""

    features: Tensor
    colors: Tensor
    weight: Tensor


def main() -> None:
    """Print the table of the folds, or write the run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PELLUCID_DATA", "../shared/data")))
    parser.add_argument("--folds", action="store_true", help="train and judge by folds of places")
    parser.add_argument("--run", default="sar_color", help="colorizer that gets the prior")
    parser.add_argument("--out", type=Path, help="folder of the new run")
    parser.add_argument("--members", type=int, default=Config.members)
    options = parser.parse_args()
    pairs = read_pairs(options.data)
    if options.folds:
        for number, held_out in enumerate(folds(pairs)):
            known = [pair for pair in pairs if pair.place not in held_out]
            judge(number, known, [pair for pair in pairs if pair.place in held_out], options.members)
    if options.out:
        write(options.run, options.out, pairs, options.members)


def write(run: str, out: Path, pairs: Sequence[Pair], members: int) -> None:
    """Write a colorizer's run with a prior and a table of mean colours that all pairs teach."""
    folder = find_run(run)
    config, method = read_run(folder)[0], load(run, device="cpu")
    changes = {"prior": run, "tone_by_radar": True, "detail": DETAIL}
    config = config.model_copy(update={"method": config.method.model_copy(update=changes)})
    method.prior, method.tones = train(pairs, members), tabulate(pairs)
    card = (folder / CARD).read_text(encoding="utf-8")
    save_run(out, config=config, method=method, card=card, half=True)


def judge(number: int, known: Sequence[Pair], unseen: Sequence[Pair], members: int) -> None:
    """Print PSNR and SSIM by look of what the known pairs teach, on places that are not among them."""
    prior, tones = train(known, members), tabulate(known)
    generator = torch.Generator().manual_seed(1)
    mean = torch.stack([pair.color.mean((1, 2)) for pair in known]).mean(0)
    found: dict[str, list[tuple[Tensor, ...]]] = {}
    for pair in unseen:
        radar, truth = speckled(pair, generator).radar[None, None], pair.color[None]
        with torch.no_grad():
            broad = prior(radar)
        drawn, likely = broad.mean((2, 3), keepdim=True), torch.tensor(tones(radar)).view(1, 3, 1, 1)
        flat = torch.zeros_like(broad)
        made = {
            "mean colour": flat + mean.view(1, 3, 1, 1),
            "colour by radar": flat + likely,
            "prior": broad,
            "both": broad + (likely - drawn) / 2,
            "own mean colour": flat + truth.mean((2, 3), keepdim=True),
            "own mean colour, prior": broad - drawn + truth.mean((2, 3), keepdim=True),
        }
        for name, image in made.items():
            found.setdefault(f"{pair.look:8} {name}", []).append(
                tuple(measure(image.clamp(0, 1), truth) for measure in (psnr, ssim))
            )
    for name, figures in found.items():
        decibels, likeness = torch.tensor(figures).mean(0).tolist()
        print(
            f"fold {number}  {name:32} {decibels:6.2f} dB  SSIM {likeness:.3f}  ({len(figures)})", flush=True
        )


def tabulate(pairs: Sequence[Pair]) -> Tones:
    """Return the mean colours of pairs by their radar."""
    generator = torch.Generator().manual_seed(2)
    seen = (speckled(pair, generator) for pair in pairs)
    return Tones.of((pair.radar[None, None], pair.color[None]) for pair in seen)


def train(pairs: Sequence[Pair], members: int) -> ColorPrior:
    """Return a trained prior."""
    samples = draw(pairs, find_looks(pairs, torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    prior = ColorPrior(Config(members=members))
    prior.center.copy_(samples.features.mean(0))
    prior.spread.copy_(samples.features.std(0) + 1e-3)
    for member in range(members):
        parts = (prior.first, prior.second, prior.last)
        weights = [weight for part in parts for weight in part[member].parameters()]
        optimizer = torch.optim.AdamW(weights, RATE, weight_decay=DECAY)
        for step in range(STEPS):
            ramp = min(1, (step + 1) / WARMUP) * (1 + torch.cos(torch.tensor(torch.pi * step / STEPS))) / 2
            optimizer.param_groups[0]["lr"] = RATE * float(ramp)
            at = torch.multinomial(samples.weight, BATCH, replacement=True)
            features = samples.features[at]
            features = features + JITTER * prior.spread * torch.randn_like(features)
            loss = mse_loss(prior.color(features, member, DROP), samples.colors[at])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return prior.eval()


def draw(pairs: Sequence[Pair], looks: dict[str, Look]) -> Samples:
    """Return cells of all pairs, rendered anew several times in every look."""
    generator = torch.Generator().manual_seed(3)
    places = Counter((pair.look, _unit(pair)) for pair in pairs)
    units = Counter(look for look, _ in places)
    parts = []
    for pair in pairs:
        counts = COUNTS[pair.look] / units[pair.look] / places[pair.look, _unit(pair)]
        for look in looks:
            share = (1 - OWN_LOOK) * (look == pair.look) + OWN_LOOK / len(looks)
            for version in range(VERSIONS):
                shown = change_look(speckled(pair, generator), looks, look)
                shown = zoomed(shown, generator) if version else shown
                if torch.rand((), generator=generator) < LAKES:
                    shown = flooded(shown, looks, generator)
                radar = shown.radar.clamp(0, 1)
                if version:
                    gamma, gain = (CHANGE * torch.randn(2, generator=generator)).exp()
                    radar = gain * radar**gamma
                radar = (radar.clamp(0, 1) * 255).round() / 255
                cells = describe_cells(radar[None, None])[0].flatten(1).T
                colors = avg_pool2d(shown.color, CELL).flatten(1).T
                kept = torch.randperm(len(cells), generator=generator)[:CELLS]
                weight = torch.full((len(kept),), counts * share / VERSIONS / len(kept))
                parts.append(Samples(cells[kept], colors[kept], weight))
    return Samples(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _unit(pair: Pair) -> str:
    """Return what counts as one: a place of scenes, a picture of other sources."""
    return pair.place if pair.look == SCENE_LOOK else pair.key


if __name__ == "__main__":
    main()
