r"""Quality and time by the number of sampling steps: a table, a CSV file and a plot.

    python -m benchmarks.generative sr3_ct_x4 --data ../shared/data/soil_ct --numbers 310 345 \
        --images 2 --out runs/steps
    python -m benchmarks.generative runs/from_cloudy runs/from_noise --data ../shared/data/sen12mscr \
        --split val --size 256 --steps 1 2 4 8 30 --out runs/starts

Each model is sampled deterministically with few steps. Diffusion models are also sampled with fresh noise:
the mean of a few samples, and ancestral sampling with every step of the path, which is the reference for the
time. Without it, the largest number of steps is the reference. All variants run on the same images, from the
same noise.
"""

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks.memory import peak_mib, restart_peak
from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.data.drawing import spread
from pellucid.evaluation.reference import read_reference
from pellucid.evaluation.trial import crop_centre
from pellucid.generative.noise import keyed_noise
from pellucid.generative.path import VariancePreserving
from pellucid.methods.generative import Generative
from pellucid.methods.method import Method
from pellucid.methods.sampling import Sampling
from pellucid.metrics import gmsd, psnr, ssim

STEPS = (1, 2, 4, 10, 50, 250)
# Number of samples whose mean is taken, and their steps.
SAMPLES, SAMPLE_STEPS = 4, 10
BASELINES = ("input", "mean spectrum")
COLUMNS = ("model", "sampler", "calls", "PSNR dB", "SSIM", "GMSD", "s per image", "faster", "peak MiB")


@dataclass(frozen=True)
class Variant:
    """One way to sample.

    Attributes:
        label: its name in the table.
        sampling: steps and noise.
        samples: number of samples whose mean is taken.
    """

    label: str
    sampling: Sampling
    samples: int = 1


@dataclass(frozen=True)
class Result:
    """Quality and cost of one variant, mean over the images.

    Attributes:
        model: its name.
        label: of the variant.
        calls: of the network, per image.
        psnr_db: against the reference image.
        ssim: against the reference image.
        gmsd: gradient magnitude similarity deviation from the reference image; 0 if identical.
        seconds: per image.
        memory_mib: peak memory of the process.
    """

    model: str
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
    parser.add_argument("models", nargs="+", help="models that ship or run folders")
    parser.add_argument("--data", type=Path, required=True, help="slices of high resolution, or SEN12MS-CR")
    parser.add_argument("--numbers", type=int, nargs=2, help="first and last number of the slices")
    parser.add_argument("--split", default="test", help="of the patches")
    parser.add_argument("--images", type=int, default=2, help="spread evenly over the data")
    parser.add_argument("--size", type=int, default=256, help="side of the central square, in pixels")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--reference", type=int, default=0, help="ancestral steps; 0: all of the path")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for steps.csv and steps.png")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    methods = {name: load(name, device="cpu") for name in options.models}
    images = read_images(options, next(iter(methods.values())))
    results = list(baselines(images, next(iter(methods.values()))))
    for name, method in methods.items():
        wanted = variants(method, options.steps, options.reference)
        for variant in track(wanted, name, console=Console(stderr=True)):
            results.append(measure(name, method, variant, images, half=options.precision == "bf16"))
    size = " x ".join(str(side) for side in images[0].valid.shape[-2:])
    title = f"{len(images)} images of {size}, {options.precision}, threads: {options.threads}"
    Console(width=120).print(table(results, title))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_csv(results, options.out / "steps.csv")
        plot(results, options.out / "steps.png")


def read_images(options: argparse.Namespace, method: Method) -> list[Batch]:
    """Return the central squares of some of the images."""
    numbers = tuple(options.numbers) if options.numbers else None
    images = read_reference(method, options.data, split=options.split, numbers=numbers)
    return [crop_centre(images[i], options.size) for i in spread(options.images, len(images))]


def variants(method: Method, steps: Sequence[int], reference: int) -> list[Variant]:
    """Return every way to sample that is compared; the last is the reference."""
    if not isinstance(method, Generative):
        return [Variant("one call", Sampling(steps=1))]
    few = [Variant(f"{n} step{'s' * (n > 1)}", Sampling(steps=n)) for n in steps]
    if not isinstance(method.path, VariancePreserving):
        return few
    every = reference or method.path.num_steps
    mean = Sampling(steps=SAMPLE_STEPS, eta=1.0)
    return [
        *few,
        Variant(f"mean of {SAMPLES}, {SAMPLE_STEPS} steps each", mean, samples=SAMPLES),
        Variant(f"ancestral, {every} steps", Sampling(steps=every, eta=1.0)),
    ]


def baselines(images: list[Batch], method: Method) -> Iterator[Result]:
    """Yield the baselines: the input, enlarged if it is smaller, and the mean spectrum."""
    inputs = [batch.enlarged() for batch in images]
    yield _measure_quality("input", "bicubic" if images[0].scale > 1 else "untouched", inputs, images)
    if method.mean_spectrum is not None:
        spectrum = torch.tensor(method.mean_spectrum).view(1, -1, 1, 1)
        yield _measure_quality("mean spectrum", "", [spectrum.expand_as(image) for image in inputs], images)


def measure(name: str, method: Method, variant: Variant, images: list[Batch], *, half: bool) -> Result:
    """Return quality and cost of the variant."""
    warm_up = Variant("", Sampling(steps=1))
    restore_mean(method, images[0], warm_up, half=half)  # not measured
    restart_peak()
    start = time.perf_counter()
    restored = [restore_mean(method, batch, variant, half=half) for batch in images]
    seconds = (time.perf_counter() - start) / len(images)
    calls = variant.samples * variant.sampling.steps
    return _measure_quality(
        name, variant.label, restored, images, calls=calls, seconds=seconds, memory_mib=peak_mib()
    )


def restore_mean(method: Method, batch: Batch, variant: Variant, *, half: bool) -> Tensor:
    """Return the mean of the variant's samples, each from its own noise."""
    if isinstance(method, Generative):
        method.sampling = variant.sampling
    padded = batch.pad(method.stride)
    height, width = batch.valid.shape[-2:]
    size = int(padded.valid.shape[-2]), int(padded.valid.shape[-1])
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        drawn = [
            method.restore(padded, keyed_noise(batch.key, *size, sample=i)) for i in range(variant.samples)
        ]
    return torch.stack(drawn).mean(0)[..., :height, :width].float()


def table(results: Sequence[Result], title: str) -> Table:
    """Return the results as a table; `faster` is relative to the last variant of the model."""
    slowest = {result.model: result.seconds for result in results}
    shown = Table(title=title)
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column in COLUMNS[:2] else "right")
    for result in results:
        cost = ("", "", "")
        if result.calls:
            faster = slowest[result.model] / result.seconds
            cost = (f"{result.seconds:.2f}", f"{faster:.0f} x", f"{result.memory_mib:.0f}")
        quality = (f"{result.psnr_db:.2f}", f"{result.ssim:.4f}", f"{result.gmsd:.4f}")
        shown.add_row(result.model, result.label, str(result.calls), *quality, *cost)
    return shown


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Write one row per variant."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(vars(results[0])))
        writer.writeheader()
        writer.writerows([vars(result) for result in results])


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw PSNR and GMSD over the time per image: a line through the steps, points for the rest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes: Any
    for axes, name, label in zip(
        figure.subplots(1, 2), ("psnr_db", "gmsd"), ("PSNR in dB", "GMSD, 0 is best"), strict=True
    ):
        for result, style in zip([r for r in results if r.model in BASELINES], (":", "--"), strict=False):
            named = result.label if result.label == "bicubic" else result.model
            axes.axhline(getattr(result, name), color="gray", linestyle=style, label=named)
        for model in dict.fromkeys(r.model for r in results if r.model not in BASELINES):
            _plot_model(axes, [r for r in results if r.model == model], name)
        axes.set(xscale="log", xlabel="seconds per image (number: steps)", ylabel=label)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _plot_model(axes: Any, results: list[Result], name: str) -> None:
    few = [
        result for result in results if result.label.endswith(("step", "steps")) and "," not in result.label
    ]
    (line,) = axes.plot(
        [r.seconds for r in few], [getattr(r, name) for r in few], "o-", label=Path(results[0].model).name
    )
    for result in few:
        place = (result.seconds, getattr(result, name))
        axes.annotate(str(result.calls), place, (3, 4), textcoords="offset points")
    for result, marker in zip([r for r in results if r not in few], "s^", strict=False):
        value = getattr(result, name)
        axes.plot(result.seconds, value, marker, color=line.get_color(), label=result.label)


def _measure_quality(
    model: str,
    label: str,
    restored: list[Tensor],
    images: list[Batch],
    *,
    calls: int = 0,
    seconds: float = 0.0,
    memory_mib: float = 0.0,
) -> Result:
    pairs = [(image, batch.target) for image, batch in zip(restored, images, strict=True)]
    means = {
        metric.__name__: fmean(metric(image, target).item() for image, target in pairs if target is not None)
        for metric in (psnr, ssim, gmsd)
    }
    quality = {"psnr_db": means["psnr"], "ssim": means["ssim"], "gmsd": means["gmsd"]}
    return Result(model, label, calls, **quality, seconds=seconds, memory_mib=memory_mib)


if __name__ == "__main__":
    main()
