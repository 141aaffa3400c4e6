"""A scene at a glance: decimated images of several sizes, from one pass over its file."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

# What GDAL adds to a position before it is rounded down.
EPSILON = 1e-10


def read_small(dataset: Any, shapes: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
    """Return all bands decimated to each shape (h, w): (bands, h, w), pixels as GDAL takes them.

    The file is read once, and blocks that none of the images needs are left out. This pays for a file without
    overviews, of which GDAL reads everything each time. All bands of a block follow each other: they may be
    stored as one, and those of a whole row of blocks are more than GDAL keeps.
    """
    images = [np.empty((dataset.count, *shape), dataset.dtypes[0]) for shape in shapes]
    rows = [_nearest(dataset.height, shape[0]) for shape in shapes]
    columns = [_nearest(dataset.width, shape[1]) for shape in shapes]
    height, width = dataset.block_shapes[0]
    for top, left in product(range(0, dataset.height, height), range(0, dataset.width, width)):
        downs = [_within(at, top, height) for at in rows]
        acrosses = [_within(at, left, width) for at in columns]
        parts = [
            (image, down, across, np.ix_(y[down] - top, x[across] - left))
            for image, down, across, y, x in zip(images, downs, acrosses, rows, columns, strict=True)
            if down.start < down.stop and across.start < across.stop
        ]
        if not parts:
            continue
        window = Window(left, top, min(width, dataset.width - left), min(height, dataset.height - top))
        for band in dataset.indexes:
            stored = dataset.read(band, window=window)
            for image, down, across, inner in parts:
                image[band - 1, down, across] = stored[inner]
    return images


def _within(at: NDArray[np.intp], first: int, count: int) -> slice:
    """Return which of ascending positions lie in `count` pixels from the first on."""
    start, stop = np.searchsorted(at, (first, first + count))
    return slice(int(start), int(stop))


def _nearest(size: int, count: int) -> NDArray[np.intp]:
    """Return which of `size` pixels GDAL takes for `count` of them."""
    at = (np.arange(count) + 0.5) * (size / count) + EPSILON
    return at.astype(np.intp).clip(max=size - 1)
