"""The mean absolute error in which clouds weigh more, as CR_RF has it: (1 + 2 cloud) over its mean."""

from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.losses._reduce import mean_valid, target_of

# How much more a pixel counts that is all cloud. rf_training.py of CR_RF
CLOUD_WEIGHT = 2.0


def cloudy_l1(restored: Tensor, batch: Batch) -> Tensor:
    """Return the mean absolute error over the valid pixels, weighted by cloud; 1 is the mean weight."""
    errors = (restored - target_of(batch)).abs()
    if batch.cloud is None:
        return mean_valid(errors, batch.valid)
    weights = 1 + CLOUD_WEIGHT * batch.cloud.nan_to_num()
    return mean_valid(errors * weights, batch.valid) / mean_valid(weights, batch.valid).clamp(min=1)
