import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer
from scenes import BANDS, ground, nothing_left, write
from stacks import pattern, save
from typer.testing import CliRunner, Result

from pellucid.build.method import build_method
from pellucid.build.run import save_run
from pellucid.cli import app
from pellucid.config import load_config
from pellucid.simulate.pairs import simulate_pairs

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG, SR3 = CONFIGS / "cross_attention_tiny.yaml", CONFIGS / "sr3_ct_tiny.yaml"


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


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny super-resolution by 4, not trained."""
    folder = tmp_path_factory.mktemp("upscalers") / "tiny"
    config = load_config(SR3)
    save_run(folder, config=config, method=build_method(config))
    return folder


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Three slices of 12 x 20 pixels, 16 bit."""
    values = np.random.default_rng(0).integers(1000, 3000, (3, 12, 20)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", values, photometric="minisblack")
    return tmp_path / "stack.tif"


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pellucid.cli import app;"
        "results = [CliRunner().invoke(app, [name, '--help']) for name in ('remove-clouds', 'upscale')];"
        "assert all(result.exit_code == 0 and 'Example' in result.output for result in results), results;"
        "assert 'torch' not in sys.modules and 'rasterio' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "in.yaml"],
        ["data", "check", "in"],
        ["import", "glf-cr", "in.pth", "run"],
        ["import", "in", "in.pth", "run"],
        ["evaluate", "in", "--data", "."],
        ["models"],
    ],
)
def test_a_wrong_name_is_refused_without_importing_torch(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pellucid.cli import app;"
        f"result = CliRunner().invoke(app, {words!r});"
        f"assert result.exit_code == {0 if words == ['models'] else 2}, result.output;"
        "assert 'in' in result.output and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.parametrize("command", ["remove-clouds", "upscale", "colorize", "clouds", "evaluate"])
@pytest.mark.parametrize("kind", ["missing", "junk"])
def test_a_wrong_input_is_refused_without_importing_torch(command: str, kind: str, tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    if kind == "junk" and command not in ("clouds", "evaluate"):
        source.write_text("junk")
    rest = ["--data", str(source)] if command == "evaluate" else ["-o", str(tmp_path / "out.tif")]
    first = "cross_attention" if command == "evaluate" else str(source)
    code = (
        "import sys; from typer.testing import CliRunner; from pellucid.cli import app;"
        f"result = CliRunner().invoke(app, {[command, first, *rest]!r});"
        "assert result.exit_code == 2 and 'in.tif' in result.output.replace(chr(10), ''), result.output;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_leaves_a_run_that_evaluates(run: Path, pairs: Path, tmp_path: Path) -> None:
    result = call("evaluate", run, "--data", pairs, "--split", "all", "-o", tmp_path, "--notes", "first")
    assert result.exit_code == 0, result.output
    assert "spectrum" in result.output
    assert "…" not in result.output
    folder = tmp_path / f"{run.name}_{pairs.name}_all"
    for path in (folder / "metrics.json", folder / "per_image.csv", folder / "sheet.png"):
        assert path.stat().st_size > 0
    (row,) = json.loads((tmp_path / "evaluations.json").read_text())
    assert (row["model"], row["data"], row["split"]) == (str(run), str(pairs), "all")
    assert (row["notes"], row["crop"], row["cloud_threshold"]) == ("first", 0, 0.5)


def test_a_scene_is_restored_by_a_trained_run(run: Path, pairs: Path, tmp_path: Path) -> None:
    name = next((pairs / "s2_cloudy").glob("*.tif")).name
    output = tmp_path / "clear.tif"
    words = ["--sar", pairs / "s1" / name, "-o", output, "--model", run, "--tile", "64", "--overlap", "16"]
    words += ["--match-surroundings"]
    checked = call("remove-clouds", pairs / "s2_cloudy" / name, *words, "--dry-run")
    assert checked.exit_code == 0, checked.output
    assert not output.exists()
    result = call("remove-clouds", pairs / "s2_cloudy" / name, *words)
    assert result.exit_code == 0, result.output
    assert output.stat().st_size > 0
    assert "pixels restored" in said(result)


def test_a_stack_is_enlarged_by_a_run(upscaler: Path, stack: Path, tmp_path: Path) -> None:
    output = tmp_path / "big.tif"
    words = ["upscale", stack, "-o", output, "--model", upscaler, "--factor", "4", "--tile", "48"]
    words += ["--samples", "2", "--overlap", "0"]
    checked = call(*words, "--dry-run")
    assert checked.exit_code == 0, checked.output
    assert "3 slices, 12 tiles; uint16 from" in said(checked)
    assert list(tmp_path.iterdir()) == [stack]
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert "3 slices enlarged" in said(result)
    big = tifffile.imread(output)
    assert (big.shape, big.dtype) == ((3, 48, 80), np.uint16)
    assert tifffile.imread(tmp_path / "big_std.tif").mean() > 0
    assert (tmp_path / "big_preview.png").stat().st_size > 0
    again = call(*words[:3], tmp_path / "again.tif", *words[4:], "--no-preview")
    assert again.exit_code == 0, again.output
    assert (tifffile.imread(tmp_path / "again.tif") == big).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--factor", "8"], "makes slices 4 times larger, the factor asked for is 8; use --factor 4"),
        (["--steps", "51"], "--steps: num_steps is 51, the path has 1 to 50"),
        (["--range", "much"], "--range is 'much', must be full, auto or two grey values such as 0,40000"),
        (["--range", "9,3"], "LOW must lie below HIGH"),
        (["--tile", "50"], "tile is 50 px, must be a positive multiple of 8; try 48"),
        (["--std", "std.tif"], "needs several samples"),
    ],
)
def test_an_upscaling_that_cannot_be_done_is_refused(
    upscaler: Path, stack: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    result = call("upscale", stack, "-o", tmp_path / "big.tif", "--model", upscaler, *words)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert list(tmp_path.iterdir()) == [stack]


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
        (["evaluate", "groud", "--data", "."], "nor a model that ships; did you mean 'ground'?"),
        (["remove-clouds", "x" * 300 + ".tif", "-o", "out.tif"], "File name too long"),
        (["remove-clouds", "https://a.org/s2.tif", "-o", "out.tif"], "is no file on this machine"),
        (["remove-clouds", "none[1].tif", "-o", "out.tif"], "fits 'none[1].tif'; check name or pattern"),
        (["colorize", "/vsizip/q.zip/a.tif", "-o", "o.png"], "is no file on this machine"),
        (["clouds", "/vsizip/a.zip", "-o", "m"], "is no file on this machine"),
        (["import", "glf-rc", "none.pth", "run"], "format 'glf-rc'; did you mean 'glf-cr'?"),
        (["remove-clouds", "none.tif", "-o", "out.tif"], "none.tif"),
        (
            ["remove-clouds", "scene.tif", "-o", "out.tif", "--steps", "4"],
            "takes no steps; leave out --steps",
        ),
        (
            [
                "remove-clouds",
                "scene.tif",
                "-o",
                "o.tif",
                "--model",
                "cross_attention",
                "--uncertainty",
                "s.tif",
            ],
            "deterministic",
        ),
        (["remove-clouds", "scene.tif", "-o", "out.tif", "--prompt", "a lake"], "takes no text"),
        (
            [
                "remove-clouds",
                "scene.tif",
                "-o",
                "o.tif",
                "--model",
                "cross_attention",
                "--reference",
                "scene.tif",
            ],
            "references are given, but the model cross_attention takes none; leave out",
        ),
        (["remove-clouds", "scene.tif", "-o", "out.tif", "--reference", "no.tif"], "the reference no.tif"),
        (
            ["remove-clouds", "scene.tif", "-o", "out.tif", "--offset", "much"],
            "must be auto, none or a whole number",
        ),
        (
            ["upscale", "slice.png", "-o", "big.png", "--factor", "77"],
            "no model that ships enlarges slices 77 times",
        ),
        (
            ["upscale", "slice.png", "-o", "big.png", "--model", "cross_attention"],
            "the model restores B01, B02,",
        ),
        (["import", "glf-cr", "none.pth", "run"], "none.pth is no file"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("scene.tif", "slice.png")
    write(tmp_path / given[0], ground(32, 32), BANDS)
    save(tmp_path / given[1], pattern(8, 8))
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert "Traceback" not in result.output
    assert nothing_left(tmp_path, set(given))


def test_help_shows_every_word_of_every_option() -> None:
    def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from commands(inner, (*path, name))
        yield path, command

    wide = {"COLUMNS": "1000", "TERMINAL_WIDTH": "1000"}
    for path, command in commands(typer.main.get_command(app)):
        shown = CliRunner().invoke(app, [*path, "--help"], env=wide).output
        helps = [parameter.help for parameter in command.params if getattr(parameter, "help", None)]
        words = " ".join([command.help or "", *helps]).replace("`", "").split()
        assert [word for word in words if word not in shown] == [], path


def test_the_nearest_choice_is_offered() -> None:
    result = call("evaluate", "ground", "--data", ".", "--split", "tset")
    assert result.exit_code == 2
    assert "did you mean 'test'?" in said(result)


def test_brackets_in_paths_are_no_markup(tmp_path: Path) -> None:
    (tmp_path / "[red]data").mkdir()
    result = call("data", "check", tmp_path / "[red]data")
    assert "[red]data holds none of the known layouts" in "".join(said(result))


@pytest.mark.parametrize("name", [b"sc\xe4ne.tif", "schön±.tif".encode()])
def test_a_terminal_that_cannot_show_a_name_gets_it_escaped(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(b"no raster")
    code = "from pellucid.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "remove-clouds", path, "-o", "out.tif"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "500"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: the ")
    assert b"Traceback" not in result.stderr


def test_a_disk_that_takes_no_more_ends_in_one_sentence_and_no_line_of_a_library(tmp_path: Path) -> None:
    limited = (
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (2**16, 2**16)); from pellucid.cli import main"
    )
    words = ["simulate", str(tmp_path / "out"), "--count", "1", "--size", "160"]
    result = subprocess.run(
        [sys.executable, "-c", f"{limited}; main()", *words], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.match(r"error: cannot write .*\.tif: .*; free the disk or choose another folder$", line)
