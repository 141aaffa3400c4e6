from pathlib import Path

import numpy as np
import pytest
from tests.datasets.test_sar_optical import make_folder
from tests.datasets.test_slices import make_slices
from tests.rasters import write_raster

import pellucid.datasets
from pellucid.data.ranges import SENTINEL2
from pellucid.datasets._shelf import find_layout, folder_layouts, known_layouts, recognise
from pellucid.errors import InputError

LAYOUTS = ["clear_scenes", "guided_scenes", "sar_optical", "sen12ms_cr", "slices", "synthetic"]


def write_scene(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_raster(path, np.ones((13, 4, 4), np.uint16), SENTINEL2.bands)


def test_a_layout_is_a_file_without_underscore() -> None:
    assert known_layouts() == LAYOUTS
    for name in LAYOUTS:
        layout = find_layout(name)
        assert layout.Config.model_fields["name"].default == name
        assert layout.build


def test_an_unknown_layout_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="no layout of data is called 'slice'; did you mean 'slices'"):
        find_layout("slice")


def test_what_is_made_up_lies_in_no_folder() -> None:
    assert list(folder_layouts()) == [name for name in LAYOUTS if name not in ("guided_scenes", "synthetic")]


def test_every_folder_is_recognised(tmp_path: Path) -> None:
    make_folder(tmp_path / "pairs", 0, (("arctic", "fall"),))
    assert recognise(tmp_path / "pairs") == "sar_optical"
    write_scene(tmp_path / "patches" / "s2_cloudy" / "a.tif")
    assert recognise(tmp_path / "patches") == "sen12ms_cr"
    write_scene(tmp_path / "rois" / "ROIs1158_spring_s2_cloudy" / "s2_cloudy_1" / "a.tif")
    assert recognise(tmp_path / "rois") == "sen12ms_cr"
    assert recognise(tmp_path / "patches" / "s2_cloudy") == "clear_scenes"
    assert recognise(make_slices(tmp_path / "slices", "a.png")) == "slices"
    make_slices(tmp_path / "ct" / "hr", "a.png")
    assert recognise(tmp_path / "ct") == "slices"


def test_hidden_files_say_nothing(tmp_path: Path) -> None:
    make_slices(tmp_path, "a.png")
    (tmp_path / "._a.tif").write_bytes(b"no image")
    assert recognise(tmp_path) == "slices"


def test_a_file_in_another_folder_is_a_layout_that_goes_before_any_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "layouts"
    place.mkdir()
    text = "def recognise(root):\n    return (root / 'mine').is_dir()\n"
    for name in ("aaa_mine", "zzz_mine"):
        (place / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(pellucid.datasets, "__path__", [*pellucid.datasets.__path__, str(place)])
    write_scene(tmp_path / "data" / "mine" / "a.tif")
    assert recognise(tmp_path / "data") == "aaa_mine"
    assert recognise(tmp_path / "data", first=["zzz_mine"]) == "zzz_mine"
    assert recognise(tmp_path / "data", first=["clear_scenes"]) == "aaa_mine"
