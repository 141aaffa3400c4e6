"""Whether a method is as sure as it says: its errors against the standard deviations that it reports.

Coverage and expected calibration error as of Kuleshov et al. 2018, arXiv:1807.00263; error against confidence
as of Ilg et al. 2018, arXiv:1802.07095. Everything is counted into fixed bins, so that memory does not grow
with the number of images.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.evaluation.figures import CLOUDY, find_regions
from pellucid.methods.method import Estimate

# Nominal coverage of central intervals of a normal distribution: the calibration error is a mean over them.
LEVELS = tuple(i / 20 for i in range(1, 20))
# Half the widths of these intervals in standard deviations, and one and two of these.
_WIDTHS = (*(NormalDist().inv_cdf((1 + level) / 2) for level in LEVELS), 1.0, 2.0)
# Lower limits of the bins of errors and deviations in [0, 1], 3 % wide; what is smaller has a bin too.
_EDGES = tuple(10 ** (-5 + i / 80) for i in range(401))
# Groups of equally many values by their deviation, and shares of the least sure values that are dropped.
GROUPS = 10
DROPPED = tuple(i / 20 for i in range(20))
# Below this a deviation is 0: keeps a quotient finite, and an exact value within all intervals.
_TINY = 1e-12
# The pixels that the method changes: where its deviation is above 0.
RESTORED = "restored"


@dataclass(frozen=True)
class Calibration:
    """How errors compare with reported standard deviations, over all values: pixels times bands.

    Attributes:
        num: values.
        unchanged: share of them with a deviation of 0, which say that they are exact.
        within_1: share whose error is at most one reported standard deviation; 0.683 is calibrated.
        within_2: at most two; 0.954 is calibrated.
        ece: expected calibration error: mean over `LEVELS` of |nominal - observed coverage|.
        rmse: root mean square error, in [0, 1].
        deviation: root mean square of the reported deviations, equal to `rmse` if calibrated.
        ause: area under the sparsification error: mean over `DROPPED` of how far `rmse_kept` lies above
            `rmse_best`, relative to `rmse`; 0 if the deviations sort the values as their errors do.
        coverage: observed, of each of `LEVELS`.
        by_confidence: reported deviation and error, both root mean squares, of `GROUPS` equal groups, the
            surest first.
        rmse_kept: RMSE of what remains where each share of `DROPPED` was dropped, the least sure first.
        rmse_best: likewise, where the values of the largest errors are dropped first.
    """

    num: int
    unchanged: float
    within_1: float
    within_2: float
    ece: float
    rmse: float
    deviation: float
    ause: float
    coverage: tuple[float, ...]
    by_confidence: tuple[tuple[float, float], ...]
    rmse_kept: tuple[float, ...]
    rmse_best: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; what is not a number is None."""
        return {
            "num_values": self.num,
            "unchanged": _plain(self.unchanged),
            "within_1_std": _plain(self.within_1),
            "within_2_std": _plain(self.within_2),
            "ece": _plain(self.ece),
            "rmse": _plain(self.rmse),
            "reported_rms": _plain(self.deviation),
            "ause": _plain(self.ause),
            "reliability": [list(pair) for pair in zip(LEVELS, self.coverage, strict=True)],
            "error_by_confidence": [list(pair) for pair in self.by_confidence],
            "sparsification": [
                list(each) for each in zip(DROPPED, self.rmse_kept, self.rmse_best, strict=True)
            ],
        }


@dataclass(frozen=True)
class ErrorCounts:
    """Errors and reported deviations, counted; these add.

    Attributes:
        by_ratio: (W + 1,) values by the narrowest of the intervals that holds the error, or none.
        by_deviation: (N + 1, 3) of each bin of deviations: values, sums of squared errors and deviations.
        by_error: (N + 1, 3), the same of each bin of absolute errors.
        num_unchanged: values with a deviation of 0.
    """

    by_ratio: NDArray[np.float64]
    by_deviation: NDArray[np.float64]
    by_error: NDArray[np.float64]
    num_unchanged: int

    @classmethod
    def over(cls, error: Tensor, deviation: Tensor) -> Self:
        """Return the counts of values with an error and a reported standard deviation, one each."""
        error, deviation = error.detach().flatten().abs().double(), deviation.detach().flatten().double()
        widths, order = torch.tensor(_WIDTHS, dtype=torch.float64).sort()
        inside = torch.bucketize(error / deviation.clamp(min=_TINY), widths)
        counts = np.zeros(len(_WIDTHS) + 1)
        counts[[*order.tolist(), len(order)]] = torch.bincount(inside, minlength=len(counts)).numpy()
        pair = (error.square(), deviation.square())
        by_deviation, by_error = (_tabulate(values, *pair) for values in (deviation, error))
        return cls(counts, by_deviation, by_error, int((deviation <= _TINY).sum()))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.by_ratio + other.by_ratio,
            self.by_deviation + other.by_deviation,
            self.by_error + other.by_error,
            self.num_unchanged + other.num_unchanged,
        )

    def compute(self) -> Calibration:
        """Return the figures; NaN where nothing was counted."""
        num, error, deviation = self.by_deviation.sum(0)
        share = 1 / num if num else math.nan
        inside = _coverage(self.by_ratio) * share
        kept, best = (_rmse_of_least(table) for table in (self.by_deviation, self.by_error))
        rmse = math.sqrt(error * share)
        area = float(np.mean(kept - best))
        return Calibration(
            num=int(num),
            unchanged=float(self.num_unchanged * share),
            within_1=float(inside[-2]),
            within_2=float(inside[-1]),
            ece=float(np.abs(inside[:-2] - LEVELS).mean()),
            rmse=rmse,
            deviation=math.sqrt(deviation * share),
            ause=area / rmse if rmse else math.nan,
            coverage=tuple(inside[:-2].tolist()),
            by_confidence=_group(self.by_deviation),
            rmse_kept=tuple(kept.tolist()),
            rmse_best=tuple(best.tolist()),
        )


class DeviationErrors:
    """What the errors of images with reported deviations sum up to, by region of their pixels.

    Pixels whose cloud probability is above `cloudy` are cloudy ones.
    """

    def __init__(self, cloudy: float = CLOUDY) -> None:
        self.cloudy = cloudy
        self.counts: dict[str, ErrorCounts] = {}

    def add(self, batch: Batch, estimate: Estimate) -> None:
        """Take in an image, if it comes with deviations; the batch is finite where it is valid."""
        if estimate.deviation is None:
            return
        error, deviation = estimate.image - batch.reference(), estimate.deviation
        masks = find_regions(batch, self.cloudy)
        masks[RESTORED] = batch.valid & (deviation > 0)
        for region, mask in masks.items():
            inside = mask.expand_as(error)
            found = ErrorCounts.over(error[inside], deviation[inside])
            self.counts[region] = self.counts[region] + found if region in self.counts else found

    def compute(self) -> Mapping[str, Calibration]:
        """Return the figures of each region that has pixels."""
        found = {region: counts.compute() for region, counts in self.counts.items()}
        return {region: figures for region, figures in found.items() if figures.num}


def _tabulate(values: Tensor, *weights: Tensor) -> NDArray[np.float64]:
    """Return how many values there are in each bin, and the sums of their weights."""
    at = torch.bucketize(values, torch.tensor(_EDGES, dtype=values.dtype))
    columns = [torch.bincount(at, weights=weight, minlength=len(_EDGES) + 1) for weight in (None, *weights)]
    return np.stack([column.double().numpy() for column in columns], axis=1)


def _coverage(by_ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many values lie within each of `_WIDTHS`, in their order."""
    order = np.argsort(_WIDTHS)
    inside = np.zeros(len(_WIDTHS))
    inside[order] = np.cumsum(by_ratio[order])
    return inside


def _sums_of_least(table: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums over the values in the lowest bins, a share of all; bins are cut in proportion."""
    cumulated = np.concatenate([np.zeros((1, table.shape[1])), table.cumsum(0)])
    wanted = shares * cumulated[-1, 0]
    return np.stack([np.interp(wanted, cumulated[:, 0], column) for column in cumulated.T], axis=1)


def _rmse_of_least(table: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = _sums_of_least(table, 1 - np.array(DROPPED))
    return np.sqrt(_divide(sums[:, 1], sums[:, 0]))


def _group(by_deviation: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Return deviation and error, as root mean squares, of equally large groups by deviation."""
    sums = np.diff(_sums_of_least(by_deviation, np.linspace(0, 1, GROUPS + 1)), axis=0)
    error, deviation = (np.sqrt(_divide(sums[:, i], sums[:, 0])) for i in (1, 2))
    return tuple(zip(deviation.tolist(), error.tolist(), strict=True))


def _divide(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means, NaN of nothing; rounding can push a difference of sums below 0."""
    return sums.clip(min=0) / np.where(counts > 0, counts, np.nan)


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None
