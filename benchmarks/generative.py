r"""How the number of sampling steps trades quality for time: a table, a CSV file and a plot.

    python -m benchmarks.generative sr3_ct_x4 --data ../shared/data/soil_ct --numbers 310 345 \
        --images 2 --out runs/steps

Deterministic sampling with few steps, the mean of a few samples, and the reference: ancestral sampling
with every step of the path. All in one run, on the same images, from the same noise.
"""

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks.memory import peak_mib, restart_peak
from pellucid.build import load
from pellucid.config import SlicesSource
from pellucid.data.batch import Batch
from pellucid.data.slices import Slices
from pellucid.evaluator import crop_centre
from pellucid.generative.noise import keyed_noise
from pellucid.methods.generative import Generative, Sampling
from pellucid.metrics import gmsd, psnr, ssim

STEPS = (1, 2, 4, 10, 50, 250)
# Of the mean over samples.
SAMPLES, SAMPLE_STEPS = 4, 10
BICUBIC = "bicubic"
COLUMNS = ("sampler", "calls", "PSNR dB", "SSIM", "GMSD", "s per image", "faster", "peak MiB")


@dataclass(frozen=True)
class Variant:
    """One way to sample.

    Attributes:
        label: its name in the table.
        sampling: steps and noise.
        samples: of which the mean is taken.
    """

    label: str
    sampling: Sampling
    samples: int = 1


# What the first call of a network sets up is not counted.
WARM_UP = Variant("warm-up", Sampling(steps=1))


@dataclass(frozen=True)
class Result:
    """What one variant reaches, mean over the images.

    Attributes:
        label: of the variant.
        calls: of the network, per image.
        psnr_db: against the truth.
        ssim: against the truth.
        gmsd: gradient magnitude similarity deviation from the truth, 0 for the same image.
        seconds: per image.
        memory_mib: the most that the process held meanwhile.
    """

    label: str
    calls: int
    psnr_db: float
    ssim: float
    gmsd: float
    seconds: float
    memory_mib: float


def main() -> None:
    """Measure, print the table and write CSV and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a model that ships or a run folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of slices of high resolution")
    parser.add_argument("--numbers", type=int, nargs=2, help="first and last number of the slices")
    parser.add_argument("--images", type=int, default=2, help="spread evenly over the slices")
    parser.add_argument("--size", type=int, default=256, help="side of the central square, in pixels")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--reference", type=int, default=0, help="ancestral steps; 0: all of the path")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for steps.csv and steps.png")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    method = load(options.model, device="cpu")
    if not isinstance(method, Generative):
        parser.error(f"{options.model} does not sample, name a generative model")
    images = read_images(options, method.scale)
    every = options.reference or getattr(method.path, "num_steps", max(options.steps))
    results = [bicubic(images)]
    for variant in track(variants(options.steps, every), "sampling", console=Console(stderr=True)):
        results.append(measure(method, variant, images, half=options.precision == "bf16"))
    size = " x ".join(str(side) for side in images[0].valid.shape[-2:])
    title = f"{len(images)} images of {size}, {options.precision}, threads: {options.threads}"
    Console(width=110).print(table(results, title))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_csv(results, options.out / "steps.csv")
        plot(results, options.out / "steps.png")


def read_images(options: argparse.Namespace, scale: int) -> list[Batch]:
    """Return the central squares of some of the slices."""
    numbers = tuple(options.numbers) if options.numbers else None
    slices = Slices(SlicesSource(name="slices", hr=options.data, numbers=numbers), scale=scale)
    chosen = {round(i * (len(slices) - 1) / max(1, options.images - 1)) for i in range(options.images)}
    return [crop_centre(slices[i], options.size) for i in sorted(chosen)]


def variants(steps: Sequence[int], reference: int) -> list[Variant]:
    """Return every way to sample that is compared; the reference is the last."""
    few = [Variant(f"deterministic, {n} step{'s' * (n > 1)}", Sampling(steps=n)) for n in steps]
    mean = Variant(
        f"mean of {SAMPLES}, {SAMPLE_STEPS} steps", Sampling(steps=SAMPLE_STEPS, eta=1.0), samples=SAMPLES
    )
    return [*few, mean, Variant(f"ancestral, {reference} steps", Sampling(steps=reference, eta=1.0))]


def bicubic(images: list[Batch]) -> Result:
    """Return the baseline."""
    return _judge(BICUBIC, 0, [batch.enlarged() for batch in images], images, 0.0, 0.0)


def measure(method: Generative, variant: Variant, images: list[Batch], *, half: bool) -> Result:
    """Return what the variant reaches on the images, and at what cost."""
    restore_mean(method, images[0], WARM_UP, half=half)
    restart_peak()
    start = time.perf_counter()
    restored = [restore_mean(method, batch, variant, half=half) for batch in images]
    seconds = (time.perf_counter() - start) / len(images)
    calls = variant.samples * variant.sampling.steps
    return _judge(variant.label, calls, restored, images, seconds, peak_mib())


def restore_mean(method: Generative, batch: Batch, variant: Variant, *, half: bool) -> Tensor:
    """Return the mean of the variant's samples, each from noise of its own."""
    method.sampling = variant.sampling
    size = int(batch.valid.shape[-2]), int(batch.valid.shape[-1])
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        drawn = [
            method.restore(batch, keyed_noise(batch.key, *size, sample=i)) for i in range(variant.samples)
        ]
    return torch.stack(drawn).mean(0)


def table(results: Sequence[Result], title: str) -> Table:
    """Return the results, with how much faster each is than the last, the reference."""
    shown = Table(title=title)
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for result in results:
        cost = ("", "", "")
        if result.calls:
            faster = results[-1].seconds / result.seconds
            cost = (f"{result.seconds:.2f}", f"{faster:.0f} x", f"{result.memory_mib:.0f}")
        quality = (f"{result.psnr_db:.2f}", f"{result.ssim:.4f}", f"{result.gmsd:.4f}")
        shown.add_row(result.label, str(result.calls), *quality, *cost)
    return shown


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Write one row per variant."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(vars(results[0])))
        writer.writeheader()
        writer.writerows([vars(result) for result in results])


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw PSNR and GMSD over the time per image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (name, label) in zip(
        figure.subplots(1, 2), (("psnr_db", "PSNR in dB"), ("gmsd", "GMSD, 0 is best")), strict=True
    ):
        sampled = results[1:]
        few, others = sampled[:-2], sampled[-2:]
        axes.axhline(getattr(results[0], name), color="gray", linestyle=":", label=BICUBIC)
        axes.plot([r.seconds for r in few], [getattr(r, name) for r in few], "o-", label="deterministic")
        for result in few:
            axes.annotate(
                str(result.calls), (result.seconds, getattr(result, name)), (3, 4), textcoords="offset points"
            )
        for result, marker in zip(others, "s^", strict=True):
            axes.plot(result.seconds, getattr(result, name), marker, label=result.label)
        axes.set(xscale="log", xlabel="seconds per image (number: steps)", ylabel=label)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _judge(
    label: str, calls: int, restored: list[Tensor], images: list[Batch], seconds: float, memory_mib: float
) -> Result:
    figures = {
        metric.__name__: fmean(
            metric(image, batch.target).item()
            for image, batch in zip(restored, images, strict=True)
            if batch.target is not None
        )
        for metric in (psnr, ssim, gmsd)
    }
    return Result(label, calls, figures["psnr"], figures["ssim"], figures["gmsd"], seconds, memory_mib)


if __name__ == "__main__":
    main()
