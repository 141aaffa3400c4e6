"""Images of any number of bands as latents of fewer pixels, and back: the autoencoder of latent diffusion.

Rombach et al. 2022, arXiv:2112.10752; layers and parameter names are those of diffusers' `AutoencoderKL`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

# The log-variance is clipped to this range, as in diffusers.
LOGVAR_LOW, LOGVAR_HIGH = -30.0, 20.0
# Initial value, an error of about 0.02 in [0, 1], which training soon reaches; published: 0, never trained.
ERROR_LOGVAR = -4.0

# What Stable Diffusion 1 multiplies latents by, to deviation 1. Rombach et al. 2022, arXiv:2112.10752
LATENT_SCALE = 0.18215


@dataclass(frozen=True)
class Config:
    """Size of the network; the defaults are published, but for the bands, which were 3.

    Attributes:
        bands: C, channels of the images.
        width: channels at full resolution.
        multipliers: channels per level, in multiples of `width`; each level after the first halves the sides.
        num_blocks: residual blocks per level on the way down; the way up has one more.
        latent_channels: Z.
        groups: of the group norms; must divide the channels of every level.
        norm_eps: added to the variances by which the group norms divide.
        attention: let all latent pixels attend to each other, at the innermost level.
        quant_conv: mix the channels of the latents on either side of them, as Stable Diffusion does.
        checkpointing: compute features again in the backward pass: slower training in less memory.
    """

    bands: int = 13
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_blocks: int = 2
    latent_channels: int = 4
    groups: int = 32
    norm_eps: float = 1e-6
    attention: bool = True
    quant_conv: bool = False
    checkpointing: bool = False


class Autoencoder(nn.Module):
    """The whole network; sides of images must divide by `stride`.

    Latents are shifted and scaled, channel by channel, to mean 0 and standard deviation 1 over the images
    that `measure` saw; before that they are as the encoder gives them. `error_logvar`, the logarithm of the
    decoder's expected error, is learned and used in training only.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        from diffusers import AutoencoderKL

        _check(config)
        self.config = config
        levels = len(config.multipliers)
        model: Any = AutoencoderKL(  # type: ignore[no-untyped-call]
            in_channels=config.bands,
            out_channels=config.bands,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(config.width * multiplier for multiplier in config.multipliers),
            layers_per_block=config.num_blocks,
            latent_channels=config.latent_channels,
            norm_num_groups=config.groups,
            use_quant_conv=config.quant_conv,
            use_post_quant_conv=config.quant_conv,
            mid_block_add_attention=config.attention,
        )
        for module in model.modules():
            if isinstance(module, nn.GroupNorm):
                module.eps = config.norm_eps
        if config.checkpointing:
            model.enable_gradient_checkpointing()
        self.encoder, self.decoder = model.encoder, model.decoder
        self.quant_conv = model.quant_conv or nn.Identity()
        self.post_quant_conv = model.post_quant_conv or nn.Identity()
        self.factor = self.stride = 2 ** (levels - 1)
        self.error_logvar = nn.Parameter(torch.tensor(ERROR_LOGVAR))
        self.register_buffer("scale", torch.ones(config.latent_channels))
        self.register_buffer("shift", torch.zeros(config.latent_channels))

    def forward(
        self, image: Tensor, noise: Tensor | None = None, *, side: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the restored image, like the image, and mean and log-variance of its code, as `posterior`.

        Standard normal noise, like the code, draws the code to decode; None: decode the mean. Before that it
        is averaged over squares of `side` latent pixels.
        """
        mean, logvar = self.posterior(image)
        code = mean if noise is None else mean + (0.5 * logvar).exp() * noise
        return self._decode(smooth(code, side)), mean, logvar

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of an image's code, (B, Z, h, w), neither shifted nor scaled."""
        mean, logvar = self.quant_conv(self.encoder(image)).chunk(2, dim=1)
        return mean, logvar.clamp(LOGVAR_LOW, LOGVAR_HIGH)

    def encode(self, image: Tensor) -> Tensor:
        """Return the latents, (B, Z, H / factor, W / factor), of (B, C, H, W)."""
        mean, _ = self.posterior(image)
        return (mean - self.shift[:, None, None]) * self.scale[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Return the image, (B, C, H, W), of (B, Z, H / factor, W / factor); not clipped."""
        return self._decode(latents / self.scale[:, None, None] + self.shift[:, None, None])

    def _decode(self, code: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(code))

    @torch.no_grad()
    def measure(self, batches: Iterable[Tensor]) -> None:
        """Set scale and shift so that the latents of these images have mean 0 and standard deviation 1.

        Raises:
            ValueError: if a channel of the latents is the same everywhere, or is not finite.
        """
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for image in batches:
            values = self.posterior(image)[0].transpose(0, 1).flatten(1).double().cpu()  # (Z, pixels)
            count += values.shape[1]
            total, squares = total + values.sum(1), squares + values.square().sum(1)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        if not count or not (deviation > 0).all() or not deviation.isfinite().all():
            raise ValueError(f"deviation of the latents is {deviation.tolist()}, must be above 0 and finite")
        self.shift.copy_(mean)
        self.scale.copy_(1 / deviation)


def _check(config: Config) -> None:
    if not config.multipliers or min(config.multipliers) < 1 or config.num_blocks < 1:
        raise ValueError(
            f"multipliers is {config.multipliers} and num_blocks {config.num_blocks}, "
            "an autoencoder has at least one level with one block"
        )
    for channels in (config.width * multiplier for multiplier in config.multipliers):
        if channels % config.groups:
            raise ValueError(f"groups is {config.groups}, must divide the {channels} channels of a level")


def smooth(image: Tensor, side: int) -> Tensor:
    """Return the means over squares of so many pixels, (B, C, H, W) at its size again, without steps."""
    if side == 1:
        return image
    return interpolate(avg_pool2d(image, side), image.shape[-2:], mode="bilinear")


def build(config: Config) -> Autoencoder:
    """Return the network, in channels-last layout, with random weights."""
    return Autoencoder(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
