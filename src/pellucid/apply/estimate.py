"""What restoring a scene will take: time from a tile that is tried out, memory, and room on the disk."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pellucid.apply.scene import OpenScene
from pellucid.apply.scene_pass import AROUND, BLOCK, ENOUGH, FEW, PART
from pellucid.data.working_file import layer_bytes
from pellucid.generative.noise import JoinedNoise, TileNoise

# Seconds of one core per million bytes of the scene: reading, blending and writing, which other cores do
# meanwhile, and the rest, which comes before and after. Measured on 13 bands of 16 bit with radar.
MEANWHILE, ALONE = 0.05, 0.035
# Bytes that come on top while a scene is restored: blocks that GDAL keeps, and tiles ahead and behind.
BESIDES = 400_000_000


@dataclass(frozen=True)
class Estimate:
    """What a scene is expected to take on this machine, under its present load."""

    seconds: float
    memory_bytes: int
    disk_bytes: int

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.0f} min" if self.seconds >= 90 else f"{self.seconds:.0f} s"
        memory, disk = self.memory_bytes / 1e9, self.disk_bytes / 1e9
        return f"about {minutes}, {memory:.1f} GB of memory, {disk:.2g} GB on the disk"


def estimate_scene(scene: OpenScene) -> Estimate:
    """Return what restoring an open scene will take, after trying out one tile of it; nothing is written."""
    engine, grid = scene.engine, scene.tiles
    top, left = grid.tops[len(grid.tops) // 2], grid.lefts[len(grid.lefts) // 2]
    tile = scene.cut(top, left)
    noise = TileNoise((engine.noise,), (top,), (left,), grid.tile_height, grid.tile_width, 0)
    batch = tile.batch.to(engine.device)
    one = _seconds(lambda: engine.restore(batch, JoinedNoise((noise,))))
    network = len(grid) * engine.options.samples * one
    if engine.collects:
        network += _looked_at(scene) * _seconds(lambda: engine.collect(tile.batch, tile.batch.valid.float()))
    sizes = layer_bytes(scene.optical.dataset)
    millions, cores = sizes["result"] / 1e6, os.cpu_count() or 1
    meanwhile = MEANWHILE * millions
    seconds = network + (ALONE * millions if cores > 1 else meanwhile + ALONE * millions)
    kept = {
        "result",
        *(["std"] if scene.uncertainty else []),
        *(["painted"] if scene.outputs.painted else []),
    }
    disk = 2 * sum(sizes[name] for name in kept)  # the working file, and the result beside it
    if scene.options.match_surroundings:
        disk += sizes["result"] + sizes["weight"]
    overlapped = grid.overlap * grid.width * 8 * 2 * len(scene.optical.bands) * engine.num_kept
    return Estimate(max(seconds, meanwhile), _peak_bytes() + BESIDES + overlapped, disk)


def _looked_at(scene: OpenScene) -> float:
    """Return how many tiles' worth of pixels are looked at before a scene is restored."""
    grid = scene.tiles
    parts = grid.height * grid.width / PART**2
    share = 1.0 if grid.height * grid.width <= FEW * BLOCK**2 else ENOUGH / PART**2 / 2
    return parts * share * (PART + 2 * AROUND) ** 2 / (grid.tile_height * grid.tile_width)


def _seconds(work: Callable[[], object]) -> float:
    """Return how long work takes the second time: the first takes memory from the system."""
    work()
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _peak_bytes() -> int:
    """Return the most memory that this process has held; 0 where the system does not say."""
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return 0
