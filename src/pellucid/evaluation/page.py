"""The page of an evaluation: means, plots, and every image with its figures, baselines and pictures."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pellucid.data.drawing import spread
from pellucid.data.files import write_text
from pellucid.evaluation.figures import REGIONS, ImageScore
from pellucid.evaluation.table import COLUMNS, DECIMALS, FID, Evaluation, Mean, Setting
from pellucid.web.write_page import BASE64, MAX_BYTES, REST, render

# Longer side in pixels of a picture, and of how many images that many fit.
SIDES = ((256, 40), (160, 120), (96, 400))
# Quality of the pictures, which are for looking at; `--pictures all` writes them whole.
QUALITY = 88


class Thumbnails:
    """Small pictures of the images of an evaluation, of as many as fit on a page, evenly spread.

    Args:
        num_images: of the evaluation.
    """

    def __init__(self, num_images: int) -> None:
        self.side, most = next((each for each in SIDES if num_images <= each[1]), SIDES[-1])
        self.shown = frozenset(spread(most, num_images))
        self.titles: list[str] = []
        self.pictures: dict[int, list[bytes]] = {}

    def add(self, position: int, panels: Mapping[str, NDArray[np.uint8] | None]) -> None:
        """Keep the panels of the image at a position, by their titles; None: this image has no such one."""
        self.titles = list(panels)
        self.pictures[position] = [b"" if x is None else _jpeg(x, self.side) for x in panels.values()]

    def fit(self) -> dict[int, list[bytes]]:
        """Return the pictures by position: all, or every n-th image's, so that a page holds them."""
        room, kept = (MAX_BYTES - REST) / BASE64 / 1.1, sorted(self.pictures)
        while kept and sum(len(each) for at in kept for each in self.pictures[at]) > room:
            kept = kept[:1] if len(kept) < 3 else [kept[i] for i in spread(len(kept) * 3 // 4, len(kept))]
        return {at: self.pictures[at] for at in kept}


def write_evaluation_page(
    path: Path, result: Evaluation, thumbnails: Thumbnails, calibration: Path | None, curves: Path | None
) -> None:
    """Write the page of an evaluation, with the plots of calibration and training, if there are any."""
    sources = list(dict.fromkeys(row.source for row in result.rows))
    regions = [region for region in REGIONS if any(row.region == region for row in result.rows)]
    metrics = [name for name in result.rows[0].metrics if name != FID]
    pictures = thumbnails.fit()
    data = {
        "summary": result.summary(),
        "metrics": [
            {"name": name, "label": COLUMNS[name], "decimals": DECIMALS.get(name, 4)} for name in metrics
        ],
        "sources": sources,
        "regions": regions,
        "means": [
            {
                "region": row.region,
                "images": row.num_images,
                "source": row.source,
                "values": [_plain(row.metrics[name]) for name in metrics],
                "counts": [row.metrics[name].num for name in metrics],
            }
            for row in result.rows
        ],
        "titles": thumbnails.titles,
        "images": [
            _describe(image, (regions, sources, metrics), pictures.get(i, []))
            for i, image in enumerate(result.images)
        ],
        "calibration": address(calibration.read_bytes(), "png") if calibration else None,
        "curves": address(curves.read_bytes(), "png") if curves else None,
        "provenance": [
            ("Notes", result.notes),
            *(
                (name.replace("_", " ").capitalize(), _in_words(name, value))
                for name, value in result.settings.items()
            ),
        ],
    }
    write_text(path, render("evaluation", result.name, data, {}))


def _describe(
    image: ImageScore, axes: tuple[Sequence[str], ...], pictures: Sequence[bytes]
) -> dict[str, Any]:
    """Return the figures of an image, by region, source and metric, and its pictures."""
    regions, sources, metrics = axes
    missing = math.nan
    return {
        "key": image.key,
        "place": ", ".join(filter(None, (image.place, *image.words.values()))),
        "cover": _number(image.cover),
        "gains": [
            _number(image.gain(region)) if ("model", region, "psnr") in image.values else None
            for region in regions
        ],
        "values": [
            [
                [_number(image.values.get((source, region, metric), missing)) for metric in metrics]
                for source in sources
            ]
            for region in regions
        ],
        "pictures": [address(each, "jpeg") if each else None for each in pictures],
    }


def _in_words(name: str, value: Setting) -> str:
    """Return how something was set; of files their names alone, as folders say nothing elsewhere."""
    if value is None:
        return ""
    return Path(str(value)).name if name in ("model", "data") else str(value)


def _plain(value: Mean) -> float | str | None:
    return _number(value.mean) if value.num else None


def _number(value: float) -> float | str | None:
    """Return a figure for JSON, which has no numbers for what is missing or infinite."""
    if math.isnan(value):
        return None
    return round(value, 6) if math.isfinite(value) else "Infinity"


def _jpeg(panel: NDArray[np.uint8], side: int) -> bytes:
    image, packed = Image.fromarray(panel), io.BytesIO()
    image.thumbnail((side, side), Image.Resampling.BOX)
    image.save(packed, "jpeg", quality=QUALITY)
    return packed.getvalue()


def shrink(path: Path, side: int) -> bytes:
    """Return a picture as JPEG, its longer side reduced to `side` pixels at most."""
    with Image.open(path) as picture:
        return _jpeg(np.asarray(picture.convert("RGB")), side)


def address(content: bytes, kind: str) -> str:
    """Return the address of a picture that holds the picture itself."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
