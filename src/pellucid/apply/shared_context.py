"""What scenes of one day say about their ground, together: the sums of each, saved beside the results.

A scene of which next to nothing is clear is painted in the colours of its neighbours of the same day. The
cells of each other scene lie where they lie on the grid of the one that is restored.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from pellucid.apply.engine import Progress
from pellucid.apply.scene import OpenScene
from pellucid.apply.scene_list import Candidate, SceneJob
from pellucid.apply.scene_pass import collect_scene
from pellucid.apply.scene_records import sums_of
from pellucid.data.digests import check_archive, seal_archive
from pellucid.data.files import make_folder, write_atomically
from pellucid.data.sums import Sums
from pellucid.methods.scene_sums import CELL, SceneSums

# The parts of sums, as in `Sums`, and the bands of a cell.
PARTS = ("gram", "cross", "squares", "count")


@dataclass(frozen=True)
class SavedSums:
    """The sums of a scene, and where and of what they are.

    Attributes:
        sums: of its cells.
        about: what must agree with another scene's: bands and their range, CRS and size of a pixel.
        corner: where the first pixel lies, x and y.
        key: of the scene, its guides, the model and the options.
    """

    sums: SceneSums
    about: str
    corner: tuple[float, float]
    key: str

    @classmethod
    def of(cls, scene: OpenScene, sums: SceneSums) -> Self:
        """Return what an open scene has told."""
        grid, unit = scene.optical.grid, scene.method.optical
        place = (grid.crs.to_wkt() if grid.crs else None, list(grid.transform)[:2], list(grid.transform)[3:5])
        about = json.dumps((unit.bands, unit.low, unit.high, place))
        return cls(sums, about, (grid.transform.c, grid.transform.f), scene.key())

    def save(self, path: Path) -> None:
        """Write it, whole or not at all, with a digest."""
        arrays = {"at": np.array(list(self.sums.cells), np.int64).reshape(-1, 2)}
        cells = list(self.sums.cells.values())
        for name in PARTS:
            arrays[name] = _stack([getattr(sums, name) for sums, _ in cells])
        arrays["known"] = _stack([known for _, known in cells])
        arrays["means_at"] = np.array(list(self.sums.means), np.int64).reshape(-1, 2)
        arrays["means"] = _stack(list(self.sums.means.values()))
        arrays["corner"] = np.array(self.corner)
        arrays |= {name: np.array(text) for name, text in (("about", self.about), ("key", self.key))}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            seal_archive(temporary)

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Return what was saved; None where nothing is, or it is damaged."""
        with suppress(OSError, ValueError, KeyError, BadZipFile):
            check_archive(path, must_have=True)
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
            parts = [[torch.from_numpy(each) for each in found[name]] for name in (*PARTS, "known")]
            cells = [(Sums(*each[:-1]), each[-1]) for each in zip(*parts, strict=True)]
            at, means_at = (list(map(_pair, found[name].tolist())) for name in ("at", "means_at"))
            means = dict(zip(means_at, map(torch.from_numpy, found["means"]), strict=True))
            sums = SceneSums(dict(zip(at, cells, strict=True)), means)
            corner = _pair(found["corner"].tolist())
            return cls(sums, str(found["about"]), corner, str(found["key"]))
        return None

    def seen_from(self, other: "SavedSums") -> SceneSums:
        """Return the sums in the cells of another scene; none if both do not fit.

        Cells lie within half of one from where they are, which hardly matters: they count over a wider range.
        """
        step = json.loads(self.about)[-1]
        fits = self.about == other.about and _shape(self.sums) == _shape(other.sums)
        if not fits or step[1][1] or step[2][0]:  # rotated
            return SceneSums({})
        rows = round((self.corner[1] - other.corner[1]) / step[2][1] / CELL)
        columns = round((self.corner[0] - other.corner[0]) / step[1][0] / CELL)
        return SceneSums({(i + rows, j + columns): each for (i, j), each in self.sums.cells.items()})


def _pair(values: Sequence[Any]) -> tuple[Any, Any]:
    first, second = values
    return first, second


def _stack(values: Sequence[Tensor]) -> np.ndarray[Any, Any]:
    return torch.stack(list(values)).cpu().numpy() if values else np.zeros(0, np.float32)


def _shape(sums: SceneSums) -> tuple[int, ...] | None:
    """Return the shape of the sums of a cell: other guides give other numbers of features."""
    return next((tuple(each.gram.shape) for each, _ in sums.cells.values()), None)


def share_context(jobs: Sequence[SceneJob], out: Path) -> list[SceneJob]:
    """Return the scenes, each with the files of the sums of all of its day and CRS, its own first.

    The day is that in the name; a scene without one shares nothing.
    """
    groups = defaultdict[object, list[SceneJob]](list)
    found = [Candidate(job.scene) for job in jobs]
    keys = [(each.day, each.crs) if each.day and each.crs else each for each in found]
    for key, job in zip(keys, jobs, strict=True):
        if not job.problem:
            groups[key].append(job)
    sums = {job.scene: sums_of(out, job.scene) for job in jobs}
    return [
        replace(job, context=(sums[job.scene], *(sums[o.scene] for o in groups[key] if o is not job)))
        for key, job in zip(keys, jobs, strict=True)
    ]


def save_context(scene: OpenScene, path: Path, progress: Progress | None = None) -> SavedSums:
    """Return the sums of an open scene, which are at `path` afterwards: collected, unless they are there."""
    found = SavedSums.load(path)
    if found is None or found.key != scene.key():
        found = SavedSums.of(scene, collect_scene(scene, progress))
        make_folder(path.parent)
        found.save(path)
    return found


def find_context(scene: OpenScene, paths: Sequence[Path], progress: Progress | None = None) -> SceneSums:
    """Return the sums of a scene, whose file is the first, and those of the others that are there."""
    own = save_context(scene, paths[0], progress)
    total, used = own.sums, dict[Path, str]()
    for path in paths[1:]:
        other = SavedSums.load(path)
        if other and (cells := other.seen_from(own)).cells:
            total, used[path] = total + cells, other.key
    scene.share(used)
    return total
