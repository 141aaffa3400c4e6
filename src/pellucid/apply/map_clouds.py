"""Cloud maps of a folder of scenes: probabilities, masks, a sheet to look at; what is there is skipped."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

from pellucid.apply.cloud_scorers import MODEL_BANDS, NO_DATA, Scorer, find_origin, find_scorer, to_mask
from pellucid.apply.decoded import row_kept
from pellucid.apply.inputs import find_scenes
from pellucid.apply.options import CloudMapOptions
from pellucid.apply.outputs import Output, can_go_on, check_outputs
from pellucid.apply.provenance import is_current, say_made_anew, tag_result
from pellucid.apply.workers import run_jobs
from pellucid.data.checked_raster import CheckedRaster, write_raster
from pellucid.data.claims import claim_folders
from pellucid.data.drawing import NO_DATA as GREY
from pellucid.data.drawing import gray_to_rgb, save_picture, sheet, to_rgb
from pellucid.data.files import make_folder, temporary_beside
from pellucid.data.gdal_open import GDAL_ERRORS, open_raster
from pellucid.data.geotiff import Grid, Raster
from pellucid.data.ownership import PREFIX
from pellucid.data.ranges import SENTINEL2
from pellucid.data.raster import Offset, OpticalRaster
from pellucid.data.reference import widen
from pellucid.data.slice_file import TIFF
from pellucid.data.working_file import WORKING_BLOCK, check_room, explain_write_error, layer_bytes, write_cog
from pellucid.errors import InputError, WriteError, refusal
from pellucid.methods.method import Method

# Side of the windows in pixels, a multiple of the blocks of the file: 13 bands of one take about 80 MB.
WINDOW = 4 * WORKING_BLOCK
# What maps and masks are called, as bands and in their tags.
MAP, MASK = "cloud probability", "cloud mask"
# The sheet: at most so many scenes, this many pixels the longer side of each.
SHEET, SHEET_ROWS, SHEET_SIDE = "clouds.png", 12, 256
# The value that would be white there, so that a map which is 1 all over still shows on white paper.
WHITE = 1.1


@dataclass(frozen=True)
class Job:
    """What is to be made of one scene."""

    source: Path
    out: Path
    mask: Path | None
    options: CloudMapOptions
    method: Method | None = None  # of the scorer "ground"
    needs_map: bool = True  # whether the map is to be made
    needs_mask: bool = False  # likewise the mask; from the map, so that this alone is quick

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that the scene has, or in whose order they stand."""
        return SENTINEL2.bands if self.options.all_bands else MODEL_BANDS

    @property
    def replaces(self) -> bool:
        """Whether a map or mask of an earlier call is to be replaced."""
        given = ((self.out, self.needs_map), (self.mask, self.needs_mask))
        return any(needed and path and path.exists() for path, needed in given)


@dataclass(frozen=True)
class Failure:
    """A scene of which there is no map, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class CloudReport:
    """What was done, or would be."""

    out: Path  # the folder of maps
    sheet: Path | None  # if wanted and anything was done
    num_done: int  # scenes whose map or mask was made
    num_skipped: int  # scenes whose map was there
    failures: tuple[Failure, ...]
    seconds: float


def map_clouds(
    scenes: Path | str,
    out: Path | str,
    *,
    masks: Path | str | None = None,
    options: CloudMapOptions | None = None,
    method: Method | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> CloudReport:
    """Write a map of cloud probability for each scene: float32 in [0, 1], NaN without data, on its grid.

    Maps are Cloud-Optimized GeoTIFFs named like their scenes, in the same folders below `out`, each whole or
    not at all. A scene that cannot be used does not stop the others. Memory holds a window, not a scene.

    Args:
        scenes: folder of Sentinel-2 scenes, bands named or in order; or one scene.
        out: folder of the maps; made if it is missing.
        masks: folder for masks of the same names: uint8, 1 cloud, 0 clear, 255 no data.
        options: see `CloudMapOptions`.
        method: that scores, where the scorer is "ground"; see `find_scorer`.
        progress: called with the number of scenes done, a part of one at the end, and of all to do.
    """
    start, options = time.monotonic(), options or CloudMapOptions()
    out, masks = Path(out), Path(masks) if masks else None
    jobs = _list_jobs(Path(scenes), out, masks, options, method)
    if any(job.needs_map for job in jobs):
        find_scorer(options.scorer, method=method)  # refuses now what every scene would
    with claim_folders(out, masks), can_go_on():
        pending = _pending(jobs, options)
        reasons = _run_all(pending, options.workers, progress or (lambda *_: None))
        done = [job for i, job in enumerate(pending) if reasons[i] is None]
        # Also those of an earlier, interrupted call.
        mapped = [job for job in jobs if all(path.exists() for path in (job.out, job.mask) if path)]
        is_new = bool(done) or not (out / SHEET).exists()
        picture = out / SHEET if options.preview and mapped and is_new else None
        if picture:
            save_picture(_draw(mapped), picture)
    failures = tuple(Failure(pending[i].source, reason) for i, reason in sorted(reasons.items()) if reason)
    seconds = time.monotonic() - start
    return CloudReport(out, picture, len(done), len(jobs) - len(pending), failures, seconds)


def check_clouds(
    scenes: Path | str,
    out: Path | str,
    *,
    masks: Path | str | None = None,
    options: CloudMapOptions | None = None,
    method: Method | None = None,
) -> CloudReport:
    """Return what `map_clouds` with the same arguments would do, after opening every scene; write nothing."""
    start, options = time.monotonic(), options or CloudMapOptions()
    jobs = _list_jobs(Path(scenes), Path(out), Path(masks) if masks else None, options, method)
    scorer = find_scorer(options.scorer, method=method)
    pending = _pending(jobs, options)
    failures = []
    for job in pending:
        try:
            _open(job, scorer).close()
        except InputError as error:
            failures.append(Failure(job.source, str(error)))
    counts = len(pending) - len(failures), len(jobs) - len(pending)
    return CloudReport(Path(out), None, *counts, tuple(failures), time.monotonic() - start)


def _list_jobs(
    scenes: Path, out: Path, masks: Path | None, options: CloudMapOptions, method: Method | None
) -> list[Job]:
    """Return what is to be made of each scene, done or not, sorted by name."""
    if masks and masks.resolve() == out.resolve():
        raise InputError(f"masks and maps have the same names and both go to {out}, name another folder")
    root, paths = find_scenes(scenes, options.pattern, [folder for folder in (out, masks) if folder])
    jobs = []
    for path in paths:
        name = path.relative_to(root)
        name = name if name.suffix.lower() in TIFF else name.with_suffix(".tif")
        jobs.append(Job(path, out / name, masks / name if masks else None, options, method))
    results = [Output(result, job.source) for job in jobs for result in (job.out, job.mask) if result]
    folders = [folder for folder in (out, masks) if folder]
    check_outputs(results, paths, folders=folders, replaces=True)
    if options.preview:
        check_outputs([Output(out / SHEET, root)], paths, folders=folders)
    return [_compare(job) for job in jobs]


def _compare(job: Job) -> Job:
    """Return the job with what is still to be made; refuse what stands in place of a map or mask."""
    is_forced, mask = job.options.force, job.mask
    needs_map = is_forced or not is_current(job.out, _tags(job, MAP), [job.source])
    needs_mask = mask is not None and (is_forced or not is_current(mask, _tags(job, MASK), [job.out]))
    return replace(job, needs_map=needs_map, needs_mask=needs_mask or (needs_map and mask is not None))


def _pending(jobs: Sequence[Job], options: CloudMapOptions) -> list[Job]:
    """Return those of which something is to be made; say if that replaces what an earlier call made."""
    pending = [job for job in jobs if job.needs_map or job.needs_mask]
    say_made_anew(0 if options.force else sum(job.replaces for job in pending))
    return pending


def _run_all(
    jobs: Sequence[Job], workers: int, progress: Callable[[float, int], None]
) -> dict[int, str | None]:
    """Return of each job, by its number, None or why it failed."""
    reasons: dict[int, str | None] = {}

    def report(share: float) -> None:
        progress(len(reasons) + share, len(jobs))

    if workers == 1:
        ended: Iterable[tuple[int, str | None]] = (
            (i, _run(job, progress=report)) for i, job in enumerate(jobs)
        )
    else:
        threads = max(1, (os.cpu_count() or 1) // workers)
        ended = run_jobs(partial(_run, threads=threads), jobs, workers=workers)
    for i, reason in ended:
        reasons[i] = reason
        report(0)
    return reasons


def _run(job: Job, *, threads: int = 0, progress: Callable[[float], None] | None = None) -> str | None:
    """Make what is missing; return None, or why that failed, unless no other result could be written."""
    try:
        with row_kept():
            for result in filter(None, (job.out, job.mask)):
                make_folder(result.parent)
            if job.needs_map:
                _write_map(
                    job,
                    _scorer(job.options.scorer, threads=threads, method=job.method),
                    progress or (lambda _: None),
                )
            if job.needs_mask and job.mask:
                _write_mask(job, job.mask)
    except WriteError:
        raise
    except InputError as error:
        return str(error)
    except OSError as error:
        if (refused := refusal(error)) is None or isinstance(refused, WriteError):
            raise refused or error from error
        return str(refused)
    return None


# The scorer of this process, which takes long to load.
_scorer = lru_cache(maxsize=1)(find_scorer)


def _open(job: Job, scorer: Scorer) -> OpticalRaster:
    optional = tuple(band for band in job.bands if band in scorer.optional)
    raster = OpticalRaster(job.source, job.bands, offset=job.options.offset, allow_missing=optional)
    raster.log_doubts()
    return raster


def _write_map(job: Job, scorer: Scorer, progress: Callable[[float], None]) -> None:
    with Raster(job.source, "optical scene") as scene:
        check_room({job.out.parent: layer_bytes(scene.dataset)["weight"]})
    with (
        _open(job, scorer) as raster,
        row_kept([raster], WINDOW),
    ):
        windows = list(_windows(raster.grid))
        tags = _tags(job, MAP) | {"OFFSET": f"{raster.offset_dn:.0f}"}
        with _new_file(job.out, raster.grid, "float32", np.nan, tags) as file:
            for i, window in enumerate(windows):
                file.write(_score(raster, scorer, window)[None], window)
                progress((i + 1) / len(windows))


def _score(raster: OpticalRaster, scorer: Scorer, window: Window) -> NDArray[np.float32]:
    """Return (H, W) probabilities of the window, NaN without data."""
    wide, inner = widen(window, scorer.reach_px, raster.grid)
    reflectance, valid = raster.read(wide)
    there = [i for i, index in enumerate(raster.indices) if index is not None]
    found = scorer(reflectance[there], valid, tuple(raster.bands[i] for i in there))[inner]
    return np.where(valid[0].numpy()[inner], found, np.float32(np.nan))


def _write_mask(job: Job, path: Path) -> None:
    """Write the mask that follows from the map, window by window."""
    how = _mask_options(job)
    margin = job.options.average_over + job.options.dilation_size
    with Raster(job.out, "cloud map") as raster:
        tags = _tags(job, MASK) | {name.upper(): f"{value:g}" for name, value in how.items()}
        with _new_file(path, raster.grid, "uint8", NO_DATA, tags) as file:
            for window in _windows(raster.grid):
                wide, inner = widen(window, margin, raster.grid)
                file.write(to_mask(raster.read_array([1], wide)[0], **how)[inner][None], window)


def _mask_options(job: Job) -> dict[str, Any]:
    return {name: getattr(job.options, name) for name in ("threshold", "average_over", "dilation_size")}


def _tags(job: Job, layer: str) -> dict[str, str]:
    """Return what makes a map or a mask."""
    scorer, weights = find_origin(job.options.scorer, job.method)
    options = {"all_bands": job.options.all_bands, "offset": job.options.offset}
    inputs = {"scene": job.source}
    if layer == MASK:
        options, inputs = _mask_options(job), {**inputs, "cloud map": job.out}
    tags = tag_result("clouds", model=scorer, weights=weights, options=options, inputs=inputs)
    return {"SCORER": scorer, **tags, f"{PREFIX}LAYER": layer}


@contextmanager
def _new_file(
    path: Path, grid: Grid, dtype: str, nodata: float, tags: dict[str, str]
) -> Iterator[CheckedRaster]:
    """Give an uncompressed file of one band; afterwards it becomes a Cloud-Optimized GeoTIFF at `path`."""
    profile: dict[str, Any] = {"width": grid.width, "height": grid.height, "count": 1, "dtype": dtype}
    profile |= grid.place
    profile |= {"nodata": nodata, "bigtiff": "IF_SAFER", "tiled": True}
    profile |= {"blockxsize": WORKING_BLOCK, "blockysize": WORKING_BLOCK}
    try:
        with temporary_beside(path) as temporary:
            with write_raster(temporary, **profile) as file:
                file.dataset.set_band_description(1, tags[f"{PREFIX}LAYER"])
                file.dataset.update_tags(**tags)
                yield file
            write_cog(temporary, path, overviews="average" if dtype == "float32" else "mode")
    except (OSError, *GDAL_ERRORS) as error:
        raise explain_write_error(path, error) from error


def _windows(grid: Grid) -> Iterator[Window]:
    """Yield windows that cover the grid, row by row."""
    for top, left in product(range(0, grid.height, WINDOW), range(0, grid.width, WINDOW)):
        yield Window(left, top, min(WINDOW, grid.width - left), min(WINDOW, grid.height - top))


def _draw(jobs: Sequence[Job]) -> Image.Image:
    """Return a sheet of some of the scenes with their maps, one per row."""
    count = min(len(jobs), SHEET_ROWS)
    rows, captions = [], []
    for job in (jobs[i * len(jobs) // count] for i in range(count)):
        bands = job.bands
        with OpticalRaster(job.source, bands, offset=_offset_used(job), allow_missing=bands) as raster:
            reflectance, valid = raster.read(size=SHEET_SIDE)
        maps = [_read_small(path) for path in (job.out, job.mask) if path]
        rows.append([to_rgb(reflectance, bands, valid), *(_to_grey(values) for values in maps)])
        known = maps[0][np.isfinite(maps[0])]
        share = (known > job.options.threshold).mean() if known.size else 0.0
        captions.append(f"{job.source.name}: {share:.0%} above {job.options.threshold:g}")
    columns = ["scene", MAP, MASK][: len(rows[0])]
    return sheet(rows, columns, captions, side=SHEET_SIDE)


def _offset_used(job: Job) -> Offset:
    """Return the DN that were added to the scene when its map was made."""
    with open_raster(job.out) as file:
        used = file.tags().get("OFFSET")
    return int(used) if used else job.options.offset


def _read_small(path: Path) -> NDArray[np.float32]:
    """Return a map or mask, (H, W), decimated for the sheet; NaN without data."""
    with Raster(path, "cloud map") as raster:
        values = raster.read_array([1], size=SHEET_SIDE)[0]
    return np.where(values == NO_DATA, np.float32(np.nan), values.astype(np.float32))


def _to_grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8, light for 1, the grey of missing data for NaN."""
    return np.where(
        np.isfinite(values)[..., None], gray_to_rgb(torch.from_numpy(values)[None], WHITE), np.uint8(GREY)
    )
