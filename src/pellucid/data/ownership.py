"""Which files pellucid wrote: only those are replaced. A raster or picture says so in its own metadata."""

from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from rasterio.errors import RasterioError

from pellucid.data.gdal_open import open_raster
from pellucid.errors import InputError

# The tag of a GeoTIFF; what pictures, and slices in TIFF, name as their software.
TAG, SOFTWARE = {"PELLUCID": "result"}, "pellucid"
TIFF, JPEG = (".tif", ".tiff"), (".jpg", ".jpeg")
# What a page says near its beginning.
GENERATOR, NUM_FIRST = b'<meta name="generator" content="pellucid">', 4096


def check_replaceable(path: Path) -> None:
    """Refuse to replace a file that pellucid did not write; one that is not there may be written."""
    if path.exists() and not path.is_dir() and not is_ours(path):
        raise InputError(
            f"cannot write {path}: a file is there that pellucid did not write; name another, or move it away"
        )


def is_ours(path: Path) -> bool:
    """Return whether a raster, a picture or a page says that pellucid wrote it."""
    suffix = path.suffix.lower()
    try:
        if suffix in TIFF:
            with open_raster(path) as file:
                tags = file.tags()
            return bool(tags.keys() & TAG.keys()) or tags.get("TIFFTAG_SOFTWARE") == SOFTWARE
        if suffix == ".png" or suffix in JPEG:
            with Image.open(path) as image:
                said = image.info.get("comment" if suffix in JPEG else "Software")
            return said in (SOFTWARE, SOFTWARE.encode())
        if suffix == ".html":
            with path.open("rb") as page:
                return GENERATOR in page.read(NUM_FIRST)
    except (OSError, RasterioError, UnidentifiedImageError, ValueError, SyntaxError):
        return False
    return False


def save_image(image: Image.Image, path: Path, **options: Any) -> None:
    """Save a picture that says that pellucid wrote it; the suffix names the format."""
    suffix = path.suffix.lower()
    if suffix == ".png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("Software", SOFTWARE)
    elif suffix in JPEG:
        options["comment"] = SOFTWARE
    image.save(path, **options)
