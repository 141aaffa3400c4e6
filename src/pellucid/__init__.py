"""Restore what a sensor could not see: clouds off Sentinel-2 scenes with the help of radar."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Batch", "evaluate", "load", "restore_scene", "upscale"]

_HOMES = {
    "Batch": "pellucid.data.batch",
    "evaluate": "pellucid.evaluation.evaluate",
    "load": "pellucid.build.method",
    "restore_scene": "pellucid.apply.remove_clouds",
    "upscale": "pellucid.apply.upscale",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds, `pellucid --help` must not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
