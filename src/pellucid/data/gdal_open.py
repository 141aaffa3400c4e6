"""Opening rasters with GDAL, and what it says of a file that it cannot read."""

import ctypes
import re
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from pellucid.data.files import stands_for
from pellucid.errors import InputError

# What rasterio raises for what GDAL says, if not an OSError.
GDAL_ERRORS = (RasterioError, CPLE_BaseError)
# The first bytes of TIFF and BigTIFF of either byte order (TIFF 6.0, BigTIFF design).
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_raster(path: Path | str, mode: str = "r", **profile: Any) -> Any:
    """Return the dataset that rasterio opens, without its warning about files that are not georeferenced."""
    silence_libtiff()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(path, mode, **profile)
        except UnicodeEncodeError as error:  # GDAL takes no other names
            name = stands_for(Path(path))
            raise InputError(f"the name of {name} is not in UTF-8, which rasters need; rename it") from error


@cache
def silence_libtiff() -> None:
    """Keep libtiff from printing, in lines of its own, what GDAL raises: that a disk is full, for instance.

    This is known of the libraries that come with rasterio; others may go on to print.
    """
    package = Path(rasterio.__file__).parent
    for folder in (package.with_name("rasterio.libs"), package / ".dylibs"):  # on Linux, on macOS
        for library in folder.glob("libtiff*"):
            with suppress(OSError, AttributeError):
                ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, for a sentence."""
    return str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")


def why_unreadable(path: Path, error: Exception) -> str:
    """Return why a file cannot be opened, and the way out: what follows its name in a sentence."""
    if path.is_dir():
        return "is a folder, and no product; give a file in it"
    with suppress(OSError), path.open("rb") as file:
        if file.read(4) in TIFF_STARTS:
            return f"is damaged ({first_line(error)}), copy or download it again"
    return f"is no readable raster ({first_line(error)}), give a GeoTIFF"


def colors_of(dataset: Any) -> tuple[ColorInterp, ...]:
    """Return rasterio's `colorinterp`; what GDAL last found odd, in this or another file, is not raised."""
    with suppress(CPLE_BaseError):
        return tuple(dataset.colorinterp)
    return tuple(dataset.colorinterp)


def find_opacity(dataset: Any) -> int | None:
    """Return the number of the band of opacity, from 1; a band that is described as another is none."""
    for i, (kind, text) in enumerate(zip(colors_of(dataset), dataset.descriptions, strict=True), start=1):
        if kind == ColorInterp.alpha and (not text or re.search("alpha|opacity|mask", text, re.IGNORECASE)):
            return i
    return None
