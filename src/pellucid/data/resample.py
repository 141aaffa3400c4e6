"""Enlarging and reducing images by whole factors, as Pillow's BICUBIC does it: the stated degradation."""

from torch import Tensor
from torch.nn.functional import interpolate


def enlarge(image: Tensor, factor: int) -> Tensor:
    """Return (B, C, factor H, factor W), bicubic; it may overshoot the range of the image."""
    return _resize(image, (image.shape[-2] * factor, image.shape[-1] * factor))


def reduce(image: Tensor, factor: int) -> Tensor:
    """Return (B, C, H / factor, W / factor), bicubic over factor times as many pixels, so without aliasing.

    Raises:
        ValueError: if a side does not divide by the factor.
    """
    height, width = image.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"the image has {height} x {width} pixels, both must divide by {factor}; crop it")
    return _resize(image, (height // factor, width // factor))


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    # With antialias the kernel is Pillow's (a = -0.5); without, it would be another (a = -0.75).
    return interpolate(image.float(), size, mode="bicubic", antialias=True, align_corners=False)
