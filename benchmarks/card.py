"""What one network costs on one card: time, throughput, memory and exactness; torch alone is needed."""

import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

# Type of the weights' and images' casts, None: none; how float32 is multiplied.
PRECISIONS = {"bf16": (torch.bfloat16, "high"), "tf32": (None, "high"), "fp32": (None, "highest")}
PROFILE_ROWS = 14
Run = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """What was measured of one variant of a network.

    Attributes:
        network: its name.
        precision: "bf16", "tf32" or "fp32".
        variant: how it was run.
        milliseconds: of one batch, the median.
        megapixels_per_s: of the result.
        teraflops: 10^12 operations of the plain formulation per second.
        share: of the rate of the convolution, in the same precision.
        memory_mib: peak beside weights and inputs.
        deviation: largest difference from the plain formulation in fp32; for `ground`, from itself in fp32.
    """

    network: str
    precision: str
    variant: str
    milliseconds: float
    megapixels_per_s: float
    teraflops: float
    share: float
    memory_mib: float
    deviation: float

    HEAD = (
        "| network | precision | variant | ms | Mpx/s | TFLOP/s | of the convolution | MiB | deviation |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )

    def __str__(self) -> str:
        return (
            f"| {self.network} | {self.precision} | {self.variant} | {self.milliseconds:.2f} "
            f"| {self.megapixels_per_s:.3g} | {self.teraflops:.3g} | {self.share:.0%} "
            f"| {self.memory_mib:.0f} | {self.deviation:.1e} |"
        )


class Bench:
    """All that one run measures, printed and saved as it comes.

    Args:
        seconds: after which no part is begun.
        tiles: in a batch.
        size: side of a tile in pixels.
        small: whether networks are tiny, for a try on a CPU.
        output: JSON file, or None.
    """

    def __init__(self, seconds: float, tiles: int, size: int, *, small: bool, output: Path | None) -> None:
        self.deadline = time.monotonic() + seconds
        self.tiles, self.size, self.small, self.output = tiles, size, small, output
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.rates: dict[str, float] = {}
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.profiles: dict[str, list[tuple[str, int, float]]] = {}
        self.flops: dict[str, float] = {}
        self.exact: dict[str, Tensor] = {}

    def part(
        self, name: str, run: Callable[[], None], *, at_least: float = 2.0, at_most: float = 60.0
    ) -> bool:
        """Run a part if `at_least` seconds are left, and return whether it was done; say why not."""
        left = self.deadline - time.monotonic()
        if left < at_least:
            self.note(f"{name}: left out, {left:.0f} s were left")
            return False
        start, done = time.monotonic(), True
        try:
            with _alarm(min(left, at_most)):
                run()
        except Exception as error:
            done = False
            traceback.print_exc(limit=-4)
            self.note(f"{name}: failed, {type(error).__name__}: {str(error)[:300]}")
        print(f"# {name}: {time.monotonic() - start:.1f} s", flush=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.save()
        return done

    def note(self, text: str) -> None:
        """Print a line and keep it."""
        self.notes.append(text)
        print(f"# {text}", flush=True)

    def save(self) -> None:
        """Write all that was measured so far."""
        if self.output:
            found = {"rates": self.rates, "notes": self.notes, "rows": [asdict(row) for row in self.rows]}
            self.output.write_text(json.dumps({**found, "profiles": self.profiles}, indent=1))

    def machine(self, side: int = 256) -> None:
        """Measure what the device does at best; the image of the convolution has `side` pixels."""
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info()[1] / 2**30
            self.note(f"{torch.cuda.get_device_name()}, {free:.0f} GiB, torch {torch.__version__}")
        width, side = (16, 32) if self.small else (128, side)
        image = torch.randn(self.tiles, width, side, side, device=self.device)
        image = image.contiguous(memory_format=torch.channels_last)
        weight = torch.randn(width, width, 3, 3, device=self.device).contiguous(
            memory_format=torch.channels_last
        )
        for name, (dtype, matmul) in PRECISIONS.items():
            with multiplied(matmul):
                x, w = (image, weight) if dtype is None else (image.to(dtype), weight.to(dtype))
                ms = self.milliseconds(partial(conv2d, x, w, padding=1))
            self.rates[name] = image.numel() * width * 18 / ms / 1e9
            self.note(f"3 x 3 convolution of {width} channels in {name}: {self.rates[name]:.3g} TFLOP/s")
        block = torch.empty(2**12 if self.small else 2**30, dtype=torch.uint8, device=self.device)
        other = torch.empty_like(block)
        moved = 2 * block.numel() / self.milliseconds(partial(other.copy_, block)) / 1e9
        self.note(f"copy: {moved:.3g} TB/s, read and written")

    def milliseconds(self, run: Run, *, seconds: float = 0.4) -> float:
        """Return the median time of a call, after two others, of about as many as fit into `seconds`."""
        run()
        self.wait()
        start = time.monotonic()
        run()
        self.wait()
        once = max(time.monotonic() - start, 1e-5)
        times = []
        for _ in range(max(3, min(100, int(seconds / once)))):
            if self.device.type == "cuda":
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                run()
                end.record()
                end.synchronize()
                times.append(begin.elapsed_time(end))
            else:
                start = time.monotonic()
                run()
                times.append(1000 * (time.monotonic() - start))
        return median(times)

    def wait(self) -> None:
        """Wait until the card has done all."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def measure(self, name: str, precision: str, variant: str, run: Run) -> None:
        """Add a row; `run` returns the image."""
        with torch.inference_mode(), multiplied(PRECISIONS[precision][1]):
            memory, image = self._memory(run)
            deviation = float((image.float() - self.exact[name]).abs().max())
            del image
            ms = self.milliseconds(run)
        rate = self.flops[name] / ms / 1e9
        pixels = self.tiles * self.size**2 / ms / 1e3
        share = rate / self.rates.get(precision, float("nan"))
        row = Row(name, precision, variant, ms, pixels, rate, share, memory, deviation)
        self.rows.append(row)
        print(row, flush=True)

    def _memory(self, run: Run) -> tuple[float, Tensor]:
        """Return the peak in MiB of a second call, and what it returns."""
        run()
        if self.device.type != "cuda":
            return 0.0, run()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        image = run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20, image

    def profile(self, name: str, run: Run) -> None:
        """Keep and print the kernels that take most of the time."""
        kinds = [torch.profiler.ProfilerActivity.CPU]
        kinds += [torch.profiler.ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        with torch.inference_mode():
            run()
            self.wait()
            with torch.profiler.profile(activities=kinds) as made:
                run()
                self.wait()
        on_gpu = self.device.type == "cuda"
        spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        found = [
            (event.key[:90], event.count, getattr(event, spent) / 1000)
            for event in made.key_averages()
            if not on_gpu or event.device_type == torch._C._autograd.DeviceType.CUDA
        ]
        found.sort(key=lambda event: -event[2])
        self.profiles[name] = found[:60]
        total = sum(event[2] for event in found)
        print(f"\nprofile of {name}: {total:.2f} ms in {sum(event[1] for event in found)} kernels")
        for key, count, ms in found[:PROFILE_ROWS]:
            print(f"  {ms:8.2f} ms {ms / max(total, 1e-9):4.0%} {count:5d} x {key[:70]}")


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def multiplied(precision: str) -> Iterator[None]:
    """Multiply float32 in this precision, "high" being tf32, in convolutions too."""
    before = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = before
