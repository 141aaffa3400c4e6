"""The perceptual loss of Johnson et al. 2016, arXiv:1603.08155, Eq. 2, in the features of VGG19."""

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.resample import cells_inside
from pellucid.errors import InputError
from pellucid.losses._reduce import mean_valid, target_of
from pellucid.losses._shelf import Loss, Needs
from pellucid.networks._vgg import Vgg


class PerceptualLoss:
    """The mean squared difference of the images' features, with the signature of the other terms.

    Invalid pixels are black in both images; a feature counts if its cell of the image holds a valid pixel.

    Args:
        network: frozen; it follows the images to their device, and is no part of what is trained or saved.
    """

    def __init__(self, network: Vgg) -> None:
        self.network = network

    def __call__(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the loss, a mean over features and, where there are several, over taps."""
        self.network.to(restored.device)
        found = self.network(restored * batch.valid)
        with torch.no_grad():
            wanted = self.network(target_of(batch) * batch.valid)
        taps = [
            mean_valid((a.float() - b.float()).square(), cells_inside(batch.valid, a))
            for a, b in zip(found, wanted, strict=True)
        ]
        return torch.stack(taps).mean()


def build(needs: Needs) -> Loss:
    """Return the term with its network."""
    if needs.bands not in (1, 3):
        raise InputError(
            f"losses.perceptual sees grey or three bands, the method has {needs.bands}; set it to 0, or "
            "change the bands"
        )
    if not needs.perceptual_weights:
        raise InputError(
            "losses.perceptual needs the weights of VGG19, name a file or URL in `perceptual_weights`, "
            "or set the loss to 0 (--set losses.perceptual=0)"
        )
    return PerceptualLoss(needs.load_vgg(needs.perceptual_weights))
