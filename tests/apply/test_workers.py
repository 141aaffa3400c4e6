import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def wait(note: Path) -> None:
    note.write_text(str(os.getpid()))
    time.sleep(120)


def work(folder: Path) -> None:
    list(run_jobs(wait, [folder / "0", folder / "1"], workers=2))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and is only still listed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent = multiprocessing.get_context("fork").Process(target=work, args=(tmp_path,))
    parent.start()
    notes = [tmp_path / "0", tmp_path / "1"]
    deadline = time.monotonic() + 100
    while not all(note.exists() and note.read_text() for note in notes) and time.monotonic() < deadline:
        time.sleep(0.1)
    pids = [int(note.read_text()) for note in notes]
    os.kill(parent.pid or 0, number)
    parent.join(30)
    while any(map(is_alive, pids)) and time.monotonic() < deadline + 30:
        time.sleep(0.1)
    assert not any(map(is_alive, pids))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_nothing_is_said_of_what_a_killed_call_leaves_to_the_system(tmp_path: Path) -> None:
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; "
    start += f"from test_workers import work; work(Path({str(tmp_path)!r}))"
    parent = subprocess.Popen([sys.executable, "-c", start], stderr=subprocess.PIPE, text=True)
    notes = [tmp_path / "0", tmp_path / "1"]
    deadline = time.monotonic() + 100
    while not all(note.exists() and note.read_text() for note in notes) and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.kill()
    assert parent.communicate(timeout=60)[1] == ""
