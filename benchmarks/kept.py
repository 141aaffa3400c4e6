"""Figures of long runs, kept as JSON, so that a command can be stopped and called again; whole trainings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pellucid.config import Config
from pellucid.data.files import write_text
from pellucid.train.checkpoints import CHECKPOINTS
from pellucid.train.run_training import run_training


def keep(file: Path, measure: Callable[[], Any]) -> Any:
    """Return what `file` holds; where it is missing, what `measure` returns, which is written there."""
    if not file.exists():
        write_text(file, json.dumps(measure(), indent=1) + "\n")
    return json.loads(file.read_text(encoding="utf-8"))


def train_whole(config: Config, folder: Path) -> None:
    """Train to the end, going on with a run that was stopped.

    Raises:
        KeyboardInterrupt: if the training is stopped before its end, by Ctrl-C or a terminate signal: what it
            has learned until then must not be measured in its place.
    """
    report = run_training(config, folder, resume=(folder / CHECKPOINTS).is_dir())
    if report.status == "interrupted":
        raise KeyboardInterrupt
