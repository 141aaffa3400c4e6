"""Autoencoding: the network turns an image into latents of fewer pixels, and these into the image again.

The first stage of latent diffusion (Rombach et al. 2022, arXiv:2112.10752): a variational autoencoder
(Kingma and Welling 2014, arXiv:1312.6114) with a small weight of the KL divergence.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import max_pool2d

from pellucid.data.batch import Batch
from pellucid.data.ranges import ValueRange
from pellucid.data.schema import Strict
from pellucid.errors import InputError
from pellucid.generative.noise import Noise
from pellucid.losses._reduce import target_of
from pellucid.losses.adversarial import discriminator_losses
from pellucid.methods.method import Method
from pellucid.networks.autoencoder import Autoencoder, smooth

# Pixels of the published training images, 256 x 256, of which the published term is the sum.
PUBLISHED_PIXELS = 256 * 256


class AutoencodingConfig(Strict):
    """The network turns images, optical or radar, into latents of fewer pixels and back."""

    name: Literal["autoencoding"] = "autoencoding"
    optical: tuple[str, ...] = ()
    """Bands of the images, in the order of the channels; none where they are radar."""
    radar: tuple[str, ...] = ()
    """Polarisations of the images, in the order of the channels; none where they are optical."""
    kl_weight: float = Field(1e-5, ge=0)
    """Weight of the KL divergence of the code from a standard normal: per pixel, times 256 * 256."""
    sample: bool = True
    """Decode, in training, a code drawn from its distribution instead of the mean."""
    smooth: float = Field(0.0, ge=0, le=1)
    """Share of the training batches in which codes are averaged over squares, from 2 latent pixels to the
    whole image, and decoded to images that were averaged alike. Then the mean of codes, which a network
    returns where it is uncertain, is decoded to the mean of images instead of something dark; after EQ-VAE
    (arXiv:2502.09509)."""


class Autoencoding(Method):
    """The method of the autoencoders under a latent model; an image is its own target.

    Training minimises error / exp(logvar) + logvar + kl_weight KL, with a logvar that is learned. The KL
    divergence of the code from a standard normal is published as a sum over the latents of an image of
    256 x 256 pixels. Here it is a mean per pixel times 256 * 256: the same at that size, and at any other
    in the same proportion to the error, which is a mean.

    Args:
        network: of as many bands as the images.
        config: of the method.
        optical: bands and value range of the images, or no bands.
        radar: polarisations and value range of the images, where they are radar; otherwise no bands.
        losses: weight and function of each term of the error; a function takes (restored, batch).

    Raises:
        ValueError: unless either `optical` or `radar` has bands.
    """

    task = "reconstruct"
    network: Autoencoder

    def __init__(
        self,
        network: Autoencoder,
        config: AutoencodingConfig,
        *,
        optical: ValueRange,
        radar: ValueRange,
        losses: Mapping[str, tuple[float, Callable[[Tensor, Batch], Tensor]]],
    ) -> None:
        if bool(optical.bands) == bool(radar.bands):
            found = "both" if optical.bands else "neither"
            raise ValueError(
                f"an autoencoder is of optical bands or of radar, found {found}; name one of them"
            )
        self.network, self.config, self.losses = network, config, losses
        self.stride = network.stride
        self.optical, self.radar = optical, radar

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the terms that are minimised, and their sum as `total`.

        The terms of the error are divided by exp(logvar). Without a generator the mean code is decoded.
        """
        target = target_of(batch).where(batch.valid, 0)
        image = to_model(target, batch.valid)
        noise = self._noise(image, generator) if self.config.sample and generator is not None else None
        side = self._side(batch, generator)
        decoded, mean, logvar = self.network(image, noise, side=side)
        batch = replace(batch, target=smooth(target, side * self.network.factor) if side > 1 else target)
        restored = from_model(decoded.float())
        precision = (-self.network.error_logvar).exp()
        terms = {
            name: weight * precision * term(restored, batch) for name, (weight, term) in self.losses.items()
        }
        terms |= discriminator_losses(self.losses, restored, batch)
        terms["logvar"] = self.network.error_logvar
        terms["kl"] = self.config.kl_weight * PUBLISHED_PIXELS * divergence(mean, logvar, batch.valid)
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    @torch.no_grad()
    def restore(
        self,
        batch: Batch,
        noise: Noise | None = None,  # noqa: ARG002
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return the images encoded and decoded again, (B, C, H, W) float32 in [0, 1]."""
        return self.decode(self.encode(batch.degraded, batch.valid)).clamp(0, 1)

    def encode(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the latents, (B, Z, H / factor, W / factor), of images; see `to_model`."""
        return self.network.encode(to_model(image, valid)).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images, (B, C, H, W) float32, of latents; they may leave [0, 1] a little."""
        return from_model(self.network.decode(latents).float())

    @torch.no_grad()
    def measure(self, samples: Iterable[Batch]) -> None:
        """Set the network's scale and shift by the latents of these images, whole ones if there are any."""
        batches = list(samples)
        batches = [batch for batch in batches if batch.valid.all()] or batches
        device = self.network.scale.device
        try:
            self.network.measure(to_model(batch.degraded, batch.valid).to(device) for batch in batches)
        except ValueError as error:
            raise InputError(
                f"the autoencoder has learned nothing: {error}; lower method.kl_weight"
            ) from error

    def _side(self, batch: Batch, generator: torch.Generator | None) -> int:
        """Return over squares of how many latent pixels the code is averaged, 1 for not at all."""
        if not (self.config.smooth and self.network.training and generator and batch.valid.all()):
            return 1
        whole = math.gcd(*batch.valid.shape[-2:]) // self.network.factor
        sides = [side for side in range(2, whole + 1) if whole % side == 0]
        share, choice = torch.rand(2, device=generator.device, generator=generator).tolist()
        return sides[int(choice * len(sides))] if sides and share < self.config.smooth else 1

    def _noise(self, image: Tensor, generator: torch.Generator) -> Tensor:
        height, width = (side // self.network.factor for side in image.shape[-2:])
        shape = (len(image), self.network.scale.numel(), height, width)
        return torch.randn(shape, device=image.device, dtype=image.dtype, generator=generator)


def to_model(image: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return images as an autoencoder sees them, in [-1, 1], and 0, the middle, where there is no data.

    No data is where (B, C, H, W) `image` is NaN or (B, 1, H, W) `valid` is false.
    """
    scaled = (image * 2 - 1).nan_to_num(nan=0.0)
    return scaled if valid is None else scaled.where(valid, 0)


def from_model(image: Tensor) -> Tensor:
    """Return images in [0, 1] of those in [-1, 1], without clipping."""
    return (image + 1) / 2


def divergence(mean: Tensor, logvar: Tensor, valid: Tensor) -> Tensor:
    """Return the KL divergence of codes from a standard normal, in nats per pixel; 0 if none is valid.

    Kingma and Welling 2014, appendix B: for each latent, (mean^2 + variance - 1 - log variance) / 2.

    Args:
        mean: (B, Z, h, w).
        logvar: (B, Z, h, w), natural logarithm of the variance.
        valid: (B, 1, H, W); a latent pixel counts if its square of the image holds a valid pixel.
    """
    mean, logvar = mean.float(), logvar.float()
    factor = valid.shape[-1] // mean.shape[-1]
    inside = max_pool2d(valid.float(), factor)
    nats = (mean.square() + logvar.exp() - 1 - logvar) / 2
    return (nats * inside).sum() / (inside.sum() * factor**2).clamp(min=1)
