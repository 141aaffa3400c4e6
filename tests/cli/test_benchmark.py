"""The command `pellucid benchmark`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pellucid.build.method import build_method
from pellucid.build.run import save_run
from pellucid.cli import app
from pellucid.config import load_config
from pellucid.errors import WriteError
from pellucid.simulate.pairs import simulate_pairs

CONFIGS = Path(__file__).parents[2] / "configs"


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["benchmark", *map(str, words)])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    simulate_pairs(folder / "data", count=3, size=32, seed=0)
    config = load_config(CONFIGS / "cross_attention_tiny.yaml")
    save_run(folder / "tiny", config=config, method=build_method(config))
    return folder


def test_a_run_is_put_beside_the_baselines(desk: Path, tmp_path: Path) -> None:
    words = [desk / "data", "--models", desk / "tiny", "--split", "all", "-o", tmp_path / "out", "--no-cost"]
    result = call(*words, "--published", "strict")
    assert result.exit_code == 0, result.output
    assert "3 images of 3 places" in said(result)
    assert "tiny: 0 of 3 images are of places it was trained on" in said(result)
    assert "* not measured here: Do and Kim 2026" in said(result)
    assert (tmp_path / "out" / "benchmark.html").is_file()
    again = call(*words, "--json")  # nothing is evaluated again, and the files of the first are replaced
    assert again.exit_code == 0, again.output
    values = json.loads(again.stdout)
    assert values["rows"][0]["source"] == "tiny"
    assert values["published"] == []
    assert len(list((tmp_path / "out").glob("*/metrics.json"))) == 1


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(desk: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call(desk / "data", "--models", desk / "tiny", "--split", "own", "-o", out, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "SHA-256" in said(result)
    assert f"results would go into {out}" in said(result)
    assert not out.exists()


def test_bad_input_is_refused_before_any_work(desk: Path, tmp_path: Path) -> None:
    (tmp_path / "benchmark.json").write_text("{}")
    data, model = desk / "data", ["--models", str(desk / "tiny")]
    for words in (
        [tmp_path / "none", *model],
        [data, "--models", "grond"],
        [data, *model],  # of the strict split there is nothing
        [data, *model, "--split", "all", "-o", tmp_path],
    ):
        result = call(*words)
        assert result.exit_code == 2, words
        assert "error:" in said(result)
    assert (tmp_path / "benchmark.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["benchmark.json"]


def test_a_full_disk_ends_a_benchmark(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise WriteError("cannot write a: the disk is full")

    monkeypatch.setattr("pellucid.evaluation.benchmark.evaluate", fill)
    words = [desk / "data", "--models", desk / "tiny", "--split", "all", "-o", tmp_path / "out", "--no-cost"]
    result = call(*words)
    assert (result.exit_code, "the disk is full" in said(result)) == (2, True)
    assert not (tmp_path / "out").exists()
