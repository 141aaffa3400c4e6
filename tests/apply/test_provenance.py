import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scenes import BANDS, EVERYTHING, OPTIONS, constant, ground, left_cloud, read, write

from pellucid import __version__
from pellucid.apply.options import SceneOptions
from pellucid.apply.provenance import tag_result
from pellucid.apply.remove_clouds import restore_scene
from pellucid.data.ownership import read_tags

PAINTED = replace(OPTIONS, painted=True)


def restore(folder: Path, options: SceneOptions, out: str = "out.tif") -> Path:
    """Restore a scene with a cloud on its left; return the result."""
    folder.mkdir(exist_ok=True)
    method = constant(0.5)
    method.origin = "half", "ab" * 32
    scene = write(folder / "s2.tif", ground(), BANDS)
    restore_scene(scene, folder / out, method=method, cloud=left_cloud(folder), options=options)
    return folder / out


def test_a_result_says_command_model_weights_version_seed_options_and_inputs(tmp_path: Path) -> None:
    tags = read_tags(restore(tmp_path, replace(OPTIONS, seed=7)))
    assert tags["PELLUCID"] == "result"
    assert (tags["PELLUCID_COMMAND"], tags["PELLUCID_MODEL"]) == ("remove-clouds", "half")
    assert (tags["PELLUCID_WEIGHTS"], tags["PELLUCID_VERSION"]) == ("ab" * 32, __version__)
    assert tags["PELLUCID_SEED"] == "7"
    options = json.loads(tags["PELLUCID_OPTIONS"])
    assert (options["tile"], options["precision"], options["feather_px"]) == (32, "fp32", 16)
    assert json.loads(tags["PELLUCID_INPUTS"]) == {"optical": "s2.tif", "cloud": "cloud.tif"}


def test_the_same_call_writes_the_same_bytes_in_another_folder_and_by_other_batches(tmp_path: Path) -> None:
    first = restore(tmp_path / "a", PAINTED)
    second = restore(tmp_path / "b", replace(PAINTED, batch=3, resume=False), out="other.tif")
    assert first.read_bytes() == second.read_bytes()
    painted = [path.with_name(f"{path.stem}_painted.tif") for path in (first, second)]
    assert painted[0].read_bytes() == painted[1].read_bytes()


def test_a_method_that_was_not_loaded_is_told_by_its_class_and_weights(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(), BANDS)
    restore_scene(scene, tmp_path / "out.tif", method=constant(0.5), options=EVERYTHING)
    tags = read_tags(tmp_path / "out.tif")
    assert tags["PELLUCID_MODEL"] == "FakeMethod"
    assert len(tags["PELLUCID_WEIGHTS"]) == 64


def test_painted_is_0_where_pixels_are_as_they_were_and_255_where_all_is_new(tmp_path: Path) -> None:
    out = restore(tmp_path, PAINTED)
    painted, new, old = read(tmp_path / "out_painted.tif")[0], read(out), read(tmp_path / "s2.tif")
    assert ((painted > 0) == (new != old).any(axis=0)).all()
    assert (painted[:, :40] == 255).all()
    assert (painted[:, 60:] == 0).all()
    at = (painted > 0) & (painted < 255)
    share = ((new[3] - old[3].astype(float)) / (5000 - old[3].astype(float)))[at]
    assert at.any()
    np.testing.assert_allclose(painted[at] / 255, share, atol=1 / 255)
    assert read_tags(tmp_path / "out_painted.tif")["PELLUCID_LAYER"] == "painted"


def test_none_is_no_option_and_no_input() -> None:
    options = {"steps": None, "seed": 3, "tile": 8}
    inputs = {"optical": Path("x/a.tif"), "sar": None, "references": [Path("b.tif"), Path("c.tif")]}
    tags = tag_result("remove-clouds", model="m", weights="w", options=options, inputs=inputs)
    assert json.loads(tags["PELLUCID_OPTIONS"]) == {"tile": 8}
    assert json.loads(tags["PELLUCID_INPUTS"]) == {"optical": "a.tif", "references": ["b.tif", "c.tif"]}
    assert tags["PELLUCID_SEED"] == "3"


@pytest.mark.parametrize("painted", [True, False])
def test_what_was_painted_can_be_left_out(tmp_path: Path, painted: bool) -> None:
    restore(tmp_path, replace(OPTIONS, painted=painted))
    assert (tmp_path / "out_painted.tif").exists() == painted
