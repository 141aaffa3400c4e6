"""Checkpoints as training scripts leave them."""

from pathlib import Path
from typing import Any

import torch


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path
