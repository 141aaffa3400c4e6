"""GeoTIFFs for tests."""

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine


def write_raster(path: Path, values: NDArray[np.generic], names: tuple[str, ...]) -> None:
    """Write (C, H, W) values as they are, with the folders above them; `names` describe the bands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype=values.dtype, **size, **place) as file:
        file.write(values)
        file.descriptions = names
