import shutil
from pathlib import Path

import pytest
import torch

from pellucid.build.run import read_run
from pellucid.config import load_config
from pellucid.errors import InputError
from pellucid.train.average import average_run
from pellucid.train.run_training import run_training

CONFIG = Path(__file__).parents[2] / "configs" / "cross_attention_tiny.yaml"
CHANGES = (
    *("network={name: cross_attention, width: 8}", "data.val=[]", "data.tile=32", "train.batch=1"),
    *("train.num_steps=5", "train.checkpoint_every=2", "train.device=cpu"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of the steps 2, 4 and 5."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run_training(load_config(CONFIG, CHANGES), folder)
    return folder


def test_the_weights_are_the_mean_of_the_last_checkpoints(run: Path, tmp_path: Path) -> None:
    assert average_run(run, tmp_path / "mean", last=2) == [4, 5]
    saved = [
        torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]
        for name in ("step-0000004.ckpt", "last.ckpt")
    ]
    _, found, metadata = read_run(tmp_path / "mean")
    assert found
    for name, weight in found.items():
        torch.testing.assert_close(weight, sum(each[f"network.{name}"] for each in saved) / 2)
    assert metadata == read_run(run)[2]
    assert "at the steps 4, 5" in (tmp_path / "mean" / "card.md").read_text()
    assert average_run(run, tmp_path / "all", last=9) == [2, 4, 5]


def test_checkpoints_of_steps_after_the_last_are_of_an_abandoned_training(run: Path, tmp_path: Path) -> None:
    resumed = tmp_path / "resumed"
    shutil.copytree(run, resumed)
    checkpoints = resumed / "checkpoints"
    for suffix in ("", ".sha256"):
        if (source := checkpoints / f"step-0000004.ckpt{suffix}").is_file():
            shutil.copy(source, checkpoints / f"last.ckpt{suffix}")
            shutil.copy(source, checkpoints / f"step-0000009.ckpt{suffix}")
    assert average_run(resumed, tmp_path / "mean") == [2, 4]


def test_a_mean_of_one_and_an_output_that_is_there_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a mean needs two or more: train with a smaller"):
        average_run(run, tmp_path / "mean", last=1)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="already holds weights"):
        average_run(run, run)
    with pytest.raises(InputError, match=r"is no run folder; name one with config.yaml and checkpoints/"):
        average_run(tmp_path, tmp_path / "mean")
