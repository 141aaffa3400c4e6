"""The figures of an evaluation: of each image, and their means by region and cloud cover."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.drawing import gray_to_rgb, radar_to_rgb, save_picture, sheet, to_picture
from pellucid.data.files import write_text
from pellucid.evaluation.figures import BASELINES, MODEL, REGIONS, ImageScore
from pellucid.methods.method import Method, result_range

# Lower limits of the cloud-cover bins.
COVER_BINS = (0.0, 0.2, 0.4, 0.6, 0.8)
# The one figure that is not a mean over images: the distance of all of them from all references.
FID = "fid"
# What a metric is called at the head of a column, and its decimals.
COLUMNS = {
    "psnr": "PSNR dB",
    "ssim": "SSIM",
    "sam": "SAM °",
    "mae": "MAE",
    "rmse": "RMSE",
    "gmsd": "GMSD",
    "consistency": "consistency dB",
    "lpips": "LPIPS",
    FID: "FID",
    "legacy_psnr": "legacy PSNR",
    "legacy_ssim": "legacy SSIM",
    "gain": "gain dB",
}
_DECIMALS = {"psnr": 2, "sam": 2, "legacy_psnr": 4, "consistency": 2, FID: 3}

# Not history.csv, which a training run of the same folder writes.
EVALUATIONS = "evaluations.csv"
EVALUATION_COLUMNS = ("timestamp", "model", "psnr", "ssim", "num_images", "notes")

# Mean absolute error over bands, in [0, 1], that the sheet shows as white; of an autoencoder; of colours.
ERROR_SHOWN, CODING_ERROR_SHOWN, COLOR_ERROR_SHOWN = 0.1, 0.05, 0.5
RADAR = "radar (VV, VH)"
PANELS = ("input", RADAR, "result", "truth", f"error, black 0 to white {ERROR_SHOWN:g}")
CODING_PANELS = ("image", "reconstruction", f"error, black 0 to white {CODING_ERROR_SHOWN:g}")
COLOR_PANELS = ("radar", "result", "truth", f"error, black 0 to white {COLOR_ERROR_SHOWN:g}")


@dataclass(frozen=True)
class Mean:
    """A mean over the images whose value is finite.

    Attributes:
        mean: NaN where there is no finite value.
        std: sample standard deviation; NaN below two finite values.
        num: how many values are finite.
    """

    mean: float
    std: float
    num: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Return the mean of the finite ones among `values`."""
        finite = [value for value in values if math.isfinite(value)]
        std = stdev(finite) if len(finite) > 1 else math.nan
        return cls(fmean(finite) if finite else math.nan, std, len(finite))


@dataclass(frozen=True)
class FigureRow:
    """The figures of one image source over one region.

    Attributes:
        source: "model", or a baseline: "input" ("bicubic" where it was enlarged, "grey radar" where it is
            given colours) or "mean spectrum" ("mean colour").
        region: "all", "cloudy" or "clear" pixels; or all pixels of some images: a bin by cloud cover, or
            those of one region or season.
        num_images: images that have such pixels.
        metrics: by name: psnr (dB), ssim, sam (degrees), mae and rmse (reflectance); of enlarged images also
            gmsd and consistency (dB), and, with their weights, lpips and fid.
    """

    source: str
    region: str
    num_images: int
    metrics: Mapping[str, Mean]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        name: of the model.
        notes: the user's remark.
        timestamp: when, in UTC, ISO 8601.
        rows: every source over every region.
        gains: the model's PSNR minus that of the better baseline, image by image, by region, in dB.
        images: the figures of each image.
        bands: PSNR of each band, in dB, of an autoencoder.
    """

    name: str
    notes: str
    timestamp: str
    rows: tuple[FigureRow, ...]
    gains: Mapping[str, Mean]
    images: tuple[ImageScore, ...]
    bands: Mapping[str, Mean] = field(default_factory=dict)

    @property
    def gain(self) -> Mean:
        """Return the gain over all pixels of all images, in dB."""
        return self.gains["all"]

    def row(self, source: str = MODEL, region: str = "all") -> FigureRow:
        """Return one row.

        Raises:
            KeyError: if there is none, for instance as no image falls into that bin.
        """
        for row in self.rows:
            if (row.source, row.region) == (source, region):
                return row
        raise KeyError(f"no row of {source} over {region}")

    def table(self) -> Table:
        """Return the rows for the screen; (n) behind a figure: so many of the images have a finite one."""
        names = list(self.rows[0].metrics)
        table = Table(
            title=f"{self.name}: {self._summary()}", title_justify="left", box=SIMPLE_HEAD, padding=0
        )
        for name in ("pixels", "images", "of"):
            table.add_column(name, justify="right" if name == "images" else "left")
        heads = (*names, "gain") if self.gain.num else names
        for name in heads:
            table.add_column(COLUMNS.get(name, name), justify="right", no_wrap=True)  # figures stay whole
        for at, row in enumerate(self.rows):
            is_first = at == 0 or self.rows[at - 1].region != row.region
            if is_first and at:
                table.add_section()
            figures = [_figure(row.metrics[name], name, row.num_images) for name in names]
            gain = _figure(self.gains[row.region], "psnr", row.num_images) if row.source == MODEL else ""
            start = (row.region, str(row.num_images)) if is_first else ("", "")
            table.add_row(*start, row.source, *[*figures, gain][: len(heads)])
        return table

    def band_table(self) -> Table:
        """Return the PSNR of each band for the screen."""
        table = Table(box=SIMPLE_HEAD, padding=0)
        table.add_column("band")
        table.add_column(COLUMNS["psnr"], justify="right")
        for band, value in self.bands.items():
            table.add_row(band, _figure(value, "psnr", len(self.images)))
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single images, for JSON; what is not a number is None."""
        return {
            "name": self.name,
            "notes": self.notes,
            "timestamp": self.timestamp,
            "num_images": len(self.images),
            "gain_db": {region: _plain(gain) for region, gain in self.gains.items()},
            "band_psnr_db": {band: _plain(value) for band, value in self.bands.items()},
            "rows": [
                {
                    "source": row.source,
                    "region": row.region,
                    "num_images": row.num_images,
                    **{name: _plain(value) for name, value in row.metrics.items()},
                }
                for row in self.rows
            ],
        }

    def _summary(self) -> str:
        gain, num_images = self.gain, len(self.images)
        if not gain.num:
            return f"PSNR {_figure(self.row().metrics['psnr'], 'psnr', num_images)} dB, {num_images} images"
        spread = "" if math.isnan(gain.std) else f" ± {gain.std:.2f}"
        return f"{gain.mean:+.2f}{spread} dB against the better baseline, image by image, {gain.num} images"


def summarise(
    scores: Sequence[ImageScore], *, name: str, notes: str = "", fid: Mapping[str, float] | None = None
) -> Evaluation:
    """Return the means over images, by region of the pixels, by cloud cover and by what is known of places.

    Args:
        scores: of each image.
        name: of the model.
        notes: the user's remark.
        fid: Fréchet distance of all images, by source.
    """
    sources = list(dict.fromkeys(source for source, _, _ in scores[0].values))
    rows, gains = [], {}
    for label, region, images in _groups(scores):
        gains[label] = Mean.of([image.gain(region) for image in images])
        metrics = [name for name in COLUMNS if (MODEL, "all", name) in scores[0].values]
        for source in sources:
            means = {
                metric: Mean.of([image.values.get((source, region, metric), math.nan) for image in images])
                for metric in metrics
            }
            if fid:
                means[FID] = Mean(fid[source], math.nan, len(images)) if label == "all" else Mean.of([])
            rows.append(FigureRow(source, label, len(images), means))
    timestamp = datetime.now(UTC).isoformat(timespec="seconds")
    bands = {
        band: Mean.of([image.values[MODEL, band, "psnr"] for image in scores])
        for _, band, _ in scores[0].values
        if band not in REGIONS
    }
    return Evaluation(name, notes, timestamp, tuple(rows), gains, tuple(scores), bands)


def _groups(scores: Sequence[ImageScore]) -> list[tuple[str, str, list[ImageScore]]]:
    """Return (label, region of the pixels, images) of every group that has images."""
    groups = [("all", "all", list(scores))]
    for region in ("cloudy", "clear"):
        has_pixels = [s for s in scores if not math.isnan(s.values.get((MODEL, region, "mae"), math.nan))]
        groups.append((region, region, has_pixels))
    for low, high in zip(COVER_BINS, (*COVER_BINS[1:], math.inf), strict=True):
        label = f"cover {low:.0%} to {min(high, 1):.0%}".replace("%", "", 1)
        groups.append((label, "all", [s for s in scores if low <= s.cover < high]))
    return [group for group in (*groups, *_groups_by_words(scores)) if group[2]]


def _groups_by_words(scores: Sequence[ImageScore]) -> Iterator[tuple[str, str, list[ImageScore]]]:
    """Yield the groups of images with the same word, of each kind of words that differ at all."""
    for column in scores[0].words:
        found = sorted({score.words[column] for score in scores})
        for word in found if len(found) > 1 else ():
            yield f"{column} {word or 'unknown'}", "all", [s for s in scores if s.words[column] == word]


def _figure(value: Mean, name: str, num_images: int) -> str:
    if not value.num:
        return "-"
    text = f"{value.mean:.{_DECIMALS.get(name, 4)}f}"
    return text if value.num == num_images else f"{text} ({value.num})"


def _plain(value: Mean) -> dict[str, float | int | None]:
    mean, std = (None if math.isnan(number) else number for number in (value.mean, value.std))
    return {"mean": mean, "std": std, "num": value.num}


def write_evaluation(result: Evaluation, out: Path) -> None:
    """Write metrics.json and per_image.csv into the folder `out`, and add a row to its evaluations.csv."""
    write_text(out / "metrics.json", json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    write_text(out / "per_image.csv", _csv(_image_rows(result)))
    best = result.row()
    new = {
        "timestamp": result.timestamp,
        "model": result.name,
        "psnr": f"{best.metrics['psnr'].mean:.4f}",
        "ssim": f"{best.metrics['ssim'].mean:.4f}",
        "num_images": best.num_images,
        "notes": result.notes,
    }
    path = out / EVALUATIONS
    before = path.read_text(encoding="utf-8") if path.is_file() else ",".join(EVALUATION_COLUMNS) + "\n"
    write_text(path, before + _csv([new]).partition("\n")[2])


def _image_rows(result: Evaluation) -> list[dict[str, object]]:
    rows = []
    for image in result.images:
        figures = {
            f"{source} {region} {metric}".replace(" ", "_"): value
            for (source, region, metric), value in image.values.items()
        }
        rows.append(
            {"key": image.key, **image.words, "cover": image.cover, "gain_db": image.gain(), **figures}
        )
    return rows


def _csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class ScoreSheet:
    """Pictures of some of the images.

    Args:
        method: that is evaluated.
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
    if method.task == "reconstruct":
        return CODING_PANELS
    if method.optical.kind == "picture":
        return COLOR_PANELS
    return PANELS if method.radar.bands else tuple(title for title in PANELS if title != RADAR)


def _panels(batch: Batch, restored: Tensor, method: Method) -> list[Any]:
    target, valid, bands = batch.reference()[0], batch.valid[0], result_range(method).bands
    error = (restored[0] - target).abs().mean(0, keepdim=True).where(valid, torch.nan)
    if method.task == "reconstruct":
        pictures = [to_picture(image, bands, valid) for image in (target, restored[0])]
        return [*pictures, gray_to_rgb(error, CODING_ERROR_SHOWN)]
    optical = [to_picture(image, bands, valid) for image in (batch.enlarged()[0], restored[0], target)]
    if method.optical.kind == "picture":
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
