"""How much of each pixel of a result comes from the restored image, by a map of clouds."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.data.cloud_score import box_mean

# A speck is cloud of which no pixel has so large a share of cloud among its neighbours: single pixels, pairs,
# squares of 2 px, lines of 1 px. Other cloud keeps its pixels up to so far from one that has.
MAJORITY, KEPT_PX = 0.5, 2
# On so many pixels around a pixel it depends whether it is a speck.
SPECK_REACH_PX = KEPT_PX + 1


def restored_share(cloudy: Tensor, margin_px: int, feather_px: int) -> NDArray[np.float64]:
    """Return (H, W) in [0, 1], 1 in clouds and within a margin about them, then falling to 0 over a feather.

    A pixel depends on those within `SPECK_REACH_PX + margin_px + feather_px` of it.

    Args:
        cloudy: (1, H, W) bool, of a map that may be noisy: specks in it count as clear.
        margin_px: distance in pixels.
        feather_px: width in pixels of the edge.
    """
    clouds, radius = without_specks(cloudy), feather_px // 2
    near = torch.from_numpy(_grown(clouds[0].numpy(), margin_px))[None]
    return box_mean((box_mean(near.double(), radius) > 0).double(), radius)[0].numpy()


def without_specks(cloudy: Tensor) -> Tensor:
    """Return (..., H, W) bool without clouds that are too small to be meant, or narrower than 2 pixels."""
    cores = cloudy & (box_mean(cloudy.double(), 1) > MAJORITY - 1e-6)
    return cloudy & (box_mean(cores.double(), KEPT_PX) > 0)


def _grown(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Return what lies within a radius in pixels of a mask, (H, W)."""
    if not radius or not mask.any():
        return mask
    from scipy.ndimage import distance_transform_edt  # an import that takes long

    return distance_transform_edt(~mask) <= radius
