"""Which cloud maps are made of which scenes, and how; names that collide are refused."""

from dataclasses import dataclass
from pathlib import Path

from pellucid.apply.cloud_scorers import MODEL_BANDS, ScorerName
from pellucid.data.ranges import SENTINEL2
from pellucid.data.raster import Offset
from pellucid.errors import InputError

READABLE = (".tif", ".tiff", ".vrt")


@dataclass(frozen=True)
class CloudOptions:
    """How clouds are told.

    Attributes:
        scorer: s2cloudless, or the score that is built in, which also finds haze and cloud shadows.
        threshold: mean probability above which a pixel of the mask is cloud.
        average_over: radius in pixels of the disk over which the mask averages; 0 for none.
        dilation_size: radius in pixels by which clouds of the mask grow; 0 for none.
        all_bands: scenes have the 13 bands of Level 1C; else the 10 that s2cloudless uses suffice.
        offset: DN to add before use; "auto" asks the metadata, then the values; "none" is 0.
        pattern: which files of the folder are scenes, as in `Path.glob`.
        workers: processes that share the scenes.
        force: make maps anew that are there.
        preview: draw a sheet of the scenes and their maps.
    """

    scorer: ScorerName = "s2cloudless"
    threshold: float = 0.4
    average_over: int = 4
    dilation_size: int = 2
    all_bands: bool = True
    offset: Offset = "auto"
    pattern: str = "**/*"
    workers: int = 1
    force: bool = False
    preview: bool = True

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that scenes have, or in whose order they stand."""
        return SENTINEL2.bands if self.all_bands else MODEL_BANDS


@dataclass(frozen=True)
class Job:
    """What is to be made of one scene."""

    source: Path
    out: Path
    mask: Path | None
    options: CloudOptions

    @property
    def needs_map(self) -> bool:
        """Whether the map is to be made."""
        return self.options.force or not self.out.exists()

    @property
    def needs_mask(self) -> bool:
        """Whether the mask is to be made; from the map, so that this alone is quick."""
        return self.mask is not None and (self.needs_map or not self.mask.exists())


def list_jobs(scenes: Path, out: Path, masks: Path | None, options: CloudOptions) -> list[Job]:
    """Return what is to be made of each scene, done or not, sorted by name.

    Args:
        scenes: folder of scenes, or one scene.
        out: folder of the maps.
        masks: folder of the masks, if any.
        options: see `CloudOptions`.

    Raises:
        InputError: if there is no scene, two would have the same map, or a result would replace a scene.
    """
    if masks and masks.resolve() == out.resolve():
        raise InputError(f"masks and maps have the same names and both go to {out}, name another folder")
    root, paths = _find_scenes(scenes, options.pattern, [folder for folder in (out, masks) if folder])
    jobs, sources = [], {path.resolve() for path in paths}
    made: dict[Path, Path] = {}
    for path in paths:
        name = path.relative_to(root)
        name = name.with_suffix(".tif") if name.suffix.lower() == ".vrt" else name
        job = Job(path, out / name, masks / name if masks else None, options)
        for result in (job.out, job.mask):
            if result and result.resolve() in sources:
                raise InputError(f"{result} would be replaced and is a scene itself, choose another folder")
        if job.out in made:
            raise InputError(
                f"{path} and {made[job.out]} would have the same map, rename one or use --pattern"
            )
        made[job.out] = path
        jobs.append(job)
    return jobs


def _find_scenes(scenes: Path, pattern: str, results: list[Path]) -> tuple[Path, list[Path]]:
    """Return the folder and the scenes in it, sorted, without hidden ones and folders of results."""
    if scenes.is_file():
        return scenes.parent, [scenes]
    if not scenes.is_dir():
        raise InputError(f"{scenes} does not exist, name a folder of Sentinel-2 scenes")
    root = scenes.resolve()
    inside = [each.resolve() for each in results if root in each.resolve().parents]
    try:
        found = sorted(path for path in scenes.glob(pattern) if path.suffix.lower() in READABLE)
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"{pattern!r} is no pattern ({error}), use one such as '**/*_S2_*.tif'") from error
    paths = [
        path
        for path in found
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(scenes).parts)
        and not any(folder in path.resolve().parents for folder in inside)
    ]
    if not paths:
        raise InputError(
            f"no scene ({', '.join(READABLE)}) in {scenes} fits {pattern!r}, change the folder or --pattern"
        )
    return scenes, paths
