from pathlib import Path

import pytest
import torch
from PIL import Image
from scenes import BANDS, ground, write

from pellucid.apply.explain import _draw_attention, explain_scene
from pellucid.build.method import load
from pellucid.errors import InputError


def test_a_picture_of_the_inside_is_all_that_is_written(tmp_path: Path) -> None:
    scene, out = write(tmp_path / "s2.tif", ground(64, 64), BANDS), tmp_path / "new" / "inside.png"
    titles = explain_scene(scene, out, method=load("ground"), centre=(0, 63))
    assert titles[0] == "cloudy"
    assert titles[-1] == "deviation, white 0.05"
    with Image.open(out) as picture:
        assert picture.width > 4 * 320
    assert [path.name for path in out.parent.iterdir()] == ["inside.png"]


def test_what_cannot_be_explained_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    scene, method = write(tmp_path / "s2.tif", ground(64, 64), BANDS), load("ground")
    (tmp_path / "mine.png").write_bytes(b"mine")
    for name, centre, message in (
        ("a.tif", None, "the picture is a PNG; let its name end in .png"),
        ("mine.png", None, "a file is there that pellucid did not write"),
        ("new/a.png", (64, 0), "--at is 64,0, the scene has 64 rows and 64 columns; name a pixel in it"),
    ):
        with pytest.raises(InputError, match=message):
            explain_scene(scene, tmp_path / name, method=method, centre=centre)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.png", "s2.tif"]


def test_an_attention_is_drawn_against_an_even_one() -> None:
    even = torch.full((1, 64, 64), 1 / 256)  # of 16 x 16 places, each drawn as 4 x 4 pixels
    assert set(_draw_attention(even, (8, 8))[32:].flatten().tolist()) == {32}  # an eighth of white
    peaked = even.clone()
    peaked[:, 40:44, 40:44] = 1
    assert _draw_attention(peaked, (8, 8))[42, 42].min() == 255
