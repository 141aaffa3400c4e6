"""The sheet of pictures of an evaluation: inputs, result, truth, error and uncertainty."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.drawing import gray_to_rgb, radar_to_rgb, save_picture, sheet, to_picture
from pellucid.data.files import make_folder
from pellucid.evaluation.figures import BASELINES, MODEL, ImageScore
from pellucid.evaluation.page import Thumbnails
from pellucid.evaluation.trial import ABLATED, Restored
from pellucid.methods.method import result_range

# Mean absolute error over bands, in [0, 1], that the sheet shows as white; of an autoencoder; of colours.
ERROR_SHOWN, CODING_ERROR_SHOWN, COLOR_ERROR_SHOWN = 0.1, 0.05, 0.5

# Characters of the name of an image that are kept in that of its folder.
MAX_NAME = 120
# What the file of a panel is called, by the first word of its title: as layers of a result are.
KINDS = {
    "input": "before",
    "radar": "radar",
    "older": "reference",
    "result": "after",
    "reconstruction": "after",
    "truth": "truth",
    "image": "truth",
    "error": "error",
    "uncertainty": "uncertainty",
}


class ScoreSheet:
    """Pictures of the images at the positions `shown`; those of all are files in `folder`, if there is one.

    Without `saves_all`, only those that are shown are files.
    `thumbnails` keep small ones for a page, if there is one.

    Image number 1 has the files `0001_KEY/before.png`, `0001_KEY/after.png` and so on: see `KINDS`.
    """

    def __init__(
        self,
        shown: Sequence[int],
        folder: Path | None = None,
        thumbnails: Thumbnails | None = None,
        *,
        saves_all: bool = True,
    ) -> None:
        self.saves_all = saves_all
        self.shown, self.folder, self.thumbnails = frozenset(shown), folder, thumbnails
        self.panels: list[dict[str, Any]] = []
        self.captions: list[str] = []

    def add(self, position: int, restored: Restored, score: ImageScore) -> None:
        """Draw the image, if it is one of those, or write its pictures."""
        is_small = self.thumbnails is not None and position in self.thumbnails.shown
        is_saved = self.folder is not None and (self.saves_all or position in self.shown)
        if position not in self.shown and not is_saved and not is_small:
            return
        panels = _panels(restored)
        if self.thumbnails is not None and is_small:
            self.thumbnails.add(position, {k: None if _is_missing(k, x) else x for k, x in panels.items()})
        if self.folder is not None and is_saved:
            _save_panels(panels, self.folder / f"{position + 1:04d}_{_as_name(score.key)}")
        if position in self.shown:
            self.panels.append(panels)
            self.captions.append(_caption(score, restored.batch.prompt))

    def save(self, path: Path) -> None:
        """Write what was drawn, if anything."""
        if self.panels:
            rows = [list(row.values()) for row in self.panels]
            save_picture(sheet(rows, list(self.panels[0]), self.captions), path)


def _save_panels(panels: dict[str, Any], folder: Path) -> None:
    make_folder(folder)
    for title, picture in panels.items():
        if not _is_missing(title, picture):
            save_picture(picture, folder / f"{_kind(title)}.png")


def _kind(title: str) -> str:
    (word,) = re.findall(r"^\w+", title)
    return KINDS[word]


def _is_missing(title: str, picture: Any) -> bool:
    """Whether a panel is of a guide that this image has not: all of one grey."""
    return _kind(title) in ("radar", "reference") and bool((picture == picture[0, 0]).all())


def _as_name(key: str) -> str:
    """Return the end of the name of an image, as a name of a folder."""
    return re.sub(r"[^\w.-]+", "_", key)[-MAX_NAME:]


def _panels(restored: Restored) -> dict[str, Any]:
    """Return the pictures of a row by their titles, which are the same for every image of a method."""
    batch, method, image = restored.batch, restored.method, restored.estimate.image[0]
    target, valid, bands = batch.reference()[0], batch.valid[0], result_range(method).bands
    error = (image - target).abs().mean(0, keepdim=True).where(valid, torch.nan)
    result, truth = (to_picture(shown, bands, valid) for shown in (image, target))
    if method.task == "reconstruct":
        return {"image": truth, "reconstruction": result, **_gray_panel("error", error, CODING_ERROR_SHOWN)}
    degraded = to_picture(batch.enlarged()[0], bands, valid)
    outcome = {"result": result, "truth": truth}
    if method.optical.kind == "picture":  # the input is the radar, in grey
        outcome |= _gray_panel("error", error, COLOR_ERROR_SHOWN)
        return {"radar": degraded, **outcome, **_draw_deviation(restored, COLOR_ERROR_SHOWN)}
    radar = {"radar (VV, VH)": _draw_radar(batch)} if method.radar.bands else {}
    older = {"older dates": _draw_older(batch, bands)} if method.takes_older else {}
    outcome |= _gray_panel("error", error, ERROR_SHOWN)
    return {"input": degraded, **radar, **older, **outcome, **_draw_deviation(restored, ERROR_SHOWN)}


def _gray_panel(what: str, values: Tensor, limit: float) -> dict[str, Any]:
    return {f"{what}, black 0 to white {limit:g}": gray_to_rgb(values, limit)}


def _draw_deviation(restored: Restored, limit: float) -> dict[str, Any]:
    """Return the reported standard deviation, mean over bands, if there is one."""
    if restored.estimate.deviation is None:
        return {}
    mean = restored.estimate.deviation[0].mean(0, keepdim=True).where(restored.batch.valid[0], torch.nan)
    return _gray_panel("uncertainty", mean, limit)


def _draw_radar(batch: Batch) -> Any:
    """Return the radar in colour; in grey, where it has one polarisation alone."""
    if batch.sar is None:
        return radar_to_rgb(torch.full((2, *batch.valid.shape[-2:]), torch.nan))
    given = [band for band in batch.sar[0] if band.isfinite().any()]
    return gray_to_rgb(given[0][None]) if len(given) == 1 else radar_to_rgb(batch.sar[0])


def _draw_older(batch: Batch, bands: tuple[str, ...]) -> Any:
    """Return the older dates in the colours of the input; grey where none of them is clear."""
    older = torch.full_like(batch.degraded[0], torch.nan) if batch.older is None else batch.older[0]
    return to_picture(older.nan_to_num(), bands, older.isfinite().all(0, keepdim=True))


def _caption(score: ImageScore, prompt: tuple[str, ...] | None) -> str:
    figures = [
        f"{source} {score.values[source, 'all', 'psnr']:.2f} dB"
        for source in (MODEL, *ABLATED, *BASELINES)
        if (source, "all", "psnr") in score.values
    ]
    cover = "" if math.isnan(score.cover) else f"   {score.cover:.0%} cloudy"
    text = f"   {prompt[0]}" if prompt else ""
    return f"{score.key}{text}{cover}   PSNR: {', '.join(figures)}"
