"""`pellucid colorize`: one picture, a folder with a grid, a dataset, and every error in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.test_cli import call, said
from tests.painters import save_radar
from tests.pairs import write_pairs

from pellucid.build.method import build_method
from pellucid.build.run import save_run
from pellucid.config import load_config
from pellucid.train.run_training import run_training

CONFIGS = Path(__file__).parents[2] / "configs"
FAST = ("--device", "cpu", "--steps", "2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a colorizer that has learnt next to nothing."""
    folder = tmp_path_factory.mktemp("colorizer")
    pictures = write_pairs(folder / "pairs")
    quick = ("train.num_steps=1", "train.device=cpu", "train.warmup_steps=0", "data.val=[]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICTURES", str(pictures))
        for stage in ("text_encoder", "colorize_autoencoder", "colorize"):
            coder = folder / "colorize_autoencoder"
            named = [
                f"method.text={folder / 'text_encoder'}",
                f"method.space={{optical: {coder}, sar: {coder}}}",
            ]
            changes = (*quick, *(named if stage == "colorize" else ()))
            run_training(load_config(CONFIGS / f"{stage}_tiny.yaml", changes), folder / stage)
    return folder / "colorize"


@pytest.fixture
def sar(tmp_path: Path) -> Path:
    return save_radar(tmp_path / "in" / "sar.png", 40, 56)


def size(path: Path) -> tuple[int, int]:
    return Image.open(path).size


def test_a_picture(run: Path, sar: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    words = ("colorize", sar, "-o", out, "--model", run, "--region", "tropical", "--season", "summer")
    sampling = ("--sampler", "dpm++", "--strength", "0.8", "--guidance", "3", "--seed", "4", "--steps", "5")
    result = call(*words, *sampling, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "1 picture colorized in" in said(result)
    assert size(out) == (56, 40)
    first = out.read_bytes()
    assert call(*words, *sampling, "--device", "cpu").exit_code == 0
    assert out.read_bytes() == first
    refused = call(*words, *sampling, "--device", "cpu", "--force")
    assert (refused.exit_code, "--force has no effect on one picture" in said(refused)) == (2, True)
    call(*words[:-4], "--prompt", "Region: arctic", *sampling, "--device", "cpu")
    assert out.read_bytes() != first


def test_a_folder_with_regions_and_seasons(run: Path, sar: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    grid = ("--regions", "tropical,arctic", "--seasons", "summer,winter")
    words = ("colorize", sar.parent, "-o", out, "--model", run, *grid, *FAST)
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {
        *(
            f"sar_{region}_{season}.png"
            for region in ("tropical", "arctic")
            for season in ("summer", "winter")
        ),
        "sheet.png",
        "pictures.html",
    }
    assert "0 pictures colorized in" in said(call(*words))
    assert "4 pictures colorized" in said(call(*words, "--force"))


def test_a_dataset(run: Path, tmp_path: Path) -> None:
    out, pairs = tmp_path / "out", run.parent / "pairs"
    result = call(
        "colorize", pairs, "-o", out, "--model", run, "--num-samples", "3", "--folders", "r_002", *FAST
    )
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == [
        "r_002_img_p0.png",
        "r_002_img_p4.png",
        "r_002_img_p8.png",
        "sheet.png",
    ]


def test_a_trial_writes_nothing(run: Path, sar: Path, tmp_path: Path) -> None:
    result = call("colorize", sar.parent, "-o", tmp_path / "out", "--model", run, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "1 picture, 1 tile; all checks passed" in said(result)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--region", "mars"), "--region is 'mars', known are tropical, temperate, arctic; choose one"),
        (("--season", "monsoon"), "known are winter, spring, summer, autumn, fall"),
        (("--region", "arctic", "--prompt", "snow"), "--prompt is the whole prompt"),
        (("--region", "arctic", "--regions", "tropical"), "--region and --regions are both given"),
        (("--strength", "0"), "--strength: strength is 0, must be above 0 and at most 1"),
        (("--strength", "0.0005"), "strength is 0.0005, which leaves none of 2 steps"),
        (("--num-samples", "3"), "--num-samples is for datasets"),
        (("--tile", "100"), "tile is 100 px, must be a positive multiple of 8; try 96"),
        (("--guess", "optical.png"), "--guess has no effect where sampling starts from noise alone"),
    ],
)
def test_errors_are_one_sentence(
    words: tuple[str, ...], message: str, run: Path, sar: Path, tmp_path: Path
) -> None:
    result = call("colorize", sar, "-o", tmp_path / "out.png", "--model", run, *words, *FAST)
    assert result.exit_code == 2
    assert message in said(result)
    assert not (tmp_path / "out.png").exists()


def test_a_picture_in_colour_is_no_radar(run: Path, tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(colors).save(tmp_path / "optical.png")
    result = call("colorize", tmp_path / "optical.png", "-o", tmp_path / "out.png", "--model", run, *FAST)
    assert result.exit_code == 2
    assert "has three different channels, a radar picture is grey" in said(result)


def test_a_run_without_its_tokenizer_is_refused(run: Path, sar: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in run.iterdir():
        if path.is_file() and path.name != "tokenizer.json":
            (folder / path.name).write_bytes(path.read_bytes())
    result = call("colorize", sar, "-o", tmp_path / "out.png", "--model", folder, *FAST)
    assert result.exit_code == 2
    assert "lacks tokenizer.json" in said(result)


def test_another_kind_of_model_is_refused(sar: Path, tmp_path: Path) -> None:
    config = load_config(CONFIGS / "cross_attention_tiny.yaml")
    torch.manual_seed(0)
    save_run(tmp_path / "other", config=config, method=build_method(config))
    result = call("colorize", sar, "-o", tmp_path / "out.png", "--model", tmp_path / "other", *FAST)
    assert result.exit_code == 2
    assert "does not turn radar into pictures in colour" in said(result)


@pytest.mark.parametrize(
    ("option", "value"), [("--guidance", "0.5"), ("--guidance", "21"), ("--steps", "0"), ("--steps", "1001")]
)
def test_guidance_and_steps_have_bounds(option: str, value: str, tmp_path: Path) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "sar.png")
    result = call("colorize", tmp_path / "sar.png", "-o", tmp_path / "out.png", option, value)
    assert result.exit_code == 2
    assert option.lstrip("-") in result.output
    assert not (tmp_path / "out.png").exists()
