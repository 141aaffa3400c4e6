"""End to end, for autoencoders of optical images and of radar: train a little, save, load, judge, resume."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pellucid import restore_scene, upscale
from pellucid.build.method import build_method, load
from pellucid.build.run import read_run
from pellucid.cli import app
from pellucid.config import Config, load_config
from pellucid.data.batch import Batch
from pellucid.datasets._listing import SingleImages
from pellucid.errors import InputError
from pellucid.evaluation.evaluate import evaluate
from pellucid.evaluation.reference import read_reference
from pellucid.methods.autoencoding import Autoencoding
from pellucid.simulate.pairs import simulate_pairs
from pellucid.train import run_training as training
from pellucid.train.data import build_training_data
from pellucid.train.run_training import run_training
from pellucid.train.trainer import Training

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = {"optical": "cloud_flow_autoencoder", "radar": "cloud_flow_sar_autoencoder"}


def tiny(kind: str, *changes: str) -> Config:
    return load_config(CONFIGS / f"{KINDS[kind]}_tiny.yaml", ("train.device=cpu", *changes))


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / request.param
    report = run_training(tiny(request.param), folder)
    assert report.history[-1]["train_loss_total"] < report.history[0]["train_loss_total"]
    assert report.history[-1]["val_psnr"] > report.history[0]["val_psnr"]
    assert {"val_loss_l1", "val_loss_kl", "val_loss_logvar"} <= report.history[-1].keys()
    assert not {"val_psnr_input", "val_psnr_spectrum"} & report.history[-1].keys()
    return folder


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    simulate_pairs(folder, count=2, size=64, seed=3)
    return folder


def test_a_loaded_run_gives_the_same_image(run: Path) -> None:
    first, second = (load(run, device="cpu") for _ in range(2))
    assert isinstance(first, Autoencoding)
    stream = build_training_data(tiny(run.name)).stream
    batch = Batch.cat([stream[i] for i in range(8)])
    restored = first.restore(batch)
    assert torch.equal(restored, second.restore(batch))
    before = build_method(tiny(run.name)).restore(batch)
    errors = [(image - batch.target).abs().mean() for image in (restored, before)]
    assert errors[0] < 0.7 * errors[1]


def test_the_learned_parts_beside_the_layers_are_saved(run: Path) -> None:
    _, state, _ = read_run(run)
    start = build_method(tiny(run.name)).network.state_dict()
    assert state["error_logvar"] != start["error_logvar"]
    assert not torch.equal(state["scale"], start["scale"])
    assert not torch.equal(state["shift"], start["shift"])


def test_latents_of_training_images_are_centred_and_of_unit_spread(run: Path) -> None:
    method = load(run, device="cpu")
    assert isinstance(method, Autoencoding)
    stream = build_training_data(tiny(run.name)).stream
    with torch.no_grad():
        latents = torch.cat([method.encode(stream[i].degraded) for i in range(128)])
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(latents.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(latents.shape[1]), atol=1e-3, rtol=0)


def test_the_command_line_judges_reconstruction_band_by_band(
    run: Path, patches: Path, tmp_path: Path
) -> None:
    words = [
        "evaluate",
        str(run),
        "--data",
        str(patches),
        "--split",
        "all",
        "-o",
        str(tmp_path),
        "--name",
        "coded",
    ]
    result = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    is_optical = run.name == "optical"
    bands = ["B02", "B03", "B04", "B08"] if is_optical else ["VV", "VH"]
    assert all(band in result.output for band in bands)
    assert ("SAM" in result.output) == is_optical
    assert "baseline" not in result.output
    assert "input" not in result.output
    metrics = json.loads((tmp_path / "coded" / "metrics.json").read_text())
    (row,) = metrics["rows"]
    assert (row["source"], row["region"], ("sam" in row)) == ("model", "all", is_optical)
    assert list(metrics["band_psnr_db"]) == bands
    with (tmp_path / "coded" / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    # All bands have as many pixels: the error of the image is the mean of theirs.
    for row in rows:
        errors = [10 ** (-float(row[f"model_{band}_psnr"]) / 10) for band in bands]
        whole = 10 ** (-float(row["model_all_psnr"]) / 10)
        assert sum(errors) / len(errors) == pytest.approx(whole, rel=1e-4)
    with Image.open(tmp_path / "coded" / "sheet.png") as sheet:
        assert sheet.width < 3 * 256 + 100  # image, reconstruction, error


def test_an_autoencoder_takes_no_clouds_off_and_enlarges_nothing(
    run: Path, patches: Path, tmp_path: Path
) -> None:
    method = load(run, device="cpu")
    scene = next((patches / "s2_cloudy").iterdir())
    with pytest.raises(InputError, match="this model is an autoencoder, it takes no clouds off; choose"):
        restore_scene(scene, tmp_path / "out.tif", method=method)
    Image.new("L", (32, 32)).save(tmp_path / "slice.png")
    with pytest.raises(InputError, match=r"the model restores (B02|VV), .* a slice has grey values alone"):
        upscale(tmp_path / "slice.png", tmp_path / "large.png", method=method)


def test_what_is_judged_is_the_clear_image_or_the_radar(run: Path, patches: Path) -> None:
    method = load(run, device="cpu")
    images = read_reference(method, patches)
    assert isinstance(images, SingleImages)
    pair = images.patches[0]
    expected = pair.target if run.name == "optical" else pair.sar
    assert torch.equal(images[0].target, expected)
    assert evaluate(method, images, name="tiny", device="cpu").row().num_images == 2


def test_a_resumed_run_ends_as_one_that_was_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "NUM_MEASURED", 4)
    torch.set_num_threads(1)
    changes = (
        "train.validate_every=2",
        "train.schedule=constant",
        "train.warmup_steps=1",
        "train.ema_decay=0.9",
        "data.val.0.size=32",
    )
    for name, parts in (("whole", (4,)), ("parts", (2, 4))):
        for number, steps in enumerate(parts):
            config = tiny("optical", f"train.num_steps={steps}", *changes)
            run_training(config, tmp_path / name, resume=number > 0)
    whole, parts_state = (read_run(tmp_path / name)[1] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in parts_state.items())


def test_a_run_that_is_only_tried_leaves_nothing(tmp_path: Path) -> None:
    report = run_training(tiny("radar"), tmp_path / "run", dry_run=True)
    assert report.status == "dry run"
    assert not (tmp_path / "run").exists()


def test_the_decay_of_the_optimisers_means_is_the_configs() -> None:
    config = tiny("optical")
    module = Training(build_method(config), config, samples_per_epoch=1)
    assert module.configure_optimizers()["optimizer"].defaults["betas"] == (0.5, 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("method.radar=[VV]", "an autoencoder is of optical bands or of radar, found both; name one"),
        ("method.optical=[]", "an autoencoder is of optical bands or of radar, found neither; name one"),
        ("network.bands=3", "network.bands is 3, but the method names B02, B03, B04, B08"),
        (
            "network={name: sr3_unet, width: 8, groups: 4, multipliers: [1], attention: []}",
            "network.name is 'sr3_unet', which does not encode",
        ),
        ("losses={cloud_adaptive: 1}", "losses.cloud_adaptive is for restored clouds, set it to 0"),
        ("losses={denoise: 1}", "losses.denoise is for generative methods, set it to 0 for autoencoding"),
        ("losses={perceptual: 1}", "losses.perceptual sees grey or three bands, the method has 4"),
        ("method.kl_weight=-1", "kl_weight"),
        ("network.groups=3", "groups is 3, must divide the 8 channels"),
    ],
)
def test_a_config_that_cannot_work_is_explained(change: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        build_method(tiny("optical", change))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_source_without_radar_is_named(patches: Path) -> None:
    source = f"data.train.0={{name: clear_scenes, root: {patches / 's2_cloudfree'}}}"
    with pytest.raises(InputError, match="has no radar image, which this autoencoder is for; exclude it"):
        build_training_data(tiny("radar", source)).stream[0]


def test_slices_are_refused(tmp_path: Path) -> None:
    source = f"data.train.0={{name: slices, hr: {tmp_path}}}"
    with pytest.raises(InputError, match="slices are for a method that enlarges; use generative"):
        build_training_data(tiny("radar", source))
