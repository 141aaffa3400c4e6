"""Regression: the network maps the degraded image and the radar straight to the restored image."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.data.cloud_score import cloud_map
from pellucid.data.ranges import SENTINEL1, SENTINEL2, ValueRange
from pellucid.data.schema import Strict
from pellucid.errors import InputError
from pellucid.generative.noise import Noise
from pellucid.losses._reduce import gaussian_likelihood, mean_valid
from pellucid.losses.adversarial import discriminator_losses
from pellucid.methods.method import Estimate, Method

# What the network sees where there is no radar: backscatter lies in [0, 1], so it cannot be mistaken.
NO_RADAR = -1.0
# How many clear pixels of an image the training set's mean spectrum counts for: half a tile.
PRIOR_PIXELS = 128 * 256


class RegressionConfig(Strict):
    """The network maps the degraded image and the radar to the result."""

    name: Literal["regression"] = "regression"
    optical: tuple[str, ...] = SENTINEL2.bands
    """Bands of the images, in the order of the channels."""
    radar: tuple[str, ...] = SENTINEL1.bands
    """Polarisations, in the order of the channels."""
    residual: bool = False
    """Add the degraded image to the network's output."""
    radar_optional: bool = False
    """Accept scenes without radar; the network then sees -1 in place of backscatter."""
    likelihood: float = Field(0.0, ge=0)
    """Weight of the Gaussian likelihood of the error of each pixel and band, with networks that give its
    variance: it trains image and variance at once."""
    caution: float = Field(0.0, ge=0, lt=1)
    """Share by which a result is drawn towards the mean spectrum of its own clear ground, or of the training
    set where little of it is clear: less contrast, but a smaller squared error over places unlike those of
    the training. Without effect where the training set's mean is unknown."""


class Regression(Method):
    """The method of GLF-CR and of cross-attention cloud removal.

    Args:
        network: `net(degraded, sar) -> (B, C, H, W)`, with a `stride`.
        config: of the method.
        optical: bands and value range of the images.
        radar: polarisations and value range of the backscatter.
        losses: weight and function of each term; a function takes (restored, batch).
    """

    def __init__(
        self,
        network: nn.Module,
        config: RegressionConfig,
        *,
        optical: ValueRange,
        radar: ValueRange,
        losses: Mapping[str, tuple[float, Callable[[Tensor, Batch], Tensor]]],
    ) -> None:
        self.network, self.losses = network, losses
        self.stride: int = network.stride  # type: ignore[assignment]
        self.optical, self.radar = optical, radar
        self.radar_optional = config.radar_optional
        self.residual, self.caution, self.likelihood = config.residual, config.caution, config.likelihood
        self.gives_deviation = bool(getattr(network, "gives_deviation", False))
        if self.likelihood and not self.gives_deviation:
            raise InputError(
                "method.likelihood is for networks that give a variance, and this one does not; set it to 0, "
                "or network.name to uncrtaints"
            )

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:  # noqa: ARG002
        """Return each term times its weight, and their sum as `total`."""
        restored, log_variance = self._apply(batch)
        terms = {name: weight * term(restored, batch) for name, (weight, term) in self.losses.items()}
        if self.likelihood and log_variance is not None:
            squared = (restored.float() - batch.reference()).square()
            likelihood = gaussian_likelihood(squared, log_variance)
            terms["likelihood"] = self.likelihood * mean_valid(likelihood, batch.valid)
        terms |= discriminator_losses(self.losses, restored, batch)
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    @torch.no_grad()
    def restore(
        self,
        batch: Batch,
        noise: Noise | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Return the restored images, (B, C, H, W) float32 in [0, 1]; sides must divide by `stride`."""
        return self.estimate(batch, noise, progress).image

    @torch.no_grad()
    def estimate(
        self,
        batch: Batch,
        noise: Noise | None = None,  # noqa: ARG002
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
        *,
        with_deviation: bool = True,
    ) -> Estimate:
        """Return the restored images and, with networks that give it, the deviation of their error."""
        restored, log_variance = self._apply(batch)
        restored = restored.float()
        if self.caution and self.mean_spectrum is not None:
            restored = torch.lerp(restored, self._likely_spectrum(batch, self.mean_spectrum), self.caution)
        deviation = (log_variance / 2).exp() if log_variance is not None and with_deviation else None
        return Estimate(restored.clamp(0, 1), deviation)

    def _likely_spectrum(self, batch: Batch, mean_spectrum: tuple[float, ...]) -> Tensor:
        """Return the mean of each image's clear pixels and of `PRIOR_PIXELS` others, (B, C, 1, 1)."""
        prior = batch.degraded.new_tensor(mean_spectrum).view(1, -1, 1, 1)
        cloud = cloud_map(batch, self.optical.bands)
        if cloud is None:
            return prior
        clear = (1 - cloud) * batch.valid  # (B, 1, H, W)
        colours = (clear * batch.degraded).sum((2, 3), keepdim=True)
        return (PRIOR_PIXELS * prior + colours) / (PRIOR_PIXELS + clear.sum((2, 3), keepdim=True))

    def _apply(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the image and, of networks that give it, the logarithm of the variance."""
        output, log_variance = self.network(batch.degraded, self._radar(batch)), None
        if self.gives_deviation:
            output, log_variance = output.chunk(2, dim=1)
        return output + batch.degraded if self.residual else output, log_variance

    def _radar(self, batch: Batch) -> Tensor:
        """Return the backscatter, with `NO_RADAR` where there is none."""
        if batch.sar is not None and (self.radar_optional or batch.sar.isfinite().all()):
            return batch.sar.nan_to_num(nan=NO_RADAR)
        if self.radar_optional:
            size = (len(batch), len(self.radar.bands), *batch.degraded.shape[-2:])
            return batch.degraded.new_full(size, NO_RADAR)
        raise ValueError(f"{batch.key[0]} has pixels without radar, and this model needs it everywhere")
