"""How memory is taken from the system and given back."""

import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# Of malloc.h of the GNU C library: options of mallopt.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
# Bytes asked of the system beyond what is needed, and free ones that are kept.
SPARE, KEPT = 1 << 27, (1 << 31) - 1
# Bytes by which what is held may grow before freed memory is given back. Two tiles at once use 0.4 GB: what
# is given back after each of them is asked for again, and every page of it filled with 0.
GROWTH = 5 << 27
# Control groups of both versions: their files of a limit and of what is taken, and what of it are read files.
CGROUPS = Path("/sys/fs/cgroup")
NEW_NAMES = ("memory.max", "memory.current", "inactive_file")
OLD_NAMES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def keep_freed_memory() -> None:
    """Let freed memory be used again; without this, each large tensor is new memory that is filled with 0.

    It saves a sixth of the time of a scene on a CPU. Where the C library is another, nothing happens. Where
    the address space is limited, none of it is kept, and threads share what there is.
    """
    if mallopt := _c_function("mallopt"):
        kept = ((MMAP_MAX, 0), (TRIM_THRESHOLD, KEPT), (TOP_PAD, SPARE))
        for option, value in ((ARENA_MAX, 1), *(kept if math.isinf(limit_bytes()) else ())):
            mallopt(option, value)


def return_freed_memory() -> None:
    """Give freed memory back to the system: what lies between blocks in use, of whatever sizes, adds up."""
    if trim := _c_function("malloc_trim"):
        trim(ctypes.c_size_t(0))


class Tidying:
    """Gives freed memory back to the system when much more is held than after the last time."""

    def __init__(self) -> None:
        self.most = 0.0

    def __call__(self) -> None:
        """Give freed memory back if it is worth it; to be called now and then."""
        if resident_bytes() > self.most:
            return_freed_memory()
            self.most = resident_bytes() + min(GROWTH, available_bytes() / 4)


def resident_bytes() -> float:
    """Return how much memory this process holds, in bytes; without limit where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        return float(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return math.inf


def limit_bytes() -> float:
    """Return how much address space this process may take, as `ulimit -v` says, in bytes."""
    try:
        import resource  # which Windows lacks
    except ImportError:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else float(soft)


def make_way() -> str:
    """Return how a user makes memory free for this process, for a sentence."""
    return "close other programs" if math.isinf(limit_bytes()) else "raise its limit of memory (ulimit -v)"


def available_bytes() -> float:
    """Return how much memory programs may still take on this machine, in bytes; without limit if unknown.

    A limit of the process, of the container or of the batch job counts too.
    """
    found = [limit_bytes()]
    with suppress(OSError, ValueError, IndexError):
        found[0] -= float(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found += [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return max(0.0, min(*found, *_free_in_groups()))


def _free_in_groups(groups: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> Iterator[float]:
    """Yield what each limit of the process's control groups leaves, in bytes; see man 7 cgroups.

    What is kept of files that were read counts as free: the system gives it up first.
    """
    lines = list[str]()
    with suppress(OSError):
        lines = groups.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        is_new = controllers == ""
        if not is_new and "memory" not in controllers.split(","):
            continue
        top = root if is_new else root / "memory"
        limit, usage, kept = NEW_NAMES if is_new else OLD_NAMES
        inner = Path(path.lstrip("/"))
        for folder in (top / inner, *(top / each for each in inner.parents)):
            with suppress(OSError, ValueError):
                most, used = (float((folder / name).read_text()) for name in (limit, usage))
                stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
                yield most - used + float(stat.get(kept, 0))


def _c_function(name: str) -> Any:
    """Return a function of the C library; None where there is none of this name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):
        return None
