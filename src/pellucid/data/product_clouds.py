"""What a Sentinel-2 product of Level 2A says of its own clouds: scene classification and probability."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from pellucid.data.band_stack import BandFile, stack_bands
from pellucid.data.cloud_raster import SCL_CLOUD
from pellucid.data.geotiff import Raster
from pellucid.data.safe_product import is_product, read_product
from pellucid.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


class ProductClouds(Raster):
    """The cloud map of a product, by windows on the grid of its bands.

    A pixel is as cloudy as its probability says, and surely cloudy where its class is shadow, cloud of medium
    or high probability, or cirrus: probability knows neither shadow nor cirrus.

    Args:
        path: of the product.

    Raises:
        InputError: if it is no product, or one without a scene classification and a probability.
    """

    def __init__(self, path: Path) -> None:
        product = read_product(path) if is_product(path) else None
        classes, probability = (product.classes, product.probability) if product else (None, None)
        bands = [BandFile("SCL", classes, is_class=True)] if classes else []
        bands += [BandFile("CLDPRB", probability)] if probability else []
        if not product or not bands:
            found = (
                "has neither a scene classification nor a cloud probability" if product else "is no product"
            )
            raise InputError(
                f"{path} {found}, needed for --cloud product; give a Level-2A product, or a map of clouds"
            )
        grid = next(band.source for band in product.bands if band.name == "B02")
        self.has = tuple(band.name for band in bands)
        super().__init__(path, "cloud map", source=stack_bands(bands, f"the product {path}", grid=grid))

    def read(self, window: Window | None = None, size: int | None = None) -> "Tensor":
        """Return (1, H, W) float32 in [0, 1]."""
        import torch

        cloud: NDArray[np.float32] = np.zeros((), np.float32)
        for name, values in zip(self.has, self.read_array(window=window, size=size), strict=True):
            found = np.isin(values, SCL_CLOUD) if name == "SCL" else values / np.float32(100)
            cloud = np.maximum(cloud, found.astype(np.float32))
        return torch.from_numpy(cloud)[None].clamp(0, 1)
