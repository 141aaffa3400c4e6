"""Pixels without data, filled so that nothing bleeds out of them into what a network makes of the others."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt


def fill_gaps(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (C, H, W) with unknown pixels replaced by their nearest known ones; 0 where none is known.

    Args:
        values: (C, H, W).
        known: (H, W).
    """
    if known.all() or not known.any():
        return np.nan_to_num(values, nan=0.0) if not known.any() else values
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return values[:, nearest[0], nearest[1]]
