"""What an overcast half of a scene gains from the sums of its clear half, `--shared-context`.

    python -m benchmarks.shared_context --data $PELLUCID_DATA/oscd_two_dates [--cities 8]

Each city is cut in two, and one half is hidden, wholly or but for a tenth of its rows; it is restored with
its radar (VV), alone and with the sums of the other half. PSNR in dB over what was hidden, in all bands.
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from pellucid.apply.options import SceneOptions
from pellucid.apply.remove_clouds import look_at_scene, restore_scene
from pellucid.build.method import load
from pellucid.data.gdal_open import open_raster
from pellucid.methods.method import Method

# Shares of a half that are hidden.
HIDDEN = (1.0, 0.9)
BARE = SceneOptions(preview=False, html=False, painted=False, sidecars=False, resume=False)


def main() -> None:
    """Measure and print a line for each half, and the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of s2_newer and s1_newer")
    parser.add_argument("--cities", type=int, default=8)
    parser.add_argument("--model", default="ground")
    options = parser.parse_args()
    method, found = load(options.model), defaultdict[float, list[tuple[float, float]]](list)
    for path in sorted((options.data / "s2_newer").glob("*.tif"))[: options.cities]:
        for is_left in (True, False):
            for hidden in HIDDEN:
                with tempfile.TemporaryDirectory() as folder:
                    radar = options.data / "s1_newer" / path.name
                    halves = cut(Path(folder), path, radar, hidden, is_left=is_left)
                    alone, shared = restore(halves, method)
                found[hidden].append((alone, shared))
                print(f"{path.stem}, hidden {hidden:.0%}: alone {alone:.2f} dB, shared {shared:.2f} dB")
    for hidden, pairs in found.items():
        alone, shared = np.mean(pairs, axis=0)
        better = sum(b > a for a, b in pairs)
        print(f"hidden {hidden:.0%}: {alone:.2f} -> {shared:.2f} dB, better in {better} of {len(pairs)}")


def cut(folder: Path, optical: Path, radar: Path, hidden: float, *, is_left: bool) -> list[Path]:
    """Write both halves, each with radar and cloud map in its folder; return these, the hidden one first."""
    with open_raster(optical) as file:
        height, width = file.height, file.width // 2
    windows = [Window(0, 0, width, height), Window(width, 0, width, height)]
    folders = [folder / "hidden", folder / "clear"]
    for place, window in zip(folders, windows if is_left else windows[::-1], strict=True):
        place.mkdir()
        cloud = np.zeros((1, height, width), np.uint8)
        if place is folders[0]:
            cloud[:, round(height * (1 - hidden)) :] = 1
        _write(place / "s2.tif", optical, window)
        _write(place / "s1.tif", radar, window)
        _write(place / "cloud.tif", optical, window, cloud)
    return folders


def _write(path: Path, source: Path, window: Window, values: NDArray[np.uint8] | None = None) -> None:
    """Write a window of a file, or other values in its place."""
    with open_raster(source) as file:
        stored = file.read(window=window) if values is None else values
        place = {"crs": file.crs, "transform": file.window_transform(window), "nodata": file.nodata}
        size = {"count": len(stored), "height": stored.shape[1], "width": stored.shape[2]}
        place |= {} if values is None else {"nodata": None}
        with open_raster(path, "w", driver="GTiff", dtype=stored.dtype, **place, **size) as copy:
            copy.write(stored)
            if values is None:
                copy.descriptions = file.descriptions


def restore(halves: list[Path], method: Method) -> tuple[float, float]:
    """Return the PSNR over what is hidden of the first half, in dB: alone, and with the sums of the other."""
    sums = [half / "a.sums" for half in halves]
    guides: list[dict[str, Any]]
    guides = [{"sar": half / "s1.tif", "cloud": half / "cloud.tif", "method": method} for half in halves]
    for half, path, given in zip(halves, sums, guides, strict=True):
        look_at_scene(half / "s2.tif", half / "out.tif", context=[path], options=BARE, **given)
    with open_raster(halves[0] / "s2.tif") as file, open_raster(halves[0] / "cloud.tif") as cloud:
        truth, is_hidden = file.read().astype(float), cloud.read(1) > 0
    found = []
    for context in (sums[:1], sums):
        out = halves[0] / "out.tif"
        restore_scene(halves[0] / "s2.tif", out, context=context, options=BARE, **guides[0])
        with open_raster(out) as file:
            error = (file.read() - truth)[:, is_hidden] / 10_000
        found.append(float(-10 * np.log10(np.square(error).mean())))
    return found[0], found[1]


if __name__ == "__main__":
    main()
