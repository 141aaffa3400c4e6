"""What a path means: a raster, a Sentinel-2 product, or several files that make one raster."""

from pathlib import Path

from rasterio.errors import RasterioError

from pellucid.data.band_files import files_behind, is_pattern, stack_files
from pellucid.data.band_stack import stack_bands
from pellucid.data.files import check_input
from pellucid.data.gdal_open import open_raster
from pellucid.data.safe_product import is_product, read_product


def find_source(path: Path, what: str) -> Path | str:
    """Return what `open_raster` opens in place of a path that a user names, for the `what` of a sentence."""
    if is_pattern(path):
        return stack_files(path, what)
    check_input(path, what)
    if is_product(path):
        product = read_product(path)
        return stack_bands(product.bands, f"the {what} {path}", product.tags)
    return path


def files_of(path: Path) -> list[Path]:
    """Return a raster file, all that a VRT is made of, or all that is read of a product or pattern."""
    if is_pattern(path):
        return files_behind(path)
    if is_product(path):
        return list(read_product(path).files)
    found, left = list[Path](), [path]
    while left:
        found.append(left.pop())
        if found[-1].suffix.lower() != ".vrt":
            continue
        try:
            with open_raster(found[-1]) as dataset:
                left += [each for each in map(Path, dataset.files) if each not in (*found, *left)]
        except RasterioError:  # whoever reads it says so
            continue
    return found
