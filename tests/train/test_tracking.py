import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import TinyData, train_tiny

from pellucid.errors import InputError
from pellucid.train.tracking import Logs, WandbWriter


class Run:
    """Stands for a run at Weights & Biases: what is logged stays here."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.rows, self.is_over = options, list[dict[str, Any]](), False
        self.metrics: list[tuple[str, str]] = []

    def define_metric(self, name: str, *, step_metric: str) -> None:
        self.metrics.append((name, step_metric))

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def finish(self) -> None:
        self.is_over = True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Return the runs that are begun at a Weights & Biases without network or package."""
    begun: list[Run] = []

    def init(**options: Any) -> Run:
        begun.append(Run(options))
        return begun[-1]

    fake = SimpleNamespace(init=init, Settings=SimpleNamespace, Image=lambda picture: picture.shape)
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    return begun


def test_curves_and_pictures_go_to_weights_and_biases(runs: list[Run], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    report, _ = train_tiny(
        folder, num_steps=20, validate_every=10, val_data=TinyData(1, size=(20, 24)), logs=Logs(wandb="mine")
    )
    (run,) = runs
    assert (run.options["project"], run.options["name"], run.options["dir"]) == ("mine", "run", str(folder))
    assert run.metrics == [("*", "step")]
    assert [row["step"] for row in run.rows if "loss" in row] == [10, 20]
    shown = [row["history/val_psnr"] for row in run.rows if "history/val_psnr" in row]
    assert shown == [pytest.approx(row["val_psnr"]) for row in report.history]
    assert [row["image 0"] for row in run.rows if "image 0" in row] == 2 * [(20, 72, 3)]
    assert run.is_over


def test_a_resumed_training_goes_on_in_the_same_run(runs: list[Run], tmp_path: Path) -> None:
    train_tiny(tmp_path, num_steps=10, logs=Logs(wandb="mine"))
    train_tiny(tmp_path, num_steps=20, logs=Logs(wandb="mine"), resume=True)
    assert runs[0].options["id"] == runs[1].options["id"]
    assert runs[1].options["resume"] == "allow"


def test_without_the_package_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"needs the package wandb .* pip install 'pellucid\[wandb\]'"):
        Logs(wandb="mine")


def test_a_refused_run_says_how_to_log_in(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("no API key")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(InputError, match=r"\(no API key\); log in with `wandb login`"):
        WandbWriter("mine", tmp_path)
