"""Images enlarged and reduced by whole factors, as by Pillow's BICUBIC; gaps filled; masks reduced."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate, max_pool2d


def enlarge(image: Tensor, factor: int) -> Tensor:
    """Return (B, C, factor H, factor W), bicubic; it may overshoot the range of the image."""
    return _resize(image, (image.shape[-2] * factor, image.shape[-1] * factor))


def reduce(image: Tensor, factor: int) -> Tensor:
    """Return (B, C, H / factor, W / factor), bicubic over factor times as many pixels: no aliasing."""
    height, width = image.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"the image has {height} x {width} pixels, both must divide by {factor}; crop it")
    return _resize(image, (height // factor, width // factor))


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    # With antialias the kernel is Pillow's (a = -0.5); without, it would be another (a = -0.75).
    return interpolate(image.float(), size, mode="bicubic", antialias=True, align_corners=False)


def fill_gaps(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (C, H, W) with pixels not `known`, (H, W), replaced by the nearest known; 0 where none is."""
    if known.all():
        return values
    if not known.any():
        return np.nan_to_num(values, nan=0.0)
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return values[:, nearest[0], nearest[1]]


def cells_inside(mask: Tensor, features: Tensor) -> Tensor:
    """Return (B, 1, h, w): the cells of (B, C, h, w) features with a pixel of the (B, 1, H, W) mask."""
    return adaptive_max_pool2d(mask.float(), features.shape[-2:]) > 0


def all_inside(mask: Tensor, factor: int) -> Tensor:
    """Return (B, 1, H / factor, W / factor) float32: 1 where `mask`, (B, 1, H, W), holds for every pixel."""
    return 1 - max_pool2d((~mask).float(), factor)
