import math
from dataclasses import replace

import pytest
from tests.evaluation.test_figures import score

from pellucid.evaluation.figures import CLEAR_MEAN, INPUT, MODEL, SPECTRUM, ImageScore
from pellucid.evaluation.table import Mean, summarise


def test_returning_the_input_gains_nothing_over_it() -> None:
    result = summarise([score(0.2, 0.2, 0.25), score(0.3, 0.3, 0.31)], name="identity")
    for region in ("all", "cloudy", "clear"):
        assert result.row(MODEL, region).metrics == result.row(INPUT, region).metrics
        assert result.gains[region].mean == pytest.approx(0, abs=1e-5)


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


def placed(model: float, region: str, season: str) -> ImageScore:
    return replace(score(model, 0.4, 0.1), words={"region": region, "season": season})


def test_figures_are_told_apart_by_the_words_in_which_places_differ() -> None:
    scores = [placed(0.2, "arctic", "winter"), placed(0.4, "tropical", "winter"), placed(0.2, "", "winter")]
    result = summarise(scores, name="m")
    labels = [row.region for row in result.rows if row.source == MODEL and " " in row.region][-3:]
    assert labels == ["region unknown", "region arctic", "region tropical"]
    assert result.row(MODEL, "region tropical").metrics["mae"].mean == pytest.approx(0.3)
    assert result.gains["region arctic"].mean == pytest.approx(scores[0].gain())
    assert not any("winter" in row.region for row in result.rows)


def test_the_distance_of_all_images_is_a_figure_of_all_of_them() -> None:
    scores = [score(0.2, 0.4, 0.1), score(0.3, 0.4, 0.1)]
    result = summarise(scores, name="m", fid={MODEL: 3.5, INPUT: 7.25, SPECTRUM: 1.0, CLEAR_MEAN: 2.0})
    assert result.row(INPUT).metrics["fid"].mean == 7.25
    assert result.row(INPUT).metrics["fid"].num == 2
    assert result.row(MODEL, "cloudy").metrics["fid"].num == 0
    assert "fid" not in summarise(scores, name="m").row().metrics
