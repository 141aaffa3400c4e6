"""The frequency reconstruction loss of Cho et al. 2021, arXiv:2108.05054."""

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.losses._reduce import difference


def frequency(restored: Tensor, batch: Batch) -> Tensor:
    """Return the mean absolute difference of the images' orthonormal 2-D Fourier transforms.

    The modulus of the complex difference replaces the published sum of its parts, so that a shift of both
    images changes nothing. Invalid pixels are zeroed in both; noise of one strength then costs the same
    whatever the share of valid pixels.
    """
    spectrum = torch.fft.fft2(difference(restored, batch), norm="ortho")
    share = batch.valid.float().mean().clamp(min=1 / batch.valid.numel())
    return spectrum.abs().mean() / share.sqrt()
