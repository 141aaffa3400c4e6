"""What restoring a scene will take: time from a tile that is tried out, memory, and room on the disk."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pellucid.apply.engine import Engine
from pellucid.apply.lanes import run_lanes
from pellucid.apply.scene import OpenScene
from pellucid.apply.scene_pass import AROUND, BLOCK, ENOUGH, FEW, PART
from pellucid.data.working_file import layer_bytes
from pellucid.generative.noise import JoinedNoise, TileNoise
from pellucid.web.write_page import MAX_BYTES

# Seconds of one core per million bytes that are written: reading, blending and writing, which other cores do
# meanwhile, and the rest, which comes before and after. Measured on 13 bands of 16 bit with radar.
MEANWHILE, ALONE = 0.05, 0.035
# Seconds of what is looked at: styles and catalogue entry, preview, page, and this per million bytes.
SIDECARS, PREVIEW, PAGE, PAGE_MORE = 0.3, 0.9, 0.6, 0.013
# Bytes of preview and page: at least, as a share of the scene, and at most.
PREVIEW_BYTES, PAGE_BYTES = (0, 0.15, 4_000_000), (2_000_000, 0.4, MAX_BYTES)
# Bytes that come on top while a scene is restored: blocks that GDAL keeps, tiles ahead and behind; in scenes
# of so many tiles and more, freed memory between blocks in use; and likewise of a deviation, band by band.
BESIDES, FREED, MANY, SPREAD = 400_000_000, 150_000_000, 16, 300_000_000


@dataclass(frozen=True)
class Estimate:
    """What a scene is expected to take on this machine, under its present load."""

    seconds: float
    memory_bytes: int
    disk_bytes: int  # at most, while it is written
    result_bytes: int  # of what stays

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.0f} min" if self.seconds >= 90 else f"{self.seconds:.0f} s"
        hours = f"{self.seconds / 3600:.1f} h" if self.seconds >= 3 * 3600 else minutes
        memory, disk = self.memory_bytes / 1e9, self.disk_bytes / 1e9
        return f"about {hours}, {memory:.1f} GB of memory, {disk:.2g} GB on the disk"

    def of_many(self, shares: Sequence[float], processes: int) -> "Estimate":
        """Return what scenes take of which each is so many times as large as this one.

        Processes share the cores, so together they are hardly faster than one; memory and unfinished work
        are those of each.
        """
        results = int(self.result_bytes * sum(shares))
        unfinished = (self.disk_bytes - self.result_bytes) * processes
        return Estimate(
            self.seconds * sum(shares), self.memory_bytes * processes, results + unfinished, results
        )


def estimate_scene(scene: OpenScene) -> Estimate:
    """Return what restoring an open scene will take, after trying out one tile of it; nothing is written."""
    engine, grid = scene.engine, scene.tiles
    top, left = grid.tops[len(grid.tops) // 2], grid.lefts[len(grid.lefts) // 2]
    tile = scene.cut(top, left)
    noise = TileNoise((engine.noise,), (top,), (left,), grid.tile_height, grid.tile_width, 0)
    batch = tile.batch.to(engine.device)
    one = _seconds(engine, lambda: engine.restore(batch, JoinedNoise((noise,))))
    network = len(grid) * engine.options.samples * one
    if engine.collects:
        share = tile.batch.valid.float()
        network += _looked_at(scene) * _seconds(engine, lambda: engine.collect(tile.batch, share))
    sizes = layer_bytes(scene.optical.dataset)
    written = sum(sizes[name] for name in ("result", "std", "painted") if getattr(scene.outputs, name))
    meanwhile, alone = MEANWHILE * written / 1e6, ALONE * written / 1e6 + _show_seconds(scene, written)
    cores = os.cpu_count() or 1
    seconds = max(network, meanwhile) if cores > 1 else network + meanwhile
    results = written + _show_bytes(scene, written)
    disk = results + written  # the working file
    if scene.options.match_surroundings:
        disk += sizes["result"] + sizes["weight"]
    return Estimate(seconds + alone, _peak_bytes() + _more_bytes(scene), disk, results)


def _show_seconds(scene: OpenScene, written: int) -> float:
    """Return how long it takes to write what one looks at."""
    files = scene.outputs
    page = PAGE + PAGE_MORE * written / 1e6
    parts = (files.item, SIDECARS), (files.preview, PREVIEW), (files.page, page)
    return sum(seconds for path, seconds in parts if path)


def _show_bytes(scene: OpenScene, written: int) -> int:
    """Return how large that is, roughly."""
    sizes = (scene.outputs.preview, PREVIEW_BYTES), (scene.outputs.page, PAGE_BYTES)
    return sum(min(most, least + int(share * written)) for path, (least, share, most) in sizes if path)


def _more_bytes(scene: OpenScene) -> int:
    """Return how much memory comes on top of that of one tile."""
    grid, engine = scene.tiles, scene.engine
    many = min(1.0, len(grid) / MANY)
    spread = 1 if scene.uncertainty else 0
    layers = len(scene.optical.bands) * (engine.num_kept + spread)
    overlapped = grid.overlap * grid.width * 8 * 2 * layers
    return BESIDES + scene.kept_bytes + int(many * (FREED + spread * SPREAD)) + overlapped


def _looked_at(scene: OpenScene) -> float:
    """Return how many tiles' worth of pixels are looked at before a scene is restored."""
    grid = scene.tiles
    parts = grid.height * grid.width / PART**2
    share = 1.0 if grid.height * grid.width <= FEW * BLOCK**2 else ENOUGH / PART**2 / 2
    return parts * share * (PART + 2 * AROUND) ** 2 / (grid.tile_height * grid.tile_width)


def _seconds(engine: Engine, work: Callable[[], object]) -> float:
    """Return how long the work of a tile takes, on as many at once as while a scene is restored.

    The second time counts: the first takes memory from the system.
    """

    def on_all_lanes() -> None:
        for _ in run_lanes(lambda _: work(), iter(range(engine.lanes)), engine.lanes):
            pass

    on_all_lanes()
    start = time.monotonic()
    on_all_lanes()
    return (time.monotonic() - start) / engine.lanes


def _peak_bytes() -> int:
    """Return the most memory that this process has held; 0 where the system does not say."""
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return 0
