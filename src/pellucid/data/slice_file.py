"""Reading grey slices, upright: PNG, TIFF, `.npy`, Zarr; 8 or 16 bit or floating point, one or a stack.

They are read page by page, so that a stack may be larger than the memory.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from pellucid.data.array_stack import ARRAYS, is_array, open_array
from pellucid.data.files import check_input, glob_files
from pellucid.data.gdal_open import GDAL_ERRORS, first_line, open_raster
from pellucid.data.geotiff import enlarge_place, georeference
from pellucid.data.tiff_stack import (
    ORIENTATION,
    SIGNED,
    UPRIGHT,
    WHITE,
    TiffStack,
    is_lying,
    to_grey,
    turn_upright,
)
from pellucid.errors import InputError

TIFF = (".tif", ".tiff")
PICTURES = (".png", *TIFF, ".jpg", ".jpeg", ".bmp")
READABLE = (*PICTURES, *ARRAYS)

# Units of length in a centimetre, by their names in OME-XML, where micrometres are the default.
PER_CENTIMETRE = {"nm": 1e7, "µm": 1e4, "um": 1e4, "mm": 10.0, "cm": 1.0, "m": 0.01}
# What floating-point values may exceed [0, 1] by.
ROUNDING = 1e-6
# Pillow's names of grey pixels.
_GREY = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16"}
# TIFF 6.0, tags 296 (ResolutionUnit) and 262 (PhotometricInterpretation).
NO_UNIT, INCH, CENTIMETRE = 1, 2, 3
# What the libraries raise for files that are damaged or in another format.
_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, ValueError, KeyError, EOFError, MemoryError, struct.error, zlib.error),
    *(TypeError, AttributeError, ArithmeticError, NotImplementedError),
    *(tifffile.TiffFileError, *GDAL_ERRORS, Image.DecompressionBombError),
)


@dataclass(frozen=True)
class SliceInfo:
    """What a file of slices holds or will hold: uint8, uint16, int16 or floating point.

    Attributes:
        resolution: pixels per unit, along x and y; None if the file does not state it.
        resolution_unit: TIFF's number of the unit: 1 none, 2 inch, 3 centimetre.
        description: the text in a TIFF, for instance ImageJ's unit.
        spacing: from slice to slice, in the unit of the resolution; None if the file does not state it.
        place: where the pixels of a GeoTIFF lie, as `georeference` returns it.
        nodata: the value that marks missing data, if the file declares one.
        scaling: scale and offset that make other values of those stored.
    """

    num_pages: int
    height: int
    width: int
    dtype: np.dtype[Any]
    resolution: tuple[float, float] | None = None
    resolution_unit: int = NO_UNIT
    description: str = ""
    spacing: float | None = None
    place: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    nodata: float | None = None
    scaling: tuple[float, float] = (1.0, 0.0)

    def find_missing(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where (H, W) holds no data."""
        missing = np.isnan(values)
        return missing if self.nodata is None else missing | (values == self.nodata)

    def enlarged(self, factor: int, *, depth: int = 1) -> Self:
        """Return what is stated of slices of `factor` times as many rows and columns, `depth` as many."""
        return replace(
            self,
            num_pages=self.num_pages * depth,
            height=self.height * factor,
            width=self.width * factor,
            resolution=self.resolution and (self.resolution[0] * factor, self.resolution[1] * factor),
            spacing=self.spacing and self.spacing / depth,
            place=enlarge_place(self.place, factor),
        )


def read_info(path: Path) -> SliceInfo:
    """Return what the file holds, from its header alone."""
    with errors_named(path):
        if is_array(path):
            return _describe_array(path)
        if _is_tiff(path):
            with tifffile.TiffFile(path) as file:
                return _describe_tiff(path, file)
        with Image.open(path) as image:
            return _describe_image(path, image)


def read_slice(path: Path, page: int = 0) -> NDArray[Any]:
    """Return page `page`, counted from 0, (H, W) in the type of the file; larger is brighter.

    Raises:
        InputError: if values are signed or, in floating point, outside [0, 1] or NaN, or the page has another
            size than the first.
        IndexError: if there is no such page.
    """
    (values,) = _read(path, [page])
    return values


def read_slices(path: Path, *, is_image: bool = True) -> Iterator[NDArray[Any]]:
    """Yield every page as `read_slice` returns it, and open the file only once.

    Values outside [0, 1] are refused in an image; otherwise all that a file holds is returned.
    """
    return _read(path, None, is_image=is_image)


def to_unit(values: NDArray[Any]) -> NDArray[np.float32]:
    """Map values to [0, 1] by the full scale of their type: uint8 / 255, uint16 / 65535."""
    return np.asarray(values / np.float32(WHITE.get(values.dtype, 1.0)), dtype=np.float32)


def from_unit(values: NDArray[np.floating[Any]], dtype: DTypeLike) -> NDArray[Any]:
    """Map [0, 1] to the full scale of `dtype`, clipped, and rounded if that is an integer type."""
    dtype = np.dtype(dtype)
    white = WHITE.get(dtype)
    values = np.clip(values, 0, 1)
    return (values if white is None else np.rint(values * np.float64(white))).astype(dtype)


def find_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the slice files in a folder, sorted, without hidden files and folders."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name a folder of slices")
    found = [path for path in glob_files(folder, pattern) if path.suffix.lower() in READABLE]
    if not found:
        raise InputError(
            f"no slice ({', '.join(READABLE)}) in {folder} fits {pattern!r}; change the folder or the pattern"
        )
    return found


def is_folder(source: Path) -> bool:
    """Whether the slices lie in files of a folder; a Zarr is one file to the user."""
    return source.is_dir() and not is_array(source)


def _is_tiff(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise InputError(f"{path} has the suffix {suffix!r}, slices are read from {', '.join(READABLE)}")
    return suffix in TIFF


@contextmanager
def errors_named(path: Path, what: str = "slice") -> Iterator[None]:
    """Turn what the libraries raise into an error that names the file, which is a `what` to the user."""
    check_input(path, what)
    try:
        yield
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(
            f"{path} is damaged or no {path.suffix[1:].upper()} file ({first_line(error)});"
            " copy or export it again"
        ) from error


def _read(path: Path, pages: list[int] | None, *, is_image: bool = True) -> Iterator[NDArray[Any]]:
    with errors_named(path):
        if is_array(path):
            yield from _read_array(path, pages, is_image=is_image)
        elif _is_tiff(path):
            with tifffile.TiffFile(path) as file:
                stack = TiffStack(path, file)
                for page in range(stack.num_slices) if pages is None else pages:
                    values = stack.read(page)
                    if is_image:
                        _check_values(path, page, values)
                    yield values
        else:
            with Image.open(path) as image:
                _describe_image(path, image)
                if pages and pages != [0]:
                    raise IndexError(f"{path} has one page, there is no page {pages[0]}")
                yield turn_upright(to_grey(path, np.asarray(image)), find_orientation(image))


def _read_array(path: Path, pages: list[int] | None, *, is_image: bool) -> Iterator[NDArray[Any]]:
    stack = open_array(path)
    for page in range(len(stack)) if pages is None else pages:
        values = stack.read(page)
        if is_image:
            _check_values(path, page, values)
        yield values


def _describe_array(path: Path) -> SliceInfo:
    stack = open_array(path)
    info = SliceInfo(len(stack), *stack.shape, stack.dtype)
    if not stack.pixel_size_cm:
        return info
    z, y, x = stack.pixel_size_cm
    return replace(info, resolution=(1 / x, 1 / y), resolution_unit=CENTIMETRE, spacing=z)


def _describe_tiff(path: Path, file: tifffile.TiffFile) -> SliceInfo:
    stack = TiffStack(path, file)
    info = SliceInfo(stack.num_slices, *stack.shape, stack.dtype)
    text = stack.first.description
    text = "" if text[:1] in "{<" else text  # JSON and XML would state the old size
    resolution, unit = _read_resolution(stack.first), int(stack.first.resolutionunit)
    spacing = _read_spacing(stack.first)
    if stack.first.description.startswith("<"):
        x, y, z = (_read_size_cm(stack.first.description, axis) for axis in "XYZ")
        if x and y:
            resolution, unit, spacing = (1 / x, 1 / y), CENTIMETRE, z
    if resolution and is_lying(stack.orientation):
        resolution = (resolution[1], resolution[0])
    info = replace(info, resolution=resolution, resolution_unit=unit, description=text, spacing=spacing)
    return replace(info, **_read_geotiff(path)) if stack.orientation == UPRIGHT else info


def _read_geotiff(path: Path) -> dict[str, Any]:
    """Return what GDAL alone reads of the first page: where it lies, its nodata and its scale."""
    with suppress(*GDAL_ERRORS), open_raster(path) as dataset:
        scaling = float(dataset.scales[0]), float(dataset.offsets[0])
        return {"place": georeference(dataset), "nodata": dataset.nodata, "scaling": scaling}
    return {}


def _read_size_cm(description: str, axis: str) -> float | None:
    """Return the size of a pixel along an axis, X, Y or Z, as the OME-XML in a description states it."""
    size = re.search(rf'\bPhysicalSize{axis}="([0-9.eE+-]+)"', description)
    unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', description)
    per_cm = PER_CENTIMETRE.get(unit[1] if unit else "µm")
    return float(size[1]) / per_cm if size and per_cm and float(size[1]) > 0 else None


def _read_spacing(page: tifffile.TiffPage) -> float | None:
    """Return how far slices lie apart, as ImageJ writes it into the description."""
    found = re.search(r"^spacing=([0-9.eE+-]+)", page.description, re.MULTILINE) if page.is_imagej else None
    return float(found[1]) if found and float(found[1]) > 0 else None


def _read_resolution(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Return pixels per unit; without a unit only for ImageJ, which keeps the unit in its description."""
    if "XResolution" not in page.tags:
        return None
    if page.resolutionunit == NO_UNIT and not page.is_imagej:
        return None
    x, y = page.get_resolution()
    return (x, y) if x > 0 and y > 0 else None


def _describe_image(path: Path, image: Image.Image) -> SliceInfo:
    if image.mode != "RGB" and image.mode not in _GREY:
        raise InputError(
            f"{path} has pixels of the kind {image.mode!r} (palette, 1 bit or with opacity), a grey slice of"
            " 8 or 16 bit is needed; convert it"
        )
    if is_deep_color(image):
        raise InputError(f"{path} has 3 channels of 16 bit, a grey slice is needed; convert it")
    dpi = image.info.get("dpi")
    height, width = image.height, image.width
    if is_lying(find_orientation(image)):
        height, width, dpi = width, height, dpi and dpi[::-1]
    info = SliceInfo(1, height, width, np.dtype(_GREY.get(image.mode, "uint8")))
    return replace(info, resolution=(float(dpi[0]), float(dpi[1])), resolution_unit=INCH) if dpi else info


def find_orientation(image: Image.Image) -> int:
    """Return which way up a picture is stored, as in EXIF; Pillow turns a TIFF itself."""
    return UPRIGHT if image.format == "TIFF" else int(image.getexif().get(ORIENTATION, UPRIGHT))


def is_deep_color(image: Image.Image) -> bool:
    """Whether a picture has colours of 16 bit, of which Pillow would read 8."""
    return image.mode == "RGB" and ";16" in str(getattr(image, "tile", ""))


def _check_values(path: Path, page: int, values: NDArray[Any]) -> None:
    found = f"page {page} of {path}"
    if values.dtype == SIGNED:
        raise InputError(f"{found} holds signed values ({SIGNED}), needed are unsigned ones; convert it")
    if values.dtype.kind != "f":
        return
    if not np.isfinite(values).all():
        raise InputError(f"{found} holds NaN or infinite values; fill them")
    if values.min() < -ROUNDING or values.max() > 1 + ROUNDING:
        raise InputError(
            f"{found} holds values from {values.min():.9g} to {values.max():.9g}, floating point must lie in"
            " [0, 1]; scale it, or save it as 8 or 16 bit"
        )
