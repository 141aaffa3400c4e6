"""Many scenes on a Dask cluster that runs already: one task per scene, results written by the workers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pellucid.apply.scene_list import SceneJob
from pellucid.errors import InputError, WriteError

# Seconds within which a scheduler must answer.
PATIENCE = 10.0
# Workers that may be lost at one scene before it is given up.
LOST = 3


def run_on_cluster(
    work: Callable[[SceneJob], str | None], jobs: Sequence[SceneJob], *, scheduler: str
) -> Iterator[tuple[int, str | None]]:
    """Yield the number of each job, as they end, and what `work` returned on the cluster.

    The workers must see the files under the same paths. A scene whose worker is lost goes to another one,
    which continues it; one at which several are lost is given up.

    Raises:
        InputError: if the package distributed is missing, or the scheduler does not answer.
    """
    with _connect(scheduler) as client:
        from distributed import as_completed

        futures = client.map(partial(_tell, work), jobs, pure=False, retries=LOST)
        numbers = {future.key: i for i, future in enumerate(futures)}
        for future in as_completed(futures):
            yield numbers[future.key], _result(future)


def check_scheduler(scheduler: str) -> None:
    """Refuse a scheduler that does not answer, before anything is written; see `run_on_cluster`."""
    with _connect(scheduler):
        pass


@contextmanager
def _connect(scheduler: str) -> Iterator[Any]:
    """Give a client of the cluster."""
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise InputError("--scheduler needs Dask; install it with pip install 'pellucid[dask]'") from error
    with dask.config.set({"distributed.scheduler.allowed-failures": LOST}):
        try:
            client = Client(scheduler, timeout=PATIENCE)
        except (OSError, ValueError) as error:  # TimeoutError is one
            raise InputError(
                f"the scheduler {scheduler} does not answer within {PATIENCE:.0f} s; check its address, "
                "such as tcp://host:8786, and that it runs"
            ) from error
        with client:
            yield client


def _tell(work: Callable[[Any], str | None], job: Any) -> str | None:
    """Return what the work does, or why nothing more can be written: another try would not mend it."""
    try:
        return work(job)
    except WriteError as error:
        return str(error)


def _result(future: Any) -> str | None:
    """Return what a task returned, or why it has no result."""
    if future.status == "finished":
        found: str | None = future.result()
        return found
    return f"the cluster gave it up ({future.exception()}); look at the logs of its workers"
