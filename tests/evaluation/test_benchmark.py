"""A benchmark of two tiny models on made-up pairs, its report and its page."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.browser import opened

from pellucid.apply.options import ApplyOptions
from pellucid.build.method import build_method, load
from pellucid.build.run import save_run
from pellucid.config import load_config
from pellucid.errors import InputError
from pellucid.evaluation import benchmark
from pellucid.evaluation.benchmark import COST, Entry, Plan, choose_images, find_models, key_of, run_model
from pellucid.evaluation.benchmark_data import Chosen, Selection
from pellucid.evaluation.benchmark_report import JSON, PAGE, Benchmark, report, write_report
from pellucid.evaluation.compare import read_scored
from pellucid.evaluation.cost import Cost
from pellucid.simulate.pairs import simulate_pairs

CONFIGS = Path(__file__).parents[2] / "configs"
COSTS = Cost(1000, 2.5, 0.5, 12.0, 1024, "CPU, 1 threads", "fp32")


def no_progress(done: float, total: int) -> None:
    assert done <= total


def run_all(plan: Plan, chosen: Chosen, out: Path) -> list[Entry]:
    return [run_model(plan, model, chosen, out, no_progress) for model in plan.models]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and two models that were not trained."""
    folder = tmp_path_factory.mktemp("desk")
    simulate_pairs(folder / "data", count=4, size=32, seed=0)
    config = load_config(CONFIGS / "cross_attention_tiny.yaml")
    for name in ("one", "other"):
        save_run(folder / name, config=config, method=build_method(config))
    return folder


@pytest.fixture(scope="module")
def plan(desk: Path) -> Plan:
    models = tuple(str(desk / name) for name in ("one", "other"))
    options = ApplyOptions(device="cpu", precision="fp32")
    return Plan(models, Selection(desk / "data", "all"), options, has_cost=False)


@pytest.fixture(scope="module")
def found(desk: Path, plan: Plan) -> Benchmark:
    chosen = choose_images(plan)
    entries = run_all(plan, chosen, desk / "out")
    entries = [replace(entries[0], cost=COSTS), entries[1]]
    result = report(plan, chosen, entries, "both")
    write_report(result, desk / "out")
    return result


def test_means_are_those_of_the_images_and_intervals_are_over_places(found: Benchmark) -> None:
    assert found.sources == ["one", "other", "input", "mean spectrum", "clear mean"]
    folder = found.entries[1].folder
    assert folder is not None
    scored = read_scored(folder)
    values = [scored.value(key, "model_all_psnr") for key in scored.images]
    row = found.row("other", "all")
    assert row is not None
    psnr = row.figures["psnr"]
    assert psnr.mean == pytest.approx(np.mean(values))
    assert min(values) <= psnr.low < psnr.mean < psnr.high <= max(values)
    assert (psnr.num_images, psnr.num_places) == (4, 4)
    given = found.row("input", "all")
    assert given is not None
    assert given.figures["inconsistency"].mean == 0
    covers = [row for row in found.rows if row.source == "one" and row.region.startswith("cover")]
    assert sum(row.figures["psnr"].num_images for row in covers) == 4


def test_everything_is_in_the_json(found: Benchmark, desk: Path) -> None:
    values = json.loads((desk / "out" / JSON).read_text())
    assert values == json.loads(json.dumps(found.to_dict()))
    assert values["models"][0]["cost"]["num_parameters"] == 1000
    assert values["models"][0]["trained"].startswith("0 of 4 images are of places")
    assert {figure["split"] for figure in values["published"]} == {"strict", "legacy"}
    assert len(values["images"]) == 4


def test_the_tables_mark_figures_of_others(found: Benchmark) -> None:
    assert [*found.published_table().columns[0].cells][-1] == "EMRDM *"
    assert len(found.tables()) == 5
    assert [*found.cost_table().columns[0].cells] == ["one"]
    assert found.quality_table().row_count == 5
    assert found.cover_table().row_count == 5


def test_the_page_shows_tables_plots_and_pictures(found: Benchmark, desk: Path) -> None:
    with opened(desk / "out" / PAGE) as page:
        assert page.locator("#means tbody th").all_inner_texts() == found.sources
        row = found.row("one", "all")
        assert row is not None
        size, cell = page.locator("#means tbody tr").first.locator("td").all_inner_texts()[:2]
        assert size == "4 (4)"
        assert cell.startswith(f"{row.figures['psnr'].mean:.2f} (")
        page.locator("#region").select_option(label="cloudy")
        assert page.locator("#means tbody tr").count() == 5
        assert page.locator("#time circle").count() == 1  # the other has no cost
        assert page.locator("#costs tbody td").first.inner_text() == "1,000"
        assert page.locator("#published tbody tr").count() == len(found.published)
        assert page.locator("#pictures figure").count() == 4 * 4  # input, two models, reference
        image = page.locator("#pictures img").first
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32


def test_what_was_done_is_not_done_again(
    plan: Plan, found: Benchmark, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("evaluated again")

    monkeypatch.setattr(benchmark, "evaluate", fail)
    chosen = choose_images(plan)
    assert [entry.folder for entry in run_all(plan, chosen, desk / "out")] == [
        entry.folder for entry in found.entries
    ]
    fewer = replace(plan, selection=replace(plan.selection, limit=2))
    with pytest.raises(AssertionError, match="evaluated again"):
        run_all(fewer, choose_images(fewer), desk / "out")


def test_another_list_of_the_same_images_is_another_benchmark(plan: Plan, desk: Path, tmp_path: Path) -> None:
    method, keys = load(plan.models[0], device="cpu"), set[str]()
    path = tmp_path / "places.yaml"
    for seed in (1, 2):
        root = desk / "data" / "s2_cloudfree"
        path.write_text(f"sources: [{{name: clear_scenes, root: {root}, simulate: {seed}}}]")
        listed = replace(plan, selection=Selection(path))
        chosen = choose_images(listed)
        assert len(chosen.keys) == 4
        keys.add(key_of(listed, method, chosen))
    assert len(keys) == 2


def test_the_cost_is_kept_beside_the_evaluation(
    plan: Plan, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(desk / "out" / "one", tmp_path / "one")
    asked: list[str] = []

    def measure(model: str, *_: object) -> Cost:
        asked.append(model)
        return COSTS

    monkeypatch.setattr(benchmark, "measure_cost", measure)
    one = replace(plan, models=plan.models[:1], has_cost=True)
    for _ in range(2):
        (entry,) = run_all(one, choose_images(one), tmp_path)
        assert entry.cost == COSTS
    assert asked == [plan.models[0]]
    assert json.loads((tmp_path / "one" / COST).read_text())["pixels"] == 1024


def test_a_model_that_cannot_be_evaluated_is_named_and_the_others_go_on(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("x lacks B10, which this model needs")

    monkeypatch.setattr(benchmark, "_evaluate", refuse)
    entries = run_all(plan, choose_images(plan), tmp_path)
    assert [entry.problem for entry in entries] == ["x lacks B10, which this model needs"] * 2
    assert report(plan, choose_images(plan), entries, "none").rows == ()


@pytest.mark.parametrize(
    ("wanted", "models"),
    [
        (("all",), ("cloud_flow", "cross_attention", "ground")),
        (("ground", "all"), ("ground", "cloud_flow", "cross_attention")),
    ],
)
def test_all_are_the_models_that_ship_and_take_clouds_off(
    wanted: Sequence[str], models: Sequence[str]
) -> None:
    assert find_models(wanted) == tuple(models)


def test_other_models_are_refused() -> None:
    with pytest.raises(InputError, match="sr3_ct_x4 takes no clouds off"):
        find_models(["sr3_ct_x4"])
    with pytest.raises(InputError, match="no model is named"):
        find_models([])
