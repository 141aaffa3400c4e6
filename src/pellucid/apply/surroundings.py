"""How far restored images lie from the clear ones around them: the low frequencies of the difference.

A network sees the clear pixels too. Where its image of them is too dark or too red, so it is under the
clouds beside them. The difference is averaged over clear pixels in coarse cells of the whole scene, whatever
tiles it is cut into, and spread by normalised convolution (Knutsson and Westin 1993,
doi:10.1109/CVPR.1993.341081); a prior of no difference makes it fade away from clear pixels.
"""

import numpy as np
from numpy.typing import NDArray

# Side in pixels of the cells in which differences are summed up; 10 980 pixels are 687 cells.
CELL = 16
# Standard deviation in pixels of the kernel: features of half a kilometre and less are left alone.
SIGMA = 64
# Share of clear pixels under the kernel that weighs as much as the belief that there is no difference.
PRIOR = 0.02


class Surroundings:
    """Sums of differences between clear and restored pixels, in the cells of a scene.

    They are (bands + 1, rows of cells, columns of cells); those of an earlier call are gone on with.
    """

    def __init__(
        self, bands: int, height: int, width: int, *, sums: NDArray[np.float64] | None = None
    ) -> None:
        self.height, self.width = height, width
        size = (bands + 1, -(-height // CELL), -(-width // CELL))
        self.sums = np.zeros(size) if sums is None else sums

    def add(self, difference: NDArray[np.floating], weight: NDArray[np.float64], top: int, left: int) -> None:
        """Add the differences of a tile, (C, H, W), clear less restored, as far as the scene goes.

        Weights, (H, W) from 0 to 1, are 0 where a pixel is not known to be clear; over all tiles that reach a
        pixel they add up to 1 at most.
        """
        rows = slice(0, min(weight.shape[0], self.height - top))
        columns = slice(0, min(weight.shape[1], self.width - left))
        weight = weight[rows, columns]
        parts = np.concatenate([difference[:, rows, columns] * weight, weight[None]])
        down, row_starts = _cells(top, weight.shape[0])
        across, column_starts = _cells(left, weight.shape[1])
        by_row = np.add.reduceat(parts, row_starts, axis=1)
        self.sums[:, down, across] += np.add.reduceat(by_row, column_starts, axis=2)

    def smooth(self) -> NDArray[np.float64]:
        """Return what to add to restored pixels, (C, rows of cells, columns of cells)."""
        from scipy.ndimage import gaussian_filter

        near = gaussian_filter(self.sums, (0, SIGMA / CELL, SIGMA / CELL), mode="reflect") / CELL**2
        return near[:-1] / (near[-1] + PRIOR)


def enlarge_cells(cells: NDArray[np.float64], rows: slice, columns: slice) -> NDArray[np.float64]:
    """Return (C, rows, columns) of pixels, bilinear between the centres of (C, rows, columns) of cells."""
    return _interpolate(_interpolate(cells, rows, 1), columns, 2)


def _cells(start: int, length: int) -> tuple[slice, NDArray[np.intp]]:
    """Return the cells that `length` pixels from `start` on touch, and the first of these pixels in each."""
    first, last = start // CELL, (start + length - 1) // CELL
    starts = np.arange(first, last + 1) * CELL - start
    return slice(first, last + 1), starts.clip(min=0)


def _interpolate(cells: NDArray[np.float64], pixels: slice, axis: int) -> NDArray[np.float64]:
    """Return `cells` between their centres along an axis; beyond the outermost, as there."""
    count = cells.shape[axis]
    at = ((np.arange(pixels.start, pixels.stop) + 0.5) / CELL - 0.5).clip(0, count - 1)
    low = np.floor(at).astype(np.intp)
    high = (low + 1).clip(max=count - 1)
    share = np.expand_dims(at - low, tuple(range(1, cells.ndim - axis)))
    return cells.take(low, axis) * (1 - share) + cells.take(high, axis) * share
