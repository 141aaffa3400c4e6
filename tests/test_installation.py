"""What is installed and what is imported: pinned versions, optional packages, and a quick start."""

import json
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.scenes import BANDS, ground, write

REPOSITORY = Path(__file__).parents[1]
# Packages that take seconds to import, and are of use to few commands.
HEAVY = ("lightning", "transformers", "diffusers", "matplotlib", "torchmetrics")
LIGHT = (
    *("errors", "data.schema", "cli", "data.files", "data.geotiff", "data.raster", "data.radar_picture"),
    *("data.ranges", "data.slice_file", "data.slice_writer", "data.tiles", "data.working_file"),
)
# Runs the command line with some packages blocked, then prints which of others were imported.
CALL = """
import atexit, json, sys
blocked, watched, words = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(blocked))
atexit.register(lambda: print("imported:", *[name for name in watched if sys.modules.get(name)]))
sys.argv[1:] = words
from pellucid.cli import main
main()
"""


def call(*words: str | Path, blocked: tuple[str, ...] = (), watched: tuple[str, ...] = ()) -> tuple[int, str]:
    """Return exit code and output of a command in a process of its own."""
    arguments = json.dumps([blocked, watched, [str(word) for word in words]])
    done = subprocess.run(
        [sys.executable, "-c", CALL, arguments], check=False, capture_output=True, text=True
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write(tmp_path / "S2.tif", ground(64, 64), BANDS)


def test_every_requirement_admits_the_version_that_is_tested() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    version = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = chain(project["dependencies"], *project["optional-dependencies"].values())
    for requirement in map(Requirement, wanted):
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(version[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("module", LIGHT)
def test_it_is_imported_without_torch(module: str) -> None:
    code = f"import sys, pellucid.{module}; print('torch' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_restoring_a_scene_imports_only_what_it_uses(scene: Path) -> None:
    words = ("remove-clouds", scene, "--model", "cross_attention", "-o", scene.with_name("out.tif"))
    code, output = call(*words, watched=("torch", *HEAVY))
    assert code == 0, output
    assert output.endswith("imported: torch")


def test_a_scene_is_restored_without_what_only_training_needs(scene: Path) -> None:
    words = ("remove-clouds", scene, "-o", scene.with_name("out.tif"))
    code, output = call(*words, blocked=("lightning", "tensorboard", "peft", "s2cloudless"))
    assert code == 0, output


@pytest.mark.parametrize("package", ["lightning", "tensorboard"])
def test_training_without_its_extra_says_how_to_install_it(package: str) -> None:
    code, output = call("train", REPOSITORY / "configs" / "cross_attention_tiny.yaml", blocked=(package,))
    assert code == 2
    assert f"training needs the package {package}" in output
    assert "pip install 'pellucid[train]'" in output
    assert "Traceback" not in output
