"""Reading grey slices: PNG and TIFF, 8 or 16 bit or floating point, one page or a stack.

A TIFF is read page by page, so that a stack may be larger than the memory.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from rasterio.errors import RasterioError

from pellucid.data.files import check_input, glob_files
from pellucid.data.geotiff import first_line, open_raster
from pellucid.errors import InputError

TIFF = (".tif", ".tiff")
READABLE = (".png", *TIFF, ".jpg", ".jpeg", ".bmp")

# The value of white by data type; in floating point it is 1.
WHITE: dict[np.dtype[Any], float] = {np.dtype("uint8"): 255.0, np.dtype("uint16"): 65535.0}
# Pillow's names of grey pixels.
_GREY = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16"}
# TIFF 6.0, tags 296 (ResolutionUnit) and 262 (PhotometricInterpretation).
NO_UNIT, INCH, CENTIMETRE = 1, 2, 3
# What the libraries raise for files that are damaged or in another format.
_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, ValueError, KeyError, EOFError, MemoryError, struct.error, zlib.error),
    *(tifffile.TiffFileError, RasterioError, Image.DecompressionBombError),
)


@dataclass(frozen=True)
class SliceInfo:
    """What a file of slices holds or will hold: uint8, uint16 or floating point.

    Attributes:
        resolution: pixels per unit, along x and y; None if the file does not state it.
        resolution_unit: TIFF's number of the unit: 1 none, 2 inch, 3 centimetre.
        description: the text in a TIFF, for instance ImageJ's unit and spacing.
    """

    num_pages: int
    height: int
    width: int
    dtype: np.dtype[Any]
    resolution: tuple[float, float] | None = None
    resolution_unit: int = NO_UNIT
    description: str = ""

    def enlarged(self, factor: int) -> Self:
        """Return the description of the same slices with `factor` times as many rows and columns."""
        resolution = self.resolution and (self.resolution[0] * factor, self.resolution[1] * factor)
        return replace(self, height=self.height * factor, width=self.width * factor, resolution=resolution)


def read_info(path: Path) -> SliceInfo:
    """Return what the file holds, from its header alone."""
    with errors_named(path):
        if _is_tiff(path):
            with tifffile.TiffFile(path) as file:
                return _describe_tiff(path, file)
        with Image.open(path) as image:
            return _describe_image(path, image)


def read_slice(path: Path, page: int = 0) -> NDArray[Any]:
    """Return page `page`, counted from 0, (H, W) in the type of the file; larger is brighter.

    Raises:
        InputError: if floating-point values lie outside [0, 1], or the page has another size than the first.
        IndexError: if there is no such page.
    """
    (values,) = _read(path, [page])
    return values


def read_slices(path: Path, *, is_image: bool = True) -> Iterator[NDArray[Any]]:
    """Yield every page as `read_slice` returns it, and open the file only once.

    Floating-point values outside [0, 1] are refused in an image; other maps may hold them.
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
        if _is_tiff(path):
            with tifffile.TiffFile(path) as file:
                info = _describe_tiff(path, file)
                for page in range(info.num_pages) if pages is None else pages:
                    values = _read_page(path, file, info, page)
                    if is_image:
                        _check_values(path, page, values)
                    yield values
        else:
            with Image.open(path) as image:
                _describe_image(path, image)
                if pages and pages != [0]:
                    raise IndexError(f"{path} has one page, there is no page {pages[0]}")
                yield _to_grey(path, np.asarray(image))


def _describe_tiff(path: Path, file: tifffile.TiffFile) -> SliceInfo:
    page = _first(file)
    dtype = np.dtype(page.dtype or "void").newbyteorder("=")
    _check_dtype(path, dtype, page.bitspersample)
    _check_whole(path, file)
    info = SliceInfo(_count_pages(path, file), page.imagelength, page.imagewidth, dtype)
    text = "" if page.description[:1] in "{<" else page.description  # JSON and XML would state the old size
    unit = int(page.resolutionunit)
    return replace(info, resolution=_read_resolution(page), resolution_unit=unit, description=text)


def _first(file: tifffile.TiffFile) -> tifffile.TiffPage:
    page = file.pages[0] if len(file.pages) else None
    if not isinstance(page, tifffile.TiffPage):
        raise tifffile.TiffFileError("it has no page")
    return page


def _read_resolution(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Return pixels per unit; without a unit only for ImageJ, which keeps the unit in its description."""
    if page.resolutionunit == NO_UNIT and not page.is_imagej:
        return None
    x, y = page.get_resolution()
    return (x, y) if x > 0 and y > 0 else None


def _count_pages(path: Path, file: tifffile.TiffFile) -> int:
    """Return the number of slices in the file; ImageJ's stacks above 4 GB describe only the first."""
    first = _first(file)
    images = int((file.imagej_metadata or {}).get("images", 1))
    if len(file.pages) > 1 or images == 1 or first.compression != tifffile.COMPRESSION.NONE:
        return len(file.pages)
    if first.dataoffsets[0] + images * first.nbytes > file.filehandle.size:
        raise InputError(f"{path} ends before the last of its {images} pages; copy it again, whole")
    return images


def _check_whole(path: Path, file: tifffile.TiffFile) -> None:
    """Refuse a TIFF whose next page lies beyond the end of the file: it would look like a shorter stack."""
    last = file.pages[len(file.pages) - 1]
    kind, handle = file.tiff, file.filehandle
    handle.seek(last.offset)
    (num_tags,) = struct.unpack(kind.tagnoformat, handle.read(kind.tagnosize))
    handle.seek(num_tags * kind.tagsize, 1)
    (following,) = struct.unpack(kind.offsetformat, handle.read(kind.offsetsize))
    if following:
        raise InputError(f"{path} ends after page {len(file.pages)} of more; copy it again, whole")


def _read_page(path: Path, file: tifffile.TiffFile, info: SliceInfo, page: int) -> NDArray[Any]:
    first = _first(file)
    if len(file.pages) <= page < info.num_pages:  # ImageJ: the pixels of all pages are stored in one block
        size = info.height * info.width
        start = first.dataoffsets[0] + page * first.nbytes
        flat = file.filehandle.read_array(info.dtype.newbyteorder(file.byteorder), size, start)
        return flat.reshape(info.height, info.width).astype(info.dtype)
    chosen = file.pages[page]
    if chosen.shape != first.shape or chosen.dtype != first.dtype:
        raise InputError(
            f"page {page} of {path} is {name_shape(chosen.shape)} of {chosen.dtype}, the first"
            f" {name_shape(first.shape)} of {first.dtype}; a stack must be uniform, split it"
        )
    values = _to_grey(path, _decode(path, chosen, page)).astype(info.dtype)
    if first.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return values
    return (WHITE.get(info.dtype, 1.0) - values).astype(info.dtype)


def name_shape(shape: tuple[int, ...]) -> str:
    """Return the sides as text, `256 x 256`."""
    return " x ".join(map(str, shape))


def _decode(path: Path, chosen: tifffile.TiffPage | tifffile.TiffFrame, page: int) -> NDArray[Any]:
    """Return (H, W) or (H, W, C); GDAL reads compressions (LZW, Zstandard) that tifffile alone does not."""
    try:
        values = chosen.asarray()
    except (ValueError, KeyError, ImportError) as error:
        if not isinstance(error, ImportError) and "imagecodecs" not in str(error):
            raise
        with open_raster(Path(f"GTIFF_DIR:{page + 1}:{path}")) as dataset:
            bands: NDArray[Any] = dataset.read()
        return bands[0] if len(bands) == 1 else np.moveaxis(bands, 0, -1)
    return np.moveaxis(values, 0, -1) if values.ndim == 3 and chosen.axes.startswith("S") else values


def _describe_image(path: Path, image: Image.Image) -> SliceInfo:
    if image.mode != "RGB" and image.mode not in _GREY:
        raise InputError(
            f"{path} has pixels of the kind {image.mode!r} (palette, 1 bit or with opacity), a grey slice of"
            " 8 or 16 bit is needed; convert it"
        )
    if is_deep_color(image):
        raise InputError(f"{path} has 3 channels of 16 bit, a grey slice is needed; convert it")
    dpi = image.info.get("dpi")
    info = SliceInfo(1, image.height, image.width, np.dtype(_GREY.get(image.mode, "uint8")))
    return replace(info, resolution=(float(dpi[0]), float(dpi[1])), resolution_unit=INCH) if dpi else info


def is_deep_color(image: Image.Image) -> bool:
    """Whether a picture has colours of 16 bit, of which Pillow would read 8."""
    return image.mode == "RGB" and ";16" in str(getattr(image, "tile", ""))


def _to_grey(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Return (H, W) from (H, W), or from (H, W, C) whose channels are all the same."""
    if not values.size:
        raise InputError(f"{path} has a page without pixels; copy or export it again")
    if values.ndim == 2:
        return values
    if not (values == values[..., :1]).all():
        raise InputError(f"{path} has {values.shape[-1]} channels, a grey slice is needed; convert it")
    return np.ascontiguousarray(values[..., 0])


def _check_dtype(path: Path, dtype: np.dtype[Any], bits: Any) -> None:
    if dtype.kind != "f" and (dtype not in WHITE or bits != dtype.itemsize * 8):
        raise InputError(
            f"{path} holds {bits}-bit values ({dtype}), needed are unsigned 8 or 16 bit, or floating point in"
            " [0, 1]; convert it"
        )


def _check_values(path: Path, page: int, values: NDArray[Any]) -> None:
    if values.dtype.kind == "f" and not (values.min() >= 0 and values.max() <= 1):
        raise InputError(
            f"page {page} of {path} holds values from {values.min():.6g} to {values.max():.6g}, floating"
            " point must lie in [0, 1]; scale it, or save it as 8 or 16 bit"
        )
