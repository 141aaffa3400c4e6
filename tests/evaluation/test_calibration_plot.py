from pathlib import Path

import torch
from PIL import Image
from tests.evaluation.test_calibration import draw, figures

from pellucid.evaluation.calibration_plot import draw_calibration


def test_the_picture_shows_three_panels(tmp_path: Path) -> None:
    draw_calibration({"all": figures(*draw(1000))}, tmp_path / "calibration.png")
    with Image.open(tmp_path / "calibration.png") as picture:
        assert picture.width == 3 * picture.height
        colors = picture.convert("RGB").getcolors(picture.width * picture.height)
    assert colors is not None
    assert (31, 94, 168) in {color for _, color in colors}


def test_a_model_without_errors_has_a_picture_too(tmp_path: Path) -> None:
    draw_calibration({"all": figures(torch.zeros(8), torch.zeros(8))}, tmp_path / "calibration.png")
    assert (tmp_path / "calibration.png").exists()
