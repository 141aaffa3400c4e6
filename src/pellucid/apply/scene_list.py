"""Which scenes are restored, and which radar and other dates belong to each: by name, or place and day."""

import glob
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from rasterio.warp import transform_bounds

from pellucid.apply.inputs import SCENES, find_scenes, is_layer_tag
from pellucid.apply.scene_clouds import map_file
from pellucid.data.gdal_open import GDAL_ERRORS, open_raster, why_unreadable
from pellucid.data.raster_source import find_source
from pellucid.data.text_file import read_rows
from pellucid.errors import InputError

# Share of a scene that a guide must cover, and how many other dates guide it where places decide.
COVERED, MOST_DATES = 0.5, 3
# Words in names that say which sensor took an image, not of what place.
_WORDS = "s[12][abc]?|sar|radar|optical|msi|grd|rtc|vv|vh|l[12][ac]"
SENSORS = re.compile(rf"(?i)(?<![a-z0-9])({_WORDS})(?![a-z0-9])")
Bounds = tuple[float, float, float, float]
COLUMNS = ("scene", "sar", "reference", "cloud")


@dataclass(frozen=True)
class SceneJob:
    """A scene with its guides, and where its result goes.

    `problem` says why it cannot be restored; `context` names the files of the sums that guide it, its own
    first, where scenes share them.
    """

    scene: Path
    out: Path
    sar: Path | None = None
    references: tuple[Path, ...] = ()
    cloud: Path | None = None
    problem: str | None = None
    context: tuple[Path, ...] = ()

    @property
    def guides(self) -> dict[str, Any]:
        """Radar, other dates and cloud map, as arguments of `check_scene`."""
        return {"sar": self.sar, "references": self.references, "cloud": self.cloud}

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that are read."""
        files = (self.scene, self.sar, map_file(self.cloud), *self.references)
        return tuple(path for path in files if path)


@dataclass(frozen=True)
class _Glance:
    """What a file says of itself."""

    bounds: Bounds | None = None
    crs: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None


class Candidate:
    """A file that may belong to a scene."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def words(self) -> str:
        """Return the name without what says which sensor it is of."""
        return re.sub(r"[^a-z0-9]+", " ", SENSORS.sub(" ", self.path.stem).lower()).strip()

    @cached_property
    def day(self) -> date | None:
        """Return the day in the name, YYYYMMDD or YYYY-MM-DD."""
        for found in re.finditer(r"(?<!\d)((?:19|20)\d\d)-?(\d\d)-?(\d\d)(?!\d)", self.path.stem):
            try:
                return date(*map(int, found.groups()))
            except ValueError:
                continue
        return None

    @property
    def bounds(self) -> Bounds | None:
        """West, south, east and north in degrees; None if they are not known."""
        return self._seen.bounds

    @property
    def crs(self) -> str:
        """The coordinate system as text; "" if it is not known."""
        return self._seen.crs

    @property
    def fault(self) -> str | None:
        """Why it cannot be opened, as a sentence."""
        return self._seen.fault

    @property
    def is_layer(self) -> bool:
        """Whether it is what pellucid wrote beside a scene; see `is_layer_tag`."""
        return is_layer_tag(self._seen.tags)

    @cached_property
    def _seen(self) -> "_Glance":
        """Return what it says of itself; it is opened once, however many scenes it may belong to."""
        try:
            with open_raster(find_source(self.path, "scene")) as file:
                bounds = transform_bounds(file.crs, "EPSG:4326", *file.bounds) if file.crs else None
                return _Glance(bounds, file.crs.to_wkt() if file.crs else "", file.tags())
        except InputError as error:
            return _Glance(fault=str(error))
        except GDAL_ERRORS as error:
            return _Glance(fault=f"{self.path} {why_unreadable(self.path, error)}")

    def covers(self, other: "Candidate") -> float:
        """Return which share of the other one lies in this one."""
        if not self.bounds or not other.bounds:
            return 0.0
        west, south, east, north = zip(self.bounds, other.bounds, strict=True)
        shared = max(0.0, min(east) - max(west)) * max(0.0, min(north) - max(south))
        return shared / max((east[1] - west[1]) * (north[1] - south[1]), 1e-12)

    def days_from(self, other: "Candidate") -> int:
        """Return how many days lie between both; very many if one has no day in its name."""
        return abs((self.day - other.day).days) if self.day and other.day else 10**6


def is_many(scene: Path) -> bool:
    """Whether a path means many scenes: a pattern, or a list in CSV."""
    if scene.exists():
        return scene.suffix.lower() == ".csv"
    return scene.suffix.lower() == ".csv" or glob.has_magic(str(scene))


def list_scenes(
    scenes: Path, out: Path, *, sar_dir: Path | None = None, reference_dir: Path | None = None
) -> list[SceneJob]:
    """Return what is to be restored, sorted by name; the results go to `out`, named like their scenes.

    Args:
        scenes: a pattern such as `scenes/*.tif`, or a list with the columns scene, sar, reference (several
            parted by |) and cloud, whose paths are relative to the list.
        out: folder of the results.
        sar_dir: folder of radar scenes; each scene must have one.
        reference_dir: folder of other dates; a scene may have none.

    Raises:
        InputError: if there are no scenes, a folder is missing, or two scenes have the same name.
    """
    if scenes.suffix.lower() == ".csv":
        if sar_dir or reference_dir:
            raise InputError(f"{scenes} lists radar and references; leave out --sar-dir and --reference-dir")
        jobs = _read_list(scenes, out)
    else:
        guides = [_find_guides(folder) if folder else None for folder in (sar_dir, reference_dir)]
        jobs = [_pair(scene, out, *guides) for scene in _expand(scenes, out)]
    names: dict[str, Path] = {}
    for job in jobs:
        other = names.setdefault(job.out.name.lower(), job.scene)
        if other is not job.scene:
            raise InputError(f"{other} and {job.scene} would both become {job.out}; rename one")
    return jobs


def choose_part(jobs: Sequence[SceneJob], part: str | None) -> list[SceneJob]:
    """Return the jobs of a part, "3/20" for instance: every twentieth, from the third on."""
    if part is None:
        return list(jobs)
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--part is {part!r}, must be one of so many parts, such as 3/20")
    return list(jobs[int(found[1]) - 1 :: int(found[2])])


def _find_guides(folder: Path) -> list[Candidate]:
    """Return the rasters and products in a folder that are no layers of results."""
    found = list[Candidate]()

    def is_guide(path: Path) -> bool:
        candidate = Candidate(path)
        found.extend([] if candidate.is_layer else [candidate])
        return not candidate.is_layer

    find_scenes(folder, "**/*", keeps=is_guide)
    return found


def _expand(pattern: Path, out: Path) -> list[Candidate]:
    """Return the files that fit a pattern, without results in `out`, hidden ones and layers of results."""
    found = [Path(each) for each in glob.iglob(str(pattern), recursive=True)]  # noqa: PTH207  # absolute too
    found = [path for path in found if path.suffix.lower() in (*SCENES, ".safe", ".zip")]
    apart = [Candidate(path) for path in found if out.resolve() not in path.resolve().parents]
    scenes = [each for each in apart if not each.is_layer]
    if not scenes:
        way = f" but in {out}, where the results go; name another -o" if found else "; check name or pattern"
        raise InputError(f"no scene ({', '.join(SCENES)}) fits {str(pattern)!r}{way}")
    return sorted(scenes, key=lambda scene: scene.path)


def _pair(
    scene: Candidate, out: Path, radar: list[Candidate] | None, others: list[Candidate] | None
) -> SceneJob:
    """Return a scene with its guides."""
    result = out / f"{scene.path.stem}.tif"
    dates = _references(scene, others or [])
    if radar is None:
        return SceneJob(scene.path, result, references=dates)
    try:
        return SceneJob(scene.path, result, _radar(scene, radar), dates)
    except InputError as error:
        return SceneJob(scene.path, result, references=dates, problem=str(error))


def _radar(scene: Candidate, radar: Sequence[Candidate]) -> Path:
    """Return the radar scene of a scene: of the same name, or else of the same place and the nearest day."""
    named = _of_same_name(scene, radar, lambda a, b: a == b)
    if len(named) == 1:
        return named[0].path
    near = sorted(
        (each for each in named or radar if each.covers(scene) >= COVERED),
        key=lambda each: (each.days_from(scene), -each.covers(scene)),
    )
    if not near:
        if scene.fault:
            raise InputError(scene.fault)
        by = "by name or by place" if scene.bounds else "by name, and without a CRS its place is not known"
        raise InputError(f"no radar scene belongs to {scene.path}, {by}; name one so, or list them in CSV")
    if len(near) > 1 and near[0].days_from(scene) == near[1].days_from(scene):
        raise InputError(
            f"{near[0].path} and {near[1].path} may both belong to {scene.path}; put days into "
            "their names (YYYYMMDD), or list them in CSV"
        )
    return near[0].path


def _references(scene: Candidate, others: Sequence[Candidate]) -> tuple[Path, ...]:
    """Return the other dates of a scene: whose names begin like its own, or else those nearest in time."""
    others = [each for each in others if each.path.resolve() != scene.path.resolve()]
    named = _of_same_name(scene, others, lambda a, b: a == b or a.startswith(b + " "))
    if not named:
        near = [each for each in others if each.covers(scene) >= COVERED]
        named = sorted(near, key=lambda each: each.days_from(scene))[:MOST_DATES]
    return tuple(each.path for each in named)


def _of_same_name(
    scene: Candidate, candidates: Sequence[Candidate], fits: Callable[[str, str], bool]
) -> list[Candidate]:
    name = scene.path.stem.lower()
    return [
        each
        for each in candidates
        if each.path.stem.lower() == name or (scene.words and fits(each.words, scene.words))
    ]


def _read_list(path: Path, out: Path) -> list[SceneJob]:
    """Return the scenes of a list."""
    rows = read_rows(path, "list of scenes")
    header = [cell.lower() for cell in rows[0][1]] if rows else []
    if "scene" not in header or not set(header) <= set(COLUMNS):
        raise InputError(
            f"the list {path} has the columns {', '.join(header) or 'none'}; needed is scene, and there "
            f"may be {', '.join(COLUMNS[1:])}"
        )
    jobs = []
    for line, cells in rows[1:]:
        if len(cells) > len(header):
            raise InputError(f"{path}, line {line}: {len(cells)} cells, but {len(header)} columns")
        row = dict(zip(header, cells, strict=False))
        if not row.get("scene"):
            raise InputError(f"{path}, line {line}: names no scene")
        scene = path.parent / row["scene"]
        sar, cloud = (path.parent / row[name] if row.get(name) else None for name in ("sar", "cloud"))
        named = (each.strip() for each in row.get("reference", "").split("|"))
        dates = tuple(path.parent / each for each in named if each)
        jobs.append(SceneJob(scene, out / f"{scene.stem}.tif", sar, dates, cloud))
    if not jobs:
        raise InputError(f"the list {path} names no scene; add a line for each")
    return jobs
