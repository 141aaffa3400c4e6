"""The examples in the help of each command work as they stand."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from docs.site.reference import commands
from PIL import Image
from tests.data.test_array_stack import save_zarr
from tests.test_docs import PAGES, desk, items, shortened  # noqa: F401 - a fixture
from tests.train.test_tracking import runs  # noqa: F401 - a fixture
from typer.testing import CliRunner

from pellucid.cli import app

EXAMPLES = [
    example
    for _, command in commands()
    for example in re.findall(r"^(?:Example|Many): `(pellucid .*)`$", command.help, re.MULTILINE)
]
# The tests of the pages run those that are there too.
ON_PAGES = {item.text for page in PAGES for item in items(page)}
TRAIN = "pellucid train configs/glf_cr.yaml"
EVALUATE = "pellucid evaluate cross_attention --data DIR --split all --no-html"
# What is done before an example, by its beginning; and settings of that.
BEFORE = {
    "pellucid status": ["pellucid remove-clouds 'scenes/*.tif' -o out"],
    "pellucid average": [TRAIN],
    "pellucid train configs/glf_cr.yaml --resume": [TRAIN],
    "pellucid evaluate runs/glf_cr": ["pellucid import glf-cr CR_net.pth runs/glf_cr"],
    "pellucid evaluate runs/colorize": [
        "pellucid import sar-colorization sar_model_best.pt runs/colorize --tokenizer tokenizer.json"
    ],
    "pellucid compare runs/mine": [f"{EVALUATE} -o runs/{run}/evaluations" for run in ("mine", "theirs")],
    "pellucid compare ground": [EVALUATE, EVALUATE.replace("cross_attention", "ground")],
}
SETTINGS = {"pellucid average": ["--set", "train.checkpoint_every=1"]}


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each not in ON_PAGES])
def test_an_example_works(
    example: str,
    desk: Path,  # noqa: F811
    runs: list[object],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for entry in desk.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    _copy(desk / "S1.tif", tmp_path / "s1" / "S2.tif")
    _copy(desk / "configs" / "sen12ms_cr_splits.json", tmp_path / "splits.json")
    Image.new("RGB", (32, 32), (90, 110, 70)).save(tmp_path / "optical.png")
    save_zarr(tmp_path / "scan.ome.zarr", np.arange(-1000, 2000, dtype=np.int16).reshape(3, 25, 40))
    if "scenes/newer" in example:
        (tmp_path / "scenes").unlink()
        for name, file in (("newer", "OLDER.tif"), ("older", "OLDER.tif"), ("s1", "S1.tif")):
            _copy(desk / file, tmp_path / "scenes" / name / "a.tif")
    monkeypatch.chdir(tmp_path)
    start = next(filter(example.startswith, BEFORE), "")
    before = [shortened(command) + SETTINGS.get(start, []) for command in BEFORE.get(start, [])]
    for words in (*before, shortened(example)):
        result = CliRunner().invoke(app, words)
        # An audit of these few images finds something, which is exit code 1.
        allowed = (0, 1) if words[0] == "audit" else (0,)
        assert result.exit_code in allowed, f"{' '.join(words)}\n{result.output}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
