"""Runs the jobs of the service, one per device at a time, each as a process of the command line."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from pellucid.web.jobs import INPUTS, LOG, RESULTS, Job, Jobs

# Seconds between looks at a process, and those that it has to end once it is asked to.
LOOK_S, END_S = 0.1, 20.0
# Exit code of what was stopped by a signal.
STOPPED = 130
# Bytes at the end of a log in which the reason is looked for, and warnings that are kept.
TAIL, MAX_WARNINGS = 100_000, 20


class JobQueue:
    """Threads that take jobs and run them.

    Args:
        jobs: what there is to do.
        start: the words before a command line. The process prints its progress on standard output, a line of
            JSON with `stage`, `done` and `total` each, its errors and warnings as pellucid does, and ends
            when its standard input does.
        devices: one thread each; the command gets the name.
        hidden: folders that are left out of messages.
        environment: variables of the processes, besides those of this one.
    """

    def __init__(
        self,
        jobs: Jobs,
        start: Sequence[str],
        devices: Sequence[str],
        *,
        hidden: Sequence[Path] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.jobs, self.words, self.hidden = jobs, tuple(start), tuple(hidden)
        self.environment = {**os.environ, **environment}
        self.is_ending = threading.Event()
        self.threads = [
            threading.Thread(target=self._work, args=(device,), name=f"jobs on {device}")
            for device in devices
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Stop what runs, so that the next service goes on with it, and wait for the end."""
        self.is_ending.set()
        with self.jobs.changed:
            self.jobs.changed.notify_all()
        for thread in self.threads:
            thread.join()

    def _work(self, device: str) -> None:
        while not self.is_ending.is_set():
            job = self.jobs.take(device)
            if job is not None:
                self._run(job)
                continue
            with self.jobs.changed:
                self.jobs.changed.wait(timeout=1.0)

    def _run(self, job: Job) -> None:
        """Run one job and note how it ended, unless that is left to the next service."""
        home, start = self.jobs.home(job.id), time.monotonic()
        (home / RESULTS).mkdir(exist_ok=True)
        words = [*self.words, *job.words, f"--device={job.device}", "--quiet"]
        with ExitStack() as stack:
            log = stack.enter_context((home / LOG).open("ab"))
            from_here = log.seek(0, os.SEEK_END)  # before the process, which may end at once
            process = stack.enter_context(_started(words, home, log, self.environment))
            reader = threading.Thread(target=self._follow, args=(job, process.stdout), daemon=True)
            reader.start()
            late = self._wait(job, process, start)
            reader.join(timeout=1.0)
        self._note_end(job, process.returncode, start, late, from_here)

    def _wait(self, job: Job, process: "subprocess.Popen[str]", start: float) -> bool:
        """Wait for the end of a process, asking for it where need be; return whether it took too long."""
        limit = self.jobs.limits.job_seconds
        while process.poll() is None:
            late = time.monotonic() - start > limit
            if late or self.is_ending.is_set() or not self._is_wanted(job):
                with self.jobs.changed:
                    self.jobs.stopping.add(job.id)
                _end(process)
                return late
            time.sleep(LOOK_S)
        return False

    def _is_wanted(self, job: Job) -> bool:
        """Whether it is still this run that the job is in."""
        found = self.jobs.get(job.id)
        return found.state == "running" and found.started == job.started

    def _note_end(self, job: Job, code: int, start: float, late: bool, log_from: int) -> None:
        spent = self.jobs.get(job.id).seconds + time.monotonic() - start
        with self.jobs.changed:
            self.jobs.stopping.discard(job.id)
            ends: dict[str, Any] = {"stage": "", "share": None, "left_s": None, "seconds": round(spent, 1)}
            if self._is_wanted(job) and not (self.is_ending.is_set() and code):
                message, warnings = self._read_log(job, code, log_from)
                if late:
                    hours = f"{self.jobs.limits.job_seconds / 3600:g}"
                    message = (
                        f"it took longer than the {hours} hours that a job may take here, and was stopped"
                    )
                ends |= {"state": "failed" if code or late else "done", "ended": time.time()}
                ends |= {"message": message, "warnings": tuple(warnings)}
            self.jobs.change(job.id, **ends)

    def _follow(self, job: Job, lines: IO[str]) -> None:
        """Note the progress that a process prints, with the time left at its speed so far."""
        stage, begun = "", 0.0
        for line in lines:
            try:
                found = json.loads(line)
                name, done, total = str(found["stage"]), float(found["done"]), float(found["total"])
            except (ValueError, KeyError, TypeError):
                continue
            if name != stage:
                stage, begun, first = name, time.monotonic(), done
            share = min(1.0, done / total) if total > 0 else 0.0
            passed = time.monotonic() - begun
            left = passed * (total - done) / (done - first) if first < done < total else None
            with self.jobs.changed:
                if self._is_wanted(job):
                    self.jobs.change(
                        job.id, stage=stage, share=round(share, 4), left_s=left and round(left, 1)
                    )

    def _read_log(self, job: Job, code: int, log_from: int) -> tuple[str, list[str]]:
        """Return why a job failed, and its warnings."""
        home = self.jobs.home(job.id)
        with (home / LOG).open("rb") as log:
            log.seek(max(log_from, log.seek(0, os.SEEK_END) - TAIL))
            text = log.read().decode(errors="replace")
        inputs = (home / INPUTS / role for role in job.inputs)
        for folder in (*inputs, home / RESULTS, *self.hidden, home):
            text = text.replace(f"{folder.resolve()}{os.sep}", "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        warnings = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return _explain(code, errors, lines), warnings[-MAX_WARNINGS:]


def _explain(code: int, errors: Sequence[str], lines: Sequence[str]) -> str:
    """Return in one sentence why a process ended with a code."""
    if code == 0:
        return ""
    if errors:
        return errors[-1]
    if code == -signal.SIGKILL:
        return (
            "the system killed it, most likely for want of memory; try a smaller scene, or a smaller --tile"
        )
    if code in (STOPPED, -signal.SIGTERM):
        return "it was stopped from outside; resume it"
    last = lines[-1] if lines else f"exit code {code}"
    return f"an unexpected error, please report it: {last}"


def _started(
    words: Sequence[str], home: Path, log: IO[bytes], environment: Mapping[str, str]
) -> "subprocess.Popen[str]":
    """Return a process of its own session, so that Ctrl-C in the terminal is left to the service."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words,
        cwd=home,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=log,
        text=True,
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[str]") -> None:
    """Ask a process to end, as Ctrl-C does, and make it end if it does not."""
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
