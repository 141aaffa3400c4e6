"""What the tiles of a scene say about its ground, cell by cell: it adds, in any order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise, product

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pellucid.data.batch import Batch
from pellucid.data.sums import Sums
from pellucid.networks._cells import REACH, RESIDUAL_CELL, Means

# Side in pixels of the cells of a scene, each of which has its own sums, and of their parts, whose means tell
# a tile what the regression misses around it.
CELL, PART = 512, 64
# Rows that are summed up at once: of a part on a GPU, and as many as stay in the cache of a core of a CPU.
STRIP = 8
# How far cells count for a tile: the deviation of a Gaussian, in pixels; and what the whole scene counts for.
NEAR_PX, FAR = 768.0, 0.05

At = tuple[int, int]


@dataclass(frozen=True)
class SceneSums:
    """Sums and bands of each cell, by its row and column; and the means of its parts, see `sum_cell`."""

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


def sum_cell(
    phi: Tensor, values: Tensor, weight: Tensor, *, top: int = 0, left: int = 0
) -> tuple[Sums, Tensor]:
    """Return the sums of a cell, or of a piece of one, and the means of its parts, (1 + D + C, 8, 8).

    Means are of the weight, and of features and values times it; what is beyond the piece counts as 0. Both
    are found in one go, strip by strip.

    Args:
        phi: (1, D, h, w), features.
        values: (1, C, h, w), finite.
        weight: (1, 1, h, w), 0 where a pixel does not count.
        top: row of the scene at which the piece begins.
        left: column at which it does.
    """
    height, width = weight.shape[-2:]
    columns = one_hot((left + torch.arange(width, device=weight.device)) % CELL // PART, CELL // PART)
    columns = columns.float()  # (w, 8)
    step = STRIP if weight.device.type == "cpu" else PART
    inner = range(top // step * step + step, top + height, step)
    edges = [0, *(row - top for row in inner), height]
    parts, means = list[Sums](), columns.new_zeros(1 + phi.shape[1] + values.shape[1], *2 * (CELL // PART,))
    with torch.autocast(weight.device.type, enabled=False):
        for start, stop in pairwise(edges):
            x, y, w = (image[:, :, start:stop].float().flatten(2) for image in (phi, values, weight))
            weighted = x * w
            parts.append(Sums.of_weighted(weighted, x, y, w))
            lines = torch.cat([w, weighted, y * w], 1)[0].unflatten(1, (stop - start, width)).sum(1)
            means[:, (top + start) % CELL // PART] += lines @ columns
    return sum(parts[1:], parts[0]), means / PART**2
