"""How close a restored image is to the reference: per image, over the pixels of a mask.

Every function takes (B, C, H, W) images in [0, 1] and an optional (B, 1, H, W) bool mask, and returns (B,)
values; an image without a pixel in the mask gets NaN.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

# Wang et al. 2004, doi:10.1109/TIP.2003.819861: 11 x 11 Gaussian of 1.5 px, K1 = 0.01, K2 = 0.03, range 1.
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
# The published GLF-CR code centres its 11 taps on 11 / 2, half a pixel off; identical images have 100 dB.
LEGACY_CENTRE = 5.5
LEGACY_IDENTICAL_DB = 100.0
# Spectra shorter than this have no direction.
_SAM_MIN_NORM = 1e-8


def psnr(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the peak signal-to-noise ratio in dB for a peak of 1; identical images have infinity."""
    return -10 * torch.log10(_mean((restored - target).square(), mask))


def rmse(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the root mean square error over pixels and bands, in reflectance."""
    return _mean((restored - target).square(), mask).sqrt()


def mae(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean absolute error over pixels and bands, in reflectance."""
    return _mean((restored - target).abs(), mask)


def sam(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean spectral angle in degrees, without the pixels that are black in either image."""
    first, second = restored.double(), target.double()
    norms = [image.norm(dim=1, keepdim=True) for image in (first, second)]
    has_angle = (norms[0] > _SAM_MIN_NORM) & (norms[1] > _SAM_MIN_NORM)
    a, b = (image / norm.clamp(min=_SAM_MIN_NORM) for image, norm in zip((first, second), norms, strict=True))
    # Kahan's form: the arc cosine loses half the digits of a small angle.
    angle = 2 * torch.atan2((a - b).norm(dim=1, keepdim=True), (a + b).norm(dim=1, keepdim=True))
    return _mean(angle.rad2deg(), has_angle if mask is None else has_angle & mask).to(restored.dtype)


def ssim(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the structural similarity for values in a range of 1, mean over bands and window centres.

    The images are continued by reflection, so that every pixel is the centre of a window; sides must
    exceed 5 pixels.
    """
    window = gaussian_window(SSIM_WINDOW // 2).to(restored)
    return _mean(_ssim_map(_reflect(restored), _reflect(target), window), mask)


def legacy_psnr(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the PSNR in dB as the published GLF-CR code has it: () for the whole batch, 100 if identical."""
    squares = (restored - target).square()
    if mask is not None:
        squares = squares * mask
    mse = squares.mean() if mask is None else squares.sum() / (mask.sum() * restored.shape[1])
    return torch.where(mse == 0, LEGACY_IDENTICAL_DB, -10 * torch.log10(mse))


def legacy_ssim(restored: Tensor, target: Tensor) -> Tensor:
    """Return the SSIM as the published GLF-CR code has it: () for the whole batch.

    Its window is half a pixel off centre, so the value changes when both images are flipped, and the
    images are padded with 0.
    """
    window = gaussian_window(LEGACY_CENTRE).to(restored)
    edge = [SSIM_WINDOW // 2] * 4
    return _ssim_map(pad(restored, edge), pad(target, edge), window).mean()


METRICS: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "psnr": psnr,
    "ssim": ssim,
    "sam": sam,
    "mae": mae,
    "rmse": rmse,
}


def gaussian_window(centre: float) -> Tensor:
    """Return the (11,) weights of the SSIM, which sum to 1, about a centre in pixels."""
    distance = torch.arange(SSIM_WINDOW, dtype=torch.float64) - centre
    weights = torch.exp(-distance.square() / (2 * SSIM_SIGMA**2))
    return weights / weights.sum()


def _reflect(image: Tensor) -> Tensor:
    return pad(image, [SSIM_WINDOW // 2] * 4, mode="reflect")


def _ssim_map(first: Tensor, second: Tensor, window: Tensor) -> Tensor:
    """Return the similarity of each window that lies inside, (B, C, H - 10, W - 10)."""
    bands = first.shape[1]
    columns, rows = (window.view(shape).repeat(bands, 1, 1, 1) for shape in ((1, 1, -1, 1), (1, 1, 1, -1)))

    def smooth(image: Tensor) -> Tensor:
        return conv2d(conv2d(image, columns, groups=bands), rows, groups=bands)

    mean_1, mean_2 = smooth(first), smooth(second)
    # Rounding can push the variance of a flat window below 0.
    variance_1 = (smooth(first.square()) - mean_1.square()).clamp(min=0)
    variance_2 = (smooth(second.square()) - mean_2.square()).clamp(min=0)
    covariance = smooth(first * second) - mean_1 * mean_2
    similarity = (2 * mean_1 * mean_2 + SSIM_C1) * (2 * covariance + SSIM_C2)
    return similarity / ((mean_1.square() + mean_2.square() + SSIM_C1) * (variance_1 + variance_2 + SSIM_C2))


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the (B,) means of (B, C, H, W) values over bands and over the pixels of the mask."""
    if mask is None:
        return values.double().flatten(1).mean(1).to(values.dtype)
    inside = values.double().where(mask, 0).flatten(1).sum(1)
    return (inside / (mask.flatten(1).sum(1) * values.shape[1])).to(values.dtype)
