"""End to end, for a colorizer that starts from Stable Diffusion: trained in parts, with a discriminator."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import prompt, write_pairs
from safetensors.torch import load_file
from stable_diffusion import write_model
from torch import Tensor

from pellucid.build.method import build_method, load
from pellucid.build.run import read_run
from pellucid.config import Config, load_config
from pellucid.data.batch import Batch
from pellucid.train.run_training import run_training, start_method

TINY = Path(__file__).parents[2] / "configs" / "colorize_tiny.yaml"
PART = ("train.freeze=['*', '!unet.conv_in.*']", "train.lora_rank=2")
SHORT = ("train.num_steps=4", "train.validate_every=2", "train.checkpoint_every=2", "train.batch=2")
ADVERSARIAL = ("losses.adversarial=0.01", "data.val=[]", "train.schedule=constant")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of pairs, with a folder of Stable Diffusion in it."""
    folder = write_pairs(tmp_path_factory.mktemp("pictures"))
    write_model(folder / "sd")
    return folder


def tuned(folder: Path, *changes: str) -> Config:
    sd = folder / "sd"
    parts = (f"method.text={sd}", f"method.space.optical={sd}", f"method.space.sar={sd}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICTURES", str(folder))
        start = f"train.init_from={sd}"
        return load_config(TINY, ("train.device=cpu", *parts, start, *PART, *SHORT, *changes))


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tuned"
    rows = run_training(tuned(folder, "losses.adversarial=0.01"), run).history
    assert {"train_loss_adversarial", "train_loss_adversarial_discriminator", "val_loss_adversarial"} <= rows[
        -1
    ].keys()
    assert "val_loss_adversarial_discriminator" not in rows[-1]
    return run


def radar() -> Batch:
    sar = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    valid = torch.ones_like(sar, dtype=torch.bool)
    degraded = sar.expand(-1, 3, -1, -1)
    return Batch(degraded=degraded, sar=sar, valid=valid, key=("place",), prompt=(prompt("arctic"),))


def test_parts_of_a_published_folder_are_used_as_they_are(folder: Path, run: Path) -> None:
    method: Any = load(run, device="cpu")
    vae = load_file(folder / "sd" / "vae" / "diffusion_pytorch_model.safetensors")
    coder = method.autoencoders["optical"].state_dict()
    assert coder["encoder.conv_in.weight"].equal(vae["encoder.conv_in.weight"])
    assert coder["scale"].tolist() == pytest.approx([0.2] * 4)
    assert method.tokenizer(["summer"]).shape == (1, 16)
    assert (run / "tokenizer.json").is_file()


def test_only_what_is_not_frozen_changes(folder: Path, run: Path) -> None:
    start: Any = build_method(tuned(folder, "train.freeze=[]", "train.lora_rank=0", "train.init_from=''"))
    prepared: Any = start_method(tuned(folder, "train.freeze=[]", "train.lora_rank=0"))
    before, after = prepared.network.state_dict(), load_network(run)
    assert after.keys() == start.network.state_dict().keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"unet.conv_in.weight", "unet.conv_in.bias"} <= changed
    linear = {name for name, value in before.items() if name.endswith(".weight") and value.ndim == 2}
    assert changed - {"unet.conv_in.weight", "unet.conv_in.bias"} <= linear
    assert any(".attn2.to_k." in name for name in changed)
    assert after["unet.conv_in.weight"][:, :4].any()  # the radar is seen by now


def load_network(run: Path) -> dict[str, Tensor]:
    method: Any = load(run, device="cpu")
    return dict(method.network.state_dict())


def test_a_tuned_run_needs_no_peft(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_peft = load_network(run)
    monkeypatch.setitem(sys.modules, "peft", None)
    without = load_network(run)
    assert all(without[name].equal(value) for name, value in with_peft.items())


def test_what_was_validated_is_what_was_saved(folder: Path, run: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert any(name.startswith("discriminators.adversarial.") for name in checkpoint)
    assert not any("discriminator" in name or "lora" in name for name in read_run(run)[1])
    method: Any = start_method(tuned(folder))
    of_network = {
        name.removeprefix("network."): value
        for name, value in checkpoint.items()
        if name.startswith("network.")
    }
    method.network.load_state_dict(of_network)
    method.network.eval()
    loaded: Any = load(run, device="cpu")
    torch.testing.assert_close(loaded.restore(radar()), method.restore(radar()), rtol=0, atol=1e-4)


def test_a_resumed_run_is_the_run_with_its_discriminator(folder: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for name, steps in (("whole", (4,)), ("parts", (2, 4))):
        for number, num_steps in enumerate(steps):
            config = tuned(folder, *ADVERSARIAL, f"train.num_steps={num_steps}", "train.warmup_steps=1")
            run_training(config, tmp_path / name, resume=number > 0)
    whole, parts = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all(whole[name].equal(parts[name]) for name in whole)
    untrained = build_method(tuned(folder, *ADVERSARIAL)).losses["adversarial"][1].discriminator
    trained = whole["discriminators.adversarial.layers.0.weight"]
    assert not untrained.state_dict()["layers.0.weight"].equal(trained)


def test_a_colorizer_gives_its_parts_to_another(folder: Path, run: Path, tmp_path: Path) -> None:
    parts = (f"method.text={run}", f"method.space.optical={run}", f"method.space.sar={run}")
    other = tuned(folder, *parts, f"train.init_from={run}", "train.freeze=[]", "train.lora_rank=0")
    method: Any = start_method(other)
    known: Any = load(run, device="cpu")
    method.network.eval()
    torch.testing.assert_close(method.restore(radar()), known.restore(radar()))
