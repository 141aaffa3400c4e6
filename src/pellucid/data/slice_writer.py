"""Writing grey slices as PNG or TIFF, page by page, whole or not at all."""

import errno
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pellucid.data.checked_raster import NOT_READ_BACK
from pellucid.data.files import flush, temporary_beside
from pellucid.data.gdal_open import GDAL_ERRORS, open_raster
from pellucid.data.geotiff import georeference
from pellucid.data.ownership import NO_TAGS, SOFTWARE, save_image
from pellucid.data.slice_file import CENTIMETRE, INCH, TIFF, SliceInfo, read_slices
from pellucid.data.tiff_stack import WHITE, name_shape
from pellucid.data.working_file import explain_write_error
from pellucid.errors import InputError, WriteError

WRITABLE = (".png", *TIFF)
# Bytes above which the offsets of a classic TIFF may overflow.
CLASSIC_TIFF = 2**32 - 2**25
CM_PER_INCH = 2.54
# TIFF tag in which GDAL keeps metadata, and the type of a text.
GDAL_METADATA, ASCII = 42112, 2


@contextmanager
def write_slices(
    path: Path, info: SliceInfo, tags: Mapping[str, str] = NO_TAGS
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Yield a function that appends a page, (H, W) of `info.dtype`, to the PNG or TIFF at `path`.

    The file appears at the end, complete and read back; if anything fails, nothing is left. `tags` say what
    made it.

    Raises:
        ValueError: if a page has another shape or type, or pages are missing.
    """
    check_output(path, info)
    sums: list[int] = []
    with temporary_beside(path) as temporary:
        with _open_writer(temporary, info, tags) as append:

            def write(values: NDArray[Any]) -> None:
                if values.shape != (info.height, info.width) or values.dtype != info.dtype:
                    raise ValueError(
                        f"the page is {name_shape(values.shape)} of {values.dtype},"
                        f" announced was {info.height} x {info.width} of {info.dtype}"
                    )
                try:
                    append(values)
                except OSError as error:
                    raise explain_write_error(path, error) from error
                sums.append(_sum(values))

            yield write
        if len(sums) != info.num_pages:
            raise ValueError(f"{len(sums)} pages were written, {info.num_pages} announced")
        try:
            _write_geotiff(temporary, info)
        except (OSError, *GDAL_ERRORS) as error:
            raise explain_write_error(path, error) from error
        flush(temporary)
        if [_sum(values) for values in read_slices(temporary, is_image=False)] != sums:
            raise WriteError(f"{path} did not read back as written, check the disk")
        temporary.replace(path)


def check_output(path: Path, info: SliceInfo) -> None:
    """Refuse a file name whose format cannot hold what `info` describes."""
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise InputError(f"{path} has the suffix {suffix!r}, slices are written as {', '.join(WRITABLE)}")
    if suffix not in TIFF and (info.num_pages > 1 or info.dtype not in WHITE):
        found = f"{info.num_pages} pages" if info.num_pages > 1 else f"{info.dtype} values"
        raise InputError(f"{path} cannot hold {found}, a PNG has one page of 8 or 16 bit; name a .tif")
    # Above twice this limit, Pillow refuses to read a file, as it may be a decompression bomb.
    limit = Image.MAX_IMAGE_PIXELS
    if suffix not in TIFF and limit and info.height * info.width > 2 * limit:
        raise InputError(
            f"{path} would have {info.height} x {info.width} pixels, too many for a PNG; name a .tif"
        )


@contextmanager
def _open_writer(
    path: Path, info: SliceInfo, tags: Mapping[str, str]
) -> Iterator[Callable[[NDArray[Any]], object]]:
    """Yield a function that appends a page, compressed without loss."""
    if path.suffix.lower() not in TIFF:
        yield lambda values: save_image(Image.fromarray(values), path, tags, dpi=_find_dpi(info))
        return
    num_bytes = info.num_pages * info.height * info.width * info.dtype.itemsize
    with tifffile.TiffWriter(path, bigtiff=num_bytes > CLASSIC_TIFF) as writer:
        yield partial(
            writer.write,
            photometric="minisblack",
            compression="zlib",
            predictor=info.dtype in WHITE,
            resolution=info.resolution,
            resolutionunit=info.resolution_unit,
            description=_describe(info).encode() or None,
            software=SOFTWARE,
            metadata=None,
            extratags=_as_metadata(tags),
        )


def _write_geotiff(path: Path, info: SliceInfo) -> None:
    """Give the first page of a TIFF what GDAL alone reads."""
    if path.suffix.lower() not in TIFF:
        return
    found: dict[str, Any] = {} if info.nodata is None else {"nodata": info.nodata}
    if info.scaling != (1, 0):
        found |= {"scales": info.scaling[:1], "offsets": info.scaling[1:]}
    place = dict(info.place)
    if "gcps" in place:
        place["gcps"] = (place["gcps"], place.pop("crs"))
    found |= place
    if not found:
        return
    with open_raster(path, "r+") as dataset:
        for name, value in found.items():
            setattr(dataset, name, value)
    with open_raster(path) as dataset:  # GDAL may close a file on a full disk without a word
        kept = {*georeference(dataset), *(["nodata"] if dataset.nodata is not None else [])}
        if {"crs", "gcps", "nodata"} & {*found} - kept:
            raise OSError(errno.EIO, NOT_READ_BACK)


def _describe(info: SliceInfo) -> str:
    """Return the description of a TIFF: ImageJ's, wherever the distance of the slices is known."""
    text = info.description
    if not info.spacing:
        return text
    if not text and info.resolution_unit == CENTIMETRE:
        text = "ImageJ=1.54f\nimages=\nslices=\nunit=cm\nspacing=\n"
    lines = {"images": f"{info.num_pages}", "slices": f"{info.num_pages}", "spacing": f"{info.spacing:.9g}"}
    for name, value in lines.items():
        text = re.sub(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
    return text


def _as_metadata(tags: Mapping[str, str]) -> list[tuple[int, int, None, bytes, bool]]:
    """Return tags as one of the first page of a TIFF, which GDAL reads."""
    if not tags:
        return []
    root = ET.Element("GDALMetadata")
    for name, text in tags.items():
        ET.SubElement(root, "Item", name=name).text = text
    return [(GDAL_METADATA, ASCII, None, ET.tostring(root), True)]


def _find_dpi(info: SliceInfo) -> tuple[float, float] | None:
    """Return pixels per inch, which Pillow converts to a PNG's pixels per metre; None without a unit."""
    inches = {INCH: 1.0, CENTIMETRE: CM_PER_INCH}.get(info.resolution_unit)
    return (info.resolution[0] * inches, info.resolution[1] * inches) if info.resolution and inches else None


def _sum(values: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(values).tobytes())
