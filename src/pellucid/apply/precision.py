"""How a network is run on this machine: in which precision, measured once and remembered; compiled or not."""

import hashlib
import json
import math
import os
import platform
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pellucid.apply.golden_tile import tiles_for
from pellucid.data.batch import Batch
from pellucid.data.files import write_text
from pellucid.data.schema import AnyPrecision, Precision
from pellucid.errors import InputError
from pellucid.methods.inference import digest_method
from pellucid.methods.method import Method

# bf16 may cost so much of a result that is at so many dB, and must be so many times as fast.
MOST_LOSS_DB, AT_DB, LEAST_GAIN = 0.05, 35.0, 1.3
# Results are alike in speed where a tile takes less than this anyway, in seconds.
SHORT = 0.02
# How often a tile is restored after a first time that does not count, unless all take so many seconds.
REPEATS, ENOUGH = 3, 2.0


@dataclass(frozen=True)
class Trial:
    """What a tile took in fp32 and bf16, in seconds, and what bf16 costs of a result at `AT_DB`, in dB."""

    fp32_s: float
    bf16_s: float
    loss_db: float

    @property
    def precision(self) -> Precision:
        """The fastest precision that is good enough."""
        wins = self.fp32_s > max(SHORT, LEAST_GAIN * self.bf16_s)
        return "bf16" if wins and self.loss_db <= MOST_LOSS_DB else "fp32"


def choose_precision(name: AnyPrecision, method: Method, device: torch.device) -> Precision:
    """Return the precision of this name.

    "auto" is fp32 where the device has no arithmetic for bf16; else bf16 for methods that are known to be as
    good in it, and for models that were loaded whatever a trial shows.
    """
    if name != "auto":
        return name
    if not _multiplies_bf16(device):
        return "fp32"
    if method.prefers_bf16:
        return "bf16"
    return _remembered(method, device).precision if method.origin and tiles_for(method) else "fp32"


def try_out(method: Method, device: torch.device) -> Trial:
    """Return what a small made-up tile takes in fp32 and bf16, and how far the results are apart."""
    method.network.to(device).eval()
    batch = tiles_for(method)[0].to(device)
    exact, fp32_s = _measure(method, batch, half=False)
    close, bf16_s = _measure(method, batch, half=True)
    error = float((close - exact).square().mean())
    loss = 10 * math.log10(1 + error / 10 ** (-AT_DB / 10)) if math.isfinite(error) else math.inf
    return Trial(fp32_s, bf16_s, loss)


def compile_network(method: Method, device: torch.device) -> None:
    """Let the method's network be compiled when it is first called, or its parts where they are called alone.

    Raises:
        InputError: if there is no C++ compiler, which a CPU needs.
    """
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise InputError("--compile needs a C++ compiler on a CPU, install g++ or leave it out")
    is_whole = type(method).collect is Method.collect
    for part in (method.network,) if is_whole else method.network.children():
        part.compile()


def cache_path() -> Path:
    """Return the file in which trials are kept, which may be deleted at any time."""
    if own := os.environ.get("PELLUCID_CACHE"):
        return Path(own) / "precision.json"
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "pellucid" / "precision.json"


def _measure(method: Method, batch: Batch, *, half: bool) -> tuple[torch.Tensor, float]:
    """Return the restored image and the seconds that it took, the least of `REPEATS`.

    On a CPU these are seconds of its cores, so that other work on the machine does not decide.
    """
    device = batch.valid.device
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times: list[float] = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        while len(times) < 2 or (len(times) <= REPEATS and sum(times) < ENOUGH):
            start = clock()
            image = method.restore(batch).float().cpu()  # waits for a GPU
            times.append(clock() - start)
    return image, min(times[1:])


def _remembered(method: Method, device: torch.device) -> Trial:
    """Return the trial of this model on this machine, tried out if it has not been."""
    where = f"{platform.processor()} {_capabilities(device)} {torch.get_num_threads()}"
    values = (torch.__version__, where, method.sampling, digest_method(method))
    key = hashlib.sha256(repr(values).encode()).hexdigest()
    path = cache_path()
    if found := _read(path).get(key):
        return found
    trial, kept = try_out(method, device), _read(path)
    if key in kept:  # another process was faster; all of a run should agree
        return kept[key]
    with suppress(OSError, InputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({name: asdict(each) for name, each in {**kept, key: trial}.items()}, indent=1)
        write_text(path, text + "\n")
    return trial


def _read(path: Path) -> dict[str, Trial]:
    """Return the trials that are kept; none if the file is broken or out of reach."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        return {name: Trial(**each) for name, each in json.loads(path.read_text(encoding="utf-8")).items()}
    return {}


def _multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions that multiply bf16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def _capabilities(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return " ".join(sorted(name for name, has in torch.cpu.get_capabilities().items() if has is True))
