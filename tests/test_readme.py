"""Every command and every Python example of the README runs as it stands there."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import COLORIZER_TEXT, autoencoder_weights, colorizer_weights, flow_weights
from PIL import Image
from safetensors.torch import save_file
from tests.painters import save_radar
from tests.pairs import write_pairs
from typer.testing import CliRunner

from pellucid.build.method import build_network
from pellucid.cli import app
from pellucid.config import load_config
from pellucid.data.tokenizer import default_tokenizer
from pellucid.generative.path import beta_schedule
from pellucid.networks import sr3_unet
from pellucid.published._read import import_run
from pellucid.simulate.pairs import simulate_pairs

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# What makes a run of days one of seconds; the data are as few.
QUICK = (
    *("train.num_steps=2", "train.batch=1", "train.validate_every=2", "train.checkpoint_every=2"),
    *("train.num_workers=0", "train.precision=fp32", "train.steps_per_epoch=1", "data.tile=32"),
    *("train.epochs=0", "train.validate_every_epochs=0", "train.checkpoint_every_epochs=0"),
)
TINY_AUTOENCODER = (
    "network={name: autoencoder, width: 4, multipliers: [1, 2], num_blocks: 1, latent_channels: 2, groups: 4}"
)
TINY_UNET = "network={name: sr3_unet, width: 8, multipliers: [1, 2], num_blocks: 1, groups: 4}"
SMALL = {
    "configs/glf_cr.yaml": ["network={name: glf_cr, num_blocks: 1, num_layers: 2, width: 16, growth: 8}"],
    "configs/cross_attention.yaml": ["network={name: cross_attention, width: 8}"],
    "configs/sr3_ct_x4.yaml": [TINY_UNET],
    "configs/sr3_ct_x8.yaml": [TINY_UNET],
    "configs/cloud_flow_autoencoder.yaml": [TINY_AUTOENCODER],
    "configs/cloud_flow_sar_autoencoder.yaml": [TINY_AUTOENCODER],
    "configs/cloud_flow.yaml": [
        "network={name: flux, width: 16, num_heads: 1, num_double: 1, num_single: 1}"
    ],
    "configs/text_encoder.yaml": ["network={name: text_encoder, width: 8, num_layers: 1, num_heads: 1}"],
    "configs/colorize_autoencoder.yaml": ["network={name: autoencoder, width: 4, num_blocks: 1, groups: 4}"],
    "configs/colorize.yaml": [
        "network={name: text_unet, model_channels: 4, channel_mult: [1], attention_resolutions: []}",
        *("network.groups=4", "network.num_heads=1", "method.steps=2"),
    ],
}


def blocks() -> list[tuple[str, str]]:
    """Return language and text of each code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> Iterator[str]:
    """Yield each command of the code blocks and of the table that starts with `pellucid`."""
    for _, block in blocks():
        for line in block.splitlines():
            if line.startswith("pellucid "):
                yield line.partition("#")[0].strip()
    for row in re.findall(r"^\|.*\|$", README, re.MULTILINE):
        ours = row.split("|")[2]
        yield from re.findall(r"`(pellucid [^`]*)`", ours)
    yield from re.findall(r"`(pellucid (?:simulate|models)[^`]*)`", README.partition("## From the doc")[0])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the README speaks of: scenes, the dataset, published checkpoints."""
    folder = tmp_path_factory.mktemp("desk")
    simulate_pairs(folder / "pairs_made", count=5, size=128, seed=0)
    made = folder / "pairs_made"
    name = sorted((made / "s1").iterdir())[0].name
    shutil.copy(made / "s2_cloudy" / name, folder / "S2.tif")
    shutil.copy(made / "s1" / name, folder / "S1.tif")
    shutil.copy(made / "mask" / name, folder / "MASK.tif")
    (folder / "scenes").mkdir()
    shutil.copy(folder / "S2.tif", folder / "scenes")
    (folder / "my_clear_scenes").mkdir()
    shutil.copy(made / "s2_cloudfree" / name, folder / "my_clear_scenes")
    for roi, number in (("ROIs1158_spring", 1), ("ROIs1868_summer", 19), ("ROIs1158_spring", 106)):
        for sensor, source in (("s1", "s1"), ("s2", "s2_cloudfree"), ("s2_cloudy", "s2_cloudy")):
            place = folder / "data" / "SEN12MSCR" / f"{roi}_{sensor}" / f"{sensor}_{number}"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(made / source / name, place / f"{roi}_{sensor}_{number}_p30.tif")
    shutil.copytree(made, folder / "DIR")
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    for file, network, key in (
        ("CR_net.pth", "glf_cr", "network"),
        ("X.pth", "cross_attention", "model_state_dict"),
    ):
        config = load_config(REPOSITORY / "configs" / f"{network}.yaml")
        torch.save({key: build_network(config).state_dict()}, folder / file)
    import_run("cross-attention", folder / "X.pth", folder / "RUN")
    torch.save({"model_state_dict": colorizer_weights()}, folder / "sar_model_best.pt")
    for file, bands in (("vae.pth", 3), ("vae_sar.pth", 2)):
        torch.save(autoencoder_weights(bands=bands, latent_channels=4), folder / file)
    torch.save(flow_weights(), folder / "rf.pth")
    (folder / "tokenizer.json").write_text(default_tokenizer(length=COLORIZER_TEXT.length).to_json())
    _lay_out_slices(folder)
    write_pairs(folder / "data" / "Dataset")
    for place in ("sar.png", "pictures/a.png"):
        save_radar(folder / place, 32, 32)
    return folder


def _lay_out_slices(folder: Path) -> None:
    """Make slices as the README names them, and a checkpoint of the published super-resolution."""
    values = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(values[:16, :16]).save(folder / "slice.png")
    for place, number, side in (
        *(("slices", number, 64) for number in (305, 310, 345)),
        *((f"data/ct/{name}", number, 64) for name, number in (("hr", 1), ("hr_val", 2))),
        *((f"data/ct/{name}", number, 8) for name, number in (("lr", 1), ("lr_val", 2))),
    ):
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values[:side, :side]).save(folder / place / f"slice_{number:04d}.png")
    network = sr3_unet.build(sr3_unet.Config(width=16, multipliers=(1, 2), num_blocks=1, groups=16))
    state = {f"denoise_fn.{name}": value.contiguous() for name, value in network.state_dict().items()}
    save_file({**state, "betas": beta_schedule("cosine", 100).float()}, folder / "gen.safetensors")


def shortened(command: str, data: Path) -> list[str]:
    """Return the words of a command, with options that make it quick, and real images where they lie."""
    words = [word.replace("../shared/data", str(data)) for word in shlex.split(command)[1:]]
    if words[0] == "train":
        settings = [*SMALL[words[1]], *QUICK]
        words += [word for setting in settings for word in ("--set", setting)]
    if words[0] == "evaluate":
        words = ["r_002" if word == "r_006" else word for word in words]  # 2 pairs instead of 54
    if words[0] == "colorize":
        words = ["2" if word in ("20", "50") else word for word in words]
    if words[0] == "simulate":
        words += ["--size", "64"]
        words = ["2" if word == "100" else word for word in words]
    return words


def test_every_command_runs_in_the_order_of_the_text(
    desk: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    seen = list(dict.fromkeys(commands()))
    assert len(seen) > 12
    for command in seen:
        words = shortened(command, data_folder)
        # What an earlier command made, a later one makes again.
        if "--resume" not in words and words[0] == "train" and (desk / "runs" / Path(words[1]).stem).exists():
            shutil.rmtree(desk / "runs" / Path(words[1]).stem)
        if words[0] == "import" and (desk / words[3]).exists():
            shutil.rmtree(desk / words[3])
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{command}\n{result.output}"


def test_the_python_example_runs(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    (example,) = (text for language, text in blocks() if language == "python")
    names: dict[str, object] = {}
    exec(example, names)
    assert isinstance(names["network"], torch.nn.Module)
    assert (desk / "clear.tif").is_file()


def test_every_file_that_the_text_names_exists() -> None:
    for name in re.findall(r"\]\((?!https?:)([^)]+)\)|`((?:configs|src|docs)/[\w/.]+)`", README):
        assert (REPOSITORY / "".join(name)).exists(), name
