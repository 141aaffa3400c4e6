"""What was done of many scenes, noted in a file for each, so that any number of processes share the work.

`OUT/.pellucid/NAME.json` says of a scene that it is done or why it failed; `OUT/.pellucid/scenes.list` lists
all scenes; `OUT/.pellucid/NAME.sums` holds what a scene says of its ground, where scenes share that. Each is
written whole or not at all.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pellucid.apply.options import SceneOptions
from pellucid.apply.scene_list import SceneJob
from pellucid.data.files import make_folder, write_text
from pellucid.data.ownership import is_ours
from pellucid.data.raster_source import files_of
from pellucid.data.run_folder import WEIGHTS, find_run
from pellucid.data.text_file import parse_json
from pellucid.errors import InputError

FOLDER, LIST = ".pellucid", "scenes.list"
State = Literal["done", "failed", "started", "open"]


@dataclass(frozen=True)
class Record:
    """What is known of a scene; `reason` says why it failed, `left_out` which other dates cannot guide it."""

    scene: str
    state: State
    reason: str | None = None
    seconds: float = 0.0
    restored: float = 0.0  # share of its valid pixels
    left_out: tuple[str, ...] = ()


class Records:
    """The notes in a folder of results.

    Args:
        out: folder of the results.
        model: name or run folder.
        options: with which scenes are restored.
    """

    def __init__(self, out: Path, model: str, options: SceneOptions) -> None:
        self.folder = out / FOLDER
        weights = (find_run(model) / WEIGHTS).stat()
        self.how = repr((weights.st_size, weights.st_mtime_ns, options))

    def write_list(self, jobs: Sequence[SceneJob]) -> None:
        """Note which scenes there are, done or not; every part of them writes the same."""
        make_folder(self.folder)
        text = json.dumps([str(job.scene) for job in jobs], indent=0)
        path = self.folder / LIST
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)

    def is_done(self, job: SceneJob) -> bool:
        """Whether the result is there, made as it would be now from inputs that have not changed."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = parse_json(_path(self.folder, job.scene).read_text(encoding="utf-8"))
            return found["state"] == "done" and found["key"] == self._key(job) and is_ours(job.out)
        return False

    def left_out(self, job: SceneJob) -> list[str]:
        """Return the other dates that a scene was restored without, for they cannot guide it."""
        return list(_read(self.folder, str(job.scene)).left_out)

    def note(self, job: SceneJob, state: State, **about: Any) -> None:
        """Note the state of a scene."""
        content = {"scene": str(job.scene), "out": str(job.out), "state": state, "time": int(time.time())}
        key = {"key": self._key(job)} if state == "done" else {}
        write_text(_path(self.folder, job.scene), json.dumps(content | about | key))

    def _key(self, job: SceneJob) -> str:
        files = (*job.inputs, *(path for path in job.context if path.exists()))
        read = [file for path in files for file in files_of(path)]
        stamps = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in read]
        return hashlib.sha256(repr((stamps, str(job.cloud), self.how)).encode()).hexdigest()


def read_records(out: Path) -> list[Record]:
    """Return what is known of each scene whose results go to a folder, in order.

    Raises:
        InputError: if no scenes were restored there.
    """
    try:
        scenes = parse_json((out / FOLDER / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{out} holds no results of many scenes; name the folder that was given to remove-clouds -o"
        ) from error
    return [_read(out / FOLDER, scene) for scene in scenes]


def _read(folder: Path, scene: str) -> Record:
    try:
        found = parse_json(_path(folder, Path(scene)).read_text(encoding="utf-8"))
        names = ("reason", "seconds", "restored", "left_out")
        return Record(scene, found["state"], **{name: found[name] for name in names if name in found})
    except (OSError, ValueError, KeyError, TypeError):
        return Record(scene, "open")


def sums_of(out: Path, scene: Path) -> Path:
    """Return where the sums of a scene lie, whose results go to a folder."""
    return out / FOLDER / f"{scene.stem}.sums"


def _path(folder: Path, scene: Path) -> Path:
    return folder / f"{scene.stem}.json"
