"""Evaluations side by side, image by image, and whether their difference is more than chance."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.data.claims import claim_files
from pellucid.data.files import check_writable, write_text
from pellucid.data.ownership import check_replaceable
from pellucid.data.run_folder import CONFIG
from pellucid.data.text_file import read_rows
from pellucid.errors import InputError, nearest
from pellucid.evaluation.folder import EVALUATIONS, METRICS, PER_IMAGE, as_csv, read_metrics

# Draws of the bootstrap, and the share of them that an interval holds.
DRAWS, CONFIDENCE = 10_000, 0.95
# Places from which on there is an interval: of two, there are but three different draws.
FEWEST_PLACES = 3
# Settings in which evaluations that are compared should be alike.
ALIKE = ("data", "split", "crop", "cloud_threshold", "bands")


@dataclass(frozen=True)
class Scored:
    """An evaluation that was written: its `images` are the rows of per_image.csv by key, in their order."""

    name: str
    settings: Mapping[str, Any]
    images: Mapping[str, Mapping[str, str]]

    def value(self, key: str, column: str) -> float:
        """Return a figure of an image, NaN where it has none."""
        return float(self.images[key].get(column) or math.nan)


@dataclass(frozen=True)
class Difference:
    """How much more an evaluation has than the first, image by image.

    Attributes:
        mean: over the images.
        low: lower end of its confidence interval, from bootstrap over places; NaN below `FEWEST_PLACES`.
        high: the upper end.
        share_above: share of the images in which it has more.
        num_images: with a finite figure in both.
        num_places: of these images.
    """

    mean: float
    low: float
    high: float
    share_above: float
    num_images: int
    num_places: int


@dataclass(frozen=True)
class Comparison:
    """Evaluations side by side.

    Attributes:
        names: of the evaluations.
        metric: what is compared.
        region: over which pixels.
        keys: of the images that all have.
        values: (evaluations, images), NaN where there is no figure.
        differences: of each evaluation but the first.
        unlike: settings in which they differ, with their values.
        num_left_out: images that not all have.
    """

    names: tuple[str, ...]
    metric: str
    region: str
    keys: tuple[str, ...]
    values: NDArray[np.float64]
    differences: tuple[Difference, ...]
    unlike: Mapping[str, tuple[Any, ...]]
    num_left_out: int

    @property
    def means(self) -> list[float]:
        """Return the mean of the finite figures of each evaluation."""
        return [_mean(row) for row in self.values]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; what is no finite number is None."""
        return {
            "metric": self.metric,
            "region": self.region,
            "confidence": CONFIDENCE,
            "num_left_out": self.num_left_out,
            "unlike": {name: list(values) for name, values in self.unlike.items()},
            "evaluations": [
                {"name": name, "mean": _plain(mean)}
                for name, mean in zip(self.names, self.means, strict=True)
            ],
            "differences": [
                {"name": name, "to": self.names[0]} | {k: _plain(v) for k, v in vars(found).items()}
                for name, found in zip(self.names[1:], self.differences, strict=True)
            ],
            "images": [
                {"key": key, "values": [_plain(value) for value in column]}
                for key, column in zip(self.keys, self.values.T.tolist(), strict=True)
            ],
        }


def compare(
    folders: Sequence[Path],
    *,
    metric: str = "psnr",
    region: str = "all",
    progress: Callable[[float, int], None] | None = None,
) -> Comparison:
    """Return the models of several evaluations side by side, over the images that all of them have.

    Args:
        folders: those of the evaluations; differences are against the first.
        metric: as in per_image.csv: psnr, ssim, sam, mae, rmse, gmsd and others that were computed.
        region: "all", "cloudy", "thin", "thick" or "clear" pixels.
        progress: called with (evaluations done, evaluations).
    """
    if len(folders) < 2:
        raise InputError(f"{len(folders)} evaluation is given, a comparison needs two or more; name another")
    scored = [read_scored(folder) for folder in folders]
    keys = tuple(key for key in scored[0].images if all(key in each.images for each in scored))
    if not keys:
        raise InputError(
            f"{folders[0]} and the others have no image in common; evaluate the models on the same data"
        )
    column = _find_column(scored, metric, region)
    values = np.array([[each.value(key, column) for key in keys] for each in scored])
    places = [scored[0].images[key].get("place") or key for key in keys]
    differences = list[Difference]()
    for done, row in enumerate(values[1:], start=2):
        differences.append(find_difference(row - values[0], places))
        if progress is not None:
            progress(done, len(values))
    everything = {key for each in scored for key in each.images}
    names = tuple(_distinct([each.name for each in scored], folders))
    left_out = len(everything) - len(keys)
    return Comparison(names, metric, region, keys, values, tuple(differences), _find_unlike(scored), left_out)


def find_difference(differences: NDArray[np.float64], places: Sequence[str]) -> Difference:
    """Return the mean of the finite differences, (N,), and how sure it is.

    Images of one place are alike: whole `places` are drawn, with replacement, as many as there are.
    """
    is_finite = np.isfinite(differences)
    finite = differences[is_finite]
    if not len(finite):
        return Difference(math.nan, math.nan, math.nan, math.nan, 0, 0)
    _, at = np.unique(np.array(places)[is_finite], return_inverse=True)
    sums, counts = np.bincount(at, finite), np.bincount(at)
    low = high = math.nan
    if len(counts) >= FEWEST_PLACES:
        drawn = np.random.default_rng(0).integers(len(counts), size=(DRAWS, len(counts)))
        means = sums[drawn].sum(1) / counts[drawn].sum(1)
        low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    share = float((finite > 0).mean())
    return Difference(float(finite.mean()), low, high, share, len(finite), len(counts))


def find_evaluation(name: str) -> Path:
    """Return the folder of an evaluation, or the newest of a run, a folder of some or a model that ships."""
    path = Path(name)
    if (path / METRICS).is_file() and not (path / CONFIG).is_file():  # a run has figures of its training
        return path
    for root in (path / EVALUATIONS, path, Path("runs") / name / EVALUATIONS):
        found = [each.parent for each in root.glob(f"*/{METRICS}")]
        if found:
            return max(found, key=lambda folder: str(read_metrics(folder / METRICS)["timestamp"]))
    raise InputError(
        f"{name} is no evaluation and no run that has one; make one: `pellucid evaluate {name} --data ...`"
    )


def read_scored(folder: Path) -> Scored:
    """Return an evaluation from its folder."""
    metrics = read_metrics(folder / METRICS)
    if not (folder / PER_IMAGE).is_file():
        raise InputError(f"{folder} has no {PER_IMAGE}: a text encoder makes no images; name another")
    (_, header), *rows = read_rows(folder / PER_IMAGE, "the table")
    images: dict[str, Mapping[str, str]] = {}
    times = Counter[str]()
    for _, row in rows:
        key = row[0]
        times[key] += 1
        name = key if times[key] == 1 else f"{key} ({times[key]})"
        images[name] = dict(zip(header, row, strict=False))
    return Scored(folder.name, metrics.get("settings", {}), images)


def write_comparison(found: Comparison, path: Path) -> None:
    """Write everything as JSON, or the figures image by image as CSV, as the suffix says.

    Only a comparison of the same models is replaced.
    """
    columns = zip(found.keys, found.values.T.tolist(), strict=True)
    if path.suffix.lower() == ".json":
        text, num_first = json.dumps(found.to_dict(), indent=1) + "\n", 2
    elif path.suffix.lower() == ".csv":
        rows = [{"key": key} | dict(zip(found.names, row, strict=True)) for key, row in columns]
        text, num_first = as_csv(rows), 1
    else:
        raise InputError(f"{path} is neither .csv nor .json; name such a file")
    check_writable(path)
    with claim_files(path):
        check_replaceable(path, start="".join(text.splitlines(keepends=True)[:num_first]))
        write_text(path, text)


def _find_column(scored: Sequence[Scored], metric: str, region: str) -> str:
    """Return the column of the model's figure; refuse one that an evaluation lacks."""
    column = f"model_{region}_{metric}"
    for each in scored:
        known = {name for row in each.images.values() for name in row if name.startswith("model_")}
        if column not in known:
            names = sorted(name.removeprefix("model_").replace("_", " ", 1) for name in known)
            raise InputError(f"{each.name} has no {region} {metric}{nearest(f'{region} {metric}', names)}")
    return column


def _find_unlike(scored: Sequence[Scored]) -> dict[str, tuple[Any, ...]]:
    found = {name: tuple(each.settings.get(name) for each in scored) for name in ALIKE}
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def _distinct(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Return the names, or the paths where two names are the same."""
    return [*names] if len({*names}) == len(names) else [str(folder) for folder in folders]


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
