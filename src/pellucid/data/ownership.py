"""Which files pellucid wrote, and what made them: only those are replaced.

A raster, picture, page, style, ONNX file or catalogue entry says so in its own metadata, by names of tags.
"""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from pellucid.data.gdal_open import GDAL_ERRORS, open_raster
from pellucid.data.text_file import parse_json
from pellucid.errors import InputError

# The tag of a GeoTIFF; what pictures, and slices in TIFF, name as their software. What made a file is said in
# further tags that begin like the first.
TAG, SOFTWARE = {"PELLUCID": "result"}, "pellucid"
PREFIX = "PELLUCID_"
TIFF, JPEG = (".tif", ".tiff"), (".jpg", ".jpeg")
# What a page says near its beginning.
GENERATOR, NUM_FIRST = b'<meta name="generator" content="pellucid">', 4096
# Bytes of an ONNX file in which its producer stands.
NUM_ONNX = 64
# The line of a style that says that pellucid wrote it; QGIS drops it when the user saves another there.
STYLE_MARK = f"<!-- written by {SOFTWARE} -->"
# Characters of a style or catalogue entry in which the mark lies.
LONGEST_TEXT = 2**20
NO_TAGS: Mapping[str, str] = MappingProxyType({})


def check_replaceable(path: Path, *, start: str | None = None) -> None:
    """Refuse to replace a file that pellucid did not write; one that is not there may be written.

    A text that names no software is ours if it begins with `start`.
    """
    if path.exists() and not path.is_dir() and not (begins(path, start) if start else is_ours(path)):
        raise InputError(
            f"cannot write {path}: a file is there that pellucid did not write; name another, or move it away"
        )


def begins(path: Path, start: str) -> bool:
    """Return whether a file is a text that begins so."""
    try:
        return path.is_file() and path.read_bytes().startswith(start.encode())
    except OSError:
        return False


def is_ours(path: Path) -> bool:
    """Return whether a file says that pellucid wrote it."""
    return bool(read_tags(path))


def read_tags(path: Path) -> dict[str, str]:
    """Return what a file says of what made it, by tag; {} if pellucid did not write it, or it is a pipe."""
    suffix = path.suffix.lower()
    if not path.is_file():  # a pipe, which would be waited for
        return {}
    try:
        if suffix in TIFF:
            tags = _read_raster(path)
        elif suffix == ".png" or suffix in JPEG:
            tags = _read_picture(path, is_jpeg=suffix in JPEG)
        elif suffix == ".onnx":
            tags = TAG if SOFTWARE.encode() in _read_first(path, NUM_ONNX) else {}
        else:
            tags = _read_text(path) if suffix in (".json", ".qml", ".html") else {}
    except (OSError, *GDAL_ERRORS, UnidentifiedImageError, ValueError, SyntaxError):
        return {}
    return {name: text for name, text in tags.items() if name in TAG or name.startswith(PREFIX)}


def _read_raster(path: Path) -> dict[str, str]:
    with open_raster(path) as file:
        tags = dict(file.tags())
    return tags | TAG if tags.get("TIFFTAG_SOFTWARE") == SOFTWARE else tags


def _read_picture(path: Path, *, is_jpeg: bool) -> dict[str, str]:
    with Image.open(path) as image:
        found = dict(image.info)
    if not is_jpeg:
        texts = {
            name: text for name, text in found.items() if isinstance(name, str) and isinstance(text, str)
        }
        return texts | TAG if texts.get("Software") == SOFTWARE else {}
    comment = found.get("comment", b"")
    said, _, rest = (comment if isinstance(comment, bytes) else comment.encode()).decode().partition("\n")
    return {**(parse_json(rest) if rest else {}), **TAG} if said == SOFTWARE else {}


def _read_text(path: Path) -> dict[str, str]:
    if path.suffix.lower() == ".html":
        return TAG if GENERATOR in _read_first(path, NUM_FIRST) else {}
    with path.open(encoding="utf-8") as file:
        text = file.read(LONGEST_TEXT)
    if path.suffix.lower() == ".qml":
        return TAG if STYLE_MARK in text else {}
    found = parse_json(text)
    properties = found.get("properties") if isinstance(found, dict) else None
    software = properties.get("processing:software") if isinstance(properties, dict) else None
    return TAG if isinstance(software, dict) and SOFTWARE in software else {}


def _read_first(path: Path, num_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(num_bytes)


def save_image(image: Image.Image, path: Path, tags: Mapping[str, str] = NO_TAGS, **options: Any) -> None:
    """Save a picture that says that pellucid wrote it, and with `tags` how; the suffix names the format."""
    image.save(path, **_owned(path.suffix.lower(), tags, options))


def encode_png(image: Image.Image) -> bytes:
    """Return a picture as the bytes of a file that says that pellucid wrote it."""
    made = BytesIO()
    image.save(made, "PNG", **_owned(".png", NO_TAGS, {}))
    return made.getvalue()


def _owned(suffix: str, tags: Mapping[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with what says who wrote a picture, and how."""
    if suffix == ".png":
        options = {"compress_level": 4, **options, "pnginfo": PngInfo()}  # half the time of 6, 1 % larger
        for name, text in {"Software": SOFTWARE, **tags}.items():
            options["pnginfo"].add_text(name, text)
    elif suffix in JPEG:
        options["comment"] = f"{SOFTWARE}\n{json.dumps(dict(tags))}" if tags else SOFTWARE
    return options
