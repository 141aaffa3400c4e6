import csv
import json
import math
from pathlib import Path

import pytest
import torch

from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.image_score import INPUT, MODEL, SPECTRUM, ImageScore, score_image
from pellucid.metrics import ssim_map
from pellucid.score_files import HISTORY, write_evaluation
from pellucid.scores import Mean, summarise

BLACK = (0.0, 0.0, 0.0)


def flat_batch(degraded: float, target: float, *, cover: float = 0.5, side: int = 32) -> Batch:
    """A flat image whose upper rows are cloudy, a share `cover` of them."""
    cloud = torch.zeros(1, 1, side, side)
    cloud[..., : round(cover * side), :] = 1
    return Batch(
        degraded=torch.full((1, 3, side, side), degraded),
        target=torch.full((1, 3, side, side), target),
        cloud=cloud,
        valid=torch.ones(1, 1, side, side, dtype=torch.bool),
        key=(f"cover_{cover:g}",),
    )


def score(model: float, degraded: float, target: float, *, cover: float = 0.5) -> ImageScore:
    batch = flat_batch(degraded, target, cover=cover)
    return score_image(batch, torch.full_like(batch.degraded, model), BLACK)


def test_each_source_and_region_has_its_own_figures() -> None:
    batch = flat_batch(0.5, 0.1)
    restored = batch.degraded.clone()
    restored[..., :16, :] = 0.2  # the cloudy half is off by 0.1, the clear one by 0.4
    result = score_image(batch, restored, (0.11, 0.11, 0.11))
    assert result.cover == 0.5
    assert result.values[MODEL, "cloudy", "psnr"] == pytest.approx(20, abs=1e-4)
    assert result.values[MODEL, "cloudy", "mae"] == pytest.approx(0.1)
    assert result.values[MODEL, "clear", "mae"] == pytest.approx(0.4)
    assert result.values[MODEL, "all", "rmse"] == pytest.approx(math.sqrt((0.1**2 + 0.4**2) / 2))
    assert result.values[INPUT, "cloudy", "mae"] == pytest.approx(0.4)
    assert result.values[SPECTRUM, "all", "psnr"] == pytest.approx(40, abs=1e-3)


def test_gain_is_over_the_better_baseline_of_each_image() -> None:
    better_input = score(0.11, 0.2, 0.1)  # 40 dB; input 20 dB, black also 20 dB
    better_black = score(0.11, 0.5, 0.1)  # input far off
    assert better_input.gain() == pytest.approx(20, abs=1e-3)
    assert better_black.gain() == pytest.approx(20, abs=1e-3)
    assert score(0.5, 0.11, 0.1).gain() == pytest.approx(10 * math.log10(0.01**2 / 0.4**2), abs=1e-3)
    assert score(0.5, 0.11, 0.1).gain("clear") == pytest.approx(10 * math.log10(0.01**2 / 0.4**2), abs=1e-3)


def test_returning_the_input_gains_nothing_over_it() -> None:
    result = summarise([score(0.2, 0.2, 0.25), score(0.3, 0.3, 0.31)], name="identity")
    for region in ("all", "cloudy", "clear"):
        assert result.row(MODEL, region).metrics == result.row(INPUT, region).metrics
        assert result.gains[region].mean == 0


def test_invalid_pixels_count_nowhere() -> None:
    batch = flat_batch(0.5, 0.1)
    valid = batch.valid.clone()
    valid[..., :8, :] = False
    batch = Batch(batch.degraded, valid, batch.key, cloud=batch.cloud, target=batch.target)
    restored = torch.full_like(batch.degraded, 0.2)
    expected = score_image(batch, restored, (0.01, 0.02, 0.03))
    spoilt = restored.clone()
    spoilt[..., :8, :] = 1.0
    assert score_image(batch, spoilt, (0.01, 0.02, 0.03)) == expected
    assert expected.cover == pytest.approx(8 / 24)
    assert expected.values[MODEL, "all", "mae"] == pytest.approx(0.1)


def test_similarity_counts_no_window_that_touches_an_invalid_pixel() -> None:
    target = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    valid[..., :10, :] = False
    batch = Batch(target, valid, ("half",), target=target)
    restored = target.clone()
    restored[..., 10:18, :] = 0
    found = score_image(batch, restored, None).values[MODEL, "all", "ssim"]
    # Row 15 is the first whose window, five rows up and down, holds valid pixels alone.
    assert found == pytest.approx(ssim_map(restored, target)[..., 15:, :].mean().item())


def test_an_image_belongs_to_one_bin_of_cloud_cover() -> None:
    covers = (0.0, 0.25, 0.5, 0.75, 1.0)
    result = summarise([score(0.2, 0.4, 0.1, cover=cover) for cover in covers], name="m")
    labels = [row.region for row in result.rows if row.source == MODEL]
    assert labels == [
        "all",
        "cloudy",
        "clear",
        "cover 0 to 20%",
        "cover 20 to 40%",
        "cover 40 to 60%",
        "cover 60 to 80%",
        "cover 80 to 100%",
    ]
    assert [result.row(MODEL, label).num_images for label in labels] == [5, 4, 4, 1, 1, 1, 1, 1]


def test_infinite_psnr_is_left_out_and_the_count_says_so() -> None:
    result = summarise([score(0.1, 0.2, 0.1), score(0.2, 0.3, 0.1)], name="m")
    psnr = result.row().metrics["psnr"]
    assert psnr.mean == pytest.approx(20, abs=1e-3)
    assert (psnr.num, result.row().num_images) == (1, 2)
    assert result.row().metrics["mae"].num == 2
    assert Mean.of([math.inf, math.nan]).num == 0


def test_mean_and_deviation_are_those_of_the_finite_values() -> None:
    mean = Mean.of([1.0, 2.0, 6.0, math.inf])
    assert (mean.mean, mean.num) == (3, 3)
    assert mean.std == pytest.approx(math.sqrt(7))
    assert math.isnan(Mean.of([1.0]).std)


def test_files_tell_the_figures_and_the_history_grows(tmp_path: Path) -> None:
    scores = [score(0.2, 0.4, 0.1), score(0.1, 0.4, 0.1, cover=1.0)]
    write_evaluation(summarise(scores, name="first", notes='with "quotes", and a comma'), tmp_path)
    write_evaluation(summarise(scores, name="second"), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["name"] == "second"
    assert metrics["num_images"] == 2
    assert metrics["rows"][0]["psnr"] == {"mean": pytest.approx(20, abs=1e-3), "std": None, "num": 1}
    with (tmp_path / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["cover_0.5", "cover_1"]
    assert float(rows[0]["model_all_psnr"]) == pytest.approx(20, abs=1e-3)
    assert float(rows[0]["mean_spectrum_cloudy_mae"]) == pytest.approx(0.1)
    with (tmp_path / HISTORY).open() as file:
        history = list(csv.DictReader(file))
    assert [row["model"] for row in history] == ["first", "second"]
    assert history[0]["notes"] == 'with "quotes", and a comma'
    assert (history[0]["psnr"], history[0]["num_images"]) == ("20.0000", "2")


def test_a_spectrum_of_other_bands_is_refused() -> None:
    batch = flat_batch(0.5, 0.1)
    with pytest.raises(InputError, match="the mean spectrum has 2 bands, the data 3"):
        score_image(batch, batch.degraded, (0.1, 0.2))
