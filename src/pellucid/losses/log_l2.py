"""The logarithm of the mean squared error, as in Chen et al. 2022, arXiv:2204.04676.

With `l2`, the images that cannot be restored well dominate the gradient; here all images count alike.
"""

import math

from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.losses._reduce import difference

# Mean squared error of an image, 40 dB, below which the gradient vanishes.
FLOOR = 1e-4


def log_l2(restored: Tensor, batch: Batch) -> Tensor:
    """Return by how many bel (10 dB) the signal-to-noise ratio falls short of 40 dB, mean over the images.

    log10(1 + mean squared error / 0.0001).
    """
    errors = difference(restored, batch).square().sum((1, 2, 3))
    num_values = batch.valid.sum((1, 2, 3)) * restored.shape[1]
    return (errors / num_values.clamp(min=1) / FLOOR).log1p().mean() / math.log(10)
