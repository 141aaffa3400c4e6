"""The adversarial loss of Isola et al. 2017, arXiv:1611.07004, and the training of its discriminator."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from pellucid.data.batch import Batch
from pellucid.data.resample import cells_inside
from pellucid.losses._reduce import mean_valid, target_of
from pellucid.losses._shelf import Loss, Needs
from pellucid.networks import _patch_discriminator


class AdversarialLoss:
    """How well a discriminator recognises restored images, with the signature of the other terms.

    The logarithmic loss, for both networks; 0.69 where the discriminator is undecided. Invalid pixels are
    black in both images; a patch counts if its cell of the image holds a valid pixel.

    Args:
        discriminator: (B, C, H, W) in [0, 1] -> logits, (B, 1, h, w), that each patch is real.
    """

    def __init__(self, discriminator: nn.Module) -> None:
        self.discriminator = discriminator

    def __call__(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of the patches of `restored`, without gradients for the discriminator."""
        fixed = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        logits = functional_call(self.discriminator, fixed, (restored * batch.valid,)).float()
        return mean_valid(softplus(-logits), cells_inside(batch.valid, logits))

    def discriminator_loss(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the discriminator's own loss, without gradients for the network that made `restored`."""
        made, real = (
            self.discriminator(image * batch.valid).float() for image in (restored.detach(), target_of(batch))
        )
        losses = softplus(made) + softplus(-real)
        return mean_valid(losses, cells_inside(batch.valid, losses)) / 2


def build(needs: Needs) -> Loss:
    """Return the term with a discriminator of random weights."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(needs.seed)  # layers draw their weights from the global state
        return AdversarialLoss(_patch_discriminator.build(_patch_discriminator.Config(needs.bands)))


def discriminators(losses: Mapping[str, tuple[float, Any]]) -> nn.ModuleDict:
    """Return the networks that are trained beside the method's own, by the names of their terms."""
    terms = {name: term for name, (_, term) in losses.items() if isinstance(term, AdversarialLoss)}
    return nn.ModuleDict({name: term.discriminator for name, term in terms.items()})


def discriminator_losses(
    losses: Mapping[str, tuple[float, Any]], restored: Tensor, batch: Batch
) -> dict[str, Tensor]:
    """Return the weighted losses of the discriminators by name; none in validation."""
    if not torch.is_grad_enabled():
        return {}
    return {
        f"{name}_discriminator": weight * term.discriminator_loss(restored, batch)
        for name, (weight, term) in losses.items()
        if isinstance(term, AdversarialLoss)
    }
