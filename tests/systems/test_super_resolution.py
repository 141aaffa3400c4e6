"""End to end, for slices: train a little, save, load, enlarge, judge, resume."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import pellucid
from pellucid.apply.options import SliceOptions
from pellucid.build.method import load
from pellucid.config import Config, load_config
from pellucid.evaluation.evaluate import evaluate
from pellucid.evaluation.figures import BICUBIC, MODEL
from pellucid.evaluation.reference import read_reference
from pellucid.evaluation.table import PORES
from pellucid.generative.noise import NoiseField, TileNoise
from pellucid.methods.sampling import with_sampling
from pellucid.train.average import average_run
from pellucid.train.run_training import run_training

CONFIG = Path(__file__).parents[2] / "configs" / "sr3_ct_tiny.yaml"


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of slices of a grainy volume, every fifth."""
    folder = tmp_path_factory.mktemp("slices")
    noise = np.random.default_rng(0).standard_normal((35, 96, 96))
    volume = gaussian_filter(noise, 2)
    for depth in range(0, 35, 5):
        grains = 1 / (1 + np.exp(-40 * volume[depth]))
        Image.fromarray((30 + 190 * grains).astype(np.uint8)).save(folder / f"slice_{depth:04d}.png")
    return folder


@pytest.fixture(scope="module")
def small(slices: Path) -> Path:
    """Return a quarter of a slice, apart from their folder."""
    path = slices.parent / f"{slices.name}_small.png"
    Image.open(slices / "slice_0030.png").crop((0, 0, 48, 48)).save(path)
    return path


@pytest.fixture(scope="module")
def config(slices: Path) -> Config:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLICES", str(slices))
        return load_config(CONFIG, ("train.device=cpu",))


@pytest.fixture(scope="module")
def run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    report = run_training(config, folder)
    assert report.history[-1]["train_loss_total"] < report.history[0]["train_loss_total"]
    assert {"train_loss_l1", "train_loss_ssim", "train_loss_multi_scale", "learning_rate"} <= report.history[
        -1
    ].keys()
    assert report.history[-1]["learning_rate"] < 0.02 * config.train.learning_rate
    return folder


def test_a_loaded_run_gives_the_same_image_for_the_same_seed(run: Path, small: Path, tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        options = SliceOptions(tile=64, overlap=16, device="cpu", seed=seed, eta=1.0, preview=False)
        pellucid.upscale(small, tmp_path / f"{name}.png", method=load(run, device="cpu"), options=options)
    first, second, other = (np.array(Image.open(tmp_path / f"{n}.png")) for n in ("first", "second", "other"))
    assert first.shape == (192, 192)
    assert first.dtype == np.uint8
    assert (first == second).all()
    assert (first != other).any()


def test_tiles_give_the_image_of_one_piece(run: Path, small: Path, tmp_path: Path) -> None:
    method = load(run, device="cpu")
    for name, tile in (("tiled", 128), ("whole", 192)):
        options = SliceOptions(tile=tile, overlap=48, device="cpu", preview=False)
        pellucid.upscale(small, tmp_path / f"{name}.png", method=method, options=options)
    tiled, whole = (np.array(Image.open(tmp_path / f"{n}.png")).astype(float) for n in ("tiled", "whole"))
    # Group norms see the whole tile, so the two differ a little; noise of its own per tile would differ more.
    assert np.abs(tiled - whole).mean() < 1.0


def test_the_judgement_stands_beside_bicubic(run: Path, slices: Path, tmp_path: Path) -> None:
    method = with_sampling(load(run, device="cpu"), steps=1)
    images = read_reference(method, slices, numbers=(25, 30))
    result = evaluate(method, images, name="tiny", out=tmp_path / "report", samples=2, device="cpu")
    model, bicubic = result.row(MODEL), result.row(BICUBIC)
    assert model.num_images == 2
    assert {"psnr", "ssim", "mae", "rmse", "gmsd", "consistency", *PORES} == set(model.metrics)
    assert bicubic.metrics["psnr"].mean > 15
    assert abs(model.metrics["psnr"].mean - bicubic.metrics["psnr"].mean) < 6
    assert (tmp_path / "report" / "tiny" / "sheet.png").exists()


def test_times_drawn_by_importance_survive_a_resumed_run(config: Config, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for name, steps in (("whole", (8,)), ("parts", (4, 8))):
        for number, num_steps in enumerate(steps):
            options = {
                "num_steps": num_steps,
                "validate_every": 100,
                "schedule": "constant",
                "ema_decay": 0.0,
            }
            data = config.data.model_copy(update={"val": ()})
            part = config.model_copy(update={"train": config.train.model_copy(update=options), "data": data})
            run_training(part, tmp_path / name, resume=number > 0)
    whole, parts = (load(tmp_path / name, device="cpu").network.state_dict() for name in ("whole", "parts"))
    assert all(whole[name].equal(parts[name]) for name in whole)


def test_a_learned_schedule_is_saved_with_the_weights(config: Config, tmp_path: Path) -> None:
    options = {"num_steps": 6, "validate_every": 100, "checkpoint_every": 3, "ema_decay": 0.0}
    learned = config.model_copy(
        update={
            "train": config.train.model_copy(update=options),
            "data": config.data.model_copy(update={"val": ()}),
            "method": config.method.model_copy(update={"importance": 0.9, "learned_schedule": True}),
        }
    )
    run_training(learned, tmp_path / "run")
    average_run(tmp_path / "run", tmp_path / "mean", last=2)
    schedules = [load(tmp_path / name, device="cpu").times for name in ("run", "mean")]
    assert not any(schedule.squares.eq(1).all() for schedule in schedules)
    assert schedules[0].squares.equal(schedules[1].squares)


def test_noise_belongs_to_its_place_in_every_sample(run: Path, slices: Path) -> None:
    method = load(run, device="cpu")
    batch = read_reference(method, slices, numbers=(30, 30))[0]
    cut = replace(
        batch,
        degraded=batch.degraded[..., :16, :16],
        valid=batch.valid[..., :64, :64],
        target=None,
    )
    field = NoiseField(0)
    first, again, elsewhere = (
        method.restore(cut, TileNoise((field,), (top,), (0,), 64, 64)) for top in (0, 0, 64)
    )
    assert first.equal(again)
    assert not first.equal(elsewhere)
