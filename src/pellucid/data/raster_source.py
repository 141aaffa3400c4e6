"""What a path means: a raster, a Sentinel-2 product, or several files that make one raster."""

import re
from pathlib import Path

from pellucid.data.band_files import files_behind, is_pattern, stack_files
from pellucid.data.band_stack import stack_bands
from pellucid.data.files import check_input
from pellucid.data.gdal_open import GDAL_ERRORS, open_raster
from pellucid.data.safe_product import is_product, read_product
from pellucid.data.shards import find_member
from pellucid.data.stac_files import find_item_files, is_item, stack_item
from pellucid.errors import InputError

# Products of Sentinel-1 that are not on a map grid, and how that is mended.
_IN_RADAR_GEOMETRY = re.compile(r"^S1[A-D][-_]\w\w[-_](GRD|SLC)", re.IGNORECASE)
TO_CORRECT = (
    "take the terrain-corrected product (RTC), or correct it with the Terrain Correction of SNAP, with "
    "pyroSAR or with ASF HyP3"
)


def find_source(path: Path, what: str) -> Path | str:
    """Return what `open_raster` opens in place of a path that a user names, for the `what` of a sentence."""
    if is_pattern(path):
        return stack_files(path, what)
    if member := find_member(path, what):
        return member
    check_input(path, what)
    refuse_radar_geometry(path, what)
    if is_item(path):
        return stack_item(path, what)
    if is_product(path):
        product = read_product(path)
        return stack_bands(product.bands, f"the {what} {path}", product.tags)
    return path


def refuse_radar_geometry(path: Path, what: str) -> None:
    """Refuse a product of Sentinel-1 in the geometry of the radar, as its name says.

    A GeoTIFF of such a name may be what was made of it; its control points tell.
    """
    found = _IN_RADAR_GEOMETRY.match(path.name)
    if found and path.suffix.lower() in (".safe", ".zip"):
        raise InputError(
            f"the {what} {path} is by its name a {found[1].upper()} product, in the geometry of the radar; "
            f"needed is backscatter on a map grid: {TO_CORRECT}"
        )


def files_of(path: Path) -> list[Path]:
    """Return a raster file, all that a VRT is made of, or all that is read of a product, item or pattern."""
    refuse_radar_geometry(path, "radar scene")
    if is_pattern(path):
        return files_behind(path)
    if is_item(path):
        return find_item_files(path)
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
        except GDAL_ERRORS:  # whoever reads it says so
            continue
    return found
