import os
import signal

import pytest

from pellucid.apply.workers import DIED, run_jobs


def judge(job: int) -> str | None:
    """Die at 3, fail at odd numbers, do the others."""
    if job == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{job} is odd" if job % 2 else None


@pytest.mark.parametrize("workers", [1, 2])
def test_only_the_job_at_which_a_process_dies_is_given_up(workers: int) -> None:
    found = dict(run_jobs(judge, [2, 3, 4, 5], workers=workers))
    assert found == {0: None, 1: DIED, 2: None, 3: "5 is odd"}


def test_no_jobs_need_no_process() -> None:
    assert list(run_jobs(judge, [], workers=3)) == []
