"""The figures of an evaluation: of each image, their means by region and cloud cover, as table and files."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor
from torch.nn.functional import max_pool2d

from pellucid.data.batch import Batch
from pellucid.data.geotiff import write_atomically
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
# Not history.csv, which a training run of the same folder writes.
HISTORY = "evaluations.csv"
HISTORY_COLUMNS = ("timestamp", "model", "psnr", "ssim", "num_images", "notes")

MODEL, INPUT, BICUBIC, SPECTRUM = "model", "input", "bicubic", "mean spectrum"
BASELINES = (INPUT, BICUBIC, SPECTRUM)
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
        values: by (source, region, metric); the region is "all", "cloudy" or "clear".
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
    """

    name: str
    notes: str
    timestamp: str
    rows: tuple[Row, ...]
    gains: Mapping[str, Mean]
    images: tuple[ImageScore, ...]

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
        for name in (*names, "gain"):
            table.add_column(COLUMNS.get(name, name), justify="right")
        for at, row in enumerate(self.rows):
            is_first = at == 0 or self.rows[at - 1].region != row.region
            if is_first and at:
                table.add_section()
            figures = [_figure(row.metrics[name], name, row.num_images) for name in names]
            gain = _figure(self.gains[row.region], "psnr", row.num_images) if row.source == MODEL else ""
            start = (row.region, str(row.num_images)) if is_first else ("", "")
            table.add_row(*start, row.source, *figures, gain)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single images, for JSON; what is not a number is None."""
        return {
            "name": self.name,
            "notes": self.notes,
            "timestamp": self.timestamp,
            "num_images": len(self.images),
            "gain_db": {region: _plain(gain) for region, gain in self.gains.items()},
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
        gain = self.gain
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
    regions, is_whole = _regions(batch), _whole_windows(valid)
    values: dict[tuple[str, str, str], float] = {}
    for source, image in sources.items():
        similarity = ssim_map(image, target)
        for region, mask in regions.items():
            for metric, function in _PIXELWISE.items():
                if metric == "sam" and target.shape[1] == 1:
                    continue  # one band has no angle
                values[source, region, metric] = function(image, target, mask).item()
            values[source, region, "ssim"] = mean_inside(similarity, mask & is_whole).item()
        if batch.scale > 1:
            values[source, "all", "gmsd"] = gmsd(image, target, valid).item()
            values[source, "all", "consistency"] = consistency(image, batch.degraded, batch.scale).item()
        if lpips is not None:
            values[source, "all", "lpips"] = lpips(image, target).item()
        if legacy:
            values[source, "all", "legacy_psnr"] = legacy_psnr(image, target).item()
            values[source, "all", "legacy_ssim"] = legacy_ssim(image, target).item()
    return ImageScore(batch.key[0], _cover(batch), values)


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
    return Evaluation(name, notes, timestamp, tuple(rows), gains, tuple(scores))


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


def make_folder(out: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        InputError: if that is not possible.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}; choose another") from error


def write_evaluation(result: Evaluation, out: Path) -> None:
    """Write metrics.json and per_image.csv into the folder `out`, and add a row to its evaluations.csv."""
    _write_text(out / "metrics.json", json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    _write_text(out / "per_image.csv", _csv(_image_rows(result)))
    best = result.row()
    new = {
        "timestamp": result.timestamp,
        "model": result.name,
        "psnr": f"{best.metrics['psnr'].mean:.4f}",
        "ssim": f"{best.metrics['ssim'].mean:.4f}",
        "num_images": best.num_images,
        "notes": result.notes,
    }
    path = out / HISTORY
    before = path.read_text(encoding="utf-8") if path.is_file() else ",".join(HISTORY_COLUMNS) + "\n"
    _write_text(path, before + _csv([new]).partition("\n")[2])


def _image_rows(result: Evaluation) -> list[dict[str, object]]:
    rows = []
    for image in result.images:
        figures = {
            f"{source} {region} {metric}".replace(" ", "_"): value
            for (source, region, metric), value in image.values.items()
        }
        rows.append({"key": image.key, "cover": image.cover, "gain_db": image.gain(), **figures})
    return rows


def _csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
