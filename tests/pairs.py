"""Pairs of radar and pictures in colour, as small as a training can use."""

from pathlib import Path

import numpy as np
from PIL import Image
from tests.datasets.test_sar_optical import make_folder

COLORS = {"tropical": (30, 160, 40), "temperate": (150, 140, 90), "arctic": (230, 235, 240)}
SIDE, PER_REGION = 32, 3


def write_pairs(root: Path) -> Path:
    """Write three folders of radar that is noise, whose pictures have the colour of their region."""
    words = tuple((region, "summer") for region in COLORS for _ in range(PER_REGION))
    for number in range(3):
        make_folder(root, number, words, side=SIDE)
        for i, (region, _) in enumerate(words):
            noise = np.random.default_rng([number, i]).normal(0, 20, (SIDE, SIDE, 3))
            pixels = (np.array(COLORS[region]) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"r_{number:03d}/s2_{number:03d}/img_p{i}.png")
    return root


def prompt(region: str) -> str:
    """Return the prompt of a region."""
    return f"Colorise image, Region: {region}, Season: summer"
