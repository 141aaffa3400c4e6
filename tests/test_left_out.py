"""Trainings without some places or data sets: what they see, and where they are evaluated."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from benchmarks import kept, left_out
from benchmarks.hidden_ground import (
    ALL,
    LEAST,
    MASKS,
    NO_GUIDE,
    NO_OLDER,
    NO_RADAR,
    draw_hidden,
    find_scenes,
    score,
)
from rasterio.warp import transform_bounds
from rasters import write_raster
from rich.console import Console
from torch import Tensor

from pellucid.build.datasets import read_source
from pellucid.config import Config, load_config
from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.schema import parse
from pellucid.datasets._augment import cloud_over
from pellucid.datasets.guided_scenes import GuidedScenes
from pellucid.datasets.sen12ms_cr import Sen12MsCr
from pellucid.errors import InputError
from pellucid.evaluation.figures import CLEAR_MEAN
from pellucid.methods.method import Method
from pellucid.simulate.clouds import SkyOptions
from pellucid.train.checkpoints import TrainReport

CONFIG = Path(__file__).parents[1] / "configs" / "ground.yaml"
# Degrees of latitude, 22 km.
NEAR = 0.2


def write_places(root: Path, *names: str) -> dict[str, str]:
    random = np.random.default_rng(len(names))
    for name in names:
        optical = random.integers(300, 3000, (13, 32, 32)).astype(np.uint16)
        write_raster(root / "s2" / f"{name}.tif", optical, SENTINEL2.bands)
        radar = random.uniform(-20, -5, (2, 32, 32)).astype(np.float32)
        write_raster(root / "s1" / f"{name}.tif", radar, SENTINEL1.bands)
    return {"name": "guided_scenes", "root": str(root / "s2"), "radar_root": str(root / "s1")}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    fields = write_places(tmp_path / "fields", "a", "b", "c", "paris", "bercy")
    again = write_places(tmp_path / "again", "a", "d")
    values = {
        "method": {"name": "ground"},
        "network": {"name": "ground", "features": 4, "widths": [4, 4], "clear_widths": [4, 4], "detail": 2}
        | {"refine": 4, "refine_widths": [4, 4]},
        "data": {
            "train": [
                {**fields, "exclude": ["c"], "weight": 2.0},
                again,
                write_places(tmp_path / "alone", "e"),
                {"name": "synthetic", "num_scenes": 2, "size": 32},
            ],
            "tile": 32,
            "augment": {"hide": 1.0},
        },
        "train": {"num_steps": 100, "batch": 1, "schedule": "constant", "device": "cpu"},
    }
    return left_out.shorten(parse(Config, values, where="test"), 1)


def test_a_fold_trains_on_none_of_its_places_in_whichever_source(config: Config) -> None:
    runs = left_out.runs_by_place(config, 5)
    held = [{scene.place for scene in run.scenes} for run in runs]
    assert sorted(place for places in held for place in places) == ["a", "b", "bercy", "c", "d", "e", "paris"]
    assert {"paris", "bercy"} in held
    for run, places in zip(runs, held, strict=True):
        data = left_out.build_training_data(run.config).stream
        assert not data.places & places
        assert len(run.config.data.train) == (3 if "e" in places else 4)
    assert held[0] == {"a", "e"}
    assert len(runs[0].scenes) == 3


def test_folds_are_refused_if_some_would_be_empty(config: Config) -> None:
    with pytest.raises(InputError, match="--folds is 7, but there are 6 places"):
        left_out.runs_by_place(config, 7)


def test_data_sets_are_left_out_in_turn_and_evaluated_on_the_same_excluded_places(config: Config) -> None:
    runs = {run.name: run for run in left_out.runs_by_source(config)}
    assert list(runs)[:4] == [
        "not trained",
        "every data set",
        "every data set, another seed",
        "without fields",
    ]
    assert {name for name in runs if name.startswith("without")} == {
        f"without {name}" for name in ("fields", "again", "alone", "synthetic")
    }
    assert all([scene.place for scene in run.scenes] == ["c"] for run in runs.values())
    roots = [
        getattr(source, "root", Path()).parent.name for source in runs["without again"].config.data.train
    ]
    assert roots == ["fields", "alone", ""]
    assert left_out.is_wanted(runs["without again"], ["again"])
    assert not left_out.is_wanted(runs["without again"], ["a"])


def test_places_of_real_data_are_far_from_all_that_a_fold_trains_on(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_DATA", str(data_folder))
    config = load_config(CONFIG)
    files = {
        (scene.group, scene.clear)
        for patches in (
            read_source(source, config) for source in config.data.train if hasattr(source, "root")
        )
        if isinstance(patches, GuidedScenes | Sen12MsCr)
        for scene in (patches.scenes if isinstance(patches, GuidedScenes) else patches.patches)
    }
    boxes = [(group, box) for group, path in files if (box := bounds(path))]
    for run in left_out.runs_by_place(config, 5):
        held = {scene.place for scene in run.scenes}
        trained = {
            group for source in run.config.data.train for group in read_source(source, config).groups
        } - set(run.config.data.hold_out)
        assert not held & trained
        for place, own in boxes:
            if place in held:
                near = [g for g, box in boxes if g in trained and gap(own, box) < NEAR]
                assert not near, (place, near)


def bounds(path: Path) -> tuple[float, ...] | None:
    with rasterio.open(path) as file:
        return transform_bounds(file.crs, "EPSG:4326", *file.bounds) if file.crs else None


def gap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])


class Spy(Method):
    """Paints 0.2 everywhere, and remembers what it was given."""

    stride, mean_spectrum, optical = 16, (0.1,) * 13, SENTINEL2

    def __init__(self) -> None:
        self.given: list[Batch] = []

    def loss(self, batch: Batch, generator: object = None) -> dict[str, Tensor]:
        raise NotImplementedError

    def restore(self, batch: Batch, noise: object = None, progress: object = None) -> Tensor:  # noqa: ARG002
        self.given.append(batch)
        return torch.full_like(batch.degraded, 0.2)


def test_hidden_pixels_are_not_given_and_alone_are_measured(config: Config) -> None:
    scene = find_scenes(config)[0]
    spy, truth = Spy(), scene.read(16).degraded
    rows = score(spy, scene)  # type: ignore[arg-type]
    assert len(spy.given) == 2 * len(MASKS)
    for row, batch, (_, share) in zip(rows, spy.given[::2], MASKS, strict=True):
        assert batch.cloud is not None
        hidden = batch.cloud.bool().expand_as(truth)
        assert hidden.float().mean() == pytest.approx(share, abs=0.02)
        assert not batch.degraded[hidden].any()
        assert torch.equal(batch.degraded[~hidden], truth[~hidden])
        flat = batch.degraded.sum((2, 3), keepdim=True) / (~hidden).sum((2, 3), keepdim=True).clamp(min=1)
        mean = flat.expand_as(truth) if share < 1 else torch.full_like(truth, 0.1)
        for figure, image in ((CLEAR_MEAN, mean), (ALL, torch.full_like(truth, 0.2))):
            error = (image - truth)[hidden].square().mean()
            assert row[figure] == pytest.approx(float(-10 * error.log10()), abs=1e-3)
        assert row[ALL] == row[NO_OLDER] == row[NO_RADAR] == row[NO_GUIDE]
    assert all(batch.sar is not None and batch.sar.isnan().all() for batch in spy.given[1::2])
    assert torch.equal(draw_hidden(8, 8, 2.0, 0.5, 3), draw_hidden(8, 8, 2.0, 0.5, 3))


def test_an_older_date_is_taken_away_alone_and_with_the_radar(config: Config) -> None:
    scene = find_scenes(config)[0]
    dated = replace(scene.read(16), older=scene.read(16).degraded, target=scene.read(16).degraded)
    spy = Spy()
    score(spy, replace(scene, patches=[dated]))  # type: ignore[arg-type]
    has = [(b.sar.isfinite().any(), b.older.isfinite().any()) for b in spy.given[:4]]  # type: ignore[union-attr]
    assert [tuple(map(bool, each)) for each in has] == [
        (True, True),
        (False, True),
        (True, False),
        (False, False),
    ]


def test_runs_are_kept_and_printed(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(left_out, "load_config", lambda *_: config)
    words = ["left_out", "--by", "source", "--steps", "1", "--out", str(tmp_path / "out")]
    only = ["--only", "not trained", "every data set", "again"]
    monkeypatch.setattr("sys.argv", [*words, *only])
    left_out.main()
    printed = capsys.readouterr().out
    assert "| without again" in printed
    found = sorted((tmp_path / "out" / "source_1_steps_of_1").iterdir())
    assert [file.stem for file in found] == ["every data set", "not trained", "without again"]
    assert {row["place"] for row in json.loads(found[0].read_text())["rows"]} == {"c"}
    monkeypatch.setattr(left_out, "train_whole", None)
    left_out.main()
    assert capsys.readouterr().out.splitlines()[-2:] == printed.splitlines()[-2:]


def test_a_second_stage_begins_from_the_first_without_the_same_places(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[Config] = []

    def train_and_note(run: Config, folder: Path) -> None:
        trained.append(run)
        kept.train_whole(run, folder)

    monkeypatch.setattr(left_out, "load_config", lambda *_: config)
    monkeypatch.setattr(left_out, "train_whole", train_and_note)
    words = ["left_out", "--steps", "1", "--second", "second.yaml", "--second-steps", "2", "--only", "a"]
    monkeypatch.setattr("sys.argv", [*words, "--out", str(tmp_path / "out")])
    left_out.main()
    first, second = trained
    assert first.data == second.data
    assert {"a", "e"} <= set(first.data.hold_out)
    assert (first.train.num_steps, second.train.num_steps) == (1, 2)
    assert Path(second.train.init_from or "").name == "run"
    (found,) = (tmp_path / "out" / "place_1_steps_of_1_then_2").iterdir()
    assert {row["place"] for row in json.loads(found.read_text())["rows"]} == {"a", "e"}
    assert "| all, 95% to 100% cloudy" in " ".join(capsys.readouterr().out.split())


def test_of_a_sky_nothing_is_told_and_its_cloudy_pixels_alone_are_measured(config: Config) -> None:
    scene = find_scenes(config)[0]
    spy, truth = Spy(), scene.read(16).degraded
    rows = score(spy, scene, skies=True)  # type: ignore[arg-type]
    assert len(spy.given) == 2 * len(rows)
    assert {row["hidden"] >= LEAST for row in rows} == {True}
    assert {batch.cloud for batch in spy.given} == {None}
    batch = spy.given[0]
    sky = cloud_over(
        replace(scene.read(16), target=truth), SENTINEL2.bands, torch.Generator().manual_seed(0), SkyOptions()
    )
    assert torch.equal(batch.degraded, sky.degraded)
    assert batch.target is None
    cloudy = (sky.cloud > 0.5).expand_as(truth)  # type: ignore[operator]
    assert rows[0]["hidden"] == pytest.approx(float(cloudy.float().mean()), abs=1e-6)
    error = (0.2 - truth)[cloudy].square().mean()
    assert rows[0][ALL] == pytest.approx(float(-10 * error.log10()), abs=1e-3)


def test_a_training_that_was_stopped_is_not_measured(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = TrainReport("interrupted", 1, None, None, 1.0, ())
    monkeypatch.setattr(kept, "run_training", lambda *_, **__: stopped)
    run = left_out.runs_by_source(config)[1]
    with pytest.raises(KeyboardInterrupt):
        kept.keep(tmp_path / "kept.json", run.result)
    assert not (tmp_path / "kept.json").exists()


def test_means_are_over_places_not_over_scenes(capsys: pytest.CaptureFixture[str]) -> None:
    def row(place: str, hidden: float, value: float) -> dict[str, object]:
        figures = dict.fromkeys((CLEAR_MEAN, NO_GUIDE, NO_OLDER, NO_RADAR), 20.0)
        return {"place": place, "source": "fields", "hidden": hidden, **figures, ALL: value}

    parts = [row("a", 0.3, 22.0), row("a", 0.3, 24.0), row("b", 0.3, 30.0)]
    rows = [*parts, row("a", 1, 21.0), row("b", 1, 20.0)]
    result = {"run": "fold 1 of 1", "seconds": 60.0, "rows": rows}
    left_out.print_places([result], Console(width=200))
    printed = " ".join(capsys.readouterr().out.split())
    assert "| a | fields | 20.00 | 20.00 | 20.00 | 20.00 | 23.00 |" in printed
    assert "| all | 2 | 20.00 | 20.00 | 20.00 | 20.00 | 26.50 | +6.50 | +0.00 |" in printed
    assert "| with an older date | 2 |" in printed
    assert "| all, 30% hidden | 2 | 20.00 | 20.00 | 20.00 | 20.00 | 26.50 | +6.50 | +0.00 |" in printed
    assert "| all, 100% hidden | 2 | 20.00 | 20.00 | 20.00 | 20.00 | 20.50 | +0.50 | +0.00 |" in printed
