"""Jobs of the service: what each is to do and how far it is, one folder and one small JSON file for each."""

import json
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pellucid.data.files import make_folder, write_text
from pellucid.data.schema import parse
from pellucid.errors import InputError
from pellucid.web.limits import Limits, RequestError

State = Literal["waiting", "running", "done", "failed", "cancelled"]
ACTIVE: tuple[State, ...] = ("waiting", "running")
FILE, RESULTS, INPUTS, LOG = "job.json", "result", "input", "log.txt"


@dataclass(frozen=True)
class Job:
    """One call of a command.

    Attributes:
        id: also the name of its folder.
        name: for people.
        command: of pellucid.
        words: of the command line, the command first; the device is added when it starts.
        out: the main result, in the folder of results: a file, or a folder of several.
        inputs: names of the files by role, for people.
        options: those that were chosen.
        state: where it is.
        message: why it failed, in one sentence, or what to know.
        warnings: of the command.
        added, queued, started, ended: seconds since 1970; 0 if not yet.
        seconds: that it ran, all runs together.
        device: on which it runs or ran.
        stage, share, left_s: what it does, how much of that is done, seconds until it is; not kept.
    """

    id: str
    name: str
    command: str
    words: tuple[str, ...]
    out: str = ""
    inputs: dict[str, list[str]] = field(default_factory=dict)
    options: dict[str, bool | int | float | str] = field(default_factory=dict)
    state: State = "waiting"
    message: str = ""
    warnings: tuple[str, ...] = ()
    added: float = 0.0
    queued: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0
    device: str = ""
    stage: str = ""
    share: float | None = None
    left_s: float | None = None


# Fields that change often and are not written.
_LIVE: dict[str, Any] = {"stage": "", "share": None, "left_s": None}


def new_id() -> str:
    """Return a name that no other job has; later ones sort behind."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


class Jobs:
    """All jobs, in memory and on the disk; every change has a number, so that pages can follow.

    Args:
        folder: holds a folder for each job. What was at work when the last service ended, waits again.
        limits: on the numbers of jobs.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.changed = threading.Condition()
        self.number = 0
        self._jobs = dict[str, Job]()
        self._numbers = dict[str, int]()  # of the last change, also of jobs that are gone
        self.stopping = set[str]()  # jobs that are no more to run, and whose command still does
        make_folder(folder)
        with self.changed:
            for job in self._read():
                self._put(replace(job, state="waiting") if job.state == "running" else job)

    def _read(self) -> Iterator[Job]:
        """Yield the jobs on the disk, oldest first; a folder without a whole file is left alone."""
        for path in sorted(self.folder.glob(f"*/{FILE}")):
            try:
                job = parse(Job, json.loads(path.read_text(encoding="utf-8")), where=str(path))
            except (InputError, ValueError, OSError):
                continue
            if job.id == path.parent.name:
                yield job

    def _put(self, job: Job) -> None:
        """Keep a job, and wake who waits for changes; the lock is held, or nobody else is there."""
        before = self._jobs.get(job.id)
        if before is None or replace(before, **_LIVE) != replace(job, **_LIVE):
            kept = {name: value for name, value in asdict(job).items() if name not in _LIVE}
            write_text(self.home(job.id) / FILE, json.dumps(kept, indent=1))
        self._jobs[job.id] = job
        self._note(job.id)

    def _note(self, job: str) -> None:
        self.number += 1
        self._numbers[job] = self.number
        self.changed.notify_all()

    def home(self, job: str) -> Path:
        """Return the folder of a job."""
        return self.folder / job

    def all(self) -> list[Job]:
        """Return all jobs, newest first."""
        with self.changed:
            return sorted(self._jobs.values(), key=lambda job: (job.added, job.id), reverse=True)

    def get(self, job: str) -> Job:
        """Return a job."""
        with self.changed:
            if job in self._jobs:
                return self._jobs[job]
        raise RequestError(404, f"there is no job {job[:60]!r}; it may have been deleted")

    def since(self, number: int) -> tuple[int, list[Job], list[str]]:
        """Return the number of the last change, and what changed and went since another number."""
        with self.changed:
            later = [job for job, at in self._numbers.items() if at > number]
            there = [self._jobs[job] for job in later if job in self._jobs]
            return self.number, there, [job for job in later if job not in self._jobs]

    def check_room(self) -> None:
        """Refuse one more job where the queue, or the list of results, is full."""
        with self.changed:
            active = sum(job.state in ACTIVE for job in self._jobs.values())
            kept = len(self._jobs)
        if active >= self.limits.waiting:
            raise RequestError(
                429, f"{active} jobs wait or run, which is all that this service takes; try later"
            )
        if kept >= self.limits.kept:
            raise RequestError(
                429, f"{kept} jobs are kept, which is all that this service takes; delete some"
            )

    def add(self, job: Job) -> Job:
        """Put a job into the queue; its folder holds its inputs already."""
        with self.changed:
            self.check_room()
            job = replace(job, added=time.time(), queued=time.time())
            self._put(job)
            return job

    def change(self, job: str, **values: Any) -> Job:
        """Change fields of a job."""
        with self.changed:
            self._put(replace(self._jobs[job], **values))
            return self._jobs[job]

    def take(self, device: str) -> Job | None:
        """Return the job that has waited longest, which runs from now on; None if none waits."""
        with self.changed:
            waiting = [job for job in self._jobs.values() if job.state == "waiting"]
            if not waiting:
                return None
            job = min(waiting, key=lambda each: (each.queued, each.id))
            return self.change(job.id, state="running", started=time.time(), device=device, message="")

    def queue_again(self, job: str) -> Job:
        """Put a job that failed or was cancelled back into the queue; the command goes on where it can."""
        with self.changed:
            found = self.get(job)
            if found.state not in ("failed", "cancelled"):
                raise RequestError(
                    409, f"{found.name} is {found.state}; only what failed or was cancelled goes on"
                )
            self.check_room()
            return self.change(job, state="waiting", queued=time.time(), message="", ended=0.0)

    def cancel(self, job: str) -> Job:
        """Take a job out of the queue; one that runs is to be stopped by who runs it."""
        with self.changed:
            found = self.get(job)
            if found.state not in ACTIVE:
                raise RequestError(409, f"{found.name} is {found.state} already; there is nothing to cancel")
            return self.change(job, state="cancelled", ended=time.time(), **_LIVE)

    def remove(self, job: str) -> None:
        """Delete a job with its files."""
        with self.changed:
            found = self.get(job)
            if found.state in ACTIVE:
                raise RequestError(409, f"{found.name} is {found.state}; cancel it before you delete it")
            if job in self.stopping:
                raise RequestError(409, f"{found.name} is being stopped; try again in a few seconds")
            (self.home(job) / FILE).unlink(missing_ok=True)
            del self._jobs[job]
            self._note(job)
        shutil.rmtree(self.home(job), ignore_errors=True)
