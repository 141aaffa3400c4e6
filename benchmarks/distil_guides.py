"""Teach a smaller network of the guides to give the features of a trained `ground`; all else stays as it is.

    PELLUCID_DATA=../shared/data python -m benchmarks.distil_guides ground runs/ground_small \
        [--widths 32 64 96 128] [--detail 16] [--steps 5000]

No picture of the ground is needed: radar and dates of the places that the model was trained on, changed at
random, go through both networks. What is left of the features' variance is printed as it falls.
"""

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from benchmarks.distillation import Follower, build_student, read_teacher
from pellucid.build.datasets import read_source
from pellucid.build.run import save_run
from pellucid.config import Config
from pellucid.datasets._augment_guides import add_speckle, draw_mask, drop_polarisation
from pellucid.methods.ground import Ground
from pellucid.networks._clearness import AT, BANDS, Seen
from pellucid.networks.ground import SEEN, GroundNet

# Side in pixels of a crop, crops of a step, and scenes of a source at most.
CROP, BATCH, MOST = 128, 8, 80
# Learning rate, largest gradient; errors beyond the last count by their size alone.
RATE, CLIP, LARGE = 1e-3, 0.3, 0.1
# Probabilities: radar and date are of one place, there is radar, there is a date, which lacks parts; and that
# radar has other gain, other contrast, speckle, one polarisation.
ONE_PLACE, RADAR, DATE, PARTS = 0.5, 0.9, 0.4, 0.5
GAIN, CONTRAST, SPECKLE, ONE_POLARISATION = 0.5, 0.3, 0.5, 0.1
REPORT = 50


def main() -> None:
    """Train, and save the run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run of ground, or its name")
    parser.add_argument("out", type=Path, help="folder of the new run")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 96, 128])
    parser.add_argument("--detail", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5000)
    options = parser.parse_args()
    config, teacher = read_teacher(parser, options.run)
    distil(config, teacher, options.out, tuple(options.widths), options.detail, options.steps)


def distil(
    config: Config, teacher: Ground, out: Path, widths: tuple[int, ...], detail: int, steps: int
) -> float:
    """Save the run whose network of the guides has other sizes; return what it misses of the variance."""
    sizes = {"widths": list(widths), "detail": detail}
    smaller, student = build_student(config, teacher, sizes, ("guides.",))
    missed = _train(teacher.network, student.network, Samples.of(config), steps)
    save_run(out, config=smaller, method=student, half=True)
    return missed


@dataclass
class Samples:
    """Radar, (2, H, W), or None, and the bands `SEEN` of a date, (6, H, W), of each place, in [0, 1]."""

    places: Sequence[tuple[Tensor | None, Tensor]]
    random: random.Random
    generator: torch.Generator

    @classmethod
    def of(cls, config: Config) -> "Samples":
        """Read the places of a config's training data that are as large as a crop."""
        places, chance = list[tuple[Tensor | None, Tensor]](), random.Random(0)
        for source in config.data.train:
            patches = read_source(source, config)
            order = list(range(len(patches)))
            for i in track(chance.sample(order, min(len(order), MOST)), description=source.name):
                batch = patches[i]
                date = torch.stack([batch.reference()[0, AT[band]] for band in SEEN]).nan_to_num()
                sar = None if batch.sar is None or not batch.sar.isfinite().any() else batch.sar[0]
                if min(date.shape[-2:]) >= CROP:
                    places.append((sar, date))
        return cls(places, chance, torch.Generator().manual_seed(0))

    def draw(self) -> Seen:
        """Return crops of places with radar, changed at random."""
        sar, older = (
            torch.stack(images) for images in zip(*(self._one() for _ in range(BATCH)), strict=True)
        )
        values = torch.zeros(BATCH, len(BANDS), CROP, CROP)
        dates = torch.full_like(values, torch.nan)
        dates[:, [AT[band] for band in SEEN]] = older
        return Seen(values, torch.ones(BATCH, len(BANDS)), values[:, :1] + 1, sar, dates)

    def _one(self) -> tuple[Tensor, Tensor]:
        """Return radar, (2, CROP, CROP), and bands of a date, (6, CROP, CROP), NaN where there is none."""
        sar, date = self.random.choice([place for place in self.places if place[0] is not None])
        assert sar is not None
        if self._chance(ONE_PLACE):
            sar, date = self._crop(torch.cat([sar, date])).split([len(sar), len(date)])
        else:
            sar, date = self._crop(sar), self._crop(self.random.choice(self.places)[1])
        sar = self._changed(sar) if self._chance(RADAR) else torch.full_like(sar, torch.nan)
        gain = 1 + 0.2 * torch.randn(len(SEEN), 1, 1, generator=self.generator)
        date = (date * gain.clamp(0.5, 1.6)).clamp(0, 1)
        if self._chance(PARTS):
            date = date.masked_fill(draw_mask((CROP, CROP), self.generator), torch.nan)
        return sar, date if self._chance(DATE) else torch.full_like(date, torch.nan)

    def _changed(self, sar: Tensor) -> Tensor:
        if self._chance(GAIN):
            sar = sar + 0.04 * torch.randn(2, 1, 1, generator=self.generator)
        if self._chance(CONTRAST):
            sar = 0.6 + (sar - 0.6) * (1 + 0.2 * torch.randn((), generator=self.generator))
        sar = sar.clamp(0, 1)[None]
        if self._chance(SPECKLE):
            sar = add_speckle(sar.nan_to_num(nan=0.5), self.generator).where(sar.isfinite(), torch.nan)
        return (drop_polarisation(sar, self.generator) if self._chance(ONE_POLARISATION) else sar)[0]

    def _crop(self, image: Tensor) -> Tensor:
        """Return a crop, turned and mirrored."""
        top, left = (self.random.randint(0, side - CROP) for side in image.shape[-2:])
        image = image[..., top : top + CROP, left : left + CROP]
        image = image.rot90(self.random.randrange(4), (-2, -1))
        return image.flip(-1) if self._chance(0.5) else image

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability


def _train(teacher: GroundNet, network: GroundNet, samples: Samples, steps: int) -> float:
    """Let the student's features become the teacher's; its weights become their moving average."""
    student, count = network.guides, network.config.features
    follower = Follower(student, student.parameters(), steps, rate=RATE, clip=CLIP)
    missed, variance, share = 0.0, 0.0, math.nan
    for step in range(1, steps + 1):
        seen = samples.draw()
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = teacher.features(seen)[0][:, -count:]
            found = network.features(seen)[0][:, -count:]
        follower.step(step, smooth_l1_loss(found, wanted, beta=LARGE))
        missed += float((found.detach() - wanted).square().mean())
        variance += float(wanted.var(dim=(0, 2, 3)).mean())
        if step % REPORT == 0 or step == steps:
            share, missed, variance = missed / variance, 0.0, 0.0
            print(f"step {step}: {share:.2%} of the features' variance is missed", flush=True)
    student.load_state_dict(follower.mean)
    return share


if __name__ == "__main__":
    main()
