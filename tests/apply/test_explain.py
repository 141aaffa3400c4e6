from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import BANDS, ground, write

from pellucid.apply.explain import _draw_attention, _remarks, _title, explain_scene
from pellucid.apply.options import SceneOptions
from pellucid.build.method import load
from pellucid.errors import InputError
from pellucid.methods.explanation import Layer


def test_a_picture_of_the_inside_is_all_that_is_written(tmp_path: Path) -> None:
    scene, out = write(tmp_path / "s2.tif", ground(64, 64), BANDS), tmp_path / "new" / "inside.png"
    titles = explain_scene(scene, out, method=load("ground"), centre=(0, 63))
    assert titles[0] == "cloudy"
    assert titles[-1] == "deviation, white 0.05"
    with Image.open(out) as picture:
        assert picture.width > 4 * 320
    assert [path.name for path in out.parent.iterdir()] == ["inside.png"]


def test_a_tile_as_small_as_tiles_usually_overlap_is_explained(tmp_path: Path) -> None:
    scene, out = write(tmp_path / "s2.tif", ground(96, 96), BANDS), tmp_path / "inside.png"
    explain_scene(scene, out, method=load("ground"), options=SceneOptions(tile=64))
    assert out.exists()


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


def test_an_attention_is_drawn_from_its_least_to_its_largest_share() -> None:
    peaked = torch.full((1, 64, 64), 1.0)
    peaked[:, 40:44, 40:44], peaked[:, 44:48, 40:44] = 1.4, 1.2
    picture = _draw_attention(peaked, (8, 8))
    assert [picture[row, 42].min() for row in (60, 46, 42)] == [0, 128, 255]


def test_of_an_even_attention_the_picture_says_so_and_what_the_radar_changes(tmp_path: Path) -> None:
    layers = [Layer("attention", "attention", torch.tensor([[[0.9, 1.1]]]), (0, 0))]
    layers.append(Layer("changed by radar's detail", "difference", torch.full((13, 1, 2), 2e-4)))
    remarks = _remarks(layers)
    assert "no place in the radar gets more than 1.10 times the mean" in remarks
    assert remarks.endswith("is 0.0002 (RMS; 1 is full scale).")
    assert _remarks([layers[0]._replace(values=torch.tensor([[[0.1, 1.9, 0.1, 0.1]]]))]) == ""
    assert [_title(layer) for layer in layers] == [
        "attention: black 0.90, white 1.10 of even",
        "changed by radar's detail, x 100",
    ]
    scene = write(tmp_path / "s2.tif", ground(64, 64), BANDS)
    radar = write(tmp_path / "s1.tif", np.full((2, 64, 64), -12, np.float32), ("VV", "VH"))
    titles = explain_scene(scene, tmp_path / "inside.png", sar=radar, method=load("cross_attention"))
    assert [title for title in titles if not title.startswith("attention")] == [
        *("cloudy", "radar", "radar features, main colours"),
        *("changed by radar's detail, x 100", "result"),
    ]
