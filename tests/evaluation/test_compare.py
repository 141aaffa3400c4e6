import json
import math
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.test_folder import rows_of

from pellucid.errors import InputError
from pellucid.evaluation.compare import compare, find_difference, find_evaluation, write_comparison
from pellucid.evaluation.figures import MODEL, ImageScore
from pellucid.evaluation.folder import claim_evaluation, write_evaluation
from pellucid.evaluation.table import summarise


def evaluated(root: Path, name: str, figures: dict[str, float], **settings: object) -> Path:
    """Write an evaluation with so much PSNR of each image, two of which are of one place."""
    scores = [
        ImageScore(key, 0.5, {(MODEL, "all", "psnr"): value, (MODEL, "all", "mae"): 0.1}, place=key[0])
        for key, value in figures.items()
    ]
    with claim_evaluation(root, name) as folder:
        assert folder is not None
        write_evaluation(summarise(scores, name=name, settings=settings), folder)
    return folder


def test_differences_are_image_by_image_over_those_that_both_have(tmp_path: Path) -> None:
    first = evaluated(tmp_path, "first", {"a1": 20.0, "a2": 30.0, "b1": 25.0, "b2": math.inf, "c": 1.0})
    second = evaluated(tmp_path, "second", {"b1": 26.0, "a1": 22.0, "a2": 30.0, "b2": 40.0}, crop=8)
    found = compare([first, second])
    assert found.keys == ("a1", "a2", "b1", "b2")
    assert found.num_left_out == 1
    assert found.unlike == {"crop": (None, 8)}
    (difference,) = found.differences
    assert difference.mean == pytest.approx(1)  # of 2, 0 and 1: an infinite figure is no number
    assert (difference.num_images, difference.num_places) == (3, 2)
    assert difference.share_above == pytest.approx(2 / 3)
    assert math.isnan(difference.low)  # of two places an interval would say nothing


def test_intervals_are_those_of_normal_statistics_where_there_are_many_places() -> None:
    values = np.random.default_rng(0).normal(0.3, 2, 400)
    found = find_difference(values, [str(i) for i in range(400)])
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_images_of_one_place_count_as_one_draw() -> None:
    values = np.repeat(np.random.default_rng(0).normal(0, 1, 50), 8)
    alone = find_difference(values, [str(i) for i in range(400)])
    together = find_difference(values, [str(i // 8) for i in range(400)])
    assert together.high - together.low == pytest.approx((alone.high - alone.low) * math.sqrt(8), rel=0.1)
    assert math.isnan(find_difference(values, ["one", "two"] * 200).low)
    assert math.isfinite(find_difference(values[:3], ["one", "two", "three"]).low)
    assert find_difference(np.array([math.nan]), ["one"]).num_images == 0


def test_a_run_stands_for_its_newest_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("runs/mine/evaluations")
    old, new = (evaluated(root, name, {"a1": 20.0}) for name in ("old", "new"))
    metrics = json.loads((new / "metrics.json").read_text())
    (new / "metrics.json").write_text(json.dumps({**metrics, "timestamp": "2999"}))
    run = new.parents[1]  # a trained run has figures of its own
    (run / "metrics.json").write_text('{"best_step": 20}')
    (run / "config.yaml").write_text("method: {name: regression}")
    for name in ("runs/mine", "runs/mine/evaluations", "mine", str(new)):
        assert find_evaluation(name) == new
    assert find_evaluation(str(old)) == old
    with pytest.raises(InputError, match="other is no evaluation and no run that has one"):
        find_evaluation("other")


def test_everything_or_the_images_are_written(tmp_path: Path) -> None:
    folders = [
        evaluated(tmp_path, name, {"a1": 20.0, "b1": value}) for name, value in (("x", 1.0), ("y", math.inf))
    ]
    found = compare(folders)
    write_comparison(found, tmp_path / "all.json")
    written = json.loads((tmp_path / "all.json").read_text())
    assert written["images"] == [{"key": "a1", "values": [20, 20]}, {"key": "b1", "values": [1, None]}]
    assert (
        written["differences"][0] | {"name": "y", "to": "x", "mean": 0, "low": None}
        == written["differences"][0]
    )
    write_comparison(found, tmp_path / "images.csv")
    assert rows_of(tmp_path / "images.csv")[0] == {"key": "a1", "x": "20.0", "y": "20.0"}
    with pytest.raises(InputError, match=r"neither .csv nor .json"):
        write_comparison(found, tmp_path / "images.txt")
    for name in ("images.csv", "all.json"):
        write_comparison(found, tmp_path / name)
    mine = tmp_path / "mine.csv"
    mine.write_text("key,a\n")
    with pytest.raises(InputError, match=r"a file is there that pellucid did not write"):
        write_comparison(found, mine)
    assert mine.read_text() == "key,a\n"


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    first, other = evaluated(tmp_path, "m", {"a1": 20.0}), evaluated(tmp_path, "m", {"b1": 20.0})
    with pytest.raises(InputError, match="needs two or more"):
        compare([first])
    with pytest.raises(InputError, match="have no image in common"):
        compare([first, other])
    with pytest.raises(InputError, match="m has no all pnsr; did you mean 'all psnr'"):
        compare([first, first], metric="pnsr")
    assert len(set(compare([first, first / ".." / "m"]).names)) == 2
