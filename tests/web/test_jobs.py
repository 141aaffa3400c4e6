import json
from pathlib import Path

import pytest

from pellucid.web.jobs import Job, Jobs, new_id
from pellucid.web.limits import Limits, RequestError


def job(name: str) -> Job:
    return Job(new_id(), name, "remove-clouds", ("remove-clouds",))


def test_the_longest_waiting_job_is_next_and_what_ran_waits_again_after_a_restart(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, Limits())
    first, second = jobs.add(job("first")), jobs.add(job("second"))
    taken = jobs.take("cpu")
    assert taken
    assert (taken.id, taken.state, taken.device) == (first.id, "running", "cpu")
    again = Jobs(tmp_path, Limits())
    assert [each.state for each in again.all()] == ["waiting", "waiting"]
    assert [each.id for each in (again.take("cpu"), again.take("cpu")) if each] == [first.id, second.id]
    assert again.take("cpu") is None


def test_progress_is_no_reason_to_write_a_file(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, Limits())
    added = jobs.add(job("a"))
    path = tmp_path / added.id / "job.json"
    before = path.stat().st_mtime_ns
    jobs.change(added.id, stage="removing clouds", share=0.5, left_s=3.0)
    assert path.stat().st_mtime_ns == before
    assert "share" not in json.loads(path.read_text())
    jobs.change(added.id, state="done")
    assert json.loads(path.read_text())["state"] == "done"


def test_changes_are_told_once_and_what_went_too(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, Limits())
    added = jobs.add(job("a"))
    number, changed, gone = jobs.since(0)
    assert ([each.id for each in changed], gone) == ([added.id], [])
    assert jobs.since(number) == (number, [], [])
    jobs.cancel(added.id)
    jobs.remove(added.id)
    assert jobs.since(number)[1:] == ([], [added.id])
    assert not (tmp_path / added.id).exists()


def test_what_does_not_fit_the_state_is_refused(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, Limits())
    added = jobs.add(job("a"))
    with pytest.raises(RequestError, match="a is waiting; only what failed or was cancelled goes on"):
        jobs.queue_again(added.id)
    with pytest.raises(RequestError, match="a is waiting; cancel it before you delete it"):
        jobs.remove(added.id)
    jobs.cancel(added.id)
    with pytest.raises(RequestError, match="there is nothing to cancel"):
        jobs.cancel(added.id)
    jobs.stopping.add(added.id)
    with pytest.raises(RequestError, match="is being stopped"):
        jobs.remove(added.id)
    assert jobs.queue_again(added.id).state == "waiting"
