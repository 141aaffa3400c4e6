"""Weights that training starts from, and which of the network's it changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from stable_diffusion import WORDS, write_model
from tiny import tiny_config
from torch import nn
from transformers import CLIPTextModel

from pellucid.build.method import build_method
from pellucid.build.run import save_run
from pellucid.build.starting import load_start, prepare_network
from pellucid.config import Config, TrainConfig
from pellucid.data.batch import Condition
from pellucid.data.ranges import PICTURE, SENTINEL1
from pellucid.data.schema import parse
from pellucid.errors import InputError
from pellucid.methods.autoencoding import Autoencoding, AutoencodingConfig
from pellucid.networks import autoencoder, cross_attention, text_encoder, text_unet

UNET = text_unet.Config(
    model_channels=8,
    channel_mult=(1, 2),
    attention_resolutions=(2,),
    num_res_blocks=1,
    num_heads=(2, 2),
    context_dim=16,
    groups=4,
    sar_channels=3,
)
AUTOENCODER = autoencoder.Config(
    bands=3, width=8, multipliers=(1, 2), num_blocks=1, groups=4, quant_conv=True
)
TEXT = text_encoder.Config(
    vocab_size=len(WORDS) + 3,
    width=16,
    num_layers=1,
    num_heads=2,
    length=16,
    end_id=1,
    bands=3,
    image_width=8,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("stable_diffusion"))


@torch.inference_mode()
def test_a_unet_starts_as_the_published_one_whatever_the_radar(model: Path) -> None:
    network = text_unet.build(UNET).eval()
    load_start(network, str(model))
    theirs: Any = UNet2DConditionModel.from_pretrained(model / "unet").eval()
    x_t, step, tokens = torch.randn(1, 4, 8, 8), torch.tensor([300.0]), torch.randn(1, 5, 16)
    found = network(x_t, step, Condition(sar=torch.randn(1, 3, 8, 8), tokens=tokens))
    torch.testing.assert_close(found, theirs(x_t, step, tokens).sample, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_an_autoencoder_starts_as_the_published_one(model: Path) -> None:
    network = autoencoder.build(AUTOENCODER).eval()
    load_start(network, str(model))
    theirs: Any = AutoencoderKL.from_pretrained(model / "vae").eval()
    image = torch.randn(1, 3, 8, 8)
    expected = theirs.encode(image).latent_dist.mean * 0.2
    torch.testing.assert_close(network.encode(image), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_text_encoder_starts_as_the_published_one_and_its_images_at_random(model: Path) -> None:
    network = text_encoder.build(TEXT).eval()
    assert network.image is not None
    before = {name: value.clone() for name, value in network.image.state_dict().items()}
    load_start(network, str(model / "text_encoder"))
    theirs: Any = CLIPTextModel.from_pretrained(model / "text_encoder").eval()
    ids = torch.tensor([[0, 3, 4, *[1] * 13]])
    torch.testing.assert_close(network(ids), theirs(ids).last_hidden_state)
    assert all(torch.equal(value, before[name]) for name, value in network.image.state_dict().items())


def test_weights_of_another_size_are_refused(model: Path) -> None:
    wide = text_unet.Config(**{**vars(UNET), "model_channels": 16})
    with pytest.raises(InputError, match=r"network\.model_channels is 16, but the weights in .* have 8; set"):
        load_start(text_unet.build(wide), str(model))
    deep = text_unet.Config(**{**vars(UNET), "attention_resolutions": (1, 2)})
    with pytest.raises(InputError, match=r"network\.attention_resolutions is \(1, 2\), but .* have \(2,\)"):
        load_start(text_unet.build(deep), str(model))
    other = text_encoder.Config(**{**vars(TEXT), "end_id": 3})
    with pytest.raises(InputError, match=r"network\.end_id is 3, but the weights in .* have 1; set it so"):
        load_start(text_encoder.build(other), str(model))


def test_networks_that_nobody_else_publishes_so_are_refused(model: Path) -> None:
    network = cross_attention.build(cross_attention.Config(optical_bands=3, radar_bands=1, width=8))
    with pytest.raises(InputError, match="which only the networks text_unet, autoencoder and text_encoder"):
        load_start(network, str(model))


def test_a_name_that_means_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="'runs/none' is neither a run folder"):
        load_start(text_unet.build(UNET), "runs/none")


def test_a_run_is_started_from_too(tmp_path: Path) -> None:
    method = Autoencoding(
        autoencoder.build(AUTOENCODER),
        AutoencodingConfig(),
        optical=PICTURE,
        radar=SENTINEL1.select(()),
        losses={},
    )
    save_run(tmp_path / "run", config=tiny_config(), method=method)
    network = autoencoder.build(AUTOENCODER)
    load_start(network, str(tmp_path / "run"))
    assert all(
        torch.equal(value, method.network.state_dict()[name]) for name, value in network.state_dict().items()
    )
    with pytest.raises(InputError, match="do not fit the network of the config: "):
        load_start(text_unet.build(UNET), str(tmp_path / "run"))


def test_everything_frozen_leaves_nothing_to_train() -> None:
    with pytest.raises(InputError, match=r"train\.freeze names every weight of the network"):
        prepare_network(nn.Linear(2, 2), TrainConfig(freeze=("*",)))
    network = nn.Linear(2, 2)
    prepare_network(network, TrainConfig(freeze=("bias",)))
    assert network.weight.requires_grad
    assert not network.bias.requires_grad


def test_cross_attention_that_is_added_to_a_base_model_changes_nothing_at_first(tmp_path: Path) -> None:
    sizes = {"name": "sr3_unet", "width": 8, "multipliers": [1, 2], "num_blocks": 1, "attention": [128]}
    sizes |= {"groups": 4, "num_heads": 2, "dropout": 0.0}
    values = {"method": {"name": "generative", "scale": 4}, "data": {"train": []}}
    configs = [
        parse(Config, {**values, "network": {**sizes, "use_cross_attention": has}}, where="test")
        for has in (False, True)
    ]
    base, extended = map(build_method, configs)
    save_run(tmp_path / "base", config=configs[0], method=base)
    load_start(extended.network, str(tmp_path / "base"))
    x_t, level = torch.randn(2, 1, 16, 16), torch.tensor([0.3, 0.9])
    condition = Condition(degraded=torch.randn(2, 1, 16, 16))
    found, expected = (each.network.eval()(x_t, level, condition) for each in (extended, base))
    torch.testing.assert_close(found, expected)
    found.square().mean().backward()
    outputs = [
        weight for name, weight in extended.network.named_parameters() if ".cross_attn.out.weight" in name
    ]
    assert outputs
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in outputs)
