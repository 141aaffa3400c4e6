from pathlib import Path

import numpy as np
import pytest
from rasters import write_raster

from pellucid.config import load_config
from pellucid.data.drawing import save_picture
from pellucid.data.ranges import SENTINEL2
from pellucid.errors import InputError
from pellucid.train.run_training import run_training

CONFIG = Path(__file__).parents[2] / "configs" / "cross_attention_tiny.yaml"


def write_pairs(folder: Path) -> str:
    """Write three cloudy and clear patches, and return the source in a config that names them."""
    for i in range(3):
        for kind in ("s2_cloudy", "s2_cloudfree"):
            values = np.random.default_rng(i).integers(1, 9000, (13, 32, 32)).astype(np.uint16)
            write_raster(folder / kind / f"{i}.tif", values, SENTINEL2.bands)
    return f"{{name: sen12ms_cr, root: {folder}, missing: skip}}"


def test_a_run_lists_the_patches_that_were_left_out(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "data")
    (tmp_path / "data" / "s2_cloudfree" / "1.tif").unlink()
    changes = ("train.num_steps=1", "train.device=cpu", f"data.train=[{source}]", "data.val=[]")
    with pytest.warns(
        UserWarning, match=r"1 patches are left out, of which files are missing; .*missing.txt"
    ):
        run_training(load_config(CONFIG, changes), tmp_path / "run")
    (line,) = (tmp_path / "run" / "missing.txt").read_text().splitlines()
    assert line == f"1: {tmp_path / 'data' / 's2_cloudfree' / '1.tif'}"


def test_a_sheet_of_samples_replaces_no_image_of_theirs_though_it_is_ours(tmp_path: Path) -> None:
    source, image = write_pairs(tmp_path / "data"), tmp_path / "data" / "picture.png"
    save_picture(np.full((8, 8, 3), 100, np.uint8), image)
    before = image.read_bytes()
    changes = ("train.num_steps=1", "train.device=cpu", f"data.train=[{source}]", "data.val=[]")
    with pytest.raises(InputError, match="it is among the images; name another file"):
        run_training(load_config(CONFIG, changes), tmp_path / "run", dry_run=True, sample_sheet=image)
    assert image.read_bytes() == before
