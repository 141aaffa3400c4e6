"""Slices in files, and a method that enlarges them, for the tests of the upscaler."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pellucid.apply.options import SliceOptions
from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SLICE, ValueRange
from pellucid.data.resample import enlarge
from pellucid.generative.noise import Noise
from pellucid.methods.method import Method
from pellucid.methods.sampling import Sampling

SMALL = SliceOptions(tile=32, overlap=8, device="cpu", preview=False, html=False)


@dataclass
class Fake(Method):
    """Enlarges by bicubic interpolation, adds noise where asked to, and says which step it takes."""

    scale: int = 4
    stride: int = 8
    spread: float = 0.0
    is_random: bool = True
    optical: ValueRange = SLICE
    radar: ValueRange = field(default_factory=lambda: SENTINEL1.select(()))
    sampling: Sampling | None = None
    stop_after: int | None = None

    def __post_init__(self) -> None:
        self.network = nn.Identity()
        self.seen: list[Tensor] = []

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        raise NotImplementedError

    def restore(
        self,
        batch: Batch,
        noise: Noise | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        if len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(batch.degraded)
        steps = self.sampling.steps if self.sampling else 0
        for step in range(steps):
            if progress:
                progress(step + 1, steps)
        image = batch.enlarged()
        if self.spread and noise:
            image = image + self.spread * noise(0, 1)
        return image.clamp(0, 1)


def pattern(height: int, width: int, dtype: str = "uint8", *, seed: int = 0) -> NDArray[Any]:
    """Return noise over most of the range of a type, so that every seam would show."""
    values = 0.2 + 0.6 * np.random.default_rng(seed).random((height, width))
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    return (values * white).astype(dtype)


def bicubic(values: NDArray[Any], factor: int, white: float) -> NDArray[np.float64]:
    """Return the values enlarged in one piece, in grey values."""
    low = torch.from_numpy(values.astype(np.float32) / np.float32(white))[None, None]
    return enlarge(low, factor).clamp(0, 1)[0, 0].double().numpy() * white


def save(path: Path, values: NDArray[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values, photometric="minisblack", metadata=None)
    return path


def read(path: Path) -> NDArray[Any]:
    return np.asarray(Image.open(path)) if path.suffix == ".png" else tifffile.imread(path)
