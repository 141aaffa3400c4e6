"""The colorizer's checkpoint: text encoder, autoencoder and U-Net in one file, as training leaves them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from checkpoints import COLORIZER_AUTOENCODER, COLORIZER_TEXT, COLORIZER_UNET, colorizer_weights, save
from torch import Tensor
from typer.testing import CliRunner

from pellucid.build.method import load
from pellucid.build.run import read_run
from pellucid.cli import app
from pellucid.data.batch import Batch
from pellucid.data.tokenizer import default_tokenizer
from pellucid.errors import InputError
from pellucid.methods.generative import Generative
from pellucid.methods.sampling import with_sampling
from pellucid.published._formats import Hints
from pellucid.published._read import import_run, read_checkpoint

PROMPT = "Colorise image, Region: tropical, Season: summer"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colorizer")
    content = {"epoch": 3, "model_state_dict": colorizer_weights()}
    return save(folder / "sar_model_best.pt", content)


@pytest.fixture(scope="module")
def run(checkpoint: Path) -> Path:
    run = checkpoint.parent / "run"
    words = ["import", "sar-colorization", str(checkpoint), str(run)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return run


def pair(size: int = 16) -> Batch:
    sar = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    return Batch(
        degraded=sar.repeat(1, 3, 1, 1),
        sar=sar,
        valid=torch.ones_like(sar, dtype=torch.bool),
        key=("pair",),
        prompt=(PROMPT,),
    )


def few_words(folder: Path, *others: str, num_heads: int | None = None) -> Hints:
    """A tokenizer of the summer in the tropics and of other words."""
    words = ("[PAD]", "[UNK]", "[START]", "[END]", "summer", "tropical", *others)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({word: number for number, word in enumerate(words)}))
    return Hints(num_heads=num_heads, tokenizer=str(path))


def test_every_size_is_read_off_the_weights(checkpoint: Path) -> None:
    found = read_checkpoint(checkpoint, "sar-colorization")
    entries = [found.network, found.parts.autoencoders["optical"], found.parts.text]
    for entry, config in zip(entries, (COLORIZER_UNET, COLORIZER_AUTOENCODER, COLORIZER_TEXT), strict=True):
        known = {key: value for key, value in entry.items() if key != "name"}
        assert {**known, "attention_resolutions": None} == {**vars(config), "attention_resolutions": None}


def test_an_imported_colorizer_is_one_run_that_samples_as_published(run: Path, checkpoint: Path) -> None:
    method = load(run, device="cpu")
    assert isinstance(method, Generative)
    assert method.takes_text
    assert method.sampling.step_times(method.path)[:-1].mul(1000).sub(1).round().tolist() == list(
        range(980, -1, -20)
    )
    weights = torch.load(checkpoint, weights_only=True)["model_state_dict"]
    state = method.network.state_dict()
    assert torch.equal(state["unet.conv_in.weight"], weights["diffusion.unet.encoders.0.0.weight"])
    assert method.space.network is method.sar_space.network
    assert method.space.network.scale.tolist() == pytest.approx([0.18215] * 4)
    words = default_tokenizer(length=COLORIZER_TEXT.length)([PROMPT])
    assert torch.equal(method.tokenizer([PROMPT]), words)
    assert not any("input_proj" in name for name in read_run(run)[1])


def test_the_prompt_and_the_radar_matter_to_an_imported_colorizer(run: Path) -> None:
    method: Any = with_sampling(load(run, device="cpu"), steps=2)
    batch = pair()
    image = method.restore(batch)
    assert image.shape == (1, 3, 16, 16)
    assert torch.equal(image, method.restore(batch))
    winter = dataclasses.replace(batch, prompt=(PROMPT.replace("summer", "winter"),))
    assert not torch.equal(image, method.restore(winter))
    assert not torch.equal(image, method.restore(dataclasses.replace(batch, sar=1 - batch.sar)))


def test_the_tokenizer_of_the_training_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    import_run("sar-colorization", checkpoint, tmp_path / "run", hints=few_words(tmp_path))
    method: Any = load(tmp_path / "run", device="cpu")
    assert method.tokenizer(["tropical winter summer"])[0].tolist() == [2, 5, 1, 4, 3] + [0] * 7
    (tmp_path / "run" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer"):
        load(tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clip.layernorm.bias": None}, "it lacks 'clip.layernorm.bias'; is it glf-cr or"),
        ({"vae_encoder.0.weight": None}, "it lacks 'vae_encoder.0.weight'; is it"),
        ({"diffusion.final.conv.weight": None}, "it lacks 'diffusion.final.conv.weight'; is it"),
        ({"diffusion.more": torch.zeros(1)}, "it has diffusion.more, which that network lacks"),
    ],
)
def test_what_is_no_colorizer_is_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, Tensor | None], sentence: str
) -> None:
    content = {**colorizer_weights(), **changes}
    kept = {name: tensor for name, tensor in content.items() if tensor is not None}
    with pytest.raises(InputError, match=f"is no sar-colorization checkpoint, {sentence}") as caught:
        read_checkpoint(save(tmp_path / "model.pt", kept), "sar-colorization")
    assert "\n" not in str(caught.value)


def test_a_network_without_radar_is_sent_elsewhere(tmp_path: Path) -> None:
    path = save(tmp_path / "sd.pt", colorizer_weights(sar_channels=0))
    with pytest.raises(InputError, match=r"cannot import .* its U-Net sees no radar, as Stable Diffusion's"):
        read_checkpoint(path, "sar-colorization")


def test_a_tokenizer_of_too_many_words_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    hints = few_words(tmp_path, *(f"word{number}" for number in range(1000)))
    with pytest.raises(InputError, match="has 1006 ids, the text encoder's vocabulary is 1000"):
        import_run("sar-colorization", checkpoint, tmp_path / "run", hints=hints)


@torch.inference_mode()
def test_imported_texts_have_the_published_tokens(golden_folder: Path, tmp_path: Path) -> None:
    known = golden.arrays(golden_folder, "sar_clip_small")
    text = golden.state_dict(golden_folder, "sar_clip_small")
    weights = colorizer_weights(context_dim=len(text["layernorm.bias"]))
    rest = {key: value for key, value in weights.items() if not key.startswith("clip.")}
    path = save(tmp_path / "model.pt", {**rest, **{f"clip.{key}": value for key, value in text.items()}})
    import_run("sar-colorization", path, tmp_path / "run", hints=few_words(tmp_path, num_heads=4))
    method: Any = load(tmp_path / "run", device="cpu")
    torch.testing.assert_close(method.text_encoder(known["ids"]), known["out"], **golden.TOLERANCE)
