import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.train.history_plot import HEIGHT, LEFT, TOP, UP, WIDTH, _group, _round_between, draw_history

BLUE = (0, 114, 178)


def rows(values: list[float], name: str = "train_total") -> list[dict[str, float]]:
    return [{"step": 10.0 * i, name: value} for i, value in enumerate(values)]


def heights_of_blue(path: Path, x: int) -> np.ndarray:
    """Return the shares of the axis at which a column of the first panel is blue."""
    column = np.asarray(Image.open(path))[:HEIGHT, x].astype(int)
    is_blue = (np.abs(column - BLUE).sum(1) < 60).nonzero()[0]
    return 1 - (is_blue - TOP) / UP


def test_a_falling_loss_falls(tmp_path: Path) -> None:
    draw_history(rows([4.0, 3.0, 2.0, 1.0]), tmp_path / "history.png")
    early, late = (heights_of_blue(tmp_path / "history.png", LEFT + x).mean() for x in (10, 410))
    assert early > 0.85
    assert late < 0.15


def test_losses_over_many_orders_are_logarithmic(tmp_path: Path) -> None:
    draw_history(rows([100.0, 10.0, 1.0]), tmp_path / "history.png")
    middle = heights_of_blue(tmp_path / "history.png", LEFT + 210).mean()
    assert abs(middle - 0.5) < 0.03


def test_each_kind_has_a_panel_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    history = [
        {"step": i, "learning_rate": 1e-3, "train_total": 1 / i, "val_psnr": 20 + i, "val_total": math.nan}
        for i in (1, 2, 3)
    ]
    draw_history(history, tmp_path / "history.png")
    assert Image.open(tmp_path / "history.png").size == (WIDTH, 3 * HEIGHT)


def test_one_row_is_no_curve(tmp_path: Path) -> None:
    draw_history(rows([1.0]), tmp_path / "history.png")
    assert not (tmp_path / "history.png").exists()


def test_curves_are_called_in_words_and_the_only_term_is_not_drawn_over_the_total() -> None:
    row = {
        "step": 1.0,
        "train_loss_l1": 1.0,
        "train_loss_total": 1.0,
        "val_loss_l1": 2.0,
        "val_loss_total": 2.0,
    }
    shown = {title: list(curves) for title, curves in _group([row]).items() if curves}
    assert shown == {"loss": ["training", "validation"]}
    row |= {"train_loss_cloudy_l1": 0.1, "train_loss_total": 1.1, "val_psnr": 30.0, "val_psnr_input": 20.0}
    shown = {title: list(curves) for title, curves in _group([row | {"val_ssim": 0.9}]).items() if curves}
    assert shown == {
        "loss": ["training", "validation"],
        "terms of the loss in training": ["L1", "cloudy L1"],
        "PSNR in validation, dB": ["restored", "input"],
        "validation": ["SSIM"],
    }


def test_ticks_are_round_numbers() -> None:
    assert _round_between(0.0557, 0.622) == pytest.approx([0.2, 0.4, 0.6])
    assert _round_between(500, 20_000) == [5000, 10_000, 15_000, 20_000]
    assert _round_between(17.3, 32.3) == pytest.approx([20, 25, 30])
    assert _round_between(0.014, 0.56, is_log=True) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5])
    assert _round_between(1e-4, 0.6, is_log=True) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])
