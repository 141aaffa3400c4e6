"""Stable Diffusion's U-Net: it estimates the noise in latents, conditioned on radar latents and a text.

Rombach et al. 2022, arXiv:2112.10752, by diffusers' layers; radar latents are further channels of its input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.data.batch import Condition
from pellucid.networks.flux import latents_or_zeros

# The weight of the first layer, (width, channels, 3, 3).
INPUT = "unet.conv_in.weight"


@dataclass(frozen=True)
class Config:
    """Size of the network; the defaults are those of Stable Diffusion 1.5, with radar.

    Attributes:
        latent_channels: Z, of the noised latents.
        sar_channels: of the radar's latents; 0 for none.
        model_channels: at full resolution.
        channel_mult: of channels per level, in `model_channels`; each level but the first halves the sides.
        attention_resolutions: levels that attend to themselves and to the text, by the factor by which their
            sides are reduced: 1, 2, 4, ...; the innermost block always attends.
        num_res_blocks: residual blocks per level on the way down; the way up has one more.
        num_heads: of each attention, at all levels or level by level; must divide the channels there.
        context_dim: D, of a text's tokens.
        groups: of the group norms; must divide the channels of every level.
        linear_projection: project the channels of the attentions by matrices instead of 1 x 1 convolutions,
            as in Stable Diffusion 2.
        dropout: share of the features that each residual block drops in training.
        checkpointing: recompute features in the backward pass: slower training in less memory.
    """

    latent_channels: int = 4
    sar_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    attention_resolutions: tuple[int, ...] = (4, 2, 1)
    num_res_blocks: int = 2
    num_heads: int | tuple[int, ...] = 8
    context_dim: int = 768
    groups: int = 32
    linear_projection: bool = False
    dropout: float = 0.0
    checkpointing: bool = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.model_channels * multiplier for multiplier in self.channel_mult)

    @property
    def attends(self) -> tuple[bool, ...]:
        """Whether each level attends to itself and to the text."""
        return tuple(2**level in self.attention_resolutions for level in range(len(self.channel_mult)))

    @property
    def heads(self) -> tuple[int, ...]:
        """Heads of each level's attentions."""
        if isinstance(self.num_heads, int):
            return (self.num_heads,) * len(self.channel_mult)
        return self.num_heads


class TextUNet(nn.Module):
    """The whole network; sides of the latents must divide by `stride`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        _check(config)
        self.config = config
        self.stride = 2 ** (len(config.channel_mult) - 1)
        down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attends]
        up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(config.attends)]
        unet: Any = UNet2DConditionModel(  # type: ignore[no-untyped-call]
            in_channels=config.sar_channels + config.latent_channels,
            out_channels=config.latent_channels,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            block_out_channels=config.channels,
            layers_per_block=config.num_res_blocks,
            attention_head_dim=config.heads,  # diffusers' name for the number of heads
            cross_attention_dim=config.context_dim,
            norm_num_groups=config.groups,
            use_linear_projection=config.linear_projection,
            dropout=config.dropout,
        )
        if config.checkpointing:
            unet.enable_gradient_checkpointing()
        self.unet = unet

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        """Return (B, Z, h, w), usually the noise in `x_t`.

        Args:
            x_t: (B, Z, h, w), latents on their way from noise.
            c_noise: (B,), the step of the noise's schedule: 0 is the first, T - 1 is noise.
            condition: `sar`, (B, sar_channels, h, w), are latents; `tokens` are (B, L, D). What is missing
                is 0, as in `Condition.null`.
        """
        radar = condition.sar if self.config.sar_channels else None
        sar = latents_or_zeros("sar", radar, self.config.sar_channels, like=x_t)
        joined = torch.cat([sar, x_t], dim=1)  # (B, sar_channels + Z, h, w)
        tokens, width = condition.tokens, self.config.context_dim
        if tokens is None:
            tokens = x_t.new_zeros(len(x_t), 1, width)  # one zero token is like many
        elif tokens.shape[::2] != (len(x_t), width):
            raise ValueError(
                f"tokens have shape {tuple(tokens.shape)}, this network needs ({len(x_t)}, any, {width}); "
                "give it the text encoder that it was trained with"
            )
        (out,) = self.unet(joined, c_noise, encoder_hidden_states=tokens, return_dict=False)
        return out


def widen_input(state: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Return the weights of a `TextUNet` for so many input channels, `sar_channels + latent_channels`.

    Those added come first, where the radar's latents are, and start with zero weights, so the output is
    unchanged; other weights are shared. There cannot be fewer than before.
    """
    narrow = state[INPUT]
    missing = channels - narrow.shape[1]
    if missing < 0:
        raise ValueError(f"the weights take {narrow.shape[1]} channels, cannot be widened to {channels}")
    zeros = narrow.new_zeros(len(narrow), missing, *narrow.shape[2:])
    return {**state, INPUT: torch.cat([zeros, narrow], dim=1)}


def _check(config: Config) -> None:
    levels = len(config.channel_mult)
    if not levels or min(config.channel_mult) < 1 or config.num_res_blocks < 1:
        raise ValueError(
            f"channel_mult is {config.channel_mult} and num_res_blocks {config.num_res_blocks}, "
            "a U-Net has at least one level with one block"
        )
    if len(config.heads) != levels:
        raise ValueError(
            f"num_heads is {config.num_heads}, must be one number or one for each of {levels} levels"
        )
    factors = [2**level for level in range(levels)]
    for factor in config.attention_resolutions:
        if factor not in factors:
            raise ValueError(
                f"attention_resolutions has {factor}, must be factors of the {levels} levels: "
                f"{', '.join(map(str, factors))}"
            )
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout is {config.dropout}, must be a share from 0 to below 1")
    for channels, heads, attends in zip(config.channels, config.heads, config.attends, strict=True):
        if channels % config.groups:
            raise ValueError(f"groups is {config.groups}, must divide the {channels} channels of a level")
        if attends and channels % heads:
            raise ValueError(f"num_heads is {heads}, must divide the {channels} channels of its level")
    if channels % heads:
        raise ValueError(f"num_heads is {heads}, must divide the {channels} in the middle")


def build(config: Config) -> TextUNet:
    """Return the network, in channels-last layout, with random weights."""
    return TextUNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
