import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pellucid.cli import app
from pellucid.data.synthetic import simulate_pairs

CONFIG = Path(__file__).parents[1] / "configs" / "cross_attention_tiny.yaml"


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    simulate_pairs(folder, count=5, size=64, seed=0)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    result = call(
        "train", CONFIG, "--run", folder, "--set", "train.num_steps=4", "--set", "train.validate_every=2"
    )
    assert result.exit_code == 0, result.output
    return folder


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pellucid.cli import app;"
        "result = CliRunner().invoke(app, ['remove-clouds', '--help']);"
        "assert result.exit_code == 0 and 'Example' in result.output, result.output;"
        "assert 'torch' not in sys.modules and 'rasterio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_leaves_a_run_that_evaluates(run: Path, pairs: Path, tmp_path: Path) -> None:
    result = call("evaluate", run, "--data", pairs, "--split", "all", "-o", tmp_path, "--notes", "first")
    assert result.exit_code == 0, result.output
    assert "mean spectrum" in result.output
    for name in ("metrics.json", "per_image.csv", "sheet.png", "evaluations.csv"):
        assert (tmp_path / name).stat().st_size > 0
    assert "first" in (tmp_path / "evaluations.csv").read_text()


def test_a_scene_is_restored_by_a_trained_run(run: Path, pairs: Path, tmp_path: Path) -> None:
    name = next((pairs / "s2_cloudy").glob("*.tif")).name
    output = tmp_path / "clear.tif"
    words = ["--sar", pairs / "s1" / name, "-o", output, "--model", run, "--tile", "64", "--overlap", "16"]
    checked = call("remove-clouds", pairs / "s2_cloudy" / name, *words, "--dry-run")
    assert checked.exit_code == 0, checked.output
    assert not output.exists()
    result = call("remove-clouds", pairs / "s2_cloudy" / name, *words)
    assert result.exit_code == 0, result.output
    assert output.stat().st_size > 0
    assert "pixels restored" in said(result)


def test_a_run_is_not_overwritten(run: Path) -> None:
    result = call("train", CONFIG, "--run", run)
    assert result.exit_code == 2
    assert "already holds a run" in said(result)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    result = call("train", CONFIG, "--run", tmp_path / "run", "--dry-run")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "run").exists()


def test_pairs_are_made_from_nothing(tmp_path: Path) -> None:
    result = call("simulate", tmp_path, "--count", "1", "--size", "64")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "data.csv").is_file()


def test_models_lists_what_ships() -> None:
    result = call("models")
    assert result.exit_code == 0, result.output
    assert "cross_attention" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "none.yaml"], "cannot read the config none.yaml"),
        (["train", str(CONFIG), "--set", "train.bach=3"], "did you mean 'batch'?"),
        (["evaluate", "no_such_model", "--data", "."], "neither a run folder"),
        (["remove-clouds", "none.tif", "-o", "out.tif"], "none.tif"),
        (
            ["remove-clouds", "none.tif", "-o", "out.tif", "--offset", "much"],
            "must be auto, none or a whole number",
        ),
        (["import", "glf-cr", "none.pth", "run"], "none.pth is no file"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())
