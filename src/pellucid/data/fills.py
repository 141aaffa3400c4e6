"""Numbers that optical files put where they hold no data, whether they declare them or not."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# In any band, and, as saturated pixels may too, in all bands.
FILLS, FILLS_OF_ALL = (-9999.0, -32768.0, -99999.0), (65535.0, 32767.0, 6.5535)


def possible_fills(dtype: np.dtype[Any]) -> tuple[float, ...]:
    """Return the numbers that may mark missing data in a file of this type."""
    if dtype.kind == "f":
        return (*FILLS, *FILLS_OF_ALL)
    limits = np.iinfo(dtype)
    possible = {*FILLS, *FILLS_OF_ALL[:2], float(limits.max)}
    return tuple(fill for fill in possible if limits.min <= fill <= limits.max)


def is_filled(wanted: NDArray[Any], every: NDArray[Any], fill: float) -> NDArray[np.bool_]:
    """Return (H, W): where a number marks missing data.

    Args:
        wanted: (C, H, W), the bands that are used: most numbers count where any of them has one.
        every: (K, H, W), all bands of the file: what may be a bright pixel counts where all have it.
        fill: one of `possible_fills`.
    """
    number = np.asarray(fill, wanted.dtype)
    bands, together = (wanted, np.any) if fill in FILLS else (every, np.all)
    return np.asarray(together(bands == number, axis=0), np.bool_)
