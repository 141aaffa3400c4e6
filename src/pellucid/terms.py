"""Config -> the terms of the loss, each with its weight."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from pellucid.config import AutoencodingConfig, Config, GenerativeConfig
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.losses import LOSSES, AdversarialLoss, PerceptualLoss
from pellucid.methods.generative import DENOISE
from pellucid.networks import _patch_discriminator
from pellucid.perceptual import load_vgg19

# A term of the loss: (estimated image, batch) -> scalar.
Loss: TypeAlias = Callable[[Tensor, Batch], Tensor]
PERCEPTUAL, ADVERSARIAL, CLOUD_ADAPTIVE = "perceptual", "adversarial", "cloud_adaptive"


def build_losses(config: Config) -> dict[str, tuple[float, Loss | None]]:
    """Return weight and function of each loss term whose weight is not 0; `denoise` has no function.

    Raises:
        InputError: if a term does not fit the method, or the perceptual loss has no weights.
    """
    losses: dict[str, tuple[float, Loss | None]] = {}
    for name, weight in config.losses.items():
        if not weight:
            continue
        if name == DENOISE and not isinstance(config.method, GenerativeConfig):
            raise InputError(f"losses.{name} is for generative methods, set it to 0 for {config.method.name}")
        if name == CLOUD_ADAPTIVE and isinstance(config.method, AutoencodingConfig):
            raise InputError(f"losses.{name} is for restored clouds, set it to 0 for an autoencoder")
        losses[name] = (weight, None if name == DENOISE else _loss(name, config))
    return losses


def _loss(name: str, config: Config) -> Loss:
    bands = config.method.optical or config.method.radar
    if name == PERCEPTUAL:
        return _perceptual(len(bands), config.perceptual_weights)
    return _adversarial(len(bands), config.train.seed) if name == ADVERSARIAL else LOSSES[name]


def _perceptual(bands: int, weights: str) -> PerceptualLoss:
    if bands not in (1, 3):
        raise InputError(
            f"losses.perceptual sees grey or three bands, the method has {bands}; set it to 0, or "
            "change the bands"
        )
    if not weights:
        raise InputError(
            "losses.perceptual needs the weights of VGG19, name a file or URL in `perceptual_weights`, "
            "or set the loss to 0 (--set losses.perceptual=0)"
        )
    return PerceptualLoss(load_vgg19(weights))


def _adversarial(bands: int, seed: int) -> AdversarialLoss:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)  # layers draw their weights from the global state
        return AdversarialLoss(_patch_discriminator.build(_patch_discriminator.Config(bands)))
