"""How much GDAL keeps in memory of files that are slow to decode."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import rasterio

from pellucid.apply.memory import available_bytes
from pellucid.data.gdal_open import GDAL_ERRORS, open_raster
from pellucid.data.geotiff import Raster

# Blocks of files that GDAL keeps in memory, in bytes; its own limit is 5 % of the machine. Those of slow
# files come on top, as far as they take no more than this share of the memory that is free.
CACHE_BYTES, SLOW_SHARE = 128 * 2**20, 0.25
# Rows of pixels above and below a tile that are read with it, at most: those on which its clouds depend.
AROUND = 64


@contextmanager
def row_kept(rasters: Sequence[Raster | None] = (), tile: int = 0) -> Iterator[int]:
    """Let GDAL keep what it decodes of each raster for a row of tiles, where decoding is slow.

    So a block of JPEG 2000 is decoded once while tiles of that height are read row by row, and not for each
    row. Gives the bytes that this takes beyond `CACHE_BYTES`.
    """
    slow = sum(slow_bytes(raster.dataset, tile + 2 * AROUND) for raster in rasters if raster)
    more = int(min(slow, SLOW_SHARE * available_bytes()))
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES + more):
        yield more


def slow_bytes(dataset: Any, rows: int) -> int:
    """Return the bytes of the blocks of JPEG 2000 that hold so many rows, wherever these begin; 0 without."""
    share, left, seen, total = rows / dataset.height, [dataset.name], set[str](), 0
    while left:
        name = left.pop()
        seen.add(name)
        with suppress(*GDAL_ERRORS), open_raster(name) as file:  # whoever reads it says so
            if file.driver == "VRT":
                left += [inside for inside in file.files if inside not in (*seen, *left)]
            elif file.driver.startswith("JP2"):
                total += _block_bytes(file, math.ceil(share * file.height))
    return total


def _block_bytes(file: Any, rows: int) -> int:
    """Return the bytes of all blocks that so many rows of a file may touch."""
    height, width = file.block_shapes[0]
    blocks = min((rows + height - 2) // height + 1, -(-file.height // height))
    sizes = sum(np.dtype(dtype).itemsize for dtype in file.dtypes)
    return int(blocks * height * -(-file.width // width) * width * sizes)
