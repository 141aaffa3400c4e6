"""The mean squared error."""

from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.losses._reduce import mean_valid, target_of


def l2(restored: Tensor, batch: Batch) -> Tensor:
    """Return the mean squared error over the valid pixels."""
    return mean_valid((restored - target_of(batch)).square(), batch.valid)
