"""What the tiles of a scene say about its ground, cell by cell: it adds, in any order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pellucid.data.batch import Batch
from pellucid.data.sums import Sums
from pellucid.networks.ground import REACH, RESIDUAL_CELL, Means

# Side in pixels of the cells of a scene, each of which has its own sums, and of their parts, whose means tell
# a tile what the regression misses around it.
CELL, PART = 512, 64
# How far cells count for a tile: the deviation of a Gaussian, in pixels; and what the whole scene counts for.
NEAR_PX, FAR = 768.0, 0.05

At = tuple[int, int]


@dataclass(frozen=True)
class SceneSums:
    """Sums and bands of each cell, by its row and column; and the means of its parts, see `cell_means`."""

    cells: Mapping[At, tuple[Sums, Tensor]]
    means: Mapping[At, Tensor] = field(default_factory=dict)

    def __add__(self, other: "SceneSums") -> "SceneSums":
        cells, means = dict(self.cells), dict(self.means)
        for at, (sums, known) in other.cells.items():
            cells[at] = (cells[at][0] + sums, known) if at in cells else (sums, known)
        for at, values in other.means.items():
            means[at] = means[at] + values if at in means else values
        return SceneSums(cells, means)

    @property
    def count(self) -> float:
        """Return how many clear pixels the scene has."""
        return sum(float(sums.count.sum()) for sums, _ in self.cells.values())

    def near(self, row: float, column: float) -> tuple[Sums, Tensor]:
        """Return the sums that count at a place: of near cells, and a little of all."""
        total, known = None, None
        for (i, j), (sums, bands) in sorted(self.cells.items()):
            y, x = ((k + 0.5) * CELL for k in (i, j))
            near = math.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / NEAR_PX**2)
            part = sums * (near + FAR)
            total, known = (part, bands) if total is None else (total + part, bands)
        if total is None or known is None:
            raise ValueError("a scene without a cell")
        return total, known

    def around_tiles(self, batch: Batch, num_features: int) -> Means | None:
        """Return the means around the tiles, 0 inside them, as `GroundNet.carry` takes them."""
        if not self.means:
            return None
        height, width = batch.valid.shape[-2:]
        places = batch.at or ((0, 0),) * len(batch)
        found = torch.stack([self._around(top, left, height, width) for top, left in places])
        return Means(*found.split([1, num_features, found.shape[1] - 1 - num_features], 1))

    def _around(self, top: int, left: int, height: int, width: int) -> Tensor:
        sizes = [-(-side // RESIDUAL_CELL) for side in (height, width)]
        steps = [RESIDUAL_CELL * (torch.arange(size + 2 * REACH) - REACH + 0.5) for size in sizes]
        rows, columns = ((start + step).long() for start, step in zip((top, left), steps, strict=True))
        first = next(iter(self.means.values()))
        found = first.new_zeros(len(first), len(rows), len(columns))
        for i, j in product((rows // CELL).unique().tolist(), (columns // CELL).unique().tolist()):
            if (values := self.means.get((i, j))) is not None:
                ys, xs = (rows // CELL == i).nonzero()[:, 0], (columns // CELL == j).nonzero()[:, 0]
                parts = values[:, rows[ys] % CELL // PART][:, :, columns[xs] % CELL // PART]
                found[:, ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] = parts
        found[:, REACH : REACH + sizes[0], REACH : REACH + sizes[1]] = 0
        return found


def cells_of(top: int, left: int, height: int, width: int) -> list[tuple[At, tuple[slice, slice]]]:
    """Return the cells that a tile touches, and the tile's rows and columns in each."""

    def along(start: int, size: int) -> list[tuple[int, slice]]:
        first, last = max(start, 0) // CELL, max(start + size - 1, 0) // CELL
        return [
            (k, slice(max(k * CELL - start, 0), min((k + 1) * CELL - start, size)))
            for k in range(first, last + 1)
        ]

    return [((i, j), (ys, xs)) for i, ys in along(top, height) for j, xs in along(left, width)]


def cell_means(values: Tensor, top: int, left: int) -> Tensor:
    """Return the means over the parts of the cell in which values, (K, h, w), lie, (K, 8, 8).

    `top` and `left` say where they begin in the scene; what is beyond them counts as 0.
    """
    rows, columns = (
        one_hot((start + torch.arange(size, device=values.device)) % CELL // PART, CELL // PART).T.to(values)
        for start, size in ((top, values.shape[1]), (left, values.shape[2]))
    )
    with torch.autocast(values.device.type, enabled=False):
        return rows @ values @ columns.T / PART**2
