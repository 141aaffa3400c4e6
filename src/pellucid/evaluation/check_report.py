"""What a check of a folder of data found: figures of each kind of image, counts, problems."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pellucid.datasets._listing import Problem
from pellucid.evaluation.check_images import Facts

# Values that a line names before it counts the rest, and problems of one kind.
LISTED, EXAMPLES = 5, 2
# Upper limits of the cloud-cover bins.
COVER_BINS = (0.2, 0.4, 0.6, 0.8, 1.0)
UNKNOWN = "not known"


@dataclass(frozen=True)
class Summary:
    """The images of one role that could be read, over all samples.

    Attributes:
        sizes: how many images have which; likewise `bands`, `dtypes` and, for cloud cover, `cover`.
        unit: of the values; several where the images differ.
        mean: over bands and images.
        by_band: lowest, mean and highest value of each band.
        missing: share of the pixels without data, mean over the images.
        cloud: likewise, share of cloudy pixels; None where it is not known.
    """

    role: str
    num_images: int
    sizes: Mapping[str, int]
    bands: Mapping[str, int]
    dtypes: Mapping[str, int]
    unit: str
    low: float | None
    mean: float | None
    high: float | None
    by_band: Mapping[str, tuple[float, float, float]]
    missing: float
    cloud: float | None
    cover: Mapping[str, int]

    @classmethod
    def of(cls, role: str, images: Sequence[Facts]) -> "Summary":
        """Return the figures of images, of which there is one at least."""
        values: dict[str, list[tuple[float, float, float]]] = {}
        for image in images:
            limits = zip(image.low, image.mean, image.high, strict=True)
            for band, found in zip(image.bands, limits, strict=True):
                if np.isfinite(found).all():
                    values.setdefault(band, []).append(found)
        by_band = {band: _limits(found) for band, found in values.items()}
        low, mean, high = _limits(list(by_band.values())) if by_band else (None, None, None)
        clouds = [image.cloud for image in images if not np.isnan(image.cloud)]
        return cls(
            role=role,
            num_images=len(images),
            sizes=count(image.size for image in images),
            bands=count(" ".join(image.bands) for image in images),
            dtypes=count(image.dtype for image in images),
            unit=" or ".join(count(image.unit for image in images)),
            low=low,
            mean=mean,
            high=high,
            by_band=by_band,
            missing=float(np.mean([image.missing for image in images])),
            cloud=float(np.mean(clouds)) if clouds else None,
            cover=_bin(clouds),
        )


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        kind: the layout.
        num_samples: listed; `num_read` of these had their images read, `num_unusable` cannot be used.
        num_places: regions, ROIs or files.
        images: figures by role.
        counts: how many samples have which value of what is known about them, for instance of "season".
        splits: places of each split.
        split_sizes: samples of each split.
        split_by: where the splits come from.
    """

    folder: Path
    kind: str
    num_samples: int
    num_read: int
    num_unusable: int
    num_places: int
    images: tuple[Summary, ...]
    counts: Mapping[str, Mapping[str, int]]
    splits: Mapping[str, tuple[str, ...]]
    split_sizes: Mapping[str, int]
    split_by: str
    problems: tuple[Problem, ...]

    @property
    def is_usable(self) -> bool:
        """Whether nothing makes a sample, or the splits, unusable."""
        return not any(problem.is_fatal for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {**asdict(self), "folder": str(self.folder), "is_usable": self.is_usable}

    def image_table(self) -> Table:
        """Return a column per role: how many images, how large, of what, with which values."""
        table = Table("", box=SIMPLE_HEAD, pad_edge=False)
        for each in self.images:
            table.add_column(each.role, overflow="fold")
        rows = {
            "images": [str(each.num_images) for each in self.images],
            "size": [_name_all(each.sizes) for each in self.images],
            "bands": [_name_bands(each.bands) for each in self.images],
            "type": [_name_all(each.dtypes) for each in self.images],
            "unit": [each.unit for each in self.images],
            "values": [_name_range(each.low, each.high) for each in self.images],
            "mean": ["" if each.mean is None else f"{each.mean:.3g}" for each in self.images],
            "no data": [f"{each.missing:.1%}" for each in self.images],
            "cloudy*": ["" if each.cloud is None else f"{each.cloud:.0%}" for each in self.images],
        }
        for name, cells in rows.items():
            if any(cells):
                table.add_row(name, *cells)
        return table

    def lines(self) -> list[str]:
        """Return the counts: of cloud cover, of what is known about the samples, of the splits."""
        covers = [each for each in self.images if each.cover]
        lines = [f"{each.role} images by cloud cover*: {_name_all(each.cover)}" for each in covers]
        if covers:
            lines.append("* by the built-in score, which also takes bright soil, snow and haze for cloud")
        lines += [f"{name}: {_name_all(values)}" for name, values in self.counts.items()]
        for split, places in self.splits.items():
            names = ", ".join(places[:LISTED]) + (" ..." if len(places) > LISTED else "")
            number = self.split_sizes[split]
            lines.append(f"{split} ({self.split_by}): {number} samples, places {names}")
        return lines

    def problem_lines(self) -> list[tuple[bool, str]]:
        """Return whether it is fatal, and a line, of each kind of problem, the fatal ones first."""
        kinds: dict[tuple[bool, str], list[str]] = {}
        for problem in sorted(self.problems, key=lambda problem: not problem.is_fatal):
            kinds.setdefault((problem.is_fatal, problem.kind), []).append(problem.text)
        return [(is_fatal, f"{kind}: {_name_some(texts)}") for (is_fatal, kind), texts in kinds.items()]


def count(values: Iterable[str]) -> dict[str, int]:
    """Return how often each value occurs, the most frequent first; "" is not known."""
    return dict(Counter(value or UNKNOWN for value in values).most_common())


def _limits(values: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    low, mean, high = zip(*values, strict=True)
    return min(low), float(np.mean(mean)), max(high)


def _bin(shares: list[float]) -> dict[str, int]:
    """Return how many shares lie in each bin that holds one."""
    limits = [next(limit for limit in COVER_BINS if share <= limit) for share in sorted(shares)]
    return dict(Counter(f"{100 * high - 20:.0f} to {high:.0%}" for high in limits))


def _name_all(values: Mapping[str, int]) -> str:
    if len(values) == 1:
        return next(iter(values))
    quote = '"' if any("," in value for value in values) else ""
    parts = [f"{quote}{value}{quote} ({number})" for value, number in list(values.items())[:LISTED]]
    return ", ".join(parts) + (f" and {len(values) - LISTED} more" if len(values) > LISTED else "")


def _name_bands(values: Mapping[str, int]) -> str:
    """Return the number of bands where they are many, else their names."""
    short = (names if names.count(" ") < 3 else f"{names.count(' ') + 1} bands" for names in values)
    return ", ".join(dict.fromkeys(short))


def _name_some(texts: list[str]) -> str:
    more = len(texts) - EXAMPLES
    return "; ".join(texts[:EXAMPLES]) + (f"; and {more} more" if more > 0 else "")


def _name_range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3g} to {high:.3g}"
