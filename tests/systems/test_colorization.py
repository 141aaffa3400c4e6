"""End to end, for colorization: train the three networks a little, save, load, colorize."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pairs import COLORS, prompt
from typer.testing import CliRunner, Result

from pellucid.build.method import build_method, build_network, load
from pellucid.build.run import read_run
from pellucid.cli import app
from pellucid.config import Config, load_config
from pellucid.data.batch import Batch
from pellucid.data.schema import parse
from pellucid.errors import InputError
from pellucid.methods.generative import Generative, GenerativeConfig
from pellucid.methods.sampling import with_sampling
from pellucid.networks import autoencoder, text_encoder, text_unet
from pellucid.train.data import build_training_data, keep_encoded
from pellucid.train.run_training import run_training, start_method

CONFIGS = Path(__file__).parents[2] / "configs"
STAGES = ("text_encoder", "colorize_autoencoder", "colorize")
SHORT = ("train.num_steps=24", "train.validate_every=12")
QUICK = ("train.num_steps=4", "train.batch=2", "train.device=cpu", "data.val=[]", "train.warmup_steps=0")
# Of Stable Diffusion 1.5, the U-Net with 8 input channels, the autoencoder with what training adds.
PUBLISHED_UNET, PUBLISHED_AUTOENCODER = 859_532_484, 34_163_664 + 49_490_199 + 1

pytestmark = pytest.mark.usefixtures("pictures")


def tiny(stage: str, stages: Path, *changes: str) -> Config:
    coder = stages / "colorize_autoencoder"
    spaces = (f"method.space.optical={coder}", f"method.space.sar={coder}")
    named = (f"method.text={stages / 'text_encoder'}", *spaces) if stage == "colorize" else ()
    return load_config(CONFIGS / f"{stage}_tiny.yaml", ("train.device=cpu", *named, *changes))


@pytest.fixture(scope="module")
def stages(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the three runs."""
    folder = tmp_path_factory.mktemp("stages")
    for stage in STAGES:
        rows = run_training(tiny(stage, folder, *SHORT), folder / stage).history
        assert rows[-1]["train_loss_total"] < rows[0]["train_loss_total"]
    return folder


@pytest.fixture(scope="module")
def run(stages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the colorizer's run alone, moved to where nothing else is."""
    return Path(shutil.copytree(stages / "colorize", tmp_path_factory.mktemp("moved") / "run"))


def colorizer(run: Path) -> Generative:
    method = load(run, device="cpu")
    assert isinstance(method, Generative)
    return method


def radar(*regions: str) -> Batch:
    """Return the same place again and again, as it may look in these regions."""
    sar = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).repeat(len(regions), 1, 1, 1)
    return Batch(
        degraded=sar.expand(-1, 3, -1, -1),
        sar=sar,
        valid=torch.ones_like(sar, dtype=torch.bool),
        key=("place",) * len(regions),
        prompt=tuple(prompt(region) for region in regions),
    )


def judge(run: Path, pictures: Path, out: Path, *options: str) -> Result:
    data = ["--data", str(pictures), "--folders", "r_002", "--device", "cpu", "-o", str(out)]
    return CliRunner().invoke(app, ["evaluate", str(run), *data, *options])


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(colorizer(run).network.state_dict())


def test_a_run_needs_nothing_else(run: Path, stages: Path) -> None:
    method = colorizer(run)
    text, coder = (load(stages / stage, device="cpu").network for stage in STAGES[:2])
    assert (method.takes_text, method.is_random, method.stride) == (True, True, 8)
    assert method.space.encode(torch.rand(1, 3, 32, 32)).shape == (1, 4, 8, 8)
    assert set(method.autoencoders) == {"optical"}  # the radar's is the same, and saved once
    for name, value in coder.state_dict().items():
        assert method.autoencoders["optical"].state_dict()[name].equal(value)
    assert method.text_encoder is not None
    for name, value in method.text_encoder.state_dict().items():
        assert text.state_dict()[name].equal(value)
    assert not any("image" in name for name in method.text_encoder.state_dict())
    assert all(name.startswith("unet.") for name in method.network.state_dict())


def test_radar_is_seen_as_a_grey_picture(run: Path) -> None:
    method, given = colorizer(run), radar("arctic")
    assert given.sar is not None
    torch.testing.assert_close(method.sar_space.encode(given.sar), method.space.encode(given.degraded))


def test_the_prompt_and_the_noise_decide_on_the_picture(run: Path) -> None:
    method = colorizer(run)
    tropical, arctic, again = method.restore(radar("tropical", "arctic", "tropical"))
    assert tropical.equal(again)
    assert not tropical.equal(arctic)
    other = replace(radar("tropical"), key=("another place",))
    assert not method.restore(other)[0].equal(tropical)


def test_without_a_prompt_the_text_says_nothing(run: Path) -> None:
    method, given = colorizer(run), radar("tropical")
    silent = replace(given, prompt=None)
    assert method.restore(silent).equal(method.restore(replace(given, prompt=("",))))
    followed = with_sampling(method, guidance=7.0)
    # There is nothing to be led away from.
    torch.testing.assert_close(followed.restore(silent), method.restore(silent), rtol=0, atol=1e-4)
    assert not followed.restore(given).equal(method.restore(given))


def test_little_strength_stays_near_what_is_given(run: Path) -> None:
    method, given = colorizer(run), radar("tropical")
    kept = method.space.decode(method.space.encode(given.degraded)).clamp(0, 1)
    far, near = (
        (with_sampling(method, strength=strength, steps=20).restore(given) - kept).abs().mean()
        for strength in (1.0, 0.1)
    )
    assert near < 0.5 * far


def test_a_resumed_run_is_the_run(stages: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for name, steps in (("whole", (4,)), ("parts", (2, 4))):
        for number, num_steps in enumerate(steps):
            changes = (*QUICK, f"train.num_steps={num_steps}", "train.schedule=constant")
            run_training(tiny("colorize", stages, *changes), tmp_path / name, resume=number > 0)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(whole[name].equal(parts[name]) for name in whole)


def test_a_resumed_run_keeps_what_it_has_saved(run: Path) -> None:
    kept = colorizer(run)
    resumed = start_method(tiny("colorize", run / "nowhere"), run)
    assert isinstance(resumed, Generative)
    assert kept.texts is not None
    assert resumed.texts is not None
    words = [prompt("arctic")]
    assert resumed.texts.encode(words, "cpu").equal(kept.texts.encode(words, "cpu"))
    assert resumed.autoencoders["optical"].shift.equal(kept.autoencoders["optical"].shift)  # type: ignore[operator]


def test_kept_samples_train_as_new_ones_do(stages: Path, tmp_path: Path) -> None:
    changes = (*QUICK, "train.num_steps=1", "train.schedule=constant")
    for name, more in (("new", ()), ("kept", ("data.num_cached=2", f"data.cache={tmp_path / 'cache'}"))):
        run_training(tiny("colorize", stages, *changes, *more), tmp_path / name)
    new, kept = weights(tmp_path / "new"), weights(tmp_path / "kept")
    for name, value in new.items():
        torch.testing.assert_close(kept[name], value, rtol=0, atol=1e-5)


def test_kept_samples_know_their_prompts(stages: Path, tmp_path: Path) -> None:
    config = tiny("colorize", stages, *QUICK, "data.num_cached=6", f"data.cache={tmp_path}")
    method, stream = build_method(config), build_training_data(config).stream
    samples = keep_encoded(config, method, stream)
    for i in range(6):
        assert samples[i].prompt == stream[i].prompt


def test_the_same_autoencoder_under_another_name_makes_the_same_samples(stages: Path, tmp_path: Path) -> None:
    coder = stages / "colorize_autoencoder"
    other = shutil.copytree(coder, tmp_path / "other")
    for number, sar in enumerate((coder, other), start=1):
        cached = ("data.num_cached=1", f"data.cache={tmp_path / 'cache'}", f"method.space.sar={sar}")
        config = tiny("colorize", stages, *QUICK, *cached)
        method = build_method(config)
        assert isinstance(method, Generative)
        assert len(method.autoencoders) == number
        keep_encoded(config, method, build_training_data(config).stream)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("method.text=runs/none", "method.text: 'runs/none' is neither a run folder"),
        ("method.text={coder}", "is for the method autoencoding, no text encoder; name one"),
        ("method.text=''", "method.dropped is prompt, but no text encoder is named; name one in method.text"),
        ("network.context_dim=64", "network.context_dim is 64, but the tokens of the text encoder have 16"),
        ("network.sar_channels=2", "network.sar_channels is 2, but the autoencoder has 4"),
        ("method.radar=[VV, VH]", "method.space.sar: the autoencoder"),
        ("method.strength=0.0001", "strength is 0.0001, which leaves none of 4 steps; raise one of them"),
        (
            "method.path={name: rectified_flow, tells: step}",
            "tells is step, which is for variance_preserving",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(change: str, message: str, stages: Path) -> None:
    with pytest.raises(InputError) as raised:
        build_method(
            tiny("colorize", stages, change.replace("{coder}", str(stages / "colorize_autoencoder")))
        )
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "lacks tokenizer.json, the words that it was trained with"), ("{}", "is not the tokenizer of")],
)
def test_a_run_without_its_tokenizer_is_refused(
    content: str | None, message: str, run: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(run, tmp_path / "run")) / "tokenizer.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=message):
        load(path.parent)


@pytest.mark.parametrize("size", ["", "_shipped", "_tiny"])
def test_the_configs_of_the_three_trainings_fit_together(size: str) -> None:
    text, coder, colorizer = (load_config(CONFIGS / f"{stage}{size}.yaml") for stage in STAGES)
    assert isinstance(colorizer.method, GenerativeConfig)
    assert colorizer.method.text == f"runs/text_encoder{size}"
    assert colorizer.method.space.optical == colorizer.method.space.sar == f"runs/colorize_autoencoder{size}"
    named = {name: value for name, value in colorizer.network.items() if name != "name"}
    with torch.device("meta"):
        encoder, texts = build_network(coder), build_network(text)
        assert isinstance(encoder, autoencoder.Autoencoder)
        assert isinstance(texts, text_encoder.TextEncoder)
        latents = encoder.config.latent_channels
        sizes = {"latent_channels": latents, "sar_channels": latents, "context_dim": texts.config.width}
        network = text_unet.build(parse(text_unet.Config, {**sizes, **named}, where="network"))
    assert network.config.context_dim == texts.config.width
    assert colorizer.data.tile % (encoder.factor * network.stride) == 0
    if not size:
        assert sum(weight.numel() for weight in network.parameters()) == PUBLISHED_UNET
        assert sum(weight.numel() for weight in encoder.parameters()) == PUBLISHED_AUTOENCODER


def test_a_colorizer_is_judged_against_the_mean_colour_of_each_prompt(
    run: Path, pictures: Path, tmp_path: Path
) -> None:
    colors = colorizer(run).mean_colors
    assert colors is not None
    assert set(colors) == {"", *map(prompt, COLORS)}
    assert colors[prompt("arctic")] == pytest.approx([value / 255 for value in COLORS["arctic"]], abs=0.02)
    done = judge(run, pictures, tmp_path)
    assert done.exit_code == 0, done.output
    figures = json.loads((next(tmp_path.glob("*/metrics.json"))).read_text())
    sources = {row["source"]: row["psnr"]["mean"] for row in figures["rows"] if row["region"] == "all"}
    assert set(sources) == {"model", "grey radar", "mean colour"}
    assert sources["mean colour"] > sources["grey radar"]
    assert {row["region"] for row in figures["rows"]} == {"all", *(f"region {name}" for name in COLORS)}


def test_the_other_two_stages_are_judged_too(stages: Path, pictures: Path, tmp_path: Path) -> None:
    texts, coder = (judge(stages / stage, pictures, tmp_path / stage) for stage in STAGES[:2])
    assert "of 9 images find their own text, 33% by" in " ".join(texts.output.split())
    assert "PSNR" in coder.output
    refused = judge(stages / "text_encoder", pictures, tmp_path, "--fid", "net.pt")
    assert refused.exit_code == 2
    assert "makes no images to compare; leave out --fid" in " ".join(refused.output.split())


def test_a_run_says_what_it_holds(run: Path) -> None:
    _, state, metadata = read_run(run)
    assert metadata.text is not None
    assert (metadata.text["name"], metadata.text["bands"]) == ("text_encoder", 0)
    parts = {name.split(".")[0] for name in state}
    assert parts == {"unet", "autoencoders", "text_encoder"}
