"""How much GDAL keeps of files that are slow to decode."""

from pathlib import Path

import numpy as np
import rasterio.shutil
from products import write_product
from rasterio.env import get_gdal_config
from scenes import write

from pellucid.apply.decoded import CACHE_BYTES, row_kept, slow_bytes
from pellucid.data.band_names import LEVEL_2A
from pellucid.data.gdal_open import open_raster
from pellucid.data.raster import OpticalRaster


def test_rows_of_a_jpeg_2000_file_need_all_blocks_that_they_may_touch(tmp_path: Path) -> None:
    made = write(tmp_path / "a.tif", np.ones((2, 300, 200), np.uint16))
    path = tmp_path / "a.jp2"
    rasterio.shutil.copy(made, path, driver="JP2OpenJPEG", BLOCKXSIZE=64, BLOCKYSIZE=64)
    row = 64 * 4 * 64 * 2 * 2  # of blocks, 4 across, in bytes of 2 bands of 16 bit
    with open_raster(path) as file:
        found = [slow_bytes(file, rows) for rows in (1, 2, 65, 66, 300)]
    assert found == [row, 2 * row, 2 * row, 3 * row, 5 * row]
    with open_raster(made) as file:
        assert slow_bytes(file, 100) == 0


def test_all_bands_of_a_product_are_kept_and_no_longer_than_it_is_read(tmp_path: Path) -> None:
    before = get_gdal_config("GDAL_CACHEMAX")
    with OpticalRaster(write_product(tmp_path), LEVEL_2A) as raster:
        needed = slow_bytes(raster.dataset, 60)
        sides = [120 // (metres // 10) for metres in (10,) * 4 + (20,) * 6 + (60,) * 2]
        assert needed == sum(2 * side**2 for side in sides)
        with row_kept([None, raster], 60) as more:
            assert (more, get_gdal_config("GDAL_CACHEMAX")) == (needed, CACHE_BYTES + needed)
    assert get_gdal_config("GDAL_CACHEMAX") == before
