import math
from dataclasses import replace

import pytest
import torch
from tests.evaluation.test_trial import make_patch
from torch import Tensor

from pellucid.evaluation.calibration import (
    DROPPED,
    LEVELS,
    RESTORED,
    Calibration,
    DeviationErrors,
    ErrorCounts,
)
from pellucid.methods.method import Estimate


def draw(count: int = 400_000) -> tuple[Tensor, Tensor]:
    """Return errors and the standard deviations of the normal distributions that they are drawn from."""
    generator = torch.Generator().manual_seed(0)
    deviation = 0.01 + 0.09 * torch.rand(count, generator=generator)
    return deviation * torch.randn(count, generator=generator), deviation


def figures(error: Tensor, deviation: Tensor) -> Calibration:
    return ErrorCounts.over(error, deviation).compute()


def inside(width: float) -> float:
    """Return the share of a normal distribution within so many standard deviations."""
    return math.erf(width / math.sqrt(2))


def test_normal_errors_of_the_reported_deviation_are_calibrated() -> None:
    error, deviation = draw()
    found = figures(error, deviation)
    assert found.within_1 == pytest.approx(0.6827, abs=0.003)
    assert found.within_2 == pytest.approx(0.9545, abs=0.002)
    assert found.ece < 0.002
    assert found.rmse == pytest.approx(error.square().mean().sqrt().item(), rel=1e-4)
    assert found.rmse == pytest.approx(found.deviation, rel=0.01)
    assert found.coverage == pytest.approx(LEVELS, abs=0.005)
    for reported, seen in found.by_confidence:
        assert seen == pytest.approx(reported, rel=0.03)


def test_deviations_twice_too_large_cover_too_much() -> None:
    error, deviation = draw()
    found = figures(error, 2 * deviation)
    assert found.within_1 == pytest.approx(inside(2), abs=0.002)
    assert found.within_2 == pytest.approx(inside(4), abs=0.001)
    # The central interval of a level reaches twice as far, in true standard deviations.
    widths = torch.special.ndtri((1 + torch.tensor(LEVELS)) / 2).tolist()
    expected = [inside(2 * width) - level for width, level in zip(widths, LEVELS, strict=True)]
    assert found.ece == pytest.approx(sum(expected) / len(expected), abs=0.003)
    assert found.ause == pytest.approx(figures(error, deviation).ause, abs=0.01)  # their order is the same


def test_the_least_sure_are_dropped_first() -> None:
    deviation = torch.tensor([0.01, 0.02, 0.03, 0.04]).repeat(1000)
    found = figures(deviation.clone(), deviation)
    assert found.ause == pytest.approx(0, abs=0.01)
    half = DROPPED.index(0.5)
    assert found.rmse_kept[half] == pytest.approx(math.sqrt((0.01**2 + 0.02**2) / 2), rel=0.01)
    upside_down = figures(deviation.flip(0), deviation)
    assert upside_down.rmse_kept[half] == pytest.approx(math.sqrt((0.03**2 + 0.04**2) / 2), rel=0.01)
    assert upside_down.rmse_best[half] == pytest.approx(found.rmse_kept[half])
    assert upside_down.ause > 0.5


def test_counts_add() -> None:
    error, deviation = draw(1000)
    parts = [ErrorCounts.over(error[at], deviation[at]) for at in (slice(300), slice(300, None))]
    whole = figures(error, deviation)
    added = (parts[0] + parts[1]).compute()
    assert (added.num, added.ece, added.coverage) == (whole.num, pytest.approx(whole.ece), whole.coverage)
    assert added.rmse_kept == pytest.approx(whole.rmse_kept)
    assert added.rmse_best == pytest.approx(whole.rmse_best)


def test_a_deviation_of_zero_says_that_the_value_is_exact() -> None:
    found = figures(torch.tensor([0.0, 0.0, 0.1, 0.05]), torch.tensor([0.0, 0.0, 0.0, 0.1]))
    assert (found.within_1, found.within_2, found.unchanged) == (0.75, 0.75, 0.75)


def test_images_are_counted_by_region_and_where_they_were_changed() -> None:
    patch = make_patch((16, 16))
    patch = replace(patch, valid=patch.valid.clone())
    patch.valid[..., 0, :] = False
    image, deviation = patch.reference() + 0.1, torch.full_like(patch.degraded, 0.05)
    deviation[..., 8:, :] = 0.2
    deviation[..., 15, :] = 0
    errors = DeviationErrors()
    errors.add(patch, Estimate(image))
    assert not errors.compute()
    errors.add(patch, Estimate(image, deviation))
    found = errors.compute()
    assert {region: figures.num for region, figures in found.items()} == {
        "all": 4 * 15 * 16,
        "cloudy": 4 * 7 * 16,
        "clear": 4 * 8 * 16,
        RESTORED: 4 * 14 * 16,
    }
    assert found["cloudy"].within_1 == 0
    assert found["clear"].within_1 == pytest.approx(7 / 8)
    assert found[RESTORED].unchanged == 0
