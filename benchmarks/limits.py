"""Commands in processes of their own that may take little memory: a kind of `benchmarks.failures`."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.jobs import JOBS, is_refusal, lists_failures
from pellucid.cli.room import needed_bytes

if TYPE_CHECKING:
    from benchmarks.failures import Bench

MIB = 1 << 20
# Limits in bytes: of half of the tries as shares of what a command needs at least, and of the others.
ABOUT, WIDE = (0.97, 1.4), (500 * MIB, 4000 * MIB)
# Seconds after which a command hangs.
LONGEST = 90.0
# Numbers of threads: one, and what the libraries take.
THREADS = ("1", None)


def memory(bench: "Bench", name: str) -> Iterator[str]:
    """Run a command that may take little memory or enough, in turn with one thread and with all."""
    expected = [_run(bench, name, None, threads)[1] for threads in THREADS]
    whole = {item for files in expected for item in files.items()}
    needed = needed_bytes(with_torch=True)
    for number in range(bench.num_tries):
        share, wide = bench.rng.uniform(*ABOUT), bench.rng.uniform(*WIDE)
        limit = int(share * needed if number % 4 < 2 else wide)
        code, found = _run(bench, name, limit, THREADS[number % 2])
        left = [item for item in found.items() if not item[0].startswith(".") and item not in whole]
        if code == 0:
            yield "done, equal" if found in expected else f"DIFFERS at {limit >> 20} MiB"
        elif is_refusal(code, bench.log) or lists_failures(code, bench.log):
            yield f"LEFT {left[0][0]} at {limit >> 20} MiB" if left else "refused"
        else:
            text = bench.log.read_text(encoding="utf-8", errors="replace")
            yield f"CODE {code} at {limit >> 20} MiB: {text.strip()[-300:]}"


def _run(bench: "Bench", name: str, limit: int | None, threads: str | None) -> tuple[int, dict[str, str]]:
    """Return exit code and files of a command that may take so many bytes; -9 is that of one that hangs."""
    folder = bench.try_folder()
    words = [sys.executable, "-m", "pellucid", *JOBS[name].arguments(bench.inputs, folder)]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    settings.pop("OMP_NUM_THREADS", None)
    settings |= {"OMP_NUM_THREADS": threads} if threads else {}
    settings["OPENBLAS_NUM_THREADS"] = "1"  # as under a limit: bits of a training depend on it

    if limit is not None:
        words = ["sh", "-c", f'ulimit -v {limit // 1024}; exec "$@"', "sh", *words]
    with bench.log.open("wb") as log:
        child = subprocess.Popen(
            words, cwd=folder, env=settings, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code = child.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
    found = JOBS[name].made(folder)
    shutil.rmtree(folder)
    return code, found
