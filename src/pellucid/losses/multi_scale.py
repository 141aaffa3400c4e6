"""The mean squared error at several scales, as published for CT slices."""

from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from pellucid.data.batch import Batch
from pellucid.losses._reduce import difference, mean_valid

# By how much the images are reduced beside their own size: scales 1/2 and 1/4.
FACTORS = (2, 4)
# Pixels per side that a bicubic value is made of.
_BICUBIC_TAPS = 4


def multi_scale(restored: Tensor, batch: Batch) -> Tensor:
    """Return the sum of the mean squared errors at the scales 1, 1/2 and 1/4; sides must be at least 4.

    The images are reduced bicubically without antialiasing, as published. A reduced pixel counts if all
    pixels that it is made of are valid.
    """
    error = difference(restored, batch)
    invalid = (~batch.valid).float()
    total = mean_valid(error.square(), batch.valid)
    for factor in FACTORS:
        reduced = interpolate(error, scale_factor=1 / factor, mode="bicubic", align_corners=False)
        outside = max_pool2d(invalid, _BICUBIC_TAPS, factor, (_BICUBIC_TAPS - factor) // 2)
        total = total + mean_valid(reduced.square(), outside == 0)
    return total
