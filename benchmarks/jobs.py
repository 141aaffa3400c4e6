"""Commands over small inputs that they make themselves, run in children that can be killed at any moment."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pellucid.build.run import save_run
from pellucid.cli import main
from pellucid.config import load_config
from pellucid.train.run_training import start_method

CONFIGS = Path(__file__).parents[1] / "configs"
TRAINING = CONFIGS / "cross_attention_tiny.yaml"
# A command that takes longer hangs, in seconds.
LONGEST = 300.0
# Files of a run that say when it was trained and how long that took, and those from which it can go on.
TIMED, CHECKPOINTS = (
    (
        *("card.md", "metrics.json", "history.csv", "evaluations.*", "evaluation.html", "benchmark.*"),
        *("events.out.*", "*.ckpt", "clear.json", "figures.json"),
    ),
    "*.ckpt",
)
# Records of many scenes, and what in them are times.
RECORDS, TIMES = ".pellucid/*.json", ("time", "seconds")


@dataclass(frozen=True)
class Job:
    """A command; `{inputs}` in it stands for the folder that `make_inputs` has filled.

    Attributes:
        command: the arguments of pellucid; outputs are relative, beginning with "out".
        source: the input that is damaged to see what the command does, below the inputs; "": none.
        needs: what is run among the inputs first, each once.
        resume: added where a checkpoint is there.
        is_numbered: it makes a new folder in its output each time; the last that is whole counts.
    """

    command: str
    source: str
    resume: str = ""
    is_numbered: bool = False
    needs: tuple[str, ...] = ()

    def made(self, folder: Path) -> dict[str, str]:
        """Return the digests of what the command has made in a folder, by file."""
        if not self.is_numbered:
            return digests(folder)
        whole = sorted(folder.glob("out/*/metrics.json"), key=lambda path: path.stat().st_mtime_ns)
        if not whole:
            return digests(folder)
        listed = json.loads((folder / "out" / "evaluations.json").read_text(encoding="utf-8"))
        names = sorted(path.name for path in folder.glob("out/*/"))
        return digests(whole[-1].parent) if names == sorted(row["name"] for row in listed) else {}

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        """Return what is typed in a folder, perhaps after a failure."""
        words = [word.format(inputs=inputs) for word in self.command.split()]
        return words + ([self.resume] if self.resume and any(folder.rglob(CHECKPOINTS)) else [])


JOBS = {
    "remove-clouds": Job(
        "remove-clouds {inputs}/scene.tif --sar {inputs}/radar.tif -o out.tif --uncertainty out_std.tif "
        "--tile 64 --overlap 16 --device cpu",
        "scene.tif",
    ),
    "many": Job("remove-clouds {inputs}/scenes/*.tif -o out --workers 2 --device cpu", "scenes/1.tif"),
    "clouds": Job("clouds {inputs}/scenes -o out --mask out_masks --scorer built-in", "scenes/1.tif"),
    "upscale": Job("upscale {inputs}/slices -o out --tile 64 --device cpu", "slices/1.tif"),
    "volume": Job("upscale {inputs}/slices -o out.tif --volume --tile 64 --device cpu", "slices/1.tif"),
    "colorize": Job(
        "colorize {inputs}/pictures -o out --steps 2 --tile 64 --overlap 16 --device cpu", "pictures/1.png"
    ),
    "evaluate": Job(
        "evaluate {inputs}/run --data {inputs}/pairs --split all -o out", "pairs/data.csv", is_numbered=True
    ),
    "benchmark": Job(
        "benchmark {inputs}/pairs --split all --models {inputs}/run --no-cost --device cpu -o out",
        "pairs/data.csv",
    ),
    "explain": Job(
        "explain {inputs}/scene.tif --sar {inputs}/radar.tif -o out.png --tile 64 --device cpu", "scene.tif"
    ),
    "export": Job("export {inputs}/run out.onnx", "run/config.yaml"),
    "data-check": Job("data check {inputs}/pairs --report out.json --sheet out.png", "pairs/data.csv"),
    "audit": Job("audit {inputs}/pairs --report out.json --sheet out.png", "pairs/data.csv"),
    "average": Job(
        "average {inputs}/trained -o out --last 2",
        "",
        needs=(f"train {TRAINING} --run trained --set train.checkpoint_every=2",),
    ),
    "compare": Job(
        "compare {inputs}/figures/a {inputs}/figures/b -o out.json",
        "figures/a/metrics.json",
        needs=tuple(f"evaluate run --data pairs --split all -o figures --name {name}" for name in "ab"),
    ),
    "verify": Job("verify {inputs}/run --device cpu", "run/config.yaml", needs=("verify run --renew",)),
    "demo": Job("demo out --size 128 --model {inputs}/run", "run/config.yaml"),
    "simulate": Job("simulate out --count 5 --size 96 --clear {inputs}/clear", "clear/1.tif"),
    "import": Job("import cross-attention {inputs}/net.pth out", "net.pth"),
    "train": Job(f"train {TRAINING} --run out --set train.checkpoint_every=2", "", "--resume"),
}


def make_inputs(folder: Path) -> None:
    """Write everything that the commands read."""
    folder.mkdir()
    run_to_end(["simulate", "pairs", "--count", "3", "--size", "160"], folder, folder / "log.txt")
    first, pairs = "synthetic_0.tif", folder / "pairs"
    shutil.copyfile(pairs / "s2_cloudy" / first, folder / "scene.tif")
    shutil.copyfile(pairs / "s1" / first, folder / "radar.tif")
    for name, sub in (("scenes", "s2_cloudy"), ("clear", "s2_cloudfree")):
        (folder / name).mkdir()
        for i in range(3):
            shutil.copyfile(pairs / sub / f"synthetic_{i}.tif", folder / name / f"{i}.tif")
    rng = np.random.default_rng(0)
    for name, suffix in (("slices", ".tif"), ("pictures", ".png")):
        (folder / name).mkdir()
        for i in range(3):
            grey = np.repeat(np.repeat(rng.integers(0, 256, (12, 12)), 4, 0), 4, 1).astype(np.uint8)
            Image.fromarray(grey).save(folder / name / f"{i}{suffix}")
    in_child(lambda: _save_models(folder), folder, folder / "log.txt")


def _save_models(folder: Path) -> None:
    """Write a run folder with random weights, and a checkpoint as people publish them."""
    config = load_config(TRAINING)
    method = start_method(config)
    save_run(folder / "run", config=config, method=method)
    torch.save(method.network.state_dict(), folder / "net.pth")


def start(work: Callable[[], object], folder: Path, log: Path) -> int:
    """Start work in a folder, in a child that has the libraries loaded already; return its number.

    What it prints goes to the log. It is a group of its own, so that processes which it leaves are found.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # which the log is to show, as the interpreter would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def pellucid(arguments: list[str]) -> Callable[[], None]:
    """Return what runs the command line."""

    def work() -> None:
        sys.argv = ["pellucid", *arguments]
        torch.set_num_threads(1)
        main()

    return work


def wait(child: int, seconds: float = LONGEST) -> int | None:
    """Return the exit code of a child, minus the signal that ended it, or None after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.005)


def kill(child: int) -> None:
    """Kill a child, but not the processes that it has started, which have to notice."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def leaves_processes(child: int, seconds: float = 10.0) -> bool:
    """Return whether processes that an ended child has started live on for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(child, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    return True


def in_child(work: Callable[[], object], folder: Path, log: Path) -> int:
    """Do work in a child; return its exit code, after a limit that of a killed one."""
    child = start(work, folder, log)
    code = wait(child)
    if code is None:
        kill(child)
        return -signal.SIGKILL
    return code


def run_to_end(arguments: list[str], folder: Path, log: Path) -> int:
    """Run the command line in a folder; return its exit code."""
    return in_child(pellucid(arguments), folder, log)


def digests(folder: Path) -> dict[str, str]:
    """Return what lies in a folder, hidden files too, but for files of a run that hold times.

    Records of scenes count without their times.
    """
    return {
        path.relative_to(folder).as_posix(): sha256(_content(path)).hexdigest()
        for path in _files(folder)
        if not any(path.match(pattern) for pattern in TIMED)
    }


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if not path.match(RECORDS):
        return content
    return repr({name: value for name, value in json.loads(content).items() if name not in TIMES}).encode()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def is_refusal(code: int, log: Path) -> bool:
    """Return whether a command ended with exit code 2 and one sentence."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return code == 2 and text.count("error: ") == 1 and "Traceback" not in text


def lists_failures(code: int, log: Path) -> bool:
    """Return whether a command over a folder ended with a list of the files that it could not do or use."""
    text = log.read_text(encoding="utf-8", errors="replace")
    is_listed = any(word in text for word in ("failed: ", "unusable ", "missing file: "))
    return code == 1 and is_listed and "Traceback" not in text
