"""A whole Sentinel-2 tile restored once: time, memory, bytes read and written, room on the disk.

    python -m benchmarks.full_tile --folder SCRATCH [--side 10980] [--rows 10980] [--format jp2]

The tile is a made-up Level-1C product, a mosaic of patches (those of SEN12MS-CR where they are given), its 13
bands as JPEG 2000 of 10, 20 and 60 m, with radar as a GeoTIFF; or, with `--format tif`, one GeoTIFF of 10 m.
`pellucid remove-clouds` restores it in a process of its own, which is looked at every two seconds. A full
tile takes about 10 GB in the folder, which is emptied at the end, but for `--keep`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window
from tests.products import START, TILE, UPPER_LEFT, metadata

from benchmarks.scenes import PATCH, Patch, read_patches, simulate_patches, write_scene
from pellucid.data.gdal_open import open_raster
from pellucid.data.ranges import SENTINEL2
from pellucid.data.safe_product import NATIVE_M

# Seconds between two looks at the process.
EVERY = 2.0
RUN = "from pellucid.cli import main; main()"
GRANULE = f"GRANULE/L1C_{TILE}_A041478_20230601T101027"
NAME = f"S2A_MSIL1C_{START}_N0510_R022_{TILE}_20230601T161234.SAFE"


@dataclass
class Taken:
    """What the process took: seconds, bytes."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    read: int = 0  # by all calls, from whatever cache
    read_from_disk: int = 0
    written: int = 0
    peak_disk: int = 0  # of the results, finished and not


def main() -> None:
    """Make the tile, estimate, restore, and print what it took as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where everything goes; made if missing")
    parser.add_argument("--side", type=int, default=10_980, help="in pixels of 10 m, a multiple of 6")
    parser.add_argument("--rows", type=int, help="of a strip, in pixels of 10 m, a multiple of 6")
    parser.add_argument("--format", choices=("jp2", "tif"), default="jp2")
    parser.add_argument("--patches", type=Path, help="folder of s1 and s2_cloudy; else they are simulated")
    parser.add_argument("--keep", action="store_true", help="keep the tile and the result")
    parser.add_argument("words", nargs="*", help="further words for remove-clouds, after --")
    options = parser.parse_args()
    patches = read_patches(options.patches) if options.patches else simulate_patches()
    rows = options.rows or options.side
    place = options.folder / f"tile_{rows}_{options.side}_{options.format}"
    start = time.monotonic()
    optical = write_tile(place, patches, (rows, options.side), options.format)
    say(made=f"{optical}", bytes=size_of(place), seconds=round(time.monotonic() - start))
    out = place / "out"
    words = ["remove-clouds", str(optical), "--sar", str(place / "s1.tif"), "-o", str(out / "clear.tif")]
    words += [*options.words, "--json"]
    try:
        estimate = subprocess.run([*command(words), "--estimate"], check=True, stdout=subprocess.PIPE)
        say(estimate=json.loads(estimate.stdout))
        taken, report = watch(command(words), out)
        report = {k: report[k] for k in ("num_pixels", "num_valid", "num_restored", "seconds")}
        say(taken=asdict(taken), report=report, results=size_of(out))
    finally:
        shutil.rmtree(place if not options.keep else out / "none", ignore_errors=True)


def say(**found: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps(found), flush=True)


def command(words: Sequence[str]) -> list[str]:
    """Return the command line of pellucid."""
    return [sys.executable, "-c", RUN, *words]


def write_tile(folder: Path, patches: Sequence[Patch], size: tuple[int, int], kind: str) -> Path:
    """Write a tile of so many rows and columns, unless it is there, with `s1.tif` on its grid.

    Returns:
        its optical scene or product.
    """
    optical = folder / (NAME if kind == "jp2" else "s2.tif")
    if kind == "tif":
        write_scene(folder, patches, size)
    if (folder / "done").exists():
        return optical
    images = []
    for i, band in enumerate(SENTINEL2.bands):
        images.append(f"{GRANULE}/IMG_DATA/{TILE}_{START}_{band}")
        path = optical / f"{images[-1]}.jp2"
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".tif")
        _write_mosaic(made, [optical[i : i + 1] for optical, _ in patches], size, NATIVE_M.get(band, 20))
        rasterio.shutil.copy(made, path, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
        made.unlink()
    _write_mosaic(folder / "s1.tif", [radar for _, radar in patches], size, 10)
    text = metadata("L1C", NAME, "05.10", images, (0,) * 13, 10_000)
    (optical / "MTD_MSIL1C.xml").write_text(text, encoding="utf-8")
    (folder / "done").touch()
    return optical


def _write_mosaic(path: Path, patches: Sequence[NDArray[Any]], size: tuple[int, int], metres: int) -> None:
    """Write (bands, rows, columns) pixels of 10 m, every second or sixth of them for coarser ones."""
    step = metres // 10
    place = Affine(metres, 0, UPPER_LEFT[0], 0, -metres, UPPER_LEFT[1])
    profile: dict[str, Any] = {"width": size[1] // step, "height": size[0] // step, "transform": place}
    profile |= {"count": len(patches[0]), "dtype": patches[0].dtype, "crs": "EPSG:32633", "tiled": True}
    profile |= {"blockxsize": 512, "blockysize": 512, "compress": "DEFLATE", "zlevel": 1}
    with open_raster(path, "w", driver="GTiff", bigtiff="IF_SAFER", **profile) as file:
        if len(patches[0]) > 1:
            file.descriptions = ("VV", "VH")
        for top, row in _rows(patches, size):
            part = row[:, -top % step :: step, ::step]
            if part.shape[1]:
                file.write(part, window=Window(0, -(-top // step), size[1] // step, part.shape[1]))


def _rows(patches: Sequence[NDArray[Any]], size: tuple[int, int]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield strips of patches, mirrored at random, the same for each band: first row, and pixels."""
    random, (rows, columns) = np.random.default_rng(0), size
    for top in range(0, rows, PATCH):
        chosen = random.integers(len(patches), size=-(-columns // PATCH))
        turned = random.integers(2, size=(len(chosen), 2))
        parts = [
            patches[i][:, :: 1 - 2 * up, :: 1 - 2 * left]
            for i, (up, left) in zip(chosen, turned, strict=True)
        ]
        yield top, np.concatenate(parts, axis=2)[:, : rows - top, :columns]


def watch(words: Sequence[str], out: Path) -> tuple[Taken, dict[str, Any]]:
    """Run a command and return what it took, and the JSON that it printed."""
    taken, start = Taken(), time.monotonic()
    log = out.with_suffix(".json")
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        _look(taken, process.pid, out)
        time.sleep(EVERY)
    taken.seconds = time.monotonic() - start
    taken.cpu_seconds = usage.ru_utime + usage.ru_stime
    taken.peak_memory = max(taken.peak_memory, usage.ru_maxrss * 1024)
    if status:
        sys.exit(f"remove-clouds ended with {os.waitstatus_to_exitcode(status)}")
    return taken, json.loads(log.read_text(encoding="utf-8"))


def _look(taken: Taken, pid: int, out: Path) -> None:
    """Take down what a process has read and written so far, and the size of its results."""
    with suppress(OSError, ValueError):
        lines = (Path("/proc") / str(pid) / "io").read_text(encoding="ascii").splitlines()
        counts = {name: int(number) for name, number in (line.split(": ") for line in lines)}
        taken.read, taken.read_from_disk = counts["rchar"], counts["read_bytes"]
        taken.written = counts["wchar"]
    taken.peak_disk = max(taken.peak_disk, size_of(out))


def size_of(folder: Path) -> int:
    """Return the bytes that the files of a folder take on the disk."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            total += path.stat().st_blocks * 512 if path.is_file() else 0
    return total


if __name__ == "__main__":
    main()
