"""The colorizer's checkpoint: text encoder, autoencoder and U-Net in one file, as training leaves them."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from checkpoints import (
    COLORIZER_AUTOENCODER,
    COLORIZER_TEXT,
    COLORIZER_UNET,
    colorizer_weights,
    save,
    to_published,
)
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from typer.testing import CliRunner

from pellucid.build.method import load
from pellucid.build.run import read_run
from pellucid.cli import app
from pellucid.data.batch import Batch
from pellucid.data.tokenizer import default_tokenizer
from pellucid.errors import InputError
from pellucid.methods.generative import Generative
from pellucid.methods.sampling import with_sampling
from pellucid.networks import autoencoder, text_unet
from pellucid.published import sar_colorization as layout
from pellucid.published._hints import Hints
from pellucid.published._read import import_run, read_checkpoint
from pellucid.published._rename import Rule, from_published

PROMPT = "Colorise image, Region: tropical, Season: summer"
AUTOENCODER = autoencoder.Config(bands=3, width=128, quant_conv=True, norm_eps=layout.NORM_EPS)


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
        range(780, -1, -20)  # strength 0.8: 40 of the 50 steps
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
        ({"clip.layernorm.bias": None}, "it lacks clip.layernorm.bias; no other known format fits it"),
        ({"vae_encoder.0.weight": None}, "it lacks vae_encoder.0.weight; no other known format fits it"),
        (
            {"diffusion.final.conv.weight": None},
            "it lacks diffusion.final.conv.weight; no other known format fits it",
        ),
        ({"diffusion.more": torch.zeros(1)}, "its text_unet weights: more is no weight of that network"),
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
    with pytest.raises(InputError, match=r"cannot import .* its U-Net has no radar input, as Stable"):
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


def shapes(folder: Path, name: str, prefix: str = "") -> dict[str, Tensor]:
    """Return a published state dict of tensors without values."""
    known = json.loads((folder / "state_dicts.json").read_text())[name]
    return {prefix + key: torch.empty(shape, device="meta") for key, (shape, _) in known.items()}


@pytest.fixture(scope="module")
def unet_shapes(golden_folder: Path) -> dict[str, Tensor]:
    return shapes(golden_folder, "sar_diffusion_full")


@pytest.fixture(scope="module")
def autoencoder_shapes(golden_folder: Path) -> dict[str, Tensor]:
    parts = [shapes(golden_folder, f"sar_vae_{part}", f"{part}.") for part in ("encoder", "decoder")]
    return parts[0] | parts[1]


def load_part(folder: Path, part: str) -> autoencoder.Autoencoder:
    """Return the published autoencoder with the weights of one half."""
    weights = {f"{part}.{key}": value for key, value in golden.state_dict(folder, f"sar_vae_{part}").items()}
    rules = layout.autoencoder_rules(**vars(AUTOENCODER))
    state = from_published(weights, [rule for rule in rules if rule.published.startswith(part)])
    constants = {"scale": torch.full((4,), layout.LATENT_SCALE), "shift": torch.zeros(4)}
    with torch.device("meta"):
        network = autoencoder.build(AUTOENCODER)
    assert not network.load_state_dict(constants | state, strict=False, assign=True).unexpected_keys
    return network.eval()


@torch.inference_mode()
def test_encoder_equals_the_published_one(golden_folder: Path) -> None:
    known = golden.arrays(golden_folder, "sar_vae_encoder")
    network = load_part(golden_folder, "encoder")
    mean, logvar = network.posterior(known["x"])
    latents = (mean + (logvar / 2).exp() * known["noise"]) * network.scale[:, None, None]
    torch.testing.assert_close(latents, known["z"], **golden.TOLERANCE)


@torch.inference_mode()
def test_decoder_equals_the_published_one(golden_folder: Path) -> None:
    known = golden.arrays(golden_folder, "sar_vae_decoder")
    found = load_part(golden_folder, "decoder").decode(known["z"])
    torch.testing.assert_close(found, known["out"], **golden.TOLERANCE)


def test_autoencoder_has_the_published_sizes(autoencoder_shapes: dict[str, Tensor]) -> None:
    config, network, state = layout.PICTURES.convert(autoencoder_shapes, Hints())
    assert config == AUTOENCODER
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }
    parts = {"encoder": 34_163_664, "decoder": 49_490_199}
    of = {part: [v for k, v in network.named_parameters() if belongs(k) == part] for part in parts}
    assert {part: sum(weight.numel() for weight in weights) for part, weights in of.items()} == parts


def belongs(name: str) -> str:
    """Return the half to which a weight belongs, or nothing."""
    first = name.partition(".")[0]
    return {"quant_conv": "encoder", "post_quant_conv": "decoder", "error_logvar": ""}.get(first, first)


def test_latents_have_the_published_scale(autoencoder_shapes: dict[str, Tensor]) -> None:
    real = {
        key: torch.zeros(value.shape) for key, value in autoencoder_shapes.items() if value.numel() < 5000
    }
    _, _, state = layout.PICTURES.convert(autoencoder_shapes | real, Hints())
    assert state["scale"].tolist() == pytest.approx([0.18215] * 4)
    assert not state["shift"].any()


def _block(rules: Iterator[Rule], block: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """Return the block with published weights, whose keys have neither our prefix nor theirs."""
    rules = [
        dataclasses.replace(
            rule,
            published=rule.published.removeprefix("x."),
            ours=tuple(key.removeprefix("y.") for key in rule.ours),
        )
        for rule in rules
    ]
    block.load_state_dict(from_published(weights, rules))
    return block.eval()


@torch.inference_mode()
def test_residual_block_equals_the_published_one(golden_folder: Path) -> None:
    known = golden.arrays(golden_folder, "sar_unet_resblock")
    weights = golden.state_dict(golden_folder, "sar_unet_resblock")
    block = ResnetBlock2D(in_channels=32, out_channels=64, temb_channels=48, eps=1e-5)
    block = _block(layout._unet_res_block("x", "y", is_wider=True), block, weights)
    found = block(known["x"], known["t"].expand(2, -1))
    torch.testing.assert_close(found, known["out"], **golden.TOLERANCE)


@torch.inference_mode()
def test_attention_block_equals_the_published_one(golden_folder: Path) -> None:
    known = golden.arrays(golden_folder, "sar_unet_attnblock")
    weights = golden.state_dict(golden_folder, "sar_unet_attnblock")
    block = Transformer2DModel(2, 32, 64, cross_attention_dim=24)
    block = _block(layout._unet_attention("x", "y"), block, weights)
    (found,) = block(known["x"], known["ctx"], return_dict=False)
    torch.testing.assert_close(found, known["out"], **golden.TOLERANCE)


def test_network_is_made_of_the_blocks_that_equal_the_published_ones() -> None:
    with torch.device("meta"):
        network = text_unet.build(text_unet.Config())
    residual = [module for module in network.modules() if isinstance(module, ResnetBlock2D)]
    attention = [module for module in network.modules() if isinstance(module, Transformer2DModel)]
    assert (len(residual), len(attention)) == (22, 16)
    norms = [module.eps for block in residual for module in (block.norm1, block.norm2)]
    assert {*norms, network.unet.conv_norm_out.eps} == {1e-5}
    assert {block.norm.eps for block in attention} == {1e-6}
    heads = {layer.heads for block in attention for layer in block.modules() if hasattr(layer, "heads")}
    assert heads == {8}


def test_unet_has_the_published_sizes(unet_shapes: dict[str, Tensor]) -> None:
    config, network, state = layout.FORMAT.convert(unet_shapes, Hints())
    assert config == text_unet.Config()
    assert sum(weight.numel() for weight in network.parameters()) == 859_532_484
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("name", ["unet", "autoencoder"])
def test_published_weights_survive_the_way_to_our_names_and_back(
    unet_shapes: dict[str, Tensor], autoencoder_shapes: dict[str, Tensor], name: str
) -> None:
    weights = {"unet": unet_shapes, "autoencoder": autoencoder_shapes}[name]
    kind, rules = {
        "unet": (layout.FORMAT, layout.unet_rules),
        "autoencoder": (layout.PICTURES, layout.autoencoder_rules),
    }[name]
    # Each row of a tensor holds its key's number and its own.
    numbered = {
        key: (1000.0 * at + torch.arange(len(value)) / len(value))
        .view(-1, *[1] * (value.ndim - 1))
        .expand(value.shape)
        for at, (key, value) in enumerate(weights.items())
        if not key.startswith("decoder.0.") and value.numel() < 1e6
    }
    mixed = weights | numbered
    config, _, state = kind.convert(mixed, Hints())
    back = to_published(state, rules(**vars(config)))
    assert back.keys() == mixed.keys()
    for key, value in numbered.items():
        assert torch.equal(back[key], value), key


def test_a_unet_of_another_shape_is_mapped_as_well() -> None:
    config = text_unet.Config(
        model_channels=32,
        channel_mult=(1, 1, 2),
        attention_resolutions=(2,),
        num_res_blocks=1,
        groups=8,
        context_dim=6,
    )
    network = text_unet.build(config)
    rules = layout.unet_rules(**dataclasses.asdict(config))
    assert {key for rule in rules for key in rule.ours} == set(network.state_dict())
    published = to_published(network.state_dict(), rules)
    sizes = layout.unet_sizes(published, Hints())
    assert text_unet.Config(**sizes, groups=8) == config
    for key, value in from_published(published, layout.unet_rules(**sizes)).items():
        assert torch.equal(value, network.state_dict()[key]), key


@pytest.mark.parametrize(
    "key", ["unet.bottleneck.1.attention_2.k_proj.weight", "unet.decoders.2.1.conv.weight", "final.conv.bias"]
)
def test_incomplete_weights_are_refused_by_the_name_that_is_missing(
    unet_shapes: dict[str, Tensor], key: str
) -> None:
    some = {name: value for name, value in unet_shapes.items() if name != key}
    with pytest.raises(KeyError, match=key):
        layout.FORMAT.convert(some, Hints())


def test_weights_of_an_unknown_name_are_not_lost_in_silence(unet_shapes: dict[str, Tensor]) -> None:
    _, _, state = layout.FORMAT.convert(unet_shapes | {"more.bias": torch.zeros(1)}, Hints())
    assert "more.bias" in state
