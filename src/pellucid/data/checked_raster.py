"""Writing a GeoTIFF that is read back: GDAL may close a file on a full disk without a word."""

import errno
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from pellucid.data.files import flush
from pellucid.data.gdal_open import open_raster
from pellucid.data.ownership import TAG

NOT_READ_BACK = "it did not read back as written"


class CheckedRaster:
    """A GeoTIFF that is being written, and checksums of what was written; `dataset` is rasterio's."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.parts: list[tuple[list[int], Window, int]] = []

    def write(self, values: NDArray[Any], window: Window | None = None) -> None:
        """Write (C, H, W), all bands, in the window or everywhere."""
        place = window or Window(0, 0, self.dataset.width, self.dataset.height)
        self.dataset.write(values, window=place)
        stored = values.astype(self.dataset.dtypes[0])
        self.parts.append((list(self.dataset.indexes), place, checksum(stored)))


@contextmanager
def write_raster(path: Path, **profile: Any) -> Iterator[CheckedRaster]:
    """Yield a new GeoTIFF to write to, marked as ours; afterwards it is on the disk and was read back.

    Raises:
        OSError: if it was not written as it should be.
    """
    with open_raster(path, "w", driver="GTiff", **profile) as dataset:
        dataset.update_tags(**TAG)
        raster = CheckedRaster(dataset)
        yield raster
    flush(path, forget=True)
    with open_raster(path) as dataset:
        for bands, window, wanted in raster.parts:
            if checksum(dataset.read(bands, window=window)) != wanted:
                raise OSError(errno.EIO, NOT_READ_BACK)


def checksum(values: NDArray[Any]) -> int:
    """Return the CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).data)


def are_equal(first: Path, second: Path, *, side: int) -> bool:
    """Return whether two rasters hold the same pixels in the same type, by windows of that side."""
    with open_raster(first) as one, open_raster(second) as two, ThreadPoolExecutor(1) as beside:
        if (one.shape, one.dtypes) != (two.shape, two.dtypes):
            return False
        windows = (
            Window(left, top, min(side, one.width - left), min(side, one.height - top))
            for top, left in product(range(0, one.height, side), range(0, one.width, side))
        )
        is_float = one.dtypes[0][0] == "f"

        def is_equal(window: Window) -> bool:
            read = beside.submit(one.read, window=window)
            return np.array_equal(two.read(window=window), read.result(), equal_nan=is_float)

        return all(map(is_equal, windows))
