"""Flux's transformer: the velocity to cloud-free latents, conditioned on cloudy and radar latents.

Esser et al. 2024, arXiv:2403.03206 (black-forest-labs/flux), with three changes of CR_RF: radar latents
replace the text, cloudy latents are further image tokens, and features of the cloud probability, by a small
CNN, replace the pooled text. With `join: channels` each token holds all conditions of its place, like FLUX.1
Fill: a third of the tokens, and attention need not search for the same place.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pad, pixel_shuffle, pixel_unshuffle

from pellucid.data.batch import Condition

# Frequencies of the time's encoding, and what the time is multiplied by before. black-forest-labs/flux
TIME_CHANNELS, TIME_FACTOR, MAX_PERIOD = 256, 1000.0, 1e4
# Sides in pixels that the cloud CNN makes one position of: the product of its strides.
CLOUD_PATCH = 32
# First coordinate of a token's position: which image it belongs to.
NOISY, CLOUDY = 0.0, 1.0


@dataclass(frozen=True)
class Config:
    """Size of the network; the defaults are those that CR_RF trains, but for 4 latent channels of 16.

    Attributes:
        latent_channels: Z, of the noised and of the cloudy latents.
        sar_channels: of the radar's latents; 0 for none.
        text_channels: D, of a text's tokens; 0 for none.
        cloud_channels: of what is known of the cloud map, in place of the pooled text of Flux (`vec_in_dim`).
        width: of a token inside.
        join: cloudy and radar latents are tokens of their own, or, with the cloud map, further channels of
            the noised ones.
        blend: return a mixture of cloudy and new latents, in estimated shares, so that clear places stay as
            they are; for methods whose `prediction` is the image.
        num_heads: of each attention; must divide `width`.
        num_double: blocks with weights of their own for image tokens and for context.
        num_single: blocks that treat both alike; they follow the double ones.
        axes: channels of a head that encode image, row and column; even, and in sum all channels of a head;
            None: an eighth for the image, the rest in halves.
        mlp_ratio: channels inside the perceptrons of the blocks, in multiples of `width`.
        theta: base of the rotary encoding of positions.
        qkv_bias: whether the attentions of the double blocks add biases to queries, keys and values.
        guidance: guidance scale that the network is conditioned on, in training too (guidance distillation);
            None: it has no such input.
        checkpointing: recompute features in the backward pass: slower training in less memory.
    """

    latent_channels: int = 4
    sar_channels: int = 4
    text_channels: int = 0
    cloud_channels: int = 256
    join: Literal["tokens", "channels"] = "tokens"
    blend: bool = False
    width: int = 768
    num_heads: int = 6
    num_double: int = 4
    num_single: int = 8
    axes: tuple[int, int, int] | None = None
    mlp_ratio: float = 4.0
    theta: int = 10_000
    qkv_bias: bool = True
    guidance: float | None = 2.5
    checkpointing: bool = False


class Tokens(NamedTuple):
    """Tokens and where they stand."""

    values: Tensor  # (B, N, D)
    places: Tensor  # (N, 3): image, row and column


class FluxNet(nn.Module):
    """The whole network; sides of the latents must divide by `stride`.

    `guidance` is the guidance scale of the next call; it may be set if the config has one.
    """

    stride = 2

    def __init__(self, config: Config) -> None:
        super().__init__()
        from diffusers import FluxTransformer2DModel
        from diffusers.models.embeddings import TimestepEmbedding

        _check(config)
        width, patch = config.width, 4 * config.latent_channels
        self.config = config
        self.guidance = config.guidance
        self.time_in = TimestepEmbedding(TIME_CHANNELS, width)
        self.guidance_in = None if config.guidance is None else TimestepEmbedding(TIME_CHANNELS, width)
        self.vec_cnn = nn.Sequential(
            *(nn.Conv2d(1, 64, 4, stride=4), nn.GELU()),
            *(nn.Conv2d(64, 128, 4, stride=4), nn.GELU()),
            *(nn.Conv2d(128, config.cloud_channels, 2, stride=2), nn.GELU()),
        )
        self.vec_proj = nn.Linear(config.cloud_channels, width)
        has_context = config.sar_channels and config.join == "tokens"
        self.sar_in = nn.Linear(4 * config.sar_channels, width) if has_context else None
        self.text_in = nn.Linear(config.text_channels, width) if config.text_channels else None
        transformer: Any = FluxTransformer2DModel(  # type: ignore[no-untyped-call]
            in_channels=patch if config.join == "tokens" else 2 * patch + 4 * config.sar_channels + 4,
            out_channels=patch + (4 if config.blend else 0),
            num_layers=config.num_double,
            num_single_layers=config.num_single,
            attention_head_dim=width // config.num_heads,
            num_attention_heads=config.num_heads,
            joint_attention_dim=1,
            pooled_projection_dim=1,
            axes_dims_rope=_axes(config),
        )
        _resize(transformer, config)
        # Both are computed here: the context has two origins, and mixed precision would round the time.
        transformer.context_embedder = nn.Identity()
        transformer.time_text_embed = _ReadyModulation()
        _norm_in_full_precision(transformer)
        nn.init.zeros_(transformer.proj_out.weight)  # an untrained network returns 0
        nn.init.zeros_(transformer.proj_out.bias)
        if config.checkpointing:
            transformer.enable_gradient_checkpointing()
        self.transformer = transformer

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        """Return (B, Z, h, w), usually the velocity at `x_t`; with `blend`, the image.

        Args:
            x_t: (B, Z, h, w), latents on their way from noise.
            c_noise: (B,), the time: 0 is data, 1 is noise.
            condition: `degraded`, (B, Z, h, w), and `sar`, (B, sar_channels, h, w), are latents; `cloud`,
                (B, 1, H, W) in [0, 1], is of any size; `tokens` are (B, L, D). Missing latents or cloud are
                0, as in `Condition.null`; missing tokens are left out. What the config has no channels for is
                ignored. `guidance`, (B,), overrides the network's own.
        """
        cloud = x_t.new_zeros(len(x_t), 1, 1, 1) if condition.cloud is None else condition.cloud
        image = self.image(x_t, condition, cloud)
        modulation = self.modulation(c_noise, cloud, condition.guidance)
        out = self.denoise(image, self.context(x_t, condition), modulation)
        out = unpack(out[:, : x_t.shape[-2] * x_t.shape[-1] // 4], like=x_t)  # (B, Z, h, w), or Z + 1
        if not self.config.blend:
            return out
        kept = x_t.new_zeros(()) if condition.degraded is None else condition.degraded
        return torch.lerp(kept, out[:, 1:].to(kept), out[:, :1].to(kept).sigmoid())

    def image(self, x_t: Tensor, condition: Condition, cloud: Tensor) -> Tokens:
        """Return the N noised tokens, with N cloudy ones or with further channels."""
        degraded = latents_or_zeros("degraded", condition.degraded, self.config.latent_channels, like=x_t)
        if self.config.join == "tokens":
            tokens = torch.cat([pack(x_t), pack(degraded)], dim=1)  # (B, 2 N, 4 Z)
            return Tokens(tokens, torch.cat([positions(x_t, NOISY), positions(x_t, CLOUDY)]))
        known = [x_t, degraded]
        if self.config.sar_channels:
            known.append(latents_or_zeros("sar", condition.sar, self.config.sar_channels, like=x_t))
        known.append(adaptive_avg_pool2d(cloud.to(x_t), (x_t.shape[-2], x_t.shape[-1])))
        return Tokens(pack(torch.cat(known, dim=1)), positions(x_t, NOISY))

    def context(self, x_t: Tensor, condition: Condition) -> Tokens:
        """Return the radar's tokens, if any, at the places of the noised ones, then those of the text."""
        values, places = [], [x_t.new_zeros(0, 3)]
        if self.sar_in is not None:
            sar = latents_or_zeros("sar", condition.sar, self.config.sar_channels, like=x_t)
            values.append(self.sar_in(pack(sar)))
            places.append(positions(x_t, NOISY))
        if self.text_in is not None and condition.tokens is not None:
            values.append(self.text_in(condition.tokens))
            places.append(x_t.new_zeros(condition.tokens.shape[1], 3))
        nothing = x_t.new_zeros(len(x_t), 0, self.config.width)
        return Tokens(torch.cat(values, dim=1) if values else nothing, torch.cat(places))

    def modulation(self, time: Tensor, cloud: Tensor, guidance: Tensor | None = None) -> Tensor:
        """Return the modulation of every block, (B, width), by time and guidance, (B,); None: the network's.

        The cloud map, (B, 1, H, W), is extended by its last row and column to sides that divide by 32.
        """
        dtype = self.vec_proj.weight.dtype
        height, width = cloud.shape[-2:]
        whole = pad(cloud.to(dtype), (0, -width % CLOUD_PATCH, 0, -height % CLOUD_PATCH), "replicate")
        clouds = self.vec_proj(self.vec_cnn(whole).mean((2, 3)))
        summed = self.time_in(encode_scalar(time).to(dtype)) + clouds
        if guidance is None and self.guidance is not None:
            guidance = torch.full_like(time, self.guidance)
        if (guidance is None) != (self.guidance_in is None):
            raise ValueError(f"guidance is {self.guidance}, the network's config has {self.config.guidance}")
        if self.guidance_in is None or guidance is None:
            return summed
        return summed + self.guidance_in(encode_scalar(guidance).to(dtype))

    def denoise(self, image: Tokens, context: Tokens, modulation: Tensor) -> Tensor:
        """Return the output for each image token, (B, N, 4 Z), for a context of (B, M, width) values."""
        (out,) = self.transformer(
            hidden_states=image.values,
            encoder_hidden_states=context.values,
            pooled_projections=modulation,
            timestep=modulation,  # unused
            img_ids=image.places,
            txt_ids=context.places,
            return_dict=False,
        )
        return out


class _ReadyModulation(nn.Module):
    """Replaces the layer of diffusers that computes the modulation from the time and a pooled text."""

    def forward(self, _: Tensor, modulation: Tensor) -> Tensor:
        return modulation


class _FullNorm(nn.RMSNorm):
    """Computes in the precision of its weights; torch does so too, but slowly and with a warning."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def _norm_in_full_precision(network: nn.Module) -> None:
    """Replace every RMS norm, whose weights must still be initial, by `_FullNorm`."""
    for parent in list(network.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.RMSNorm):
                setattr(parent, name, _FullNorm(norm.normalized_shape, eps=norm.eps))


def pack(image: Tensor) -> Tensor:
    """Return (B, Z, h, w) as tokens of 2 x 2 pixels, row by row, (B, h * w / 4, 4 Z)."""
    return pixel_unshuffle(image, 2).flatten(2).mT


def unpack(tokens: Tensor, *, like: Tensor) -> Tensor:
    """Return tokens, (B, h * w / 4, 4 Z), as an image of the sides of `like`, the inverse of `pack`."""
    height, width = like.shape[-2:]
    return pixel_shuffle(tokens.mT.unflatten(2, (height // 2, width // 2)), 2)


def positions(image: Tensor, kind: float) -> Tensor:
    """Return kind, row and column of each token of an image, (h * w / 4, 3), float32."""
    rows, columns = (
        torch.arange(side // 2, dtype=torch.float32, device=image.device) for side in image.shape[-2:]
    )
    return torch.cartesian_prod(rows.new_full((1,), kind), rows, columns)


def encode_scalar(value: Tensor) -> Tensor:
    """Return cosines, then sines, of (B,) at frequencies from 1000 down to 0.1, (B, 256), float32."""
    angles = TIME_FACTOR * value.float()[:, None] * frequencies(value.device)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def frequencies(device: torch.device) -> Tensor:
    """Return the frequencies at which a scalar is encoded, relative to the highest, (128,), float32."""
    half = TIME_CHANNELS // 2
    return (-math.log(MAX_PERIOD) * torch.arange(half, dtype=torch.float32, device=device) / half).exp()


def latents_or_zeros(name: str, latents: Tensor | None, channels: int, *, like: Tensor) -> Tensor:
    """Return the latents, or zeros in their place, which must have the batch and sides of `like`."""
    shape = (len(like), channels, *like.shape[-2:])
    if latents is None:
        return like.new_zeros(shape)
    if latents.shape != shape:
        raise ValueError(
            f"{name} latents have shape {tuple(latents.shape)}, this network needs {shape}; "
            "give it the autoencoders that it was trained with"
        )
    return latents


def _axes(config: Config) -> tuple[int, int, int]:
    """Return how many channels of a head encode image, row and column."""
    head = config.width // config.num_heads
    along = 2 * (7 * head // 32)
    return config.axes or (head - 2 * along, along, along)


def _resize(transformer: Any, config: Config) -> None:
    """Give diffusers' transformer the sizes that it has no options for, where they are not its own."""
    from diffusers.models.attention import FeedForward
    from diffusers.models.transformers.transformer_flux import FluxPosEmbed, FluxSingleTransformerBlock

    width, heads, ratio = config.width, config.num_heads, config.mlp_ratio
    if config.theta != Config.theta:
        transformer.pos_embed = FluxPosEmbed(theta=config.theta, axes_dim=[*_axes(config)])
    if ratio != Config.mlp_ratio:
        for block in transformer.transformer_blocks:
            for name in ("ff", "ff_context"):
                inner: Any = FeedForward(width, width, mult=ratio, activation_fn="gelu-approximate")  # type: ignore[arg-type]
                setattr(block, name, inner)
        for at in range(config.num_single):
            single: Any = FluxSingleTransformerBlock(width, heads, width // heads, mlp_ratio=ratio)
            transformer.single_transformer_blocks[at] = single
    if not config.qkv_bias:
        for block in transformer.transformer_blocks:
            for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"):
                getattr(block.attn, name).bias = None


def _check(config: Config) -> None:
    if config.mlp_ratio <= 0 or config.mlp_ratio * config.width % 1 or config.theta < 1:
        raise ValueError(
            f"mlp_ratio is {config.mlp_ratio:g} and theta {config.theta}; both must be above 0, and "
            f"mlp_ratio * width a whole number"
        )
    if config.cloud_channels < 1:
        raise ValueError(f"cloud_channels is {config.cloud_channels}, must be 1 or more")
    if config.width % config.num_heads:
        raise ValueError(f"num_heads is {config.num_heads}, must divide width = {config.width}")
    head = config.width // config.num_heads
    if head % 2 or head < 8:
        raise ValueError(f"a head has {head} channels (width / num_heads), must be even and at least 8")
    axes = _axes(config)
    if sum(axes) != head or any(size % 2 or size < 0 for size in axes):
        raise ValueError(f"axes is {axes}, must be even and add up to width / num_heads = {head}")


def build(config: Config) -> FluxNet:
    """Return the network, with random weights."""
    return FluxNet(config)
