"""The mean absolute error."""

from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.losses._reduce import mean_valid, target_of


def l1(restored: Tensor, batch: Batch) -> Tensor:
    """Return the mean absolute error over the valid pixels."""
    return mean_valid((restored - target_of(batch)).abs(), batch.valid)
