"""End to end, for every system that takes clouds off: train a little, save, load, restore a scene."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from scenes import read, write

from pellucid.apply.options import SceneOptions
from pellucid.apply.remove_clouds import restore_scene
from pellucid.build.method import load
from pellucid.config import load_config
from pellucid.simulate.pairs import simulate_pairs
from pellucid.train.data import build_training_data
from pellucid.train.run_training import run_training

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("system", ["cross_attention", "glf_cr", "uncrtaints"])
def test_the_loss_falls_and_a_saved_run_restores_alike(system: str, tmp_path: Path) -> None:
    config = load_config(CONFIGS / f"{system}_tiny.yaml")
    data = build_training_data(config)
    report = run_training(config, tmp_path / "run")
    assert report.history[-1]["train_loss_total"] < report.history[0]["train_loss_total"]

    method = load(tmp_path / "run", device="cpu")
    torch.testing.assert_close(method.restore(data.stream[0]), load(tmp_path / "run").restore(data.stream[0]))

    simulate_pairs(tmp_path, count=1, size=96, seed=3)
    (scene,), (radar,) = (sorted((tmp_path / folder).iterdir()) for folder in ("s2_cloudy", "s1"))
    for name in ("first.tif", "second.tif"):
        restore_scene(
            scene, tmp_path / name, sar=radar, method=method, options=SceneOptions(tile=64, overlap=16)
        )
    with rasterio.open(tmp_path / "first.tif") as first, rasterio.open(tmp_path / "second.tif") as second:
        assert (first.read() == second.read()).all()
        with rasterio.open(scene) as before:
            assert (first.crs, first.transform, first.descriptions) == (
                before.crs,
                before.transform,
                before.descriptions,
            )


def test_tiles_that_see_other_ground_leave_no_seam_under_one_cloud(tmp_path: Path) -> None:
    """What ships paints with the colours that a tile shows, dark on the left, bright on the right."""
    values = np.full((13, 256, 640), 700, np.uint16)
    values[:, :, 320:] = 2100
    values += np.random.default_rng(0).integers(0, 100, values.shape).astype(np.uint16)
    values[10] = 10  # no cirrus
    values[:, 64:192] = 8000
    write(tmp_path / "s2.tif", values)
    options = SceneOptions(keep_clear=False)
    method = load("cross_attention", device="cpu")
    restore_scene(tmp_path / "s2.tif", tmp_path / "out.tif", method=method, options=options)
    across = read(tmp_path / "out.tif")[:, 112:144, 40:-40].mean((0, 1)) / 10000
    assert np.ptp(across) > 0.02
    assert np.abs(across[8:] - across[:-8]).max() < 0.15 * np.ptp(across)
