from pathlib import Path

import numpy as np
import pytest
from rasters import write_raster

from pellucid.config import load_config
from pellucid.data.ranges import SENTINEL2
from pellucid.train.run_training import run_training

CONFIG = Path(__file__).parents[2] / "configs" / "cross_attention_tiny.yaml"


def test_a_run_lists_the_patches_that_were_left_out(tmp_path: Path) -> None:
    for i in range(3):
        for kind in ("s2_cloudy", "s2_cloudfree"):
            values = np.random.default_rng(i).integers(1, 9000, (13, 32, 32)).astype(np.uint16)
            write_raster(tmp_path / "data" / kind / f"{i}.tif", values, SENTINEL2.bands)
    (tmp_path / "data" / "s2_cloudfree" / "1.tif").unlink()
    source = f"{{name: sen12ms_cr, root: {tmp_path / 'data'}, missing: skip}}"
    changes = ("train.num_steps=1", "train.device=cpu", f"data.train=[{source}]", "data.val=[]")
    with pytest.warns(
        UserWarning, match=r"1 patches are left out, of which files are missing; .*missing.txt"
    ):
        run_training(load_config(CONFIG, changes), tmp_path / "run")
    (line,) = (tmp_path / "run" / "missing.txt").read_text().splitlines()
    assert line == f"1: {tmp_path / 'data' / 's2_cloudfree' / '1.tif'}"
