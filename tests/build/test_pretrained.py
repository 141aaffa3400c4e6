"""Folders of diffusers and transformers, made as these libraries save them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from pellucid.build.pretrained import read_autoencoder, read_text_encoder, read_unet
from pellucid.data.batch import Condition
from pellucid.errors import InputError
from pellucid.networks import autoencoder, text_encoder, text_unet

UNET = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 6,
    "norm_num_groups": 4,
}
# How Stable Diffusion 2 differs.
SECOND = {"attention_head_dim": (2, 4), "use_linear_projection": True, "sample_size": 96}
TEXT = {
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 9,
    "bos_token_id": 28,
    "eos_token_id": 29,
}
IDS = torch.tensor([[28, 3, 4, 29, 29, 29, 29, 29, 29]])


def save(model: Any, folder: Path) -> Any:
    model.eval().save_pretrained(folder)
    return model


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("changes", [{}, SECOND])
@pytest.mark.parametrize("part", [".", "unet"])
@torch.inference_mode()
def test_unet_does_the_same_whatever_the_radar(tmp_path: Path, changes: dict[str, Any], part: str) -> None:
    torch.manual_seed(0)
    theirs = save(UNet2DConditionModel(**UNET | changes), tmp_path / part)
    config, weights = read_unet(tmp_path)
    assert (config.latent_channels, config.sar_channels) == (4, 0)
    wide = text_unet.build(text_unet.Config(**{**vars(config), "sar_channels": 3})).eval()
    wide.load_state_dict(text_unet.widen_input(weights, 7))
    x_t, step, tokens = torch.randn(2, 4, 8, 8), torch.tensor([500.0, 20.0]), torch.randn(2, 5, 6)
    expected = theirs(x_t, step, tokens).sample
    found = wide(x_t, step, Condition(sar=torch.randn(2, 3, 8, 8), tokens=tokens))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("old_names", [False, True])
@torch.inference_mode()
def test_autoencoder_does_the_same(tmp_path: Path, *, old_names: bool) -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 3}
    theirs = save(AutoencoderKL(**blocks, **sizes, scaling_factor=0.2), tmp_path / "vae")
    if old_names:
        rename(tmp_path / "vae", {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"})
    config, weights = read_autoencoder(tmp_path)
    network = autoencoder.build(config).eval()
    network.load_state_dict(weights)
    image, latents = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 4, 4)
    expected = theirs.encode(image).latent_dist.mean * 0.2
    torch.testing.assert_close(network.encode(image), expected, rtol=1e-4, atol=1e-5)
    expected = theirs.decode(latents / 0.2).sample
    torch.testing.assert_close(network.decode(latents), expected, rtol=1e-4, atol=1e-5)


def rename(folder: Path, names: dict[str, str]) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    for old, new in names.items():
        state = {key.replace(f".{old}.", f".{new}."): value for key, value in state.items()}
    save_file(state, path)


@pytest.mark.parametrize("prefix", ["", "text_model."])
@torch.inference_mode()
def test_text_encoder_does_the_same(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(0)
    theirs = save(CLIPTextModel(CLIPTextConfig(**TEXT, hidden_act="gelu")), tmp_path / "text_encoder")
    path = tmp_path / "text_encoder" / "model.safetensors"
    state = {prefix + key: value for key, value in load_file(path).items()}
    save_file({**state, f"{prefix}embeddings.position_ids": torch.arange(9)[None]}, path)
    config, weights = read_text_encoder(tmp_path)
    assert (config.end_id, config.activation) == (29, "gelu")
    network = text_encoder.build(config).eval()
    network.load_state_dict(weights)
    torch.testing.assert_close(network(IDS), theirs(IDS).last_hidden_state)


@torch.inference_mode()
def test_text_half_of_a_whole_clip_is_found(tmp_path: Path) -> None:
    vision = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes = CLIPConfig(text_config=TEXT, vision_config={**vision, "image_size": 32}, projection_dim=8)
    theirs = save(CLIPModel(sizes), tmp_path)
    config, weights = read_text_encoder(tmp_path)
    network = text_encoder.build(config).eval()
    network.load_state_dict(weights)
    torch.testing.assert_close(network(IDS), theirs.text_model(IDS).last_hidden_state)


def test_end_of_a_text_in_old_configs_is_the_last_id(tmp_path: Path) -> None:
    save(CLIPTextModel(CLIPTextConfig(**TEXT)), tmp_path)
    change_config(tmp_path, eos_token_id=2)
    assert read_text_encoder(tmp_path)[0].end_id == 29


def test_half_precision_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    save(UNet2DConditionModel(**UNET), tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    half = {key: value.half() for key, value in load_file(path).items()}
    save_file(half, path.with_suffix(".fp16.safetensors"))
    full = read_unet(tmp_path)[1]
    path.unlink()
    found = read_unet(tmp_path)[1]
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert torch.equal(found[text_unet.INPUT], full[text_unet.INPUT].half().float())


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json, name the folder of a downloaded model"):
        read_unet(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="cannot read"):
        read_unet(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(InputError, match="holds AutoencoderKL, needed is UNet2DConditionModel"):
        read_unet(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(InputError, match=r"holds no weights as \.safetensors"):
        read_unet(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_out_channels": [8, 12]}, r"none of .*\(its levels have \[8, 12\] channels"),
        ({"cross_attention_dim": None}, "none of Stable Diffusion 1 or 2"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type = fourier, only positional is known"),
        ({"cross_attention_dim": 5}, r"attn2\.to_k\.weight has shape \(8, 6\) instead of \(8, 5\)"),
        ({"layers_per_block": 2}, r"unet\.down_blocks\.0\.attentions\.1.* is missing"),
        ({"attention_head_dim": 3}, "num_heads is 3, must divide"),
        (
            {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2},
            "is no weight of that network; .* take one of Stable Diffusion 1 or 2",
        ),
    ],
)
def test_another_kind_of_unet_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    save(UNet2DConditionModel(**UNET), tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        read_unet(tmp_path)


def test_incomplete_text_encoder_is_refused(tmp_path: Path) -> None:
    save(CLIPTextModel(CLIPTextConfig(**TEXT)), tmp_path)
    change_config(tmp_path, num_hidden_layers=3)
    with pytest.raises(InputError, match=r"text\.encoder\.layers\.2.* is missing"):
        read_text_encoder(tmp_path)
    change_config(tmp_path, num_hidden_layers=2, num_attention_heads=5)
    with pytest.raises(InputError, match=r"no CLIP that is known \(num_heads is 5"):
        read_text_encoder(tmp_path)


def test_a_config_from_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InputError, match="it is no regular file; name a file"):
        read_text_encoder(tmp_path)
