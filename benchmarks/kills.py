"""Kill the tasks of a job array at random moments, and see that nothing is lost.

    python -m benchmarks.kills [--kills 20] [--parts 3] [--scenes 6] [--size 512]

Every task runs `pellucid remove-clouds --part I/N` in a session of its own, which a SIGKILL ends as a whole.
At the end every part runs once more, and each result is compared, bit by bit, with that of a scene restored
alone.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.scenes import simulate_patches, write_scene
from pellucid.data.checked_raster import are_equal

START = "from pellucid.cli import main; main()"


def main() -> None:
    """Kill, finish, compare, and print what was found; exit with 1 if anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--size", type=int, default=512, help="side of a scene in pixels")
    parser.add_argument("--model", default="ground")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_scenes(folder, options.scenes, options.size)
        kill_at_random(folder, options.kills, options.parts, options.model)
        codes = [start(folder, f"{i}/{options.parts}", options.model).wait() for i in _parts(options.parts)]
        lost = compare(folder, options.model)
        left = [path.name for path in (folder / "out").glob(".*") if path.name != ".pellucid"]
    print(f"{options.kills} kills, exit codes {codes}, results that differ {lost}, files left {left}")
    sys.exit(int(bool(lost or left or any(codes))))


def make_scenes(folder: Path, count: int, size: int) -> None:
    """Write so many scenes with radar of the same names."""
    patches = simulate_patches()
    for name in ("scenes", "s1"):
        (folder / name).mkdir()
    for i in range(count):
        write_scene(folder / f"{i}", [*patches[i % 2 :], *patches[: i % 2]], (size, size))
        for name, place in (("s2.tif", "scenes"), ("s1.tif", "s1")):
            (folder / f"{i}" / name).rename(folder / place / f"{i}.tif")


def kill_at_random(folder: Path, kills: int, parts: int, model: str) -> None:
    """Run part after part, and kill each at a random moment before it would end."""
    random = np.random.default_rng(0)
    start_of_one = time.monotonic()
    subprocess.run([sys.executable, "-c", "import pellucid.apply.remove_clouds"], check=True)
    least = time.monotonic() - start_of_one
    for kill in range(kills):
        task = start(folder, f"{1 + kill % parts}/{parts}", model)
        time.sleep(least * float(random.uniform(1, 6)))
        os.killpg(task.pid, signal.SIGKILL)
        print(f"kill {kill + 1}: exit code {task.wait()}", flush=True)


def start(folder: Path, part: str, model: str) -> "subprocess.Popen[bytes]":
    """Start a part of the array."""
    words = ["remove-clouds", str(folder / "scenes" / "*.tif"), "--sar-dir", str(folder / "s1"), "-m", model]
    words += ["-o", str(folder / "out"), "--part", part, "--workers", "1", "--tile", "128"]
    return subprocess.Popen(
        [sys.executable, "-c", START, *words], start_new_session=True, stdout=subprocess.DEVNULL
    )


def compare(folder: Path, model: str) -> list[str]:
    """Return the names of results that are not what a scene alone becomes."""
    lost = []
    for scene in sorted((folder / "scenes").iterdir()):
        alone, out = folder / f"alone_{scene.name}", folder / "out" / scene.name
        words = ["remove-clouds", str(scene), "--sar", str(folder / "s1" / scene.name), "-o", str(alone)]
        words += ["-m", model, "--tile", "128"]
        subprocess.run([sys.executable, "-c", START, *words], check=True, stdout=subprocess.DEVNULL)
        if not out.exists() or not are_equal(out, alone, side=1024):
            lost.append(scene.name)
    return lost


def _parts(count: int) -> range:
    return range(1, count + 1)


if __name__ == "__main__":
    main()
