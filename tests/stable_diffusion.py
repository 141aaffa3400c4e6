"""A folder of Stable Diffusion, as diffusers and transformers save it, of a size for tests."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

UNET = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 16,
    "norm_num_groups": 4,
}
AUTOENCODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "scaling_factor": 0.2,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}
WORDS = ("<|startoftext|>", "<|endoftext|>", "s", "u", "m", "e", "r</w>")
MERGES = ("s u", "m m", "m e")


def write_model(folder: Path) -> Path:
    """Write a U-Net, an autoencoder and a text encoder of random weights, and CLIP's kind of tokenizer."""
    torch.manual_seed(0)
    words = (*WORDS, *(merge.replace(" ", "") for merge in MERGES))
    vocabulary = {word: number for number, word in enumerate(words)}
    sizes = CLIPTextConfig(**TEXT, vocab_size=len(vocabulary), bos_token_id=0, eos_token_id=1)
    UNet2DConditionModel(**UNET).save_pretrained(folder / "unet")
    AutoencoderKL(**AUTOENCODER).save_pretrained(folder / "vae")
    CLIPTextModel(sizes).save_pretrained(folder / "text_encoder")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "vocab.json").write_text(json.dumps(vocabulary))
    (tokenizer / "merges.txt").write_text("\n".join(("#version: 0.2", *MERGES)) + "\n")
    kind = {"tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>", "model_max_length": 16}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(kind))
    return folder
