"""Scene in, scene out: windows, tiles without seams, clear pixels and nodata passed through, resume."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from pellucid.data.geotiff import Raster
from pellucid.data.raster import OpticalRaster
from pellucid.data.tiles import Blender
from pellucid.data.working_file import WorkingFile, explain_write_error
from pellucid.errors import InputError
from pellucid.methods.method import Method
from pellucid.pictures import save_picture, sheet, to_rgb
from pellucid.scene import RestoreOptions, Scene, Tile

__all__ = ["RestoreOptions", "SceneReport", "check_scene", "restore_scene"]

# Longer side in pixels of each half of the preview.
PREVIEW = 1024
# Blocks of files that GDAL keeps in memory, in bytes; its own limit is 5 % of the machine.
CACHE_BYTES = 256 * 2**20
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneReport:
    """What was done to a scene.

    Attributes:
        out: the restored scene.
        preview: the PNG, if wanted.
        num_pixels: all pixels of the scene.
        num_valid: those that hold data.
        num_restored: valid pixels that were changed, fully or, at a feathered edge, in part.
        num_without_radar: cloudy pixels left as they were, because the model needs radar and there is none.
        seconds: time taken.
    """

    out: Path
    preview: Path | None
    num_pixels: int
    num_valid: int
    num_restored: int
    num_without_radar: int
    seconds: float


def restore_scene(
    optical: Path | str,
    out: Path | str,
    *,
    sar: Path | str | None = None,
    method: Method,
    cloud: Path | str | None = None,
    options: RestoreOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SceneReport:
    """Write the scene without its clouds, with everything else as it was.

    Grid, band names, data type, nodata, scales and tags are kept. A tile without clouds costs no network.
    Memory holds one row of tiles, not the scene. An interrupted call leaves `.OUT.partial.tif` and its note
    beside `out`, and the same call goes on there; refused input leaves nothing.

    Args:
        optical: Sentinel-2 scene; its bands are matched by name, or by position where they have none.
        out: where the result goes, a Cloud-Optimized GeoTIFF; the preview is beside it, as PNG.
        sar: Sentinel-1 scene on the same grid.
        method: what restores.
        cloud: cloud map on the same grid; without one, `cloud_score` tells clouds, haze and shadows.
        options: see `RestoreOptions`.
        progress: called with the number of tiles done and of all tiles.

    Raises:
        InputError: for any input that cannot be used; nothing is at `out` then.
    """
    start, options = time.monotonic(), options or RestoreOptions()
    optical, out = Path(optical), Path(out)
    sar, cloud = (None if path is None else Path(path) for path in (sar, cloud))
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), Scene(optical, out, sar, cloud, method, options) as scene:
        counts = _write_scene(scene, out, progress)
        preview = out.with_suffix(".png") if options.preview else None
        if preview:
            _write_preview(scene.optical, out, preview)
        num_pixels = scene.tiles.height * scene.tiles.width
    if counts[2]:
        log.warning("%s: %d cloudy pixels have no radar and stay as they were", out, counts[2])
    seconds = time.monotonic() - start
    return SceneReport(out, preview, num_pixels, counts[0], counts[1], counts[2], seconds)


def check_scene(
    optical: Path,
    out: Path,
    *,
    sar: Path | None = None,
    method: Method,
    cloud: Path | None = None,
    options: RestoreOptions | None = None,
) -> str:
    """Return a line about what `restore_scene` with the same arguments would do, after all its checks.

    Raises:
        InputError: if it would refuse.
    """
    with Scene(optical, out, sar, cloud, method, options or RestoreOptions()) as scene:
        radar = "with radar" if scene.radar else "without radar"
        return f"{optical}: {scene.optical.grid}; {len(scene.tiles)} tiles, {radar}; all checks passed"


def _write_scene(scene: Scene, out: Path, progress: Callable[[int, int], None] | None) -> list[int]:
    """Restore row after row of tiles into a working file, finish it, and return what was counted."""
    with _working_file(scene, out) as working:
        scene.method.network.to(scene.device).eval()
        tiles, blender = scene.tiles, Blender(scene.tiles, len(scene.optical.bands))
        ends, counts = (*tiles.tops[1:], tiles.height), working.counts
        for i, (top, end) in enumerate(zip(tiles.tops, ends, strict=True)):
            is_done = i < working.num_done
            if is_done and top + tiles.tile_height <= ends[working.num_done - 1]:
                continue  # reaches no row that is still to be written
            blender.start_row(top)
            for j, (tile, columns) in enumerate(_restore_row(scene, top, blender)):
                if is_done:
                    continue
                mixed = scene.mix(tile, blender.blend(slice(top, end), columns))
                working.write(mixed, top, tile.left)
                counts = _count(counts, tile, mixed.shape[1], mixed.shape[2])
                if progress:
                    progress(i * len(tiles.lefts) + j + 1, len(tiles))
            if not is_done:
                working.checkpoint(i + 1, counts)
        working.finish()
    return counts


def _count(counts: list[int], tile: Tile, height: int, width: int) -> list[int]:
    """Return the counts plus the valid, restored and unrestorable pixels of a tile's upper left part."""
    seen = (tile.valid, tile.weight > 0, tile.lacks_radar)
    return [count + int(mask[:height, :width].sum()) for count, mask in zip(counts, seen, strict=True)]


def _restore_row(scene: Scene, top: int, blender: Blender) -> Iterator[tuple[Tile, slice]]:
    """Blend in the tiles of one row; yield each with the columns that no later tile of the row reaches."""
    tiles = scene.tiles
    ends = dict(pairwise((*tiles.lefts, tiles.width)))
    for first in range(0, len(tiles.lefts), scene.batch):
        cut = [scene.cut(top, left) for left in tiles.lefts[first : first + scene.batch]]
        needed = [tile for tile in cut if tile.weight.any()]
        results = iter(scene.restore(needed) if needed else [])
        for tile in cut:
            if tile.weight.any():
                blender.add(tile.left, next(results))
            yield tile, slice(tile.left, ends[tile.left])


@contextmanager
def _working_file(scene: Scene, out: Path) -> Iterator[WorkingFile]:
    """Give the working file; afterwards it stays only if the work was interrupted, not refused."""
    working = None
    try:
        working = WorkingFile(out, scene.optical.dataset, key=scene.key(), resume=scene.options.resume)
        yield working
    except (InputError, OSError, RasterioError) as error:
        if working:
            working.close()
            working.discard()
        if isinstance(error, InputError):
            raise
        raise explain_write_error(out, error) from error
    except BaseException:
        if working:
            working.close()
        raise


def _write_preview(before: OpticalRaster, after: Path, path: Path) -> None:
    """Write before and after, side by side, at most 1024 pixels each."""
    panels = []
    with Raster(after, "result") as result:
        for raster in (before, result):
            values, valid = before.to_reflectance(raster.read_array(size=PREVIEW))
            panels.append(to_rgb(values, before.bands, valid))
    save_picture(sheet([panels], ["before", "after"], side=max(panels[0].shape)), path)
