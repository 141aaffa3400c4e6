"""The structural similarity, Wang et al. 2004, doi:10.1109/TIP.2003.819861."""

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.losses._reduce import mean_valid, target_of
from pellucid.metrics import ssim_map


def ssim(restored: Tensor, batch: Batch) -> Tensor:
    """Return 1 - SSIM, 0 for identical images, over the valid pixels.

    Windows are 11 x 11 Gaussians of sigma 1.5; the data range is 1. Invalid pixels are zeroed in both images,
    so that windows beside them see no difference.
    """
    with torch.autocast(restored.device.type, enabled=False):
        first, second = ((image * batch.valid).float() for image in (restored, target_of(batch)))
        return mean_valid(1 - ssim_map(first, second), batch.valid)
