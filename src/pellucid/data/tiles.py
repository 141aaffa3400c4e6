"""Cutting a scene into overlapping tiles, and blending the tiles again without seams.

The weights of a tile are whole numbers that fall linearly towards its sides. Sums are in float64, where
products and sums of such numbers and float32 values are exact: if a network returns its input, so does the
blend, bit for bit, and the order of the tiles does not matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TileGrid:
    """Tiles that cover a scene, in rows and columns.

    Tiles start at multiples of `stride`. The last tile of a row may extend beyond the scene by less than
    `stride`. In a scene smaller than a tile, the tile has the size of the scene, rounded up to the stride.

    Args:
        height: rows of the scene.
        width: columns of the scene.
        tile: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share.
        stride: `tile` and `overlap` must be multiples of it.
        margin: pixels along the sides of a tile with weight 0, except along the edge of the scene.

    Raises:
        ValueError: if `tile` or `overlap` is no such multiple, or the overlap does not fit tile and margins.
    """

    height: int
    width: int
    tile: int
    overlap: int
    stride: int = 1
    margin: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("tile", self.tile, 1), ("overlap", self.overlap, 0)):
            if value < least or value % self.stride:
                better = max(least, round(value / self.stride)) * self.stride
                if name == "overlap" and better >= self.tile:
                    better = self.tile // (4 * self.stride) * self.stride
                raise ValueError(
                    f"{name} is {value} px, must be a positive multiple of {self.stride}; try {better}"
                )
        if self.overlap >= self.tile:
            better = self.tile // (4 * self.stride) * self.stride
            raise ValueError(
                f"overlap is {self.overlap} px, must be less than the tile of {self.tile}; try {better}"
            )
        if self.overlap < 2 * self.margin:
            raise ValueError(f"overlap is {self.overlap} px, must hold two margins of {self.margin} px")

    @cached_property
    def tile_height(self) -> int:
        """Rows of every tile."""
        return min(self.tile, _round_up(self.height, self.stride))

    @cached_property
    def tile_width(self) -> int:
        """Columns of every tile."""
        return min(self.tile, _round_up(self.width, self.stride))

    @property
    def area(self) -> int:
        """Pixels of all tiles together, in each of which its overlaps count again."""
        return len(self) * self.tile_height * self.tile_width

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """First row of each row of tiles."""
        return self._starts(self.height, self.tile_height)

    @cached_property
    def lefts(self) -> tuple[int, ...]:
        """First column of each column of tiles."""
        return self._starts(self.width, self.tile_width)

    @cached_property
    def row_sums(self) -> NDArray[np.float64]:
        """(height,) sums of the weights along a column; at a pixel, the sum is row sum times column sum."""
        return self._sums(self.height, self.tops, self.tile_height)

    @cached_property
    def column_sums(self) -> NDArray[np.float64]:
        """(width,) sums of the weights along a row."""
        return self._sums(self.width, self.lefts, self.tile_width)

    def weights(self, top: int, left: int) -> NDArray[np.float64]:
        """Return (tile_height, tile_width) whole numbers: 0 in the margin, then growing to the middle."""
        rows = self._ramp(top, self.tile_height, self.height)
        return np.outer(rows, self._ramp(left, self.tile_width, self.width))

    def shares(self, top: int, left: int) -> NDArray[np.float64]:
        """Return (tile_height, tile_width): weights divided by the sum over all tiles; 0 beyond the scene."""
        weights = self.weights(top, left)
        rows, columns = self.row_sums[top:][: self.tile_height], self.column_sums[left:][: self.tile_width]
        weights[: len(rows), : len(columns)] /= np.outer(rows, columns)
        weights[len(rows) :], weights[:, len(columns) :] = 0, 0
        return weights

    def finished(self, row: int, column: int) -> tuple[slice, slice]:
        """Return the rows and columns of a tile, by its numbers, that no later tile reaches."""
        ends, rights = (*self.tops[1:], self.height), (*self.lefts[1:], self.width)
        return slice(self.tops[row], ends[row]), slice(self.lefts[column], rights[column])

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (top, left) of every tile, row by row."""
        return ((top, left) for top in self.tops for left in self.lefts)

    def _starts(self, size: int, tile: int) -> tuple[int, ...]:
        last = _round_up(max(0, size - tile), self.stride)
        return (*range(0, last, self.tile - self.overlap), last)

    def _ramp(self, start: int, tile: int, size: int) -> NDArray[np.float64]:
        at = np.arange(tile)
        before = at - (self.margin if start > 0 else 0)
        after = tile - 1 - at - (self.margin if start + tile < size else 0)
        shared = self.overlap - 2 * self.margin
        return np.minimum(np.minimum(before, after), shared).clip(min=-1).astype(np.float64) + 1

    def _sums(self, size: int, starts: tuple[int, ...], tile: int) -> NDArray[np.float64]:
        sums = np.zeros(starts[-1] + tile)
        for start in starts:
            sums[start : start + tile] += self._ramp(start, tile, size)
        return sums[:size]


class Blender:
    """Sums up tiles of so many bands, in order, and gives back the pixels that no later tile covers.

    Memory holds one tile, and of a row of tiles no more than the next row overlaps.
    """

    def __init__(self, grid: TileGrid, bands: int) -> None:
        self.grid = grid
        self.part = np.zeros((bands, grid.tile_height, grid.tile_width))  # where the last tile lies
        self.above, self.below = self._overlap(0), self._overlap(0)  # of the row before, and for the next one

    def add(self, row: int, column: int, tile: NDArray[np.floating] | None) -> NDArray[np.float64]:
        """Add the next tile, and return its blended pixels in `grid.finished`, (C, rows, columns).

        Args:
            row: number of its row in the grid, from 0; rows at the beginning may be left out.
            column: number of its column; all columns of a row follow each other.
            tile: (C, tile_height, tile_width); None: it adds nothing.
        """
        grid, top, left = self.grid, self.grid.tops[row], self.grid.lefts[column]
        if column == 0:
            self._begin_row(row)
        if tile is not None:
            self.part += tile * grid.weights(top, left)
        rows, columns = grid.finished(row, column)
        height, width = rows.stop - top, columns.stop - left
        sums = np.outer(grid.row_sums[rows], grid.column_sums[columns])
        blended = self.part[:, :height, :width] / sums
        self._go_on(column)
        return blended

    def _overlap(self, height: int) -> NDArray[np.float64]:
        return np.zeros((len(self.part), height, self.grid.lefts[-1] + self.grid.tile_width))

    def _begin_row(self, row: int) -> None:
        """Take what the row before has left for this one."""
        tops, height = self.grid.tops, self.grid.tile_height
        self.above = self.below
        next_top = tops[row + 1] if row + 1 < len(tops) else tops[row] + height
        self.below = self._overlap(max(0, tops[row] + height - next_top))
        self.part[:] = 0
        self.part[:, : self.above.shape[1]] = self.above[:, :, : self.grid.tile_width]

    def _go_on(self, column: int) -> None:
        """Keep what the next row needs of a tile's first columns, and move to the next tile of the row."""
        lefts, width = self.grid.lefts, self.grid.tile_width
        left = lefts[column]
        step = lefts[column + 1] - left if column + 1 < len(lefts) else width
        done = self.grid.tile_height - self.below.shape[1]
        self.below[:, :, left : left + step] = self.part[:, done:, :step]
        self.part[:, :, : width - step] = self.part[:, :, step:].copy()
        self.part[:, :, width - step :] = 0
        if column + 1 < len(lefts):
            fresh = self.above[:, :, left + width : left + step + width]
            self.part[:, : fresh.shape[1], width - step :] = fresh


def reflect(first: int, last: int, size: int) -> NDArray[np.intp]:
    """Return the pixels, in 0 ... size - 1, to read for first ... last - 1: mirrored beyond the edges.

    The edge pixel is not repeated; far outside, the image is mirrored again and again.
    """
    period = max(1, 2 * (size - 1))
    at = np.arange(first, last) % period
    return np.minimum(at, period - at) if size > 1 else np.zeros_like(at)


def index_of(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Any:
    """Return the index of rows and columns: as slices where they follow each other, which copy nothing."""
    runs = [slice(at[0], at[-1] + 1) for at in (rows, columns) if (np.diff(at) == 1).all()]
    return tuple(runs) if len(runs) > 1 else np.ix_(rows, columns)


def mean_of(samples: NDArray[Any]) -> NDArray[Any]:
    """Return the mean over the first axis; the only sample as it is."""
    return samples[0] if len(samples) == 1 else samples.mean(axis=0, dtype=np.float64)


def _round_up(value: int, stride: int) -> int:
    return -(-value // stride) * stride
