"""Loss terms in image space, each a mean per valid pixel, so that their weights mean what they say."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from pellucid.data.batch import Batch

# Weight of the regularisation, lambda of Meraner et al. 2020, doi:10.1016/j.isprsjprs.2020.05.013
CARL_LAMBDA = 1.0


def l1(restored: Tensor, batch: Batch) -> Tensor:
    """Return the mean absolute error over the valid pixels."""
    return _mean((restored - _target(batch)).abs(), batch.valid)


def l2(restored: Tensor, batch: Batch) -> Tensor:
    """Return the mean squared error over the valid pixels."""
    return _mean((restored - _target(batch)).square(), batch.valid)


def ssim(restored: Tensor, batch: Batch) -> Tensor:
    """Return 1 - SSIM, 0 for identical images, over the valid pixels.

    Windows are 11 x 11 Gaussians of sigma 1.5 (Wang et al. 2004, doi:10.1109/TIP.2003.819861); the data
    range is 1. Invalid pixels are zeroed in both images, so that windows beside them see no difference.
    """
    with torch.autocast(restored.device.type, enabled=False):
        first, second = ((image * batch.valid).float() for image in (restored, _target(batch)))
        _, similarity = structural_similarity_index_measure(
            first, second, data_range=1.0, reduction="none", return_full_image=True
        )
        return _mean(1 - torch.as_tensor(similarity), batch.valid)


def cloud_adaptive(restored: Tensor, batch: Batch) -> Tensor:
    """Return the cloud-adaptive regularised loss: the input kept where clear, the target reached elsewhere.

    L_CARL of Meraner et al. 2020, with the cloud-and-shadow mask in [0, 1] instead of 0 or 1:
    mean |cloud (restored - target) + (1 - cloud) (restored - degraded)| + lambda mean |restored - target|.

    Raises:
        ValueError: if the batch has no cloud map.
    """
    if batch.cloud is None:
        raise ValueError("the cloud_adaptive loss needs a cloud map, the batch has none")
    wanted = batch.cloud * _target(batch) + (1 - batch.cloud) * batch.degraded
    adaptive = (restored - wanted).abs()
    return _mean(adaptive + CARL_LAMBDA * (restored - _target(batch)).abs(), batch.valid)


LOSSES: dict[str, Callable[[Tensor, Batch], Tensor]] = {
    "l1": l1,
    "l2": l2,
    "ssim": ssim,
    "cloud_adaptive": cloud_adaptive,
}


def _target(batch: Batch) -> Tensor:
    if batch.target is None:
        raise ValueError(f"{batch.key[0]} has no target, a loss compares with one")
    return batch.target


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of (B, C, H, W) over the pixels where (B, 1, H, W) `valid`; 0 if there are none."""
    return (values * valid).sum() / (valid.sum() * values.shape[1]).clamp(min=1)
