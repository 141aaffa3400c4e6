"""The figures of an evaluation: means over images, by region and cloud cover."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from pellucid.evaluation.calibration import Calibration
from pellucid.evaluation.figures import BASELINES, MODEL, REGIONS, ImageScore
from pellucid.evaluation.trial import ABLATED

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
    "porosity": "porosity error %",
    "pore_size": "pore size error px",
    "connectivity": "connectivity error %",
    "hallucination": "made up",
    "omission": "missing",
    "inconsistency": "off what is seen",
    "lpips": "LPIPS",
    FID: "FID",
    "legacy_psnr": "legacy PSNR",
    "legacy_ssim": "legacy SSIM",
    "gain": "gain dB",
}
# The figures of pores, which have a table of their own on the screen.
PORES = ("porosity", "pore_size", "connectivity")
# A value of how an evaluation was made; None: not known, or not for this model.
Setting = str | float | bool | None
DECIMALS = {
    "psnr": 2,
    "sam": 2,
    "legacy_psnr": 4,
    "consistency": 2,
    "porosity": 2,
    "pore_size": 2,
    "connectivity": 2,
    FID: 3,
}


@dataclass(frozen=True)
class Mean:
    """Mean and sample standard deviation of the `num` finite values; NaN below one, and below two."""

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
        source: "model", or the same without some of its guides, or a baseline: "input" ("bicubic" where it
            was enlarged, "grey radar" where it is given colours), "mean spectrum" ("mean colour") or "clear
            mean".
        region: "all", "cloudy", "thin", "thick" or "clear" pixels; or all pixels of some images: a bin by
            cloud cover, or those of one region or season.
        num_images: images that have such pixels.
        metrics: by the names in `COLUMNS`; sam in degrees, mae and rmse in reflectance.
    """

    source: str
    region: str
    num_images: int
    metrics: Mapping[str, Mean]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        timestamp: in UTC, ISO 8601.
        settings: how it was made: model, data, split and the like, by name.
        folder: what it was written to, if anything.
        rows: every source over every region.
        gains: the model's PSNR minus that of the best baseline, image by image, by region, in dB.
        bands: PSNR of each band, in dB, of an autoencoder.
        guides: by what was taken away and by region, how much the PSNR falls, image by image, in dB.
        calibration: by region, of a method that says how sure it is.
    """

    name: str
    notes: str
    timestamp: str
    rows: tuple[FigureRow, ...]
    gains: Mapping[str, Mean]
    images: tuple[ImageScore, ...]
    bands: Mapping[str, Mean] = field(default_factory=dict)
    guides: Mapping[str, Mapping[str, Mean]] = field(default_factory=dict)
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def gain(self) -> Mean:
        """Return the gain over all pixels of all images, in dB."""
        return self.gains["all"]

    def row(self, source: str = MODEL, region: str = "all") -> FigureRow:
        """Return one row; a KeyError says that there is none, for instance as no image is in that bin."""
        for row in self.rows:
            if (row.source, row.region) == (source, region):
                return row
        raise KeyError(f"no row of {source} over {region}")

    def table(self) -> Table:
        """Return the rows for the screen; (n) behind a figure: so many of the images have a finite one."""
        names = [name for name in self.rows[0].metrics if name not in PORES]
        heads = [*names, "gain"] if self.gain.num else names
        title = f"{self.name}: {self.summary()}"
        table = Table("pixels", title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        table.add_column("images", justify="right")
        table.add_column("of", min_width=14)  # a figure without a name says nothing
        for name in heads:
            table.add_column(COLUMNS[name], justify="right", no_wrap=True)  # figures stay whole
        for at, row in enumerate(self.rows):
            is_first = at == 0 or self.rows[at - 1].region != row.region
            if is_first:
                table.add_section()
            figures = [_figure(row.metrics[name], name, row.num_images) for name in names]
            gain = _figure(self.gains[row.region], "psnr", row.num_images) if row.source == MODEL else ""
            start = (row.region, str(row.num_images)) if is_first else ("", "")
            table.add_row(*start, row.source, *[*figures, gain][: len(heads)])
        return table

    def band_table(self) -> Table:
        """Return the PSNR of each band for the screen."""
        table = Table("band", Column(COLUMNS["psnr"], justify="right"), box=SIMPLE_HEAD, padding=0)
        for band, value in self.bands.items():
            table.add_row(band, _figure(value, "psnr", len(self.images)))
        return table

    def pore_table(self) -> Table | None:
        """Return how far the pores of slices are from the true ones, for the screen; None without slices."""
        rows = [row for row in self.rows if PORES[0] in row.metrics and row.region == "all"]
        heads = (Column(COLUMNS[name], justify="right") for name in PORES)
        title = "Pores, by Otsu's threshold of each image: errors against the reference"
        table = Table("", *heads, title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        for row in rows:
            table.add_row(row.source, *(_figure(row.metrics[name], name, row.num_images) for name in PORES))
        return table if rows else None

    def guide_table(self) -> Table:
        """Return what the PSNR falls by without guides for the screen."""
        regions = list(dict.fromkeys(region for falls in self.guides.values() for region in falls))
        heads = (Column(f"{region} dB", justify="right") for region in regions)
        title = "How much the PSNR falls, image by image"
        table = Table("", *heads, title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        for source, falls in self.guides.items():
            figures = (_figure(falls[region], "psnr", len(self.images)) for region in regions)
            table.add_row(source, *figures)
        return table

    def calibration_table(self) -> Table:
        """Return how sure the method is, and how right, for the screen."""
        names = ("within 1 std", "within 2 std", "ECE", "AUSE", "RMSE", "reported", "unchanged")
        heads = (Column(head, justify="right", no_wrap=True) for head in names)
        title = "Uncertainty; calibrated: 68.3 % within 1 std, 95.4 % within 2, RMSE as reported"
        table = Table("pixels", *heads, title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        for region, found in self.calibration.items():
            shares = (f"{share:.1%}" for share in (found.within_1, found.within_2))
            figures = (f"{value:.4f}" for value in (found.ece, found.ause, found.rmse, found.deviation))
            table.add_row(region, *shares, *figures, f"{found.unchanged:.1%}")
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single images, for JSON; what is not a number is None."""
        return {
            "name": self.name,
            "notes": self.notes,
            "timestamp": self.timestamp,
            "settings": dict(self.settings),
            "num_images": len(self.images),
            "gain_db": {region: _plain(gain) for region, gain in self.gains.items()},
            "band_psnr_db": {band: _plain(value) for band, value in self.bands.items()},
            "psnr_loss_db": {
                source: {region: _plain(fall) for region, fall in falls.items()}
                for source, falls in self.guides.items()
            },
            "calibration": {region: found.to_dict() for region, found in self.calibration.items()},
            "rows": [
                {"source": row.source, "region": row.region, "num_images": row.num_images}
                | {name: _plain(value) for name, value in row.metrics.items()}
                for row in self.rows
            ],
        }

    def summary(self) -> str:
        """Return the gain, or of a model without baselines the PSNR, in words."""
        gain, num_images = self.gain, len(self.images)
        if not gain.num:
            psnr = _figure(self.row().metrics["psnr"], "psnr", num_images)
            return f"PSNR {psnr} dB, {num_images} image{'s' * (num_images != 1)}"
        images = f"{gain.num} image{'s' * (gain.num != 1)}"
        spread = "" if math.isnan(gain.std) else f" ± {gain.std:.2f}"
        return f"{gain.mean:+.2f}{spread} dB against the best baseline, image by image, {images}"


def summarise(
    scores: Sequence[ImageScore],
    *,
    name: str,
    notes: str = "",
    fid: Mapping[str, float] | None = None,
    calibration: Mapping[str, Calibration] = MappingProxyType({}),
    settings: Mapping[str, Setting] = MappingProxyType({}),
    folder: Path | None = None,
) -> Evaluation:
    """Return the means over images, by region of the pixels, by cloud cover and by what is known of places.

    `fid` is the Fréchet distance of all images, by source, `calibration` that of all pixels, by region;
    `settings` and `folder` are kept as they are.
    """
    known = {source for score in scores for source, _, _ in score.values}
    sources = [source for source in (MODEL, *ABLATED, *BASELINES) if source in known]
    metrics = [name for name in COLUMNS if (MODEL, "all", name) in scores[0].values]
    rows, gains = [], {}
    for label, region, images in _groups(scores):
        gains[label] = Mean.of([image.gain(region) for image in images])
        for source in sources:
            means = {
                metric: Mean.of([image.values.get((source, region, metric), math.nan) for image in images])
                for metric in metrics
            }
            if fid:
                means[FID] = Mean(fid[source], math.nan, len(images)) if label == "all" else Mean.of([])
            rows.append(FigureRow(source, label, len(images), means))
    timestamp = datetime.now(UTC).isoformat(timespec="seconds")
    guides = _guide_losses(scores, [source for source in sources if source in ABLATED])
    bands = {
        band: Mean.of([image.values[MODEL, band, "psnr"] for image in scores])
        for _, band, _ in scores[0].values
        if band not in REGIONS
    }
    found = (tuple(rows), gains, tuple(scores), bands, guides, calibration)
    return Evaluation(name, notes, timestamp, *found, settings, folder)


def _guide_losses(scores: Sequence[ImageScore], sources: Sequence[str]) -> dict[str, dict[str, Mean]]:
    """Return how much the PSNR falls without guides, by source and by region of the pixels."""
    losses: dict[str, dict[str, Mean]] = {source: {} for source in sources}
    for label, region, images in _groups(scores):
        for source in sources if label in REGIONS else ():
            losses[source][label] = Mean.of([image.loss_without(source, region) for image in images])
    return losses


def _groups(scores: Sequence[ImageScore]) -> list[tuple[str, str, list[ImageScore]]]:
    """Return (label, region of the pixels, images) of every group that has images."""
    groups = [("all", "all", list(scores))]
    by_pixels = {
        region: [s for s in scores if not math.isnan(s.values.get((MODEL, region, "mae"), math.nan))]
        for region in REGIONS[1:]
    }
    groups += [(region, region, images) for region, images in by_pixels.items()]
    for low, high in zip(COVER_BINS, (*COVER_BINS[1:], math.inf), strict=True):
        groups.append((name_cover(low, high), "all", [s for s in scores if low <= s.cover < high]))
    for column in scores[0].words:
        words = sorted({score.words[column] for score in scores})
        for word in words if len(words) > 1 else ():
            same = [score for score in scores if score.words[column] == word]
            groups.append((f"{column} {word or 'unknown'}", "all", same))
    return [group for group in groups if group[2]]


def name_cover(low: float, high: float) -> str:
    """Return what the images are called whose cloud cover is from `low` to `high`."""
    return f"cover {low:.0%} to {min(high, 1):.0%}".replace("%", "", 1)


def _figure(value: Mean, name: str, num_images: int) -> str:
    if not value.num:
        return "-"
    text = f"{value.mean:.{DECIMALS.get(name, 4)}f}"
    return text if value.num == num_images else f"{text} ({value.num})"


def _plain(value: Mean) -> dict[str, float | int | None]:
    mean, std = (None if math.isnan(number) else number for number in (value.mean, value.std))
    return {"mean": mean, "std": std, "num": value.num}
