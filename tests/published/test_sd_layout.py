import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import golden
import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from pellucid.networks import autoencoder, text_unet
from pellucid.published import _sd_layout as layout
from pellucid.published._rename import Rule, from_published, to_published

AUTOENCODER = autoencoder.Config(bands=3, width=128, quant_conv=True, norm_eps=layout.NORM_EPS)


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
    rules = layout.autoencoder_rules(**dataclasses.asdict(AUTOENCODER))
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
    assert autoencoder.Config(**layout.autoencoder_sizes(autoencoder_shapes)) == AUTOENCODER
    state = layout.autoencoder_state(autoencoder_shapes)
    with torch.device("meta"):
        network = autoencoder.build(AUTOENCODER)
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
    state = layout.autoencoder_state(autoencoder_shapes | real)
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
    assert text_unet.Config(**layout.unet_sizes(unet_shapes)) == text_unet.Config()
    with torch.device("meta"):
        network = text_unet.build(text_unet.Config())
    assert sum(weight.numel() for weight in network.parameters()) == 859_532_484
    state = layout.unet_state(unet_shapes)
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("name", ["unet", "autoencoder"])
def test_published_weights_survive_the_way_to_our_names_and_back(
    unet_shapes: dict[str, Tensor], autoencoder_shapes: dict[str, Tensor], name: str
) -> None:
    weights = {"unet": unet_shapes, "autoencoder": autoencoder_shapes}[name]
    sizes, rules, state = (getattr(layout, f"{name}_{kind}") for kind in ("sizes", "rules", "state"))
    # Each row of a tensor holds its key's number and its own.
    numbered = {
        key: (1000.0 * at + torch.arange(len(value)) / len(value))
        .view(-1, *[1] * (value.ndim - 1))
        .expand(value.shape)
        for at, (key, value) in enumerate(weights.items())
        if not key.startswith("decoder.0.") and value.numel() < 1e6
    }
    mixed = weights | numbered
    back = to_published(state(mixed), rules(**sizes(mixed)))
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
    sizes = layout.unet_sizes(published)
    assert text_unet.Config(**sizes, groups=8) == config
    for key, value in layout.unet_state(published).items():
        assert torch.equal(value, network.state_dict()[key]), key


@pytest.mark.parametrize(
    "key", ["unet.bottleneck.1.attention_2.k_proj.weight", "unet.decoders.2.1.conv.weight", "final.conv.bias"]
)
def test_incomplete_weights_are_refused_by_the_name_that_is_missing(
    unet_shapes: dict[str, Tensor], key: str
) -> None:
    some = {name: value for name, value in unet_shapes.items() if name != key}
    with pytest.raises(KeyError, match=key):
        layout.unet_state(some)


def test_weights_of_an_unknown_name_are_not_lost_in_silence(unet_shapes: dict[str, Tensor]) -> None:
    assert "input_proj.bias" in layout.unet_state(unet_shapes | {"input_proj.bias": torch.zeros(1)})
