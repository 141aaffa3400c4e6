import math
from pathlib import Path

import numpy as np
from PIL import Image

from pellucid.train.history_plot import HEIGHT, LEFT, TOP, UP, WIDTH, draw_history

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
