"""Bands that lie in files of their own, of several resolutions perhaps, as one raster on the finest grid."""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from pellucid.data.gdal_open import GDAL_ERRORS, first_line, open_raster
from pellucid.errors import InputError

# Side of the blocks that the raster offers, in pixels.
BLOCK = 512
# Of JPEG 2000: bytes of an empty box, and the marker that ends a code stream (ISO/IEC 15444-1).
SMALLEST_BOX, END = 8, b"\xff\xd9"


@dataclass(frozen=True)
class BandFile:
    """A band that lies in a file.

    Attributes:
        name: what the band is called in the stack.
        source: the file, as GDAL opens it.
        number: of the band in the file, from 1.
        scale: physical value = stored x scale + offset; None: what the file declares.
        nodata: number that marks missing data; None: what the file declares.
        is_class: its values are classes, and are not interpolated.
    """

    name: str
    source: str
    number: int = 1
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    is_class: bool = False


def stack_bands(
    bands: Sequence[BandFile], what: str, tags: Mapping[str, str] | None = None, *, grid: str | None = None
) -> str:
    """Return a raster of all bands as the text of a GDAL virtual raster, which `open_raster` opens.

    It lies on the grid of the finest file, or of the file `grid`. Coarser bands are interpolated between
    their pixel centres, without a share of missing pixels, window by window as they are read.

    Args:
        bands: in their order.
        what: they are together, for a sentence.
        tags: metadata of the raster.
        grid: file on whose grid the raster lies.

    Raises:
        InputError: if a file cannot be opened, lies in another CRS than the others, or does not overlap them.
    """
    with ExitStack() as stack:
        opened = {each: _open(each, what, stack) for each in dict.fromkeys(band.source for band in bands)}
        base = _open(grid, what, stack) if grid else min(opened.values(), key=_pixel_area)
        for band in bands:
            _check_fits(band, opened[band.source], base, what)
        root = _new_root(base.width, base.height, base)
        for key, value in (tags or {}).items():
            ET.SubElement(_child(root, "Metadata"), "MDI", key=key).text = value
        dtype = np.result_type(*(opened[band.source].dtypes[band.number - 1] for band in bands))
        for number, band in enumerate(bands, start=1):
            _add_band(root, number, band, opened[band.source], base, str(dtype))
        return ET.tostring(root, encoding="unicode")


def _open(source: str, what: str, stack: ExitStack) -> Any:
    try:
        dataset = stack.enter_context(open_raster(source))
        if dataset.driver.startswith("JP2") and _is_cut(Path(source)):
            raise InputError(f"{what} has the file {_show(source)}, which ends too early; download it again")
        return dataset
    except GDAL_ERRORS as error:
        raise InputError(
            f"{what} has the file {_show(source)}, which is no readable raster ({first_line(error)}); copy "
            "or download it again"
        ) from error


def _is_cut(path: Path) -> bool:
    """Whether a JPEG 2000 file ends before its last box does; one in an archive is whole if that is."""
    if not path.is_file():
        return False
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            length = int.from_bytes(file.read(4), "big")
            if length == 1:  # the length follows the kind of the box, in 8 bytes
                file.seek(4, os.SEEK_CUR)
                length = int.from_bytes(file.read(8), "big")
            if length < SMALLEST_BOX:  # to the end of the file, which a code stream marks
                file.seek(-len(END), os.SEEK_END)
                return file.read() != END
            at += length
    return at > size


def _show(source: str) -> str:
    """Return the name of a file, also in an archive."""
    return Path(source).name


def _pixel_area(dataset: Any) -> float:
    return abs(dataset.transform.determinant)


def _check_fits(band: BandFile, dataset: Any, base: Any, what: str) -> None:
    """Refuse a band that has another CRS than the finest one, is rotated against it, or lies elsewhere."""
    if not 1 <= band.number <= dataset.count:
        raise InputError(
            f"{what}: {_show(band.source)} has no band {band.number}, give the file of {band.name}"
        )
    if dataset.crs != base.crs:
        found = " and ".join(each.crs.to_string() if each.crs else "no CRS" for each in (dataset, base))
        raise InputError(
            f"{what} has bands in more than one CRS ({found}; {_show(band.source)} and {_show(base.name)}), "
            "one is needed: give files of one place"
        )
    left, top, width, height = _place(dataset, base)
    if left >= base.width or top >= base.height or left + width <= 0 or top + height <= 0:
        raise InputError(
            f"{what}: {_show(band.source)} does not overlap {_show(base.name)}, give files of one place"
        )


def _place(dataset: Any, base: Any) -> tuple[float, float, float, float]:
    """Return column and row of the first corner, width and height of a file in pixels of another."""
    to_base = ~base.transform @ dataset.transform
    left, top = to_base @ (0, 0)
    right, bottom = to_base @ (dataset.width, dataset.height)
    return tuple(_tidy(value) for value in (left, top, right - left, bottom - top))  # type: ignore[return-value]


def _tidy(value: float) -> float:
    """Return a number of pixels without the noise of its calculation."""
    return float(round(value)) if math.isclose(value, round(value), abs_tol=1e-6) else value


def _new_root(width: int, height: int, place: Any) -> ET.Element:
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if place.crs:
        ET.SubElement(root, "SRS").text = place.crs.to_wkt()
    if not place.transform.is_identity:
        ET.SubElement(root, "GeoTransform").text = ", ".join(f"{x!r}" for x in place.transform.to_gdal())
    return root


def _child(parent: ET.Element, name: str) -> ET.Element:
    """Return the child of that name, made if it is missing."""
    found = parent.find(name)
    return ET.SubElement(parent, name) if found is None else found


def _add_band(root: ET.Element, number: int, band: BandFile, dataset: Any, base: Any, dtype: str) -> None:
    nodata = dataset.nodatavals[band.number - 1] if band.nodata is None else band.nodata
    element = _new_band(root, number, dtype, nodata)
    ET.SubElement(element, "Description").text = band.name
    declared = {"Offset": dataset.offsets, "Scale": dataset.scales}
    for name, given in (("Offset", band.offset), ("Scale", band.scale)):
        ET.SubElement(element, name).text = repr(declared[name][band.number - 1] if given is None else given)
    place = _place(dataset, base)
    is_same = place == (0, 0, dataset.width, dataset.height)
    source = band.source
    if not is_same and nodata is not None:
        source = _with_nodata(band, dataset, dtype, nodata)
    part = _add_source(element, source, 1 if source != band.source else band.number, dataset, place)
    if not is_same and not band.is_class:
        part.set("resampling", "bilinear")
    if nodata is not None:
        ET.SubElement(part, "NODATA").text = repr(nodata)


def _with_nodata(band: BandFile, dataset: Any, dtype: str, nodata: float) -> str:
    """Return the band as a raster of its own that declares its missing data, and interpolates without."""
    root = _new_root(dataset.width, dataset.height, dataset)
    element = _new_band(root, 1, dtype, nodata)
    _add_source(element, band.source, band.number, dataset, (0, 0, dataset.width, dataset.height))
    return ET.tostring(root, encoding="unicode")


def _new_band(root: ET.Element, number: int, dtype: str, nodata: float | None) -> ET.Element:
    kind = "Byte" if dtype == "uint8" else dtype.capitalize().replace("Ui", "UI")
    names = {"dataType": kind, "band": str(number), "blockXSize": str(BLOCK), "blockYSize": str(BLOCK)}
    element = ET.SubElement(root, "VRTRasterBand", names)
    if nodata is not None:
        ET.SubElement(element, "NoDataValue").text = repr(nodata)
    return element


def _add_source(
    element: ET.Element, source: str, number: int, dataset: Any, place: tuple[float, float, float, float]
) -> ET.Element:
    """Add where the pixels of a band come from: all of a file, at a place in the raster."""
    part = ET.SubElement(element, "ComplexSource")
    ET.SubElement(part, "SourceFilename", relativeToVRT="0", shared="0").text = source
    ET.SubElement(part, "SourceBand").text = str(number)
    whole = (0, 0, dataset.width, dataset.height)
    for name, rectangle in (("SrcRect", whole), ("DstRect", place)):
        values = zip(("xOff", "yOff", "xSize", "ySize"), rectangle, strict=True)
        ET.SubElement(part, name, {key: repr(value) for key, value in values})
    return part
