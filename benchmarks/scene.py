"""The speed of a machine in one run: scenes by size and workers, start-up, networks against its convolution.

    python -m benchmarks.scene [--sizes 1024 2048 4096] [--patches $PELLUCID_DATA/sen12mscr] [--output s.json]

Scenes are those of `benchmarks.scenes`, each restored in a process of its own. The share of reading and
writing is that in the seconds of all threads. Rates of networks are shares of what a 3 x 3 convolution of 128
channels reaches.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.card import Bench, Row
from benchmarks.gpu import NETWORKS, Subject
from benchmarks.scenes import (
    Patch,
    read_patches,
    restore_in_child,
    simulate_patches,
    write_scene,
)

# Phases of `benchmarks.scenes` that read or write.
INPUT_OUTPUT = ("open", "read", "write", "COG", "preview")
# What is started, and its arguments.
STARTS: Mapping[str, tuple[str, ...]] = {
    "python": ("-c", "pass"),
    "pellucid --help": ("-m", "pellucid", "--help"),
    "import of torch": ("-c", "import torch"),
    "ground, loaded": ("-c", "import pellucid; pellucid.load('ground')"),
}
WORKERS = (1, 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096], help="sides in pixels")
    parser.add_argument("--patches", type=Path, help="folder of s1 and s2_cloudy; else they are simulated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="ground")
    parser.add_argument(
        "--tile", type=int, default=256, help="side in pixels that networks are measured with"
    )
    parser.add_argument("--output", type=Path, help="JSON file of all that was measured")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {"start-up": measure_starts()}
    patches = read_patches(options.patches) if options.patches else simulate_patches()
    with tempfile.TemporaryDirectory() as temporary:
        found["sizes"] = measure_sizes(
            Path(temporary), patches, options.sizes, options.model, options.threads
        )
        found["workers"] = measure_workers(Path(temporary), patches, min(options.sizes), options.model)
    print(report(found), flush=True)
    rows = measure_networks(options.tile)
    found["networks"] = [(row.network, row.precision, row.milliseconds, row.share) for row in rows]
    print("", Row.HEAD, *rows, sep="\n")
    if options.output:
        options.output.write_text(json.dumps(found, indent=1))


def measure_starts() -> dict[str, float]:
    """Return the seconds until each of `STARTS` has ended, the best of three."""
    return {name: min(_seconds([sys.executable, *rest]) for _ in range(3)) for name, rest in STARTS.items()}


def measure_sizes(
    folder: Path, patches: Sequence[Patch], sizes: Sequence[int], model: str, threads: int
) -> dict[int, dict[str, float]]:
    """Return, by side in pixels, seconds of all and of processors per megapixel, MiB, share of files."""
    results = {}
    for size in sizes:
        place = folder / f"{size}px"
        write_scene(place, patches, (size, size))
        found = restore_in_child(place, model, threads)
        shutil.rmtree(place)
        results[size] = {
            "seconds": found["all"] / size**2 * 1e6,
            "processor": found["CPU"] / size**2 * 1e6,
            "MiB": found["MiB"],
            "files": share_of_files(found),
        }
    return results


def share_of_files(seconds: Mapping[str, float]) -> float:
    """Return the share of reading and writing in the seconds of all phases, in whatever thread."""
    phases = {name: s for name, s in seconds.items() if name not in ("all", "CPU", "MiB")}
    files = sum(s for name, s in phases.items() if name.strip("()") in INPUT_OUTPUT)
    return files / max(sum(phases.values()), 1e-9)


def measure_workers(folder: Path, patches: Sequence[Patch], size: int, model: str) -> dict[int, float]:
    """Return the seconds of the command for two scenes, by the number of its processes."""
    for name in ("first", "second"):
        write_scene(folder / name, patches, (size, size))
        for kind in ("s2", "s1"):
            (folder / kind).mkdir(exist_ok=True)
            shutil.move(folder / name / f"{kind}.tif", folder / kind / f"{name}.tif")
    command = [
        sys.executable,
        "-m",
        "pellucid",
        "remove-clouds",
        str(folder / "s2" / "*.tif"),
        "--model",
        model,
    ]
    command += ["--sar-dir", str(folder / "s1")]
    return {
        count: _seconds([*command, "-o", str(folder / f"by_{count}"), "--workers", str(count)])
        for count in WORKERS
    }


def measure_networks(tile: int) -> list[Row]:
    """Return the rows of each network at its published size, in bf16 and fp32, on this machine's CPU."""
    bench = Bench(seconds=600, tiles=1, size=tile, small=False, output=None)
    bench.device = torch.device("cpu")
    bench.part("machine", partial(bench.machine, side=64))
    for name in NETWORKS:
        subject = Subject(name, bench)
        bench.measure(name, "bf16", "ours", subject.run("bf16"))
        bench.measure(name, "fp32", "ours", subject.run("fp32"))
    return [row for row in bench.rows if row.variant == "ours"]


def report(found: Mapping[str, Any]) -> str:
    """Return all but the networks as Markdown."""
    lines = ["| start-up | s |", "| --- | --- |"]
    lines += [f"| {name} | {seconds:.2f} |" for name, seconds in found["start-up"].items()]
    lines += ["", "| size | s per megapixel | processor, s per megapixel | peak memory | reading, writing |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for size, each in found["sizes"].items():
        lines.append(
            f"| {size} px | {each['seconds']:.2f} | {each['processor']:.2f} | {each['MiB']:.0f} MiB "
            f"| {each['files']:.0%} |"
        )
    sizes = list(found["sizes"].values())
    first, last = sizes[0], sizes[-1]
    lines += [
        "",
        f"From the smallest to the largest: {last['processor'] / first['processor'] - 1:+.0%} processor time "
        f"per megapixel, {last['MiB'] / first['MiB'] - 1:+.0%} memory.",
        "",
        "| two scenes, workers | s |",
        "| --- | --- |",
        *(f"| {count} | {seconds:.1f} |" for count, seconds in found["workers"].items()),
    ]
    return "\n".join(lines)


def _seconds(command: Sequence[str]) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
