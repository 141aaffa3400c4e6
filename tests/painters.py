"""A method that paints radar in the colour that the prompt names, for the tests of colorization."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.data.ranges import PICTURE, SENTINEL1, ValueRange
from pellucid.data.tokenizer import Tokenizer, learn_tokenizer
from pellucid.generative.noise import Noise
from pellucid.methods.method import Method

PROMPTS = ("Colorise image, Region: tropical, Season: summer", "Colorise image, Region: arctic")
PAINT = {"tropical": (0.2, 1.0, 0.2), "arctic": (1.0, 1.0, 1.0)}


@dataclass
class Painter(Method):
    """Multiplies the radar, or the guess, by a colour; adds noise where asked to."""

    spread: float = 0.0
    stride: int = 8
    scale: int = 1
    is_random: bool = True
    takes_text: bool = True
    radar_optional: bool = False
    optical: ValueRange = PICTURE
    radar: ValueRange = field(default_factory=lambda: SENTINEL1.select(("VV",)))
    tokenizer: Tokenizer | None = field(default_factory=lambda: learn_tokenizer(PROMPTS, length=16))
    mean_spectrum: tuple[float, ...] | None = None
    mean_colors: dict[str, tuple[float, ...]] | None = None
    sampling: Any = None

    def __post_init__(self) -> None:
        self.network = nn.Identity()
        self.seen: list[Batch] = []

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        raise NotImplementedError

    def restore(
        self,
        batch: Batch,
        noise: Noise | None = None,
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
    ) -> Tensor:
        self.seen.append(batch)
        image = self.network(batch.degraded)
        if self.spread and noise:
            image = image + self.spread * noise(0, 3)
        return (image * torch.tensor([paint(text) for text in batch.prompt or [""]])[..., None, None]).clamp(
            0, 1
        )


def paint(prompt: str) -> tuple[float, ...]:
    """Return the colour that a prompt names; grey where it names none."""
    return next((color for word, color in PAINT.items() if word in prompt), (0.5, 0.5, 0.5))


def pattern(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return noise over all values, so that every seam would show."""
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def save_radar(path: Path, height: int = 20, width: int = 24, seed: int = 0) -> Path:
    """Write a grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pattern(height, width, seed)).save(path)
    return path


def read(path: Path) -> NDArray[np.uint8]:
    """Return a picture, (H, W, 3)."""
    return np.asarray(Image.open(path))
