from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.pairs import write_pairs
from tests.tiny import TinyData

from pellucid.config import load_config
from pellucid.data.batch import ANY_PROMPT, Batch
from pellucid.errors import InputError
from pellucid.evaluation.figures import pick_color
from pellucid.train.data import build_training_data, mean_colors

CONFIGS = Path(__file__).parents[2] / "configs"


def item(color: tuple[float, ...], prompt: str | None = None, *, side: int = 4) -> Batch:
    target = torch.tensor(color).view(1, -1, 1, 1).repeat(1, 1, side, side)
    return Batch(
        degraded=target,
        target=target,
        valid=torch.ones(1, 1, side, side, dtype=torch.bool),
        key=("place",),
        prompt=None if prompt is None else (prompt,),
    )


def test_each_prompt_has_the_mean_colour_of_its_pixels() -> None:
    data = [
        item((0.1, 0.2, 0.3), "snow"),
        item((0.3, 0.2, 0.1), "snow", side=2),
        item((0.9, 0.9, 0.9), "sand"),
    ]
    colors = mean_colors(data)
    # 16 pixels of the one, 4 of the other.
    assert colors["snow"] == pytest.approx((0.14, 0.2, 0.26))
    assert colors["sand"] == pytest.approx((0.9, 0.9, 0.9))
    assert colors[ANY_PROMPT] == pytest.approx((17.2 / 36, 18.4 / 36, 19.6 / 36))


def test_pixels_without_data_have_no_colour() -> None:
    first = item((0.1, 0.1, 0.1), "snow")
    valid = first.valid.clone()
    valid[..., 1:, :] = False
    assert first.target is not None
    target = first.target.where(valid, torch.nan)
    colors = mean_colors([replace(first, valid=valid, target=target)])
    assert colors["snow"] == pytest.approx((0.1, 0.1, 0.1))
    with pytest.raises(InputError, match="no valid pixel"):
        mean_colors([replace(first, valid=torch.zeros_like(valid))])


def test_a_prompt_that_was_not_trained_on_has_the_colour_of_all() -> None:
    colors = {"snow": (1.0,), ANY_PROMPT: (0.5,)}
    assert pick_color(colors, item((0.0,), "snow"), None) == (1.0,)
    assert pick_color(colors, item((0.0,), "ice"), None) == (0.5,)
    assert pick_color(colors, item((0.0,)), None) == (0.5,)
    assert pick_color(None, item((0.0,), "snow"), (0.2,)) == (0.2,)


def test_the_mean_of_all_images_is_that_of_all_valid_pixels() -> None:
    first, second = (TinyData(1, size=size, seed=seed)[0] for seed, size in ((0, (32, 32)), (1, (16, 16))))
    valid = first.valid.clone()
    valid[..., :20, :] = False
    first = replace(first, valid=valid)
    assert first.target is not None
    assert second.target is not None
    pixels = torch.cat([first.target[0, :, 20:].flatten(1), second.target[0].flatten(1)], dim=1)
    colors = mean_colors([first, second])
    assert colors[ANY_PROMPT] == pytest.approx(pixels.mean(1).tolist(), abs=1e-6)


def test_the_mean_of_a_band_is_over_the_images_that_have_it() -> None:
    colors = mean_colors([item((0.4, 0.4, 0.4)), item((0.2, torch.nan, 0.2))])
    assert colors[ANY_PROMPT] == pytest.approx((0.3, 0.4, 0.3))


def test_mean_colours_by_radar_are_learned_of_the_training_pictures_on_demand(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    source = f"{{name: sar_optical, root: {tmp_path}, folders: [r_000, r_001]}}"
    changes = (f"data.train=[{source}]", "data.val=[]")
    path = CONFIGS / "colorize_tiny.yaml"
    assert build_training_data(load_config(path, changes)).tones is None
    data = build_training_data(load_config(path, (*changes, "method.tone_by_radar=true")))
    assert data.tones is not None
    assert data.mean_spectrum is not None
    assert len(data.tones.table) == 18
    colors = torch.tensor(data.tones.table)[:, -3:].mean(0)
    assert colors.tolist() == pytest.approx(data.mean_spectrum, abs=1e-3)
