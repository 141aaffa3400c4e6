"""Time, memory and precision of the networks against their plain published formulation, in one run.

    python -m benchmarks.networks [--size 128] [--threads 2] [--repeats 15]

Both have the same weights. The variants take turns, so that other work on the machine affects all of them,
and the speed-up is the median of the ratios of all turns. Memory is the growth of a separate process.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.memory import peak_mib
from benchmarks.plain import plain
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.networks import cross_attention, glf_cr
from pellucid.simulate.clouds import add_clouds
from pellucid.simulate.landscape import make_scene

PLAIN, FP32, BF16 = "plain fp32", "ours fp32", "ours bf16"
VARIANTS = (PLAIN, FP32, BF16)
NETWORKS = ("glf_cr", "cross_attention")
COLUMNS = ("network", "variant", "time", "speed-up", "extra memory", "of plain", "PSNR", "largest error")
# Random weights are scaled so that the standard deviation of output minus input is that of a cloud; the
# reference image is the output plus noise, at the PSNR of a very good model.
CORRECTION, TRUTH_DB = 0.1, 35.0


@dataclass(frozen=True)
class Result:
    """The measurements of one variant.

    Attributes:
        milliseconds: time of each turn.
        memory_mib: peak growth of the process.
        psnr_db: of the output, against the reference image.
        deviation: largest difference from the output of the plain formulation.
    """

    milliseconds: list[float]
    memory_mib: float
    psnr_db: float
    deviation: float


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128, help="side of the image in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15, help="turns of each variant")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        sys.stdout.write(str(memory_mib(options.networks[0], options.memory_of, options.size)))
        return
    table = Table(title=f"{options.size} x {options.size} pixels, threads: {options.threads}")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:2] else "right")
    for name in options.networks:
        add_rows(table, name, measure(name, options.size, options.threads, options.repeats))
    Console(width=110).print(table)


def measure(name: str, size: int, threads: int, repeats: int) -> dict[str, Result]:
    """Return the measurements of each variant of the network `name`."""
    degraded, sar = scene(size)
    network = random_network(name)
    calibrate(network, degraded, sar)
    runs = variants(network, size)
    outputs = {variant: run(degraded, sar) for variant, run in runs.items()}
    truth = outputs[PLAIN] + _noise(outputs[PLAIN])
    times: dict[str, list[float]] = {variant: [] for variant in runs}
    for _ in range(repeats):
        for variant, run in runs.items():
            start = time.perf_counter()
            run(degraded, sar)
            times[variant].append(1000 * (time.perf_counter() - start))
    return {
        variant: Result(
            milliseconds=times[variant],
            memory_mib=_memory_of_child(name, variant, size, threads),
            psnr_db=-10 * (output - truth).square().mean().log10().item(),
            deviation=(output - outputs[PLAIN]).abs().max().item(),
        )
        for variant, output in outputs.items()
    }


def add_rows(table: Table, name: str, results: dict[str, Result]) -> None:
    """Append one row per variant."""
    plain = results[PLAIN]
    for variant, result in results.items():
        turns = zip(plain.milliseconds, result.milliseconds, strict=True)
        table.add_row(
            name,
            variant,
            f"{median(result.milliseconds):.0f} ms",
            f"{median(theirs / ours for theirs, ours in turns):.2f} x",
            f"{result.memory_mib:.0f} MiB",
            f"{result.memory_mib / plain.memory_mib:.0%}",
            f"{result.psnr_db:.3f} dB",
            f"{result.deviation:.1e}",
            end_section=variant == VARIANTS[-1],
        )


def variants(network: nn.Module, size: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return a function per variant that restores an image with the weights of `network`."""
    return {PLAIN: Restore(plain(network, size)), FP32: Restore(network), BF16: Restore(network, half=True)}


class Restore:
    """A network applied without gradients, in float32 or in automatic mixed precision."""

    def __init__(self, network: nn.Module, *, half: bool = False) -> None:
        self.network, self.half = network, half

    def __call__(self, degraded: Tensor, sar: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        precision: AbstractContextManager[None] = torch.autocast("cpu", torch.bfloat16, enabled=self.half)
        with torch.no_grad(), precision:
            return self.network(degraded, sar).float()


def random_network(name: str) -> nn.Module:
    """Return the network at its published size."""
    torch.manual_seed(0)
    if name == "glf_cr":
        return glf_cr.build(glf_cr.Config()).eval()
    return cross_attention.build(cross_attention.Config()).eval()


def calibrate(network: Any, degraded: Tensor, sar: Tensor) -> None:
    """Scale the last layer so that the standard deviation of the correction is `CORRECTION`."""
    is_residual = isinstance(network, glf_cr.GlfCrNet)
    last = network.UPNet[2] if is_residual else network.decoder.final_conv
    with torch.no_grad():
        correction = network(degraded, sar) - (degraded if is_residual else 0)
        last.load_state_dict({k: v * CORRECTION / correction.std() for k, v in last.state_dict().items()})


def scene(size: int) -> tuple[Tensor, Tensor]:
    """Return a simulated cloudy scene, (1, 13, size, size), and its radar, (1, 2, size, size)."""
    clear = make_scene(size, seed=0)
    cloudy, _ = add_clouds(clear.optical, SENTINEL2.bands, torch.Generator().manual_seed(0))
    return cloudy[None], SENTINEL1.to_unit(clear.radar_db)[None]


def memory_mib(name: str, variant: str, size: int) -> float:
    """Return the peak growth of this process while the variant restores an image twice."""
    run = variants(random_network(name), size)[variant]
    degraded, sar = scene(size)
    before = peak_mib()
    for _ in range(2):
        run(degraded, sar)
    return peak_mib() - before


def _memory_of_child(name: str, variant: str, size: int, threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks.networks", "--networks", name, "--memory-of", variant]
    command += ["--size", str(size), "--threads", str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _noise(image: Tensor) -> Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    return noise * 10 ** (-TRUTH_DB / 20)


if __name__ == "__main__":
    main()
