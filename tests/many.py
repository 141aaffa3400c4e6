"""Many small scenes, and a small model that restores them."""

import os
import sys
from pathlib import Path

import numpy as np
from scenes import BANDS, ground, read, write
from typer.testing import CliRunner, Result

from pellucid.build.method import build_method
from pellucid.build.run import save_run
from pellucid.cli import app
from pellucid.config import load_config

ROOT = Path(__file__).parents[1]
QUICK = ("--no-preview", "--no-html", "--no-painted", "--tile", "32", "--overlap", "8")


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def save_model(folder: Path) -> Path:
    """A tiny model, not trained."""
    config = load_config(ROOT / "configs" / "cross_attention_tiny.yaml")
    save_run(folder, config=config, method=build_method(config))
    return folder


def make_scenes(folder: Path, count: int = 3, size: int = 96) -> Path:
    """Scenes with a cloud each, and radar of the same names; return the pattern."""
    for i in range(count):
        values = ground(size, size, seed=i)
        values[:, : size // 3] = 7000
        write(folder / "scenes" / f"{i}.tif", values, BANDS)
        sar = np.random.default_rng(i).uniform(-20, -5, (2, size, size)).astype(np.float32)
        write(folder / "s1" / f"{i}.tif", sar, ("VV", "VH"))
    return folder / "scenes" / "*.tif"


def whole(folder: Path, model: Path, count: int = 3) -> dict[str, np.ndarray]:
    """What each scene becomes when it is restored alone."""
    found = {}
    for i in range(count):
        out = folder / f"alone_{i}.tif"
        scene, sar = folder / "scenes" / f"{i}.tif", folder / "s1" / f"{i}.tif"
        result = call("remove-clouds", scene, "--sar", sar, "-o", out, "-m", model, *QUICK)
        assert result.exit_code == 0, result.output
        found[f"{i}.tif"] = read(out)
    return found


def environment(folder: Path) -> dict[str, str]:
    """Where `pellucid` is a command, as it is where it is installed."""
    program = folder / "bin" / "pellucid"
    program.parent.mkdir()
    start = "from pellucid.cli import main; main()"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    return os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
