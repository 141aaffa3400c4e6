"""The same work on many files, in one process or several; a process that dies does not stop the rest.

The processes end with that which started them, even if it is killed.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process, resource_tracker
from typing import TypeVar

DIED = "its process died, perhaps for lack of memory; try fewer --workers"

Job = TypeVar("Job")


def run_jobs(
    work: Callable[[Job], str | None], jobs: Sequence[Job], *, workers: int
) -> Iterator[tuple[int, str | None]]:
    """Yield the number of each job, in the order in which they end, and what `work` returned.

    If a process dies, the jobs that it took along are done again, one at a time, and only that at which
    a process dies once more is given up, with the reason `DIED`. `work` is a function of a module, for it is
    sent to other processes; it returns None, or why it failed.
    """
    left = dict(enumerate(jobs))
    while left:
        for number, reason in _run_until_broken(work, left, min(workers, len(left))):
            del left[number]
            yield number, reason
        if left and workers == 1:
            number = next(iter(left))  # one process takes them in order, so it died at the first
            del left[number]
            yield number, DIED
        workers = 1


def _run_until_broken(
    work: Callable[[Job], str | None], jobs: dict[int, Job], workers: int
) -> Iterator[tuple[int, str | None]]:
    """Yield what ends, and stop where a process dies."""
    others = set(active_children())
    # Not fork: the threads of torch and OpenMP do not survive it.
    context = get_context("spawn")
    _start_tracker()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            numbers = {pool.submit(work, job): number for number, job in jobs.items()}
            for future in as_completed(numbers):
                yield numbers[future], future.result()
        except BrokenProcessPool:
            return
        except KeyboardInterrupt:
            for process in set(active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _start_tracker() -> None:
    """Start the process that cleans up after killed ones, without its warning: what it cleans is expected."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _end_with_parent() -> None:
    """End this process as soon as that which started it has ended."""
    parent = parent_process()

    def watch() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
