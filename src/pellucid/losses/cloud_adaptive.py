"""The cloud-adaptive regularised loss, Meraner et al. 2020, doi:10.1016/j.isprsjprs.2020.05.013."""

from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.losses._reduce import mean_valid, target_of
from pellucid.losses._shelf import Loss, Needs

# Weight of the regularisation, lambda of Meraner et al. 2020.
CARL_LAMBDA = 1.0


def cloud_adaptive(restored: Tensor, batch: Batch) -> Tensor:
    """Return how far the result is from the input where it is clear, and from the target elsewhere.

    L_CARL with the cloud-and-shadow mask in [0, 1] instead of 0 or 1:
    mean |cloud (restored - target) + (1 - cloud) (restored - degraded)| + lambda mean |restored - target|.
    """
    if batch.cloud is None:
        raise ValueError("the cloud_adaptive loss needs a cloud map, the batch has none")
    target = target_of(batch)
    wanted = batch.cloud * target + (1 - batch.cloud) * batch.degraded
    adaptive = (restored - wanted).abs()
    return mean_valid(adaptive + CARL_LAMBDA * (restored - target).abs(), batch.valid)


def build(needs: Needs) -> Loss:
    """Return the term."""
    if not needs.has_clouds:
        raise InputError("losses.cloud_adaptive is for restored clouds, set it to 0 for an autoencoder")
    return cloud_adaptive
