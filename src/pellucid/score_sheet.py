"""Pictures of some of the images of an evaluation, with their figures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.ranges import PICTURE
from pellucid.image_score import BASELINES, MODEL, ImageScore, get_target
from pellucid.methods.autoencoding import Autoencoding
from pellucid.methods.method import Method, result_range
from pellucid.pictures import gray_to_rgb, radar_to_rgb, save_picture, sheet, to_picture

# Mean absolute error over bands, in [0, 1], that the sheet shows as white; of an autoencoder; of colours.
ERROR_SHOWN, CODING_ERROR_SHOWN, COLOR_ERROR_SHOWN = 0.1, 0.05, 0.5
RADAR = "radar (VV, VH)"
PANELS = ("input", RADAR, "result", "truth", f"error, black 0 to white {ERROR_SHOWN:g}")
CODING_PANELS = ("image", "reconstruction", f"error, black 0 to white {CODING_ERROR_SHOWN:g}")
COLOR_PANELS = ("radar", "result", "truth", f"error, black 0 to white {COLOR_ERROR_SHOWN:g}")


class ScoreSheet:
    """Pictures of some of the images.

    Args:
        method: that is judged.
        shown: positions of those that are drawn.
    """

    def __init__(self, method: Method, shown: Sequence[int]) -> None:
        self.method, self.shown = method, frozenset(shown)
        self.panels: list[list[Any]] = []
        self.captions: list[str] = []

    def add(self, position: int, batch: Batch, restored: Tensor, score: ImageScore) -> None:
        """Draw the image, if it is one of those."""
        if position in self.shown:
            self.panels.append(_panels(batch, restored, self.method))
            self.captions.append(_caption(score, batch.prompt))

    def save(self, path: Path) -> None:
        """Write what was drawn, if anything."""
        if self.panels:
            save_picture(sheet(self.panels, _titles(self.method), self.captions), path)


def _titles(method: Method) -> tuple[str, ...]:
    """Return what the panels of a row show."""
    if isinstance(method, Autoencoding):
        return CODING_PANELS
    if method.optical.bands == PICTURE.bands:
        return COLOR_PANELS
    return PANELS if method.radar.bands else tuple(title for title in PANELS if title != RADAR)


def _panels(batch: Batch, restored: Tensor, method: Method) -> list[Any]:
    target, valid, bands = get_target(batch)[0], batch.valid[0], result_range(method).bands
    error = (restored[0] - target).abs().mean(0, keepdim=True).where(valid, torch.nan)
    if isinstance(method, Autoencoding):
        pictures = [to_picture(image, bands, valid) for image in (target, restored[0])]
        return [*pictures, gray_to_rgb(error, CODING_ERROR_SHOWN)]
    optical = [to_picture(image, bands, valid) for image in (batch.enlarged()[0], restored[0], target)]
    if bands == PICTURE.bands:
        return [*optical, gray_to_rgb(error, COLOR_ERROR_SHOWN)]  # the input is the radar, in grey
    shown = gray_to_rgb(error, ERROR_SHOWN)
    if not method.radar.bands:
        return [*optical, shown]
    sar = batch.degraded.new_full((2, *valid.shape[-2:]), torch.nan) if batch.sar is None else batch.sar[0]
    radar = radar_to_rgb(sar) if len(sar) == 2 else gray_to_rgb(sar)
    return [optical[0], radar, *optical[1:], shown]


def _caption(score: ImageScore, prompt: tuple[str, ...] | None) -> str:
    figures = [
        f"{source} {score.values[source, 'all', 'psnr']:.2f} dB"
        for source in (MODEL, *BASELINES)
        if (source, "all", "psnr") in score.values
    ]
    cover = "" if math.isnan(score.cover) else f"   {score.cover:.0%} cloudy"
    text = f"   {prompt[0]}" if prompt else ""
    return f"{score.key}{text}{cover}   PSNR: {', '.join(figures)}"
