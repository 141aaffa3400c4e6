"""Scene in, scene out: windows, tiles without seams, clear pixels and nodata passed through, resume."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL.Image import Image

from pellucid.apply.engine import Piece, Progress
from pellucid.apply.estimate import Estimate, estimate_scene
from pellucid.apply.memory import Tidying, make_way, return_freed_memory
from pellucid.apply.options import SceneOptions
from pellucid.apply.outputs import GO_ON, SceneOutputs, say_kept
from pellucid.apply.scene import OpenScene, Tile
from pellucid.apply.scene_page import draw_scene_page
from pellucid.apply.scene_pass import read_scene
from pellucid.apply.shared_context import find_context, save_context
from pellucid.apply.sidecars import write_sidecars
from pellucid.apply.surroundings import Surroundings, enlarge_cells
from pellucid.data.batch import Batch
from pellucid.data.claims import claim_files
from pellucid.data.drawing import sheet, to_rgb
from pellucid.data.files import write_atomically
from pellucid.data.gdal_open import GDAL_ERRORS, open_raster
from pellucid.data.geotiff import Raster
from pellucid.data.ownership import encode_png
from pellucid.data.raster import OpticalRaster
from pellucid.data.tiles import mean_of
from pellucid.data.working_file import WorkingFile, explain_write_error
from pellucid.errors import InputError, counted, explain_memory, is_out_of_memory
from pellucid.methods.method import Method

# Longer side in pixels of each half of the preview.
PREVIEW = 1024
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneReport:
    """What was done to a scene."""

    out: Path
    uncertainty: Path | None
    painted: Path | None
    preview: Path | None
    page: Path | None  # to look at in a browser
    num_pixels: int  # of the scene
    num_valid: int  # those that hold data
    num_restored: int  # valid ones that were changed, fully or, at a feathered edge, in part
    num_without_radar: int  # cloudy ones left as they were: the model needs radar, and there is none
    seconds: float
    guides: str = ""  # what guided the restoration, in words
    left_out: tuple[Path, ...] = ()  # other dates that cannot guide it
    num_rows: int = 0  # of tiles
    num_rows_before: int = 0  # those that an interrupted call had finished
    offset_dn: float = 0.0  # what was added to the first band of the scene, in DN of 1 / 10000


def restore_scene(
    optical: Path | str,
    out: Path | str,
    *,
    sar: Path | str | None = None,
    method: Method,
    references: Sequence[Path | str] | Path | str = (),
    cloud: Path | str | None = None,
    uncertainty: Path | str | None = None,
    options: SceneOptions | None = None,
    context: Sequence[Path] = (),
    dates_must_guide: bool = True,
    progress: Progress | None = None,
    reading: Progress | None = None,
) -> SceneReport:
    """Write the scene without its clouds, with everything else as it was.

    Grid, band names, data type, nodata, scales and tags are kept; further tags say what made the result.
    A tile without clouds costs no network. Memory holds a few tiles, not the scene, and with
    `uncertainty` those of every sample. An interrupted call leaves `.OUT.partial.tif` and its note beside
    `out`, and the same call goes on there; refused input leaves nothing.

    Args:
        optical: Sentinel-2 scene, bands by name or, without names, by position; see the option `bands`.
        out: where the result goes, a Cloud-Optimized GeoTIFF; beside it, a preview as PNG, a page to look at
            as HTML, styles for QGIS, a STAC Item, and, as OUT_painted.tif, how much of each pixel was
            painted: 0 as given, to 255.
        sar: Sentinel-1 scene on the same grid; VV or VH alone for a model that takes any bands.
        method: what restores.
        references: other dates of the place on the same grid, of any sensor, cloudy in part; or one.
        cloud: cloud map on the same grid; without one, the model finds clouds, or else `cloud_score` does.
        uncertainty: where the standard deviation, of the samples or by the model, goes: a float32 GeoTIFF in
            bands and units of the scene; 0 where pixels pass through, NaN where there is no data.
        options: see `SceneOptions`.
        context: files of what this scene and others say of their ground, its own first; see `find_context`.
        dates_must_guide: refuse references of which none can guide the scene; else it is restored without.
        progress: called with the number of tiles done and of all tiles.
        reading: called likewise before, while a model that looks at all of the scene first does so.
    """
    start, options = time.monotonic(), options or SceneOptions()
    if isinstance(method, str):
        raise InputError(
            f"method is the name {method!r}, needed is the model; give pellucid.load({method!r})"
        )
    references = [references] if isinstance(references, Path | str) else references
    optical, out = Path(optical), Path(out)
    sar, cloud, uncertainty = (None if path is None else Path(path) for path in (sar, cloud, uncertainty))
    outputs = SceneOutputs.of(out, uncertainty, options)
    given: dict[str, Any] = {"sar": sar, "cloud": cloud, "references": [Path(path) for path in references]}
    given |= {"uncertainty": uncertainty, "dates_must_guide": dates_must_guide}
    with (
        claim_files(*outputs.all),
        OpenScene(optical, out, **given, method=method, options=options) as scene,
    ):
        key, guides = _look(scene, context, reading)
        counts, before = _write_scene(scene, out, key, progress)
        write_sidecars(scene)
        outputs.remove_stale([Path(path) for path in (optical, sar, cloud, *references) if path])
    return _report(scene, counts, seconds=time.monotonic() - start, guides=guides, num_rows_before=before)


def _look(scene: OpenScene, context: Sequence[Path], reading: Progress | None) -> tuple[str, str]:
    """Let the method look at all of the scene; return the key of the result, and what guides it."""
    collected = find_context(scene, context, reading) if context else None
    key, guides = scene.key(), scene.guides
    if collected:
        scene.use(collected)
    else:
        read_scene(scene, reading)
    return_freed_memory()
    return key, guides


def _report(
    scene: OpenScene, counts: Sequence[int], *, seconds: float, guides: str, num_rows_before: int
) -> SceneReport:
    """Return what was done, and warn of clouds that had to stay, and of maps without any."""
    files, (num_valid, num_restored, num_without_radar) = scene.outputs, counts
    if num_without_radar:
        stay = "%s: %d cloudy pixels have no radar and stay as they were"
        log.warning(stay, files.result, num_without_radar)
    elif scene.cloud and not num_restored:
        nothing = (
            "%s: nothing is restored, since %s marks no cloud; specks and lines of 1 px in it count as clear"
        )
        log.warning(nothing, files.result, scene.cloud.path)
    return SceneReport(
        files.result,
        files.std,
        files.painted,
        files.preview,
        files.page,
        num_pixels=scene.tiles.height * scene.tiles.width,
        num_valid=num_valid,
        num_restored=num_restored,
        num_without_radar=num_without_radar,
        seconds=seconds,
        guides=guides,
        left_out=tuple(scene.references.left_out),
        num_rows=len(scene.tiles.tops),
        num_rows_before=num_rows_before,
        offset_dn=scene.optical.offset_dn,
    )


def check_scene(
    optical: Path,
    out: Path,
    *,
    sar: Path | None = None,
    method: Method,
    references: Sequence[Path] = (),
    cloud: Path | None = None,
    uncertainty: Path | None = None,
    options: SceneOptions | None = None,
    dates_must_guide: bool = True,
) -> str:
    """Return a line about what `restore_scene` with the same arguments would do, after all its checks."""
    options = options or SceneOptions()
    files: dict[str, Any] = {"sar": sar, "cloud": cloud, "references": references}
    files["dates_must_guide"] = dates_must_guide
    with OpenScene(optical, out, **files, uncertainty=uncertainty, method=method, options=options) as scene:
        bands = f" {counted(len(scene.optical.bands), 'band')}," if method.any_bands else ""
        count = len(scene.tiles)
        work = f"{bands} {count} tile{'s' * (count > 1)}, {scene.guides}"
        return f"{optical}: {scene.optical.grid};{work}; all checks passed"


def look_at_scene(
    optical: Path, out: Path, *, context: Sequence[Path], options: SceneOptions, **given: Any
) -> None:
    """Save what a scene says about its ground in the first file of `context`; see `restore_scene`."""
    with OpenScene(optical, out, options=options, **given) as scene:
        save_context(scene, context[0])


def estimate(optical: Path, out: Path, *, options: SceneOptions | None = None, **given: Any) -> Estimate:
    """Return what `restore_scene` with the same arguments would take, after all its checks and one tile."""
    with OpenScene(optical, out, options=options or SceneOptions(), **given) as scene:
        return estimate_scene(scene)


def _write_scene(scene: OpenScene, out: Path, key: str, progress: Progress | None) -> tuple[list[int], int]:
    """Restore row after row of tiles into a working file, and finish it.

    Returns:
        What was counted, and the rows that an interrupted call had finished.
    """
    with _working_file(scene, out, key) as working:
        mosaic, first_row = _Mosaic(scene, working.state, working.num_done), working.num_done
        tidy = Tidying()
        with closing(
            scene.engine.run(scene.tiles, mosaic.cut, first_row=first_row, progress=progress)
        ) as run:
            for piece in run:
                layers, row = mosaic.finish(piece), piece.rows.start
                working.write({name: layers[name] for name in working.paths}, row, piece.columns.start)
                if piece.columns.stop == scene.tiles.width:
                    working.checkpoint(scene.tiles.tops.index(row) + 1, mosaic.state)
                tidy()
        revise = partial(_match, scene, mosaic.surroundings) if mosaic.surroundings else None
        drawn = dict[Path, bytes]()
        working.finish(revise, partial(_draw, scene, mosaic.counts.tolist(), drawn))
        for path, content in drawn.items():
            write_atomically(path, partial(Path.write_bytes, data=content))
    return mosaic.counts.tolist(), first_row


class _Mosaic:
    """The tiles of a scene, from cutting to writing; goes on with the counts of an earlier call."""

    def __init__(self, scene: OpenScene, state: Mapping[str, NDArray[Any]], first_row: int) -> None:
        self.scene, grid = scene, scene.tiles
        self.top = grid.tops[first_row] if first_row < len(grid.tops) else grid.height
        self.tiles: dict[tuple[int, int], Tile] = {}
        self.counts = state.get("counts", np.zeros(3, np.int64))
        self.surroundings = None
        if scene.options.match_surroundings:
            bands, sums = len(scene.optical.bands), state.get("differences")
            self.surroundings = Surroundings(bands, grid.height, grid.width, sums=sums)

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """What to keep for a later call."""
        sums = {"differences": self.surroundings.sums} if self.surroundings else {}
        return {"counts": self.counts, **sums}

    def cut(self, top: int, left: int) -> Batch | None:
        """Return what the method sees of a tile; None where nothing is to be restored."""
        tile = self.scene.cut(top, left)
        if top >= self.top:  # the others are only there for their overlap
            self.tiles[top, left] = tile
        cloud = tile.batch.cloud
        # A method that finds clouds itself passes through what a map says is clear.
        is_clear = self.scene.method.finds_clouds and cloud is not None and not cloud.any()
        return tile.batch if tile.weight.any() and not is_clear else None

    def finish(self, piece: Piece) -> dict[str, NDArray[Any]]:
        """Return result, standard deviation and weight of a piece, and count its pixels."""
        tile = self.tiles.pop((piece.rows.start, piece.columns.start))
        if self.surroundings and piece.tile is not None:
            weight = self.scene.clear(tile) * self.scene.tiles.shares(tile.top, tile.left)
            self.surroundings.add(tile.batch.degraded[0].numpy() - piece.tile, weight, tile.top, tile.left)
        tile = self.scene.judge(tile, piece.cloud)
        mixed = self.scene.mix(tile, mean_of(piece.samples))
        height, width = mixed.shape[1:]
        masks = (tile.valid, tile.weight > 0, tile.lacks_radar)
        self.counts = self.counts + [np.count_nonzero(mask[:height, :width]) for mask in masks]
        weight = tile.weight[None, :height, :width]
        layers = {"result": mixed, "weight": weight.astype(np.float32)}
        layers["painted"] = _to_painted(weight if piece.cloud is None else piece.cloud * (weight > 0))
        if self.scene.uncertainty:
            found = piece.deviation
            deviation = piece.samples.std(axis=0, ddof=1) if found is None else found
            layers["std"] = self.scene.spread(tile, deviation)
        return layers


def _to_painted(share: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return how much of each pixel is painted, from 1 to 255, and 0 where it passes through."""
    return np.ceil(share * 255).clip(0, 255).astype(np.uint8)


def _match(scene: OpenScene, surroundings: Surroundings, result: Path, weights: Path) -> None:
    """Bring what is restored into line with the clear pixels around it, in place."""
    correction = surroundings.smooth()
    with open_raster(result, "r+") as written, open_raster(weights) as weighted:
        for _, window in written.block_windows(1):
            weight = weighted.read(1, window=window)
            if weight.any():
                change = enlarge_cells(correction, *window.toslices())
                stored = written.read(window=window)
                written.write(scene.shift(stored, weight, change), window=window)


@contextmanager
def _working_file(scene: OpenScene, out: Path, key: str) -> Iterator[WorkingFile]:
    """Give the working file; afterwards it stays only if the work was interrupted, not refused."""
    working = None
    try:
        working = WorkingFile(
            out,
            scene.optical.dataset,
            key=key,
            resume=scene.options.resume,
            std=scene.uncertainty,
            painted=scene.outputs.painted,
            labels=scene.labels,
            with_weight=scene.options.match_surroundings,
        )
        yield working
    except Exception as error:
        kept = working is not None and _keep(working)
        if isinstance(error, InputError) and not kept:
            raise
        if not isinstance(error, (InputError, OSError, *GDAL_ERRORS)) and not is_out_of_memory(error):
            raise
        raise _explain(out, error, kept=kept) from error
    except BaseException as error:  # the user, or the system, stops it
        if working and _keep(working):
            say_kept(error)
        raise


def _keep(working: WorkingFile) -> bool:
    """Close a working file, and return whether it stays for a later call: where it has finished rows."""
    with suppress(OSError, *GDAL_ERRORS):  # what was not noted yet is written again
        working.close()
    if working.num_done == 0:
        working.discard()
    return working.num_done > 0


def _explain(out: Path, error: Exception, *, kept: bool) -> InputError:
    """Return what stopped the work, as a sentence, with the way to go on, if what is finished was kept."""
    if is_out_of_memory(error):
        error = InputError(explain_memory(error, f"{make_way()} or use a smaller --tile"))
    elif not isinstance(error, InputError):
        error = explain_write_error(out, error)
    return type(error)(f"{error}; {GO_ON}") if kept else error


def _draw(
    scene: OpenScene, counts: Sequence[int], drawn: dict[Path, bytes], made: Mapping[str, Path]
) -> None:
    """Add what one looks at, where it is wanted, to what is `drawn`: the content of files.

    `counts` begin with valid and restored pixels; `made` are the rasters by name, before they are compressed.
    """
    files = scene.outputs
    with rasterio.Env():  # GDAL is set up thread by thread
        if files.preview:
            drawn[files.preview] = encode_png(_preview(scene.optical, made["result"]))
        if files.page:
            drawn[files.page] = draw_scene_page(scene, counts, made).encode()


def _preview(before: OpticalRaster, after: Path) -> Image:
    """Return before and after, side by side, at most 1024 pixels each."""
    panels = []
    with Raster(after, "result") as result:
        for raster in (before, result):
            values, valid = before.to_reflectance(
                raster.read_array(size=PREVIEW), raster.read_mask(size=PREVIEW)
            )
            panels.append(to_rgb(values, before.bands, valid))
    return sheet([panels], ["before", "after"], side=max(panels[0].shape))
