"""A first look at how much memory this process may take, before the libraries that need it are loaded."""

import importlib.util
import math
import os
from pathlib import Path

from pellucid.apply.memory import limit_bytes
from pellucid.errors import InputError

MIB = 1 << 20
# Address space that a small scene takes with one thread, beside the libraries of PyTorch, which are some 450
# MiB without CUDA; what a thread more takes; and what commands take that load no PyTorch.
BESIDE_TORCH, PER_THREAD, WITHOUT_TORCH = 704 * MIB, 64 * MIB, 320 * MIB
# Threads of PyTorch; and of NumPy and SciPy, which reserve 40 MiB for each and need one.
THREADS, OTHER_THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"


def make_room(*, with_torch: bool) -> None:
    """Refuse a limit of memory (`ulimit -v`) below what a command needs; set fewer threads where it is short.

    With less, libraries may end the process by a signal, or wait for threads that were never started.
    """
    limit = limit_bytes()
    if math.isinf(limit):
        return
    needed = needed_bytes(with_torch=with_torch)
    if limit < needed:
        raise InputError(
            f"this process may take {limit / MIB:.0f} MiB of memory and needs {needed / MIB:.0f}, more for "
            f"large inputs; raise the limit (ulimit -v {2 * needed // 1024}), or that of the batch job"
        )
    os.environ.setdefault(OTHER_THREADS, "1")
    fit = 1 + int((limit - needed) // PER_THREAD)
    if fit < (os.cpu_count() or 1):
        os.environ.setdefault(THREADS, str(fit))


def needed_bytes(*, with_torch: bool) -> int:
    """Return what a command needs at least, by the size of PyTorch's libraries and of NVIDIA's with them."""
    found = importlib.util.find_spec("torch") if with_torch else None  # which loads nothing
    if found is None or found.origin is None:
        return WITHOUT_TORCH
    package = Path(found.origin).parent
    libraries = {*package.glob("lib/*.so*"), *package.parent.glob("nvidia/*/lib/*.so*")}
    return BESIDE_TORCH + sum(path.stat().st_size for path in libraries)
