"""Loss terms in image space, each a mean per valid pixel, so that their weights mean what they say."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate, max_pool2d, softplus

from pellucid.data.batch import Batch
from pellucid.data.resample import cells_inside
from pellucid.metrics import ssim_map
from pellucid.networks._vgg import Vgg

# Weight of the regularisation, lambda of Meraner et al. 2020, doi:10.1016/j.isprsjprs.2020.05.013
CARL_LAMBDA = 1.0
# Mean squared error of an image, 40 dB, below which `log_l2` hardly asks for less.
LOG_L2_FLOOR = 1e-4
# By how much `multi_scale` reduces the images, as published for CT slices: scales 1, 1/2 and 1/4.
MULTI_SCALE_FACTORS = (1, 2, 4)
# Pixels per side that a bicubic value is made of.
_BICUBIC_TAPS = 4


def l1(restored: Tensor, batch: Batch) -> Tensor:
    """Return the mean absolute error over the valid pixels."""
    return _mean((restored - _target(batch)).abs(), batch.valid)


def l2(restored: Tensor, batch: Batch) -> Tensor:
    """Return the mean squared error over the valid pixels."""
    return _mean((restored - _target(batch)).square(), batch.valid)


def log_l2(restored: Tensor, batch: Batch) -> Tensor:
    """Return by how many bel (10 dB) the signal-to-noise ratio falls short of 40 dB, mean over the images.

    log10(1 + mean squared error / 0.0001). With `l2`, images that cannot be restored anyhow teach most; here
    all teach alike, as in Chen et al. 2022, arXiv:2204.04676.
    """
    errors = _difference(restored, batch).square().sum((1, 2, 3))
    num_values = batch.valid.sum((1, 2, 3)) * restored.shape[1]
    return (errors / num_values.clamp(min=1) / LOG_L2_FLOOR).log1p().mean() / math.log(10)


def ssim(restored: Tensor, batch: Batch) -> Tensor:
    """Return 1 - SSIM, 0 for identical images, over the valid pixels.

    Windows are 11 x 11 Gaussians of sigma 1.5 (Wang et al. 2004, doi:10.1109/TIP.2003.819861); the data
    range is 1. Invalid pixels are zeroed in both images, so that windows beside them see no difference.
    """
    with torch.autocast(restored.device.type, enabled=False):
        first, second = ((image * batch.valid).float() for image in (restored, _target(batch)))
        return _mean(1 - ssim_map(first, second), batch.valid)


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


def multi_scale(restored: Tensor, batch: Batch) -> Tensor:
    """Return the sum of the mean squared errors at the scales 1, 1/2 and 1/4; sides must be at least 4.

    The images are reduced bicubically without antialiasing, as published. A reduced pixel counts if all
    pixels that it is made of are valid.
    """
    difference = _difference(restored, batch)
    invalid = (~batch.valid).float()
    total = difference.new_zeros(())
    for factor in MULTI_SCALE_FACTORS:
        reduced, outside = difference, invalid
        if factor > 1:
            reduced = interpolate(difference, scale_factor=1 / factor, mode="bicubic", align_corners=False)
            outside = max_pool2d(invalid, _BICUBIC_TAPS, factor, (_BICUBIC_TAPS - factor) // 2)
        total = total + _mean(reduced.square(), outside == 0)
    return total


def frequency(restored: Tensor, batch: Batch) -> Tensor:
    """Return the mean absolute difference of the images' orthonormal 2-D Fourier transforms.

    The frequency reconstruction loss of Cho et al. 2021, arXiv:2108.05054, with the modulus of the complex
    difference in place of the sum of its parts, so that a shift of both images changes nothing. Invalid
    pixels are zeroed in both; noise of one strength then costs the same whatever the share of valid pixels.
    """
    spectrum = torch.fft.fft2(_difference(restored, batch), norm="ortho")
    share = batch.valid.float().mean().clamp(min=1 / batch.valid.numel())
    return spectrum.abs().mean() / share.sqrt()


class PerceptualLoss:
    """The mean squared difference of the images' features, with the signature of the other terms.

    Johnson et al. 2016, arXiv:1603.08155, Eq. 2. Invalid pixels are black in both images; a feature counts
    if its cell of the image holds a valid pixel.

    Args:
        network: frozen; it follows the images to their device, and is no part of what is trained or saved.
    """

    def __init__(self, network: Vgg) -> None:
        self.network = network

    def __call__(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the loss, a mean over features and, where there are several, over taps.

        Raises:
            ValueError: if the images are neither grey nor RGB.
        """
        self.network.to(restored.device)
        found = self.network(restored * batch.valid)
        with torch.no_grad():
            wanted = self.network(_target(batch) * batch.valid)
        taps = [
            _mean((a.float() - b.float()).square(), cells_inside(batch.valid, a))
            for a, b in zip(found, wanted, strict=True)
        ]
        return torch.stack(taps).mean()


class AdversarialLoss:
    """How far a network that tells made images from real ones sees through them, as the other terms.

    The logarithmic loss of Isola et al. 2017, arXiv:1611.07004, for both networks; 0.69 where the judge
    cannot decide. Invalid pixels are black in both images; a patch counts if its cell of the image holds a
    valid pixel.

    Args:
        judge: (B, C, H, W) in [0, 1] -> logits, (B, 1, h, w), that each patch is real. It is trained in the
            same step, by `teaching`; `judges` finds it.
    """

    def __init__(self, judge: nn.Module) -> None:
        self.judge = judge

    def __call__(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of the patches of `restored`, of which the judge itself learns nothing."""
        fixed = {name: weight.detach() for name, weight in self.judge.named_parameters()}
        logits = functional_call(self.judge, fixed, (restored * batch.valid,)).float()
        return _mean(softplus(-logits), cells_inside(batch.valid, logits))

    def teaching(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the judge's own loss, of which the network that made `restored` learns nothing."""
        made, real = (
            self.judge(image * batch.valid).float() for image in (restored.detach(), _target(batch))
        )
        losses = softplus(made) + softplus(-real)
        return _mean(losses, cells_inside(batch.valid, losses)) / 2


def judges(losses: Mapping[str, tuple[float, Any]]) -> nn.ModuleDict:
    """Return the networks that are trained beside the method's own, by the terms of the loss that need them.

    Args:
        losses: weight and function of each term.
    """
    terms = {name: term for name, (_, term) in losses.items()}
    return nn.ModuleDict(
        {name: term.judge for name, term in terms.items() if isinstance(term, AdversarialLoss)}
    )


def teach(losses: Mapping[str, tuple[float, Any]], restored: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the judges' own losses by name, in their terms' weights; none in validation."""
    if not torch.is_grad_enabled():
        return {}
    return {
        f"{name}_judge": weight * term.teaching(restored, batch)
        for name, (weight, term) in losses.items()
        if isinstance(term, AdversarialLoss)
    }


LOSSES: dict[str, Callable[[Tensor, Batch], Tensor]] = {
    "l1": l1,
    "l2": l2,
    "log_l2": log_l2,
    "ssim": ssim,
    "cloud_adaptive": cloud_adaptive,
    "multi_scale": multi_scale,
    "frequency": frequency,
}


def _target(batch: Batch) -> Tensor:
    if batch.target is None:
        raise ValueError(f"{batch.key[0]} has no target, a loss compares with one")
    return batch.target


def _difference(restored: Tensor, batch: Batch) -> Tensor:
    """Return restored - target in single precision, 0 where invalid."""
    return (restored.float() - _target(batch).float()) * batch.valid


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of (B, C, H, W) over the pixels where (B, 1, H, W) `valid`; 0 if there are none."""
    return (values * valid).sum() / (valid.sum() * values.shape[1]).clamp(min=1)
