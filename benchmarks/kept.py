"""Figures of long runs, kept as JSON, so that a command can be stopped and called again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pellucid.data.files import write_text


def keep(file: Path, measure: Callable[[], Any]) -> Any:
    """Return what `file` holds; where it is missing, what `measure` returns, which is written there."""
    if not file.exists():
        write_text(file, json.dumps(measure(), indent=1) + "\n")
    return json.loads(file.read_text(encoding="utf-8"))
