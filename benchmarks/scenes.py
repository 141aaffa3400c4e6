"""Where the time of `pellucid remove-clouds` goes, and its peak memory, over scenes of several sizes.

    python -m benchmarks.scenes [--sizes 1024 2048 4096] [--patches $PELLUCID_DATA/sen12mscr]

A scene is a mosaic of patches, cloudy and clear, mirrored at random, with radar. Each is restored in a
process of its own. Seconds are those of the main thread, each function without those that it calls; what
other threads do meanwhile is in brackets.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window
from rich.console import Console
from rich.table import Table

from benchmarks.memory import peak_mib
from pellucid.data.gdal_open import open_raster
from pellucid.data.ranges import SENTINEL2
from pellucid.simulate.clouds import add_clouds
from pellucid.simulate.landscape import make_scene

# Side in pixels of a patch.
PATCH = 256
# Patches that are simulated where none are given, every other one cloudy.
NUM_SIMULATED = 8
# What is measured: label, module, class or None, function.
PHASES: tuple[tuple[str, str, str | None, str], ...] = (
    ("open", "pellucid.apply.scene", "OpenScene", "__init__"),
    ("first pass", "pellucid.apply.remove_clouds", None, "read_scene"),
    ("read", "pellucid.data.geotiff", "Raster", "read_array"),
    ("read", "pellucid.data.geotiff", "Raster", "read_mask"),
    ("cut", "pellucid.apply.scene", "OpenScene", "cut"),
    ("network", "pellucid.apply.engine", "Engine", "restore"),
    ("collect", "pellucid.apply.engine", "Engine", "collect"),
    ("blend", "pellucid.data.tiles", "Blender", "add"),
    ("blend", "pellucid.apply.scene", "OpenScene", "mix"),
    ("write", "pellucid.data.working_file", "WorkingFile", "write"),
    ("write", "pellucid.data.working_file", "WorkingFile", "checkpoint"),
    ("COG", "pellucid.data.working_file", "WorkingFile", "finish"),
    ("preview", "pellucid.apply.remove_clouds", None, "_preview"),
)
Patch = tuple[NDArray[Any], NDArray[Any]]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096], help="sides in pixels")
    parser.add_argument("--patches", type=Path, help="folder of s1 and s2_cloudy; else they are simulated")
    parser.add_argument("--folder", type=Path, help="where the scenes go, and stay; default: a temporary one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="ground")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(restore(options.child, options.model, options.threads)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        patches = read_patches(options.patches) if options.patches else simulate_patches()
        results = {}
        for size in options.sizes:
            place = folder / f"{size}px"
            write_scene(place, patches, (size, size))
            results[size] = restore_in_child(place, options.model, options.threads)
    Console(width=140).print(table(results))


def read_patches(folder: Path) -> list[Patch]:
    """Return the (13, 256, 256) optical and (2, 256, 256) radar patches of a folder as of SEN12MS-CR."""
    patches = []
    for path in sorted((folder / "s2_cloudy").glob("*.tif")):
        with open_raster(path) as optical, open_raster(folder / "s1" / path.name) as radar:
            patches.append((optical.read().astype(np.uint16), radar.read().astype(np.float32)))
    return patches


def simulate_patches() -> list[Patch]:
    """Return simulated patches, every other one cloudy."""
    patches = []
    for seed in range(NUM_SIMULATED):
        scene = make_scene(PATCH, seed)
        optical = scene.optical
        if seed % 2:
            optical, _ = add_clouds(optical, SENTINEL2.bands, torch.Generator().manual_seed(seed))
        patches.append(((10_000 * optical).round().numpy().astype(np.uint16), scene.radar_db.numpy()))
    return patches


def write_scene(folder: Path, patches: Sequence[Patch], size: tuple[int, int]) -> None:
    """Write `s2.tif` and `s1.tif` of so many rows and columns, always the same, unless they are there."""
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    profile: dict[str, Any] = {"driver": "GTiff", "crs": "EPSG:32633", "width": size[1], "height": size[0]}
    profile |= {"transform": Affine(10, 0, 500_000, 0, -10, 5_000_000), "bigtiff": "IF_SAFER"}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "DEFLATE", "zlevel": 1}
    random = np.random.default_rng(0)
    with (
        open_raster(folder / "s2.tif", "w", count=13, dtype="uint16", nodata=0, **profile) as optical,
        open_raster(folder / "s1.tif", "w", count=2, dtype="float32", nodata=np.nan, **profile) as radar,
    ):
        optical.descriptions, radar.descriptions = SENTINEL2.bands, ("VV", "VH")
        for top in range(0, size[0], PATCH):
            count = -(-size[1] // PATCH)
            row = [_turned(patches[int(random.integers(len(patches)))], random) for _ in range(count)]
            window = Window(0, top, size[1], min(PATCH, size[0] - top))
            for file, parts in zip((optical, radar), zip(*row, strict=True), strict=True):
                file.write(np.concatenate(parts, axis=2)[:, : window.height, : size[1]], window=window)
    (folder / "done").touch()


def _turned(patch: Patch, random: np.random.Generator) -> Patch:
    """Return the patch mirrored, along none, one or both of its sides."""
    steps = 1 - 2 * random.integers(2, size=2)
    optical, radar = (values[:, :: steps[0], :: steps[1]] for values in patch)
    return optical, radar


def restore(folder: Path, model: str, threads: int) -> dict[str, float]:
    """Return the seconds of each phase while the scene in the folder is restored, and of all, and memory."""
    from pellucid.apply.memory import keep_freed_memory
    from pellucid.apply.remove_clouds import restore_scene
    from pellucid.build.method import load

    keep_freed_memory()
    torch.set_num_threads(threads)
    method = load(model)
    with measured() as seconds:
        start, start_cpu = time.monotonic(), time.process_time()
        restore_scene(folder / "s2.tif", folder / "clear.tif", sar=folder / "s1.tif", method=method)
        seconds["all"] = time.monotonic() - start
        seconds["CPU"] = time.process_time() - start_cpu
    return {**seconds, "MiB": peak_mib()}


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Yield the seconds of each phase, which grow as its functions run; "(x)" is x in other threads."""
    import importlib

    seconds: dict[str, float] = defaultdict(float)
    stacks = threading.local()
    undo: list[Callable[[], None]] = []

    def wrapped(function: Callable[..., Any], label: str) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            inner = stacks.__dict__.setdefault("inner", [])
            inner.append(0.0)
            start = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                took, of_others = time.monotonic() - start, inner.pop()
                if inner:
                    inner[-1] += took
                is_main = threading.current_thread() is threading.main_thread()
                seconds[label if is_main else f"({label})"] += took - of_others

        return run

    for label, module, owner, name in PHASES:
        place: Any = importlib.import_module(module)
        place = getattr(place, owner) if owner else place
        if before := vars(place).get(name):
            setattr(place, name, wrapped(before, label))
            undo.append(partial(setattr, place, name, before))
    try:
        yield seconds
    finally:
        for step in undo:
            step()


def table(results: dict[int, dict[str, float]]) -> Table:
    """Return a column per size: seconds of each phase, of all per megapixel, and peak memory."""
    made = Table(title="seconds")
    made.add_column("")
    for size in results:
        made.add_column(f"{size} px", justify="right")
    labels = list(dict.fromkeys(label for found in results.values() for label in found))
    for label in labels:
        made.add_row(label, *(f"{found.get(label, 0):.1f}" for found in results.values()))
    for label in ("all", "CPU"):
        per = (f"{found[label] / size**2 * 1e6:.2f}" for size, found in results.items())
        made.add_row(f"{label} per megapixel", *per)
    return made


def restore_in_child(folder: Path, model: str, threads: int) -> dict[str, float]:
    """Return what `restore` does, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scenes", "--child", str(folder), "--model", model]
    command += ["--threads", str(threads)]
    found: dict[str, float] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    return found


if __name__ == "__main__":
    main()
