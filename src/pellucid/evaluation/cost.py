"""What a model costs: parameters, operations, time and memory, measured in a process of its own."""

import math
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from pellucid.apply.options import ApplyOptions
from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.evaluation.trial import Setup, Trial
from pellucid.methods.method import Method

# Times that a patch is restored, after a first time that does not count.
REPEATS = 3


@dataclass(frozen=True)
class Cost:
    """What restoring a patch costs; the peak is NaN where the system does not say it.

    Attributes:
        num_parameters: of all networks of the model.
        gflops_per_megapixel: of convolutions, products of matrices and attention, 10^9; a product and its
            sum are two.
        seconds_per_megapixel: median of `REPEATS`.
        peak_mib: growth of the process, or of the GPU's memory, at its peak over that before.
        pixels: of the patch.
        device: where it was measured, with the number of threads.
        precision: of the network.
    """

    num_parameters: int
    gflops_per_megapixel: float
    seconds_per_megapixel: float
    peak_mib: float
    pixels: int
    device: str
    precision: str


def measure_cost(model: str, patch: Batch, options: ApplyOptions, threads: int) -> Cost | None:
    """Return what it costs a model to restore a patch, B = 1; None if the process was killed."""
    with (
        suppress(BrokenProcessPool),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        return pool.submit(_measure, model, patch, options, threads).result()
    return None


def count_parameters(method: Method) -> int:
    """Return how many parameters the networks of a method have together."""
    return sum(parameter.numel() for network in method.networks for parameter in network.parameters())


def _measure(model: str, patch: Batch, options: ApplyOptions, threads: int) -> Cost:
    torch.set_num_threads(threads)
    method = load(model, device=options.device)
    trial = Trial(method, options, Setup(ablate_guides=False))
    engine = trial.engine_of(patch)
    pixels = int(patch.valid.shape[-1] * patch.valid.shape[-2])
    _restart_peak(engine.device)
    before = _peak_mib(engine.device)
    with FlopCounterMode(display=False) as counter:
        trial.restore(patch)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        trial.restore(patch)
        seconds.append(time.perf_counter() - start)
    is_cpu = engine.device.type == "cpu"
    name = f"CPU, {threads} threads" if is_cpu else torch.cuda.get_device_name(engine.device)
    return Cost(
        num_parameters=count_parameters(method),
        gflops_per_megapixel=counter.get_total_flops() / pixels / 1e3,
        seconds_per_megapixel=median(seconds) / pixels * 1e6,
        peak_mib=_peak_mib(engine.device) - before,
        pixels=pixels,
        device=name,
        precision=engine.precision,
    )


def _peak_mib(device: torch.device) -> float:
    """Return the peak memory of this process, or of the GPU, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
    return math.nan


def _restart_peak(device: torch.device) -> None:
    """Let the peak begin at what is in use now, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
