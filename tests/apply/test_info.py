import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scenes import BANDS, OPTIONS, constant, ground, left_cloud, write
from typer.testing import CliRunner

from pellucid.apply.info import in_lines, inform
from pellucid.apply.remove_clouds import restore_scene
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
    assert "  optical          s2.tif" in lines


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
