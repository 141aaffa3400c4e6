"""The figures of an evaluation: of each image, and their means by region and cloud cover."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean, stdev
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor
from torch.nn.functional import max_pool2d

from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL2, ValueRange
from pellucid.errors import InputError
from pellucid.metrics import (
    SSIM_WINDOW,
    consistency,
    gmsd,
    legacy_psnr,
    legacy_ssim,
    mae,
    mean_inside,
    psnr,
    rmse,
    sam,
    ssim_map,
)

# Cloud probability above which a pixel counts as cloudy.
CLOUDY = 0.5
# Lower limits of the cloud-cover bins.
COVER_BINS = (0.0, 0.2, 0.4, 0.6, 0.8)

MODEL, INPUT, BICUBIC, SPECTRUM = "model", "input", "bicubic", "mean spectrum"
BASELINES = (INPUT, BICUBIC, SPECTRUM)
REGIONS = ("all", "cloudy", "clear")
_PIXELWISE = {"psnr": psnr, "sam": sam, "mae": mae, "rmse": rmse}
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
    "legacy_psnr": "legacy PSNR",
    "legacy_ssim": "legacy SSIM",
    "gain": "gain dB",
}
_DECIMALS = {"psnr": 2, "sam": 2, "legacy_psnr": 4, "consistency": 2}


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
class Row:
    """The figures of one image source over one region.

    Attributes:
        source: "model", "input" ("bicubic" where it was enlarged) or "mean spectrum".
        region: "all", "cloudy" or "clear" pixels, or a bin of images by cloud cover (all their pixels).
        num_images: images that have such pixels.
        metrics: by name: psnr (dB), ssim, sam (degrees), mae and rmse (reflectance); of enlarged images also
            gmsd, consistency (dB) and, with its weights, lpips.
    """

    source: str
    region: str
    num_images: int
    metrics: Mapping[str, Mean]


@dataclass(frozen=True)
class ImageScore:
    """The figures of one image.

    Attributes:
        key: its name.
        cover: share of its valid pixels that are cloudy; NaN without a cloud map.
        values: by (source, region, metric); the region is "all", "cloudy" or "clear", or a band.
    """

    key: str
    cover: float
    values: Mapping[tuple[str, str, str], float]

    def gain(self, region: str = "all") -> float:
        """Return the model's PSNR minus that of the better baseline, in dB."""
        baselines = [self.values.get((source, region, "psnr"), math.nan) for source in BASELINES]
        known = [value for value in baselines if not math.isnan(value)]
        return self.values[MODEL, region, "psnr"] - max(known) if known else math.nan


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
    rows: tuple[Row, ...]
    gains: Mapping[str, Mean]
    images: tuple[ImageScore, ...]
    bands: Mapping[str, Mean] = field(default_factory=dict)

    @property
    def gain(self) -> Mean:
        """Return the gain over all pixels of all images, in dB."""
        return self.gains["all"]

    def row(self, source: str = MODEL, region: str = "all") -> Row:
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
            table.add_column(COLUMNS.get(name, name), justify="right")
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


def score_image(
    batch: Batch,
    restored: Tensor,
    spectrum: tuple[float, ...] | None,
    *,
    legacy: bool = False,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> ImageScore:
    """Return the figures of one image and of the baselines.

    Args:
        batch: with B = 1 and a target.
        restored: (1, C, H, W).
        spectrum: (C,) mean spectrum, if known.
        legacy: also PSNR and SSIM as the published GLF-CR code has them, over all pixels.
        lpips: perceptual distance of two images, over all pixels.

    Raises:
        InputError: if the spectrum has another number of bands.
    """
    target, valid = get_target(batch), batch.valid
    sources = {MODEL: restored, BICUBIC if batch.scale > 1 else INPUT: batch.enlarged()}
    if spectrum is not None:
        sources[SPECTRUM] = _flat(spectrum, target)
    regions = _regions(batch)
    values: dict[tuple[str, str, str], float] = {}
    for source, image in sources.items():
        for place, value in _compare(image, target, regions, has_angle=target.shape[1] > 1).items():
            values[source, *place] = value
        if batch.scale > 1:
            values[source, "all", "gmsd"] = gmsd(image, target, valid).item()
            values[source, "all", "consistency"] = consistency(image, batch.degraded, batch.scale).item()
        if lpips is not None:
            values[source, "all", "lpips"] = lpips(image, target).item()
        if legacy:
            values[source, "all", "legacy_psnr"] = legacy_psnr(image, target).item()
            values[source, "all", "legacy_ssim"] = legacy_ssim(image, target).item()
    return ImageScore(batch.key[0], _cover(batch), values)


def score_reconstruction(batch: Batch, restored: Tensor, images: ValueRange) -> ImageScore:
    """Return the figures of an autoencoder's image: no baselines, but also the PSNR of each band.

    The spectral angle is that of reflectance alone.

    Args:
        batch: with B = 1 and a target.
        restored: (1, C, H, W).
        images: bands and value range of the images.
    """
    target = get_target(batch)
    has_angle = images.unit == SENTINEL2.unit and len(images.bands) > 1
    found = _compare(restored, target, _regions(batch), has_angle=has_angle)
    for at, band in enumerate(images.bands):
        one = slice(at, at + 1)
        found[band, "psnr"] = psnr(restored[:, one], target[:, one], batch.valid).item()
    return ImageScore(batch.key[0], _cover(batch), {(MODEL, *place): value for place, value in found.items()})


def summarise(scores: Sequence[ImageScore], *, name: str, notes: str = "") -> Evaluation:
    """Return the means over images, by region and by cloud cover."""
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
            rows.append(Row(source, label, len(images), means))
    timestamp = datetime.now(UTC).isoformat(timespec="seconds")
    bands = {
        band: Mean.of([image.values[MODEL, band, "psnr"] for image in scores])
        for _, band, _ in scores[0].values
        if band not in REGIONS
    }
    return Evaluation(name, notes, timestamp, tuple(rows), gains, tuple(scores), bands)


def get_target(batch: Batch) -> Tensor:
    """Return the reference images.

    Raises:
        InputError: if there are none.
    """
    if batch.target is None:
        raise InputError(f"{batch.key[0]} has no reference image, an evaluation needs one")
    return batch.target


def _flat(spectrum: tuple[float, ...], target: Tensor) -> Tensor:
    if len(spectrum) != target.shape[1]:
        raise InputError(
            f"the mean spectrum has {len(spectrum)} bands, the data {target.shape[1]}; give one per band"
        )
    return target.new_tensor(spectrum).view(1, -1, 1, 1).expand_as(target)


def _compare(
    image: Tensor, target: Tensor, regions: Mapping[str, Tensor], *, has_angle: bool
) -> dict[tuple[str, str], float]:
    """Return the figures by region and metric; that named "all" has all valid pixels."""
    similarity, is_whole = ssim_map(image, target), _whole_windows(regions["all"])
    values = {}
    for region, mask in regions.items():
        for metric, function in _PIXELWISE.items():
            if metric != "sam" or has_angle:
                values[region, metric] = function(image, target, mask).item()
        values[region, "ssim"] = mean_inside(similarity, mask & is_whole).item()
    return values


def _regions(batch: Batch) -> dict[str, Tensor]:
    """Return the (1, 1, H, W) masks of all, and with a cloud map of cloudy and clear pixels."""
    if batch.cloud is None:
        return {"all": batch.valid}
    is_cloudy = batch.cloud > CLOUDY
    return {"all": batch.valid, "cloudy": batch.valid & is_cloudy, "clear": batch.valid & ~is_cloudy}


def _whole_windows(valid: Tensor) -> Tensor:
    """Return where the window of the SSIM holds valid pixels alone."""
    holes = max_pool2d((~valid).float(), SSIM_WINDOW, stride=1, padding=SSIM_WINDOW // 2)
    return holes == 0


def _cover(batch: Batch) -> float:
    num_valid = int(batch.valid.sum())
    if batch.cloud is None or not num_valid:
        return math.nan
    return float(((batch.cloud > CLOUDY) & batch.valid).sum() / num_valid)


def _groups(scores: Sequence[ImageScore]) -> list[tuple[str, str, list[ImageScore]]]:
    """Return (label, region of the pixels, images) of every group that has images."""
    groups = [("all", "all", list(scores))]
    for region in ("cloudy", "clear"):
        has_pixels = [s for s in scores if not math.isnan(s.values.get((MODEL, region, "mae"), math.nan))]
        groups.append((region, region, has_pixels))
    for low, high in zip(COVER_BINS, (*COVER_BINS[1:], math.inf), strict=True):
        label = f"cover {low:.0%} to {min(high, 1):.0%}".replace("%", "", 1)
        groups.append((label, "all", [s for s in scores if low <= s.cover < high]))
    return [group for group in groups if group[2]]


def _figure(value: Mean, name: str, num_images: int) -> str:
    if not value.num:
        return "-"
    text = f"{value.mean:.{_DECIMALS.get(name, 4)}f}"
    return text if value.num == num_images else f"{text} ({value.num})"


def _plain(value: Mean) -> dict[str, float | int | None]:
    mean, std = (None if math.isnan(number) else number for number in (value.mean, value.std))
    return {"mean": mean, "std": std, "num": value.num}
