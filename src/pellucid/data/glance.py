"""A scene at a glance: decimated images of several sizes, from one pass over its file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

# What GDAL adds to a position before it is rounded down.
EPSILON = 1e-10


def read_small(dataset: Any, shapes: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
    """Return all bands decimated to each shape (h, w): (bands, h, w), pixels as GDAL takes them.

    The file is read once, and rows of blocks that none of the images needs are left out. This pays for a file
    without overviews, of which GDAL reads everything each time.
    """
    images = [np.empty((dataset.count, *shape), dataset.dtypes[0]) for shape in shapes]
    rows = [_nearest(dataset.height, shape[0]) for shape in shapes]
    columns = [_nearest(dataset.width, shape[1]) for shape in shapes]
    block = dataset.block_shapes[0][0]
    for first in range(0, dataset.height, block):
        wanted = [(at >= first) & (at < first + block) for at in rows]
        needed = np.concatenate([at[is_here] for at, is_here in zip(rows, wanted, strict=True)])
        if not needed.size:
            continue
        top, height = int(needed.min()), int(np.ptp(needed)) + 1
        for band in dataset.indexes:
            stored = dataset.read(band, window=Window(0, top, dataset.width, height))
            for image, at, is_here, across in zip(images, rows, wanted, columns, strict=True):
                image[band - 1, is_here] = stored[np.ix_(at[is_here] - top, across)]
    return images


def _nearest(size: int, count: int) -> NDArray[np.intp]:
    """Return which of `size` pixels GDAL takes for `count` of them."""
    at = (np.arange(count) + 0.5) * (size / count) + EPSILON
    return at.astype(np.intp).clip(max=size - 1)
