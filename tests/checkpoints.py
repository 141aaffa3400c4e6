"""Checkpoints as training scripts leave them."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.networks import autoencoder, flux, text_encoder, text_unet
from pellucid.published import cr_rf, cr_rf_autoencoder, sar_colorization
from pellucid.published._rename import Rule

COLORIZER_AUTOENCODER = autoencoder.Config(
    bands=3, width=32, multipliers=(1, 2), num_blocks=1, norm_eps=sar_colorization.NORM_EPS, quant_conv=True
)
COLORIZER_TEXT = text_encoder.Config(width=64, num_layers=1, num_heads=1, length=12)
COLORIZER_UNET = text_unet.Config(
    model_channels=32, channel_mult=(1, 2), attention_resolutions=(1,), num_res_blocks=1, context_dim=64
)


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def to_published(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> dict[str, Tensor]:
    """Return our weights under the published keys, the inverse of `from_published`; others are left out.

    Raises:
        KeyError: if a tensor is missing.
    """
    published = {}
    for rule in rules:
        tensor = torch.cat([state[key] for key in rule.ours])
        tensor = tensor.roll(len(tensor) // 2, 0) if rule.is_swapped else tensor
        published[rule.published] = tensor[:, :, None, None] if rule.is_convolution else tensor
    return published


FLOW_AUTOENCODER = autoencoder.Config(bands=3, width=32, multipliers=(1, 2), num_blocks=1, latent_channels=2)
# Its heads have as many channels as those of the published one.
FLOW = flux.Config(width=128, num_heads=1, num_double=1, num_single=1)


def autoencoder_weights(**sizes: Any) -> dict[str, Tensor]:
    """The state dict of a published autoencoder under a rectified flow."""
    torch.manual_seed(0)
    config = dataclasses.replace(FLOW_AUTOENCODER, **sizes)
    state = autoencoder.build(config).state_dict()
    return to_published(state, cr_rf_autoencoder.rules(**dataclasses.asdict(config)))


def flow_weights() -> dict[str, Tensor]:
    """The state dict of a published rectified flow."""
    torch.manual_seed(0)
    state = flux.build(FLOW).state_dict()
    return to_published(state, cr_rf.rules(**dataclasses.asdict(FLOW)))


def colorizer_weights(**sizes: Any) -> dict[str, Tensor]:
    """The published colorizer's state dict, with the layer that nothing uses."""
    torch.manual_seed(0)
    unet = dataclasses.replace(COLORIZER_UNET, **sizes)
    parts = {
        "vae_": (
            autoencoder.build(COLORIZER_AUTOENCODER),
            sar_colorization.autoencoder_rules(**vars(COLORIZER_AUTOENCODER)),
        ),
        "clip.": (
            text_encoder.build(COLORIZER_TEXT),
            sar_colorization.text_encoder_rules(**vars(COLORIZER_TEXT)),
        ),
        "diffusion.": (text_unet.build(unet), sar_colorization.unet_rules(**vars(unet))),
    }
    weights = {
        before + name: value
        for before, (network, rules) in parts.items()
        for name, value in to_published(network.state_dict(), rules).items()
    }
    return {**weights, "input_proj.weight": torch.zeros(4, 8, 1, 1), "input_proj.bias": torch.zeros(4)}
