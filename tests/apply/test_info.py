import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from painters import PROMPTS, Painter, save_radar
from products import write_product, zip_product
from scenes import BANDS, OPTIONS, constant, ground, left_cloud, write
from stacks import SMALL, Fake, pattern, save
from typer.testing import CliRunner

from pellucid.apply.colorize import colorize_file
from pellucid.apply.info import in_lines, inform
from pellucid.apply.inputs import find_scenes
from pellucid.apply.map_clouds import map_clouds
from pellucid.apply.options import CloudMapOptions, PictureOptions
from pellucid.apply.remove_clouds import restore_scene
from pellucid.apply.upscale import upscale
from pellucid.build.method import load
from pellucid.cli import app
from pellucid.data.drawing import save_picture
from pellucid.data.run_folder import SHIPPED, WEIGHTS
from pellucid.errors import InputError


@pytest.fixture
def result(tmp_path: Path) -> Path:
    scene = write(tmp_path / "s2.tif", ground(), BANDS)
    cloud = left_cloud(tmp_path)
    restore_scene(scene, tmp_path / "out.tif", method=constant(0.5), cloud=cloud, options=OPTIONS)
    return tmp_path / "out.tif"


def test_a_result_tells_what_made_it(result: Path) -> None:
    found = inform(result)
    assert (found["command"], found["model"], found["seed"]) == ("remove-clouds", "FakeMethod", "0")
    assert found["inputs"] == {"optical": "s2.tif", "cloud": "cloud.tif"}
    assert found["options"]["tile"] == 32
    lines = in_lines(found)
    assert f"file      {result}" in lines
    assert "  optical            s2.tif" in lines


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_enlarged_slices_tell_what_made_them_and_what_grey_values_were_seen(
    tmp_path: Path, suffix: str
) -> None:
    source = save(tmp_path / f"in{suffix}", pattern(8, 8))
    upscale(source, tmp_path / f"out{suffix}", method=Fake(), options=replace(SMALL, samples=2))
    found = inform(tmp_path / f"out{suffix}")
    assert (found["command"], found["model"], found["inputs"]) == ("upscale", "Fake", {"slices": source.name})
    assert (found["options"]["samples"], found["options"]["grey_range"]) == (2, [0, 255])
    assert inform(tmp_path / "out_std.tif")["layer"] == "standard deviation"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_colorized_radar_tells_what_made_it_and_from_which_words(tmp_path: Path, suffix: str) -> None:
    source, out = save_radar(tmp_path / "sar.png", 20, 24), tmp_path / f"out{suffix}"
    options = PictureOptions(tile=32, overlap=8, device="cpu", html=False, seed=3)
    colorize_file(source, out, method=Painter(), prompt=PROMPTS[0], options=options)
    found = inform(out)
    assert (found["command"], found["model"], found["seed"]) == ("colorize", "Painter", "3")
    assert (found["options"]["prompt"], found["inputs"]) == (PROMPTS[0], {"radar": "sar.png"})


def test_maps_and_masks_of_clouds_tell_what_made_them_and_are_no_scenes(tmp_path: Path) -> None:
    scene = write(tmp_path / "s.tif", ground(), BANDS)
    options = CloudMapOptions(scorer="built-in", preview=False, offset=-10)
    map_clouds(scene, tmp_path / "maps", masks=tmp_path / "masks", options=options)
    found, mask = inform(tmp_path / "maps" / "s.tif"), inform(tmp_path / "masks" / "s.tif")
    assert (found["command"], found["model"]) == ("clouds", "pellucid cloud_score")
    assert (found["options"]["offset"], found["inputs"]) == (-10, {"scene": "s.tif"})
    assert mask["options"]["threshold"] == 0.4
    assert (found["layer"], mask["layer"]) == ("cloud probability", "cloud mask")
    with pytest.raises(InputError, match="no scene"):
        find_scenes(tmp_path / "masks", "**/*")


def test_a_run_folder_has_the_digest_that_results_of_its_model_name() -> None:
    found = inform(Path("ground"))
    assert (found["model"], found["method"], found["radar"]) == ("ground", "ground", ["VV", "VH"])
    assert load("ground", device="cpu").origin == ("ground", found["weights"])
    assert inform(SHIPPED / "ground")["weights"] == found["weights"]


def test_info_prints_text_or_json_without_importing_torch(result: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pellucid.cli import app;"
        f"calls = ['info', {str(result)!r}, '--json'], ['info', 'ground'];"
        "texts = [CliRunner().invoke(app, words).output for words in calls];"
        "print(texts[0]); assert 'torch' not in sys.modules and 'megabytes' in texts[1], texts"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(printed)["inputs"]["cloud"] == "cloud.tif"


def test_what_says_nothing_of_its_making_is_refused(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(8, 8), BANDS)
    save_picture(ground(8, 8)[:3].astype("uint8").transpose(1, 2, 0), tmp_path / "old.png")
    for path, message in (
        (scene, r"s2\.tif was not written by pellucid; name a result"),
        (tmp_path / "old.png", r"old\.png was written by pellucid, but does not say how; name a result"),
        (tmp_path / "none.tif", r"none\.tif does not exist"),
        (tmp_path, "is neither a run folder"),
    ):
        with pytest.raises(InputError, match=message):
            inform(path)
    answer = CliRunner().invoke(app, ["info", str(scene)])
    assert answer.exit_code == 2


def test_damaged_weights_have_no_digest(tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED / "ground", tmp_path / "run")
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\1\2\3\4")
    with pytest.raises(InputError, match="is damaged"):
        inform(folder)


def test_a_product_tells_its_level_baseline_place_date_bands_and_offsets(tmp_path: Path) -> None:
    classes = np.full((60, 60), 4, np.uint8)
    offsets = tuple(-1000 - i for i in range(13))
    product = write_product(tmp_path, offsets=offsets, classes=classes)
    for path in (product, zip_product(product), product / "MTD_MSIL2A.xml"):
        found = inform(path)
        assert (found["level"], found["baseline"], found["tile"]) == ("Level-2A", "05.10", "T33UUP")
        assert (found["date"][:10], found["satellite"], found["clouds"]) == (
            "2023-06-01",
            "Sentinel-2A",
            "37.5 %",
        )
        assert found["grid"] == "EPSG:32633, 120 x 120 px of 10 x 10 from (300000, 5600040)"
        assert list(found["bands"].items())[:2] == [
            ("B01", {"metres": 60, "offset": -1000}),
            ("B02", {"metres": 10, "offset": -1001}),
        ]
        assert (len(found["bands"]), found["bands"]["B12"]["offset"]) == (12, -1012)
        assert found["masks"] == ["classes"]
        assert found["use"] == f"pellucid remove-clouds {path} -o clear.tif"
    assert "  B01                metres 60, offset -1000" in in_lines(found)
    next(product.rglob("*_B03_10m.jp2")).unlink()
    with pytest.raises(InputError, match=r"lacks the file of B03 in 10 m"):
        inform(product)
