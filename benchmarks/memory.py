"""Peak memory of this process."""

import resource
from pathlib import Path


def peak_mib() -> float:
    """Return the peak memory of this process.

    On Linux, `getrusage` also counts what the parent held before the fork, so /proc is read instead.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def restart_peak() -> None:
    """Reset the peak, on Linux only."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
