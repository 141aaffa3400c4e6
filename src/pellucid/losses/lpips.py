"""The learned perceptual distance of Zhang et al. 2018, arXiv:1801.03924, in the features of VGG16."""

from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.losses._reduce import target_of
from pellucid.losses._shelf import Loss, Needs
from pellucid.networks._vgg import Lpips


class LpipsLoss:
    """LPIPS, mean over the images that have valid pixels, with the signature of the other terms.

    Args:
        distance: frozen; it follows the images to their device, and is no part of what is trained or saved.
    """

    def __init__(self, distance: Lpips) -> None:
        self.distance = distance

    def __call__(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the loss; 0 if no pixel is valid."""
        is_seen = batch.valid.flatten(1).any(1)
        if not is_seen.any():
            return restored.sum() * 0
        self.distance.to(restored.device)
        images = restored.float(), target_of(batch).float(), batch.valid
        return self.distance(*(image[is_seen] for image in images)).mean()


def build(needs: Needs) -> Loss:
    """Return the term with its network."""
    if needs.bands not in (1, 3):
        raise InputError(
            f"losses.lpips sees grey or three bands, the method has {needs.bands}; set it to 0, or change "
            "the bands"
        )
    if not needs.lpips_weights or needs.load_lpips is None:
        raise InputError(
            "losses.lpips needs the weights of VGG16, name a file or URL in `lpips_weights`, or set the loss "
            "to 0 (--set losses.lpips=0)"
        )
    return LpipsLoss(needs.load_lpips(needs.lpips_weights))
