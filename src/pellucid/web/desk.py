"""What the service works with: jobs, uploads, commands; and how a request becomes a job."""

import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pellucid.data.files import make_folder
from pellucid.data.schema import Strict
from pellucid.errors import InputError, nearest
from pellucid.web.given_files import check_given, check_grey, find_given
from pellucid.web.jobs import INPUTS, RESULTS, Job, Jobs, new_id
from pellucid.web.limits import MAX_FILES, MAX_TEXT, Limits, RequestError
from pellucid.web.results import find_page, list_files
from pellucid.web.tasks import Task, Value, write_words
from pellucid.web.uploads import Uploads


class GivenFile(Strict):
    """A file of a job: an upload, a path below the shared folder, or a file of an earlier job."""

    upload: str = Field("", max_length=40)
    path: str = Field(
        "", max_length=2000, description="below the shared folder, or as the earlier job lists it"
    )
    job: str = Field("", max_length=60, description="an earlier job that was given the file as the same role")


class NewJob(Strict):
    """What a job is to do."""

    command: str
    files: dict[str, Annotated[list[GivenFile], Field(max_length=MAX_FILES)]] = Field(
        description="by role, as /api/offer lists them"
    )
    options: dict[str, Value | None] = Field({}, description="by name, as /api/offer lists them")
    name: str = Field("", max_length=MAX_TEXT, description="for people; else that of the first file")


@dataclass(frozen=True)
class Desk:
    """What the service works with.

    Attributes:
        jobs: all of them.
        uploads: files that wait for a job.
        tasks: commands that are offered, by name.
        limits: of the service.
        shared: the folder of which files may be named, resolved; None: none.
        devices: on which jobs run.
        closing: set when the service ends.
    """

    jobs: Jobs
    uploads: Uploads
    tasks: Mapping[str, Task]
    limits: Limits
    shared: Path | None
    devices: Sequence[str]
    closing: threading.Event = field(default_factory=threading.Event)

    def submit(self, wanted: NewJob) -> Job:
        """Check a new job, give it its files, and put it into the queue.

        Nothing is left of one that is refused, and its uploads can be named again.
        """
        self.jobs.check_room()
        if (task := self.tasks.get(wanted.command)) is None:
            raise InputError(
                f"there is no command {wanted.command!r} here{nearest(wanted.command, [*self.tasks])}"
            )
        job, files = new_id(), {role: files for role, files in wanted.files.items() if files}
        home = self.jobs.home(job)
        self._check(task, files)
        names = {role: [self._name(file) for file in given] for role, given in files.items()}
        places = {role: home / INPUTS / role for role in files}
        trial = {role: [self._find(file, role, places[role]) for file in files[role]] for role in files}
        words = write_words(task, trial, wanted.options, home / RESULTS)
        self._check_grey(task, files)
        try:
            home.mkdir()
            for role, given in files.items():
                for file in given:
                    self._give(file, role, places[role])
            return self.jobs.add(
                Job(
                    id=job,
                    name=" ".join(wanted.name.split()) or next(iter(names.values()))[0],
                    command=wanted.command,
                    words=tuple(words),
                    out=next(Path(word).name for word in words if word.startswith("--output=")),
                    inputs=names,
                    options={
                        name: value
                        for name, value in wanted.options.items()
                        if value not in (None, "", False)
                    },
                )
            )
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise

    def _check(self, task: Task, files: Mapping[str, Sequence[GivenFile]]) -> None:
        """Refuse files that are named in no way or in two, or that would lie on top of each other."""
        everything = [file for given in files.values() for file in given]
        if any(bool(file.path) == bool(file.upload) for file in everything):
            raise InputError("a file is either an upload or a path below the shared folder; give one of them")
        keys = [file.upload for file in everything if file.upload]
        if len(keys) > len(set(keys)):
            raise InputError("one upload is given twice; send the file again, or leave one out")
        arguments = [role.name for role in task.roles if not role.flag]
        for role, given in files.items():
            names = [self._name(file).lower() for file in given if file.upload or file.job]
            if len(names) > len(set(names)):
                raise InputError(f"two files of {role} have the same name; rename one")
            if role in arguments and len(given) > 1 and any(file.path and not file.job for file in given):
                raise InputError(
                    f"several files of {role} in the shared folder: name the folder that holds them"
                )

    def _name(self, file: GivenFile) -> str:
        return file.path or self.uploads.name(file.upload)

    def _check_grey(self, task: Task, files: Mapping[str, Sequence[GivenFile]]) -> None:
        """Refuse pictures in colour where grey ones are needed, before a job waits for its turn."""
        for role in task.roles:
            for file in files.get(role.name, ()):
                path = self.uploads.path(file.upload) if file.upload else self._find(file, role.name, Path())
                if path.suffix.lower() in role.grey:
                    check_grey(path)

    def _find(self, file: GivenFile, role: str, place: Path) -> Path:
        """Return where a file lies or, where the job gets its own, will lie."""
        if file.upload:
            return place / self.uploads.name(file.upload)
        if file.job and (earlier := self._earlier(file, role)):
            return place / earlier.name
        path = find_given(self.shared, file.path)
        if self.shared is not None:
            check_given(self.shared, path)
        return path

    def _earlier(self, file: GivenFile, role: str) -> Path | None:
        """Return a file that was sent for an earlier job; None if it lies in the shared folder."""
        job = self.jobs.get(file.job)
        if file.path not in job.inputs.get(role, ()):
            raise RequestError(
                404, f"{job.name} has no file {file.path[:200]!r} as {role}; send the file again"
            )
        return list_files(self.jobs.home(job.id), INPUTS).get(f"{role}/{file.path}")

    def _give(self, file: GivenFile, role: str, place: Path) -> None:
        """Put a file that was sent into the folder of a job."""
        if file.upload:
            self.uploads.take(file.upload, place)
        elif file.job and (earlier := self._earlier(file, role)):
            make_folder(place)
            try:
                (place / earlier.name).hardlink_to(earlier)
            except OSError:  # this file system has no links
                shutil.copyfile(earlier, place / earlier.name)

    def describe(self, job: Job) -> dict[str, Any]:
        """Return what pages and scripts learn of a job."""
        files = list_files(self.jobs.home(job.id)) if job.state == "done" else {}
        found = {name: value for name, value in asdict(job).items() if name != "words"}
        sizes = [{"name": name, "bytes": path.stat().st_size} for name, path in files.items()]
        return found | {"files": sizes, "page": find_page(files)}
