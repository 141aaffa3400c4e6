"""The command `pellucid audit`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pellucid.cli import app
from pellucid.simulate.pairs import simulate_pairs


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, words)])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    simulate_pairs(folder, count=2, size=64, seed=1)
    return folder


def test_clean_data_end_with_0_and_a_leak_with_1(pairs: Path, tmp_path: Path) -> None:
    split, out = tmp_path / "split.json", tmp_path / "found.json"
    split.write_text(json.dumps({"train": ["synthetic_1"], "test": ["synthetic_2"]}))
    result = call(pairs, "--split", split, "--report", out)
    assert result.exit_code == 0, result.output
    assert "split split.json: train 1, test 1; SHA-256 " in said(result)
    assert "neither a leak nor a fault was found" in said(result)
    split.write_text(json.dumps({"train": ["synthetic_1"], "test": ["synthetic_1"]}))
    result = call(pairs, "--split", split, "--report", out)
    assert result.exit_code == 1
    assert "leak between splits: synthetic_1 is in train and in test" in said(result)
    assert json.loads(out.read_text())["problems"][0]["kind"] == "leak between splits"


def test_what_cannot_be_audited_is_refused_before_any_work(pairs: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text("{}")
    for words in (
        [tmp_path / "none"],
        [pairs, "--split", tmp_path / "none.json"],
        [pairs, "--report", mine],
        [pairs, "--older", tmp_path / "none"],
    ):
        result = call(*words)
        assert result.exit_code == 2, words
        assert "error:" in said(result)
    assert mine.read_text() == "{}"
