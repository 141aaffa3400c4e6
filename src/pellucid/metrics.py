"""How close a restored image is to the reference: per image, over the pixels of a mask.

The metrics take (B, C, H, W) images in [0, 1] and an optional (B, 1, H, W) bool mask, and return (B,) values;
an image without a pixel in the mask gets NaN.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad

from pellucid.data.resample import reduce

# Wang et al. 2004, doi:10.1109/TIP.2003.819861: 11 x 11 Gaussian of 1.5 px, K1 = 0.01, K2 = 0.03, range 1.
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
# Prevents a division by 0 in flat regions; Xue et al. 2014, doi:10.1109/TIP.2013.2293423, for a range of 1.
GMSD_C = 0.0026
# The published GLF-CR code centres its 11 taps on 11 / 2, half a pixel off; identical images have 100 dB.
LEGACY_CENTRE = 5.5
LEGACY_IDENTICAL_DB = 100.0
# Side in pixels, 170 m of Sentinel-2, of the mean about a pixel: what differs from it is detail.
DETAIL_PX = 17
# Spectra shorter than this have no direction.
_SAM_MIN_NORM = 1e-8


def psnr(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the peak signal-to-noise ratio in dB for a peak of 1; infinity for identical images."""
    return -10 * torch.log10(mean_inside((restored - target).square(), mask))


def rmse(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the root mean square error over pixels and bands, in reflectance."""
    return mean_inside((restored - target).square(), mask).sqrt()


def mae(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean absolute error over pixels and bands, in reflectance."""
    return mean_inside((restored - target).abs(), mask)


def sam(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean spectral angle in degrees, without the pixels that are black in either image."""
    norm_a, norm_b = _length(restored), _length(target)
    has_angle = (norm_a > _SAM_MIN_NORM) & (norm_b > _SAM_MIN_NORM)
    a, b = restored / norm_a.clamp(min=_SAM_MIN_NORM), target / norm_b.clamp(min=_SAM_MIN_NORM)
    # Kahan's form: the arc cosine loses half the digits of a small angle.
    angle = 2 * torch.atan2(_length(a - b), _length(a + b))
    return mean_inside(angle.rad2deg(), has_angle if mask is None else has_angle & mask)


def ssim(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the structural similarity for values in a range of 1, mean over bands and window centres."""
    return mean_inside(ssim_map(restored, target), mask)


def whole_windows(mask: Tensor) -> Tensor:
    """Return where the window of the SSIM holds pixels of the mask alone, (B, 1, H, W) bool each."""
    holes = max_pool2d((~mask).float(), SSIM_WINDOW, stride=1, padding=SSIM_WINDOW // 2)
    return mask & (holes == 0)


def ssim_map(restored: Tensor, target: Tensor) -> Tensor:
    """Return the structural similarity of the window about each pixel, (B, C, H, W).

    The images are continued by reflection; sides must exceed 5 pixels.
    """
    return _compare_windows(restored, target, SSIM_WINDOW // 2, "reflect")


def gmsd(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the gradient magnitude similarity deviation, mean over bands: 0 if identical, more is worse.

    Xue et al. 2014: the standard deviation of the similarity of Prewitt gradients, on images averaged over
    2 x 2 pixels; a perceptual distance without weights. Only gradients inside the image and the mask count,
    so sides must be at least 6 pixels.
    """
    first, second = (_gradient(avg_pool2d(image, 2)).flatten(0, 1)[:, None] for image in (restored, target))
    similarity = (2 * first * second + GMSD_C) / (first.square() + second.square() + GMSD_C)
    inside = None
    if mask is not None:
        inside = max_pool2d((~mask).float(), 6, 2) == 0  # 3 x 3 Prewitt over 2 x 2 pixels
        inside = inside.repeat_interleave(target.shape[1], 0)
    deviation = similarity - mean_inside(similarity, inside).view(-1, 1, 1, 1)
    return mean_inside(deviation.square(), inside).sqrt().view(target.shape[:2]).mean(1)


def consistency(restored: Tensor, degraded: Tensor, factor: int) -> Tensor:
    """Return the PSNR in dB of the restored image, reduced by `factor`, against the low-resolution input."""
    return psnr(reduce(restored, factor), degraded)


def hallucination(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return how much detail was made up, as a share of the reference's detail: 0 is none.

    Detail is the difference from the mean over `DETAIL_PX`, of each pixel and band; made up is what exceeds
    the reference's there, or has the other sign. A flat image has 0 here and 1 in `omission`, one with the
    right detail 0 in both. The distinction follows opensr-test, Aybar et al. 2024,
    doi:10.1109/LGRS.2024.3401394, the measure is ours.
    """
    made, real, shared = _details(restored, target, mask)
    return mean_inside(made - shared, mask) / mean_inside(real, mask)


def omission(restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return which share of the reference's detail is missing, in [0, 1]; see `hallucination`."""
    _, real, shared = _details(restored, target, mask)
    return mean_inside(real - shared, mask) / mean_inside(real, mask)


def inconsistency(restored: Tensor, degraded: Tensor, seen: Tensor) -> Tensor:
    """Return by how much the restored image departs from what is seen of the ground, in reflectance.

    That is the root mean square difference of both images' means over `DETAIL_PX`, over the pixels that are
    `seen`, (B, 1, H, W) bool, in the means of which these alone count.
    """
    return rmse(_local_mean(restored, seen), _local_mean(degraded, seen), seen)


def legacy_psnr(restored: Tensor, target: Tensor) -> Tensor:
    """Return the PSNR in dB as in the published GLF-CR code: () for the whole batch, 100 if identical."""
    mse = (restored - target).square().mean()
    return torch.where(mse == 0, LEGACY_IDENTICAL_DB, -10 * torch.log10(mse))


def legacy_ssim(restored: Tensor, target: Tensor) -> Tensor:
    """Return the SSIM as in the published GLF-CR code: () for the whole batch.

    Its window is half a pixel off centre, so that the value changes when both images are flipped, and the
    images are padded with 0.
    """
    return _compare_windows(restored, target, LEGACY_CENTRE, "constant").mean()


def gaussian_window(centre: float) -> Tensor:
    """Return the (11,) weights of the SSIM, which sum to 1, about a centre in pixels."""
    distance = torch.arange(SSIM_WINDOW, dtype=torch.float64) - centre
    weights = torch.exp(-distance.square() / (2 * SSIM_SIGMA**2))
    return weights / weights.sum()


def mean_inside(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the (B,) means of (B, C, H, W) values over bands and the pixels of the mask, NaN without one."""
    if mask is None:
        return values.flatten(1).mean(1)
    inside = values.where(mask, 0).flatten(1).sum(1)
    return inside / (mask.flatten(1).sum(1) * values.shape[1])


def _details(restored: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the magnitudes of both images' detail, and of what they share, (B, C, H, W) each."""
    inside = torch.ones_like(target[:, :1], dtype=torch.bool) if mask is None else mask
    made, real = (image - _local_mean(image, inside) for image in (restored, target))
    shared = torch.minimum(made.abs(), real.abs()).where(made * real > 0, 0)
    return made.abs(), real.abs(), shared


def _local_mean(image: Tensor, inside: Tensor) -> Tensor:
    """Return the mean about each pixel over those that are inside."""
    weight = inside.to(image.dtype)
    sums = [avg_pool2d(x, DETAIL_PX, 1, DETAIL_PX // 2) for x in (image.where(inside, 0), weight)]
    return sums[0] / sums[1].clamp(min=1e-6)


def _length(spectra: Tensor) -> Tensor:
    """Return the Euclidean norm over bands, (B, 1, H, W); torch's own is ten times slower along bands."""
    return spectra.square().sum(1, keepdim=True).sqrt()


def _gradient(image: Tensor) -> Tensor:
    """Return the Prewitt gradient magnitude of (B, C, H, W) per pixel, (B, C, H - 2, W - 2)."""
    rows = image[..., :-2, :] + image[..., 1:-1, :] + image[..., 2:, :]
    columns = image[..., :-2] + image[..., 1:-1] + image[..., 2:]
    across = (rows[..., 2:] - rows[..., :-2]) / 3
    down = (columns[..., 2:, :] - columns[..., :-2, :]) / 3
    return (across.square() + down.square()).sqrt()


def _compare_windows(first: Tensor, second: Tensor, centre: float, edge: str) -> Tensor:
    """Return the similarity of the window about each pixel, (B, C, H, W), of images padded as `edge` says."""
    first, second = (pad(image, [SSIM_WINDOW // 2] * 4, mode=edge) for image in (first, second))
    window, bands = gaussian_window(centre).to(first), first.shape[1]
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
