import subprocess
from pathlib import Path
from typing import Any

import pytest
from loopback import START, wait_for

from pellucid.web import job_queue
from pellucid.web.job_queue import JobQueue
from pellucid.web.jobs import Job, Jobs, new_id
from pellucid.web.limits import Limits


def test_a_process_that_ends_before_anybody_looks_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = job_queue._started

    def ended(*given: Any) -> "subprocess.Popen[str]":
        process = started(*given)
        process.wait(20)
        return process

    monkeypatch.setattr(job_queue, "_started", ended)
    jobs = Jobs(tmp_path, Limits())
    added = jobs.add(Job(new_id(), "a", "remove-clouds", ("remove-clouds", "bad.tif", "--output=clear.tif")))
    queue = JobQueue(jobs, START, ["cpu"])
    queue.start()
    try:
        wait_for(lambda: jobs.get(added.id).state == "failed")
    finally:
        queue.stop()
    assert jobs.get(added.id).message == "bad.tif has no bands; name them"
    assert jobs.get(added.id).warnings == ("it is dark",)
