import csv
import math
from pathlib import Path

import pytest
import torch
from tiny import tiny_config

from pellucid.errors import InputError
from pellucid.train.checkpoints import BestWeights, Means, best_row, check_new, write_history


def test_means_are_of_the_finite_values() -> None:
    means = Means()
    for value in (20.0, 30.0, math.inf, math.nan):
        means.add("psnr", torch.tensor(value))
    means.add("loss", torch.tensor(0.5))
    assert means.take() == {"loss": 0.5, "psnr": 25.0}
    assert means.take() == {}


def test_the_best_row_is_the_first_of_the_highest_psnr() -> None:
    rows = [{"step": step, "val_psnr": psnr} for step, psnr in enumerate((20.0, 25.0, 25.0, 24.0))]
    assert best_row(rows) is rows[1]
    assert best_row([]) is None


def test_without_images_the_best_row_has_the_lowest_loss() -> None:
    rows = [{"step": step, "val_loss_total": loss} for step, loss in enumerate((2.0, 1.0, 1.0, 1.5))]
    assert best_row(rows) is rows[1]


@pytest.mark.parametrize(("patience", "stalled"), [(0, False), (2, True), (3, False)])
def test_a_run_has_stalled_when_the_best_row_is_too_long_ago(patience: int, stalled: bool) -> None:
    best_weights = BestWeights(Path(), tiny_config(early_stopping=patience).train, Means(), list)
    psnrs = (20.0, 25.0, 24.0, 23.0)
    best_weights.history = [{"step": step, "val_psnr": psnr} for step, psnr in enumerate(psnrs)]
    assert best_weights.has_stalled() == stalled


def test_a_judge_goes_on_from_its_state() -> None:
    pair = [BestWeights(Path(), tiny_config().train, Means(), list) for _ in range(2)]
    pair[0].history = [{"step": 4, "val_psnr": 20.0}]
    pair[0].means.add("train_loss_l1", torch.tensor(0.5))
    pair[0].seconds = 100.0
    pair[1].load_state_dict(pair[0].state_dict())
    assert pair[1].history == pair[0].history
    assert pair[1].elapsed() == pytest.approx(pair[0].elapsed(), abs=1)
    assert pair[1].means.take() == {"train_loss_l1": 0.5}


def test_the_history_is_a_table_with_every_column(tmp_path: Path) -> None:
    write_history(
        tmp_path / "run" / "history.csv", [{"step": 4, "train_loss_l1": 0.1}, {"step": 8, "val_psnr": 25.5}]
    )
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"step": "4", "train_loss_l1": "0.1", "val_psnr": ""}
    assert rows[1] == {"step": "8", "train_loss_l1": "", "val_psnr": "25.5"}


def test_a_new_run_never_replaces_another_or_files_of_its_names(tmp_path: Path) -> None:
    check_new(tmp_path)
    for name in ("weights.safetensors", "config.yaml", "card.md", "metrics.json"):
        (tmp_path / name).write_bytes(b"mine")
        with pytest.raises(
            InputError, match=f"already holds {name}, and a run never .*; choose another folder"
        ):
            check_new(tmp_path)
        (tmp_path / name).unlink()
