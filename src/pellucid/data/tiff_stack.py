"""The slices in a TIFF: which pages, or which parts of one block of pixels, they are, and which way up."""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pellucid.data.gdal_open import open_raster
from pellucid.data.text_file import parse_json
from pellucid.errors import InputError

# The value of white by data type; in floating point it is 1.
WHITE: dict[np.dtype[Any], float] = {np.dtype("uint8"): 255.0, np.dtype("uint16"): 65535.0}
SIGNED = np.dtype("int16")
# TIFF 6.0, tags 254 (NewSubfileType) and 274 (Orientation).
REDUCED, MASK, ORIENTATION, UPRIGHT = 1, 4, 274, 1


class TiffStack:
    """The slices of an open TIFF, all of one size and type.

    Smaller copies of a page and masks are no slices. ImageJ and tifffile may write all slices in one block,
    of which only the first is a page.

    Raises:
        InputError: if the file is cut short, or holds something else than grey slices.
    """

    def __init__(self, path: Path, file: tifffile.TiffFile) -> None:
        self.path, self.file = path, file
        self.pages = self._find_pages()
        self.first = self._page(0)
        self.dtype = np.dtype(self.first.dtype or "void").newbyteorder("=")
        self._check_type()
        self._check_whole()
        self.num_slices = self._count()
        self.orientation = int(self.first.tags.valueof(ORIENTATION, UPRIGHT))
        height, width = self.first.imagelength, self.first.imagewidth
        self.shape = (width, height) if is_lying(self.orientation) else (height, width)

    def read(self, at: int) -> NDArray[Any]:
        """Return slice `at`, counted from 0, (H, W), upright; larger is brighter."""
        if at >= self.num_slices:
            raise IndexError(f"{self.path} has {self.num_slices} slices, there is no slice {at}")
        values = self._read_block(at) if len(self.pages) <= at else self._read_page(at)
        if self.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            values = self._invert(values)
        return turn_upright(values, self.orientation)

    def _find_pages(self) -> list[int]:
        """Return the numbers of the pages that are slices; refuse pixels hidden by a mask."""
        kinds = [int(getattr(page, "subfiletype", 0) or 0) for page in self.file.pages]
        if not kinds:
            raise tifffile.TiffFileError("it has no page")
        slices = [at for at, kind in enumerate(kinds) if not kind & (REDUCED | MASK)]
        for at, kind in enumerate(kinds):
            if kind & MASK and not kind & REDUCED and not self.file.pages[at].asarray().all():
                raise InputError(
                    f"{self.path} hides pixels by a mask, which an enlarged slice would show; fill them and "
                    "remove the mask"
                )
        return slices or [0]

    def _page(self, at: int) -> tifffile.TiffPage:
        page = self.file.pages[self.pages[at]]
        if not isinstance(page, tifffile.TiffPage):
            raise tifffile.TiffFileError("it has no page")
        return page

    def _check_type(self) -> None:
        bits, dtype = self.first.bitspersample, self.dtype
        if dtype.kind != "f" and (dtype not in (*WHITE, SIGNED) or bits != dtype.itemsize * 8):
            raise InputError(
                f"{self.path} holds {bits}-bit values ({dtype}), needed are 8 or 16 bit, or floating point; "
                "convert it"
            )
        if self.first.imagedepth > 1:
            raise InputError(f"{self.path} has a page of {self.first.imagedepth} planes; save them as pages")
        if dtype.kind == "f" and self.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            raise InputError(
                f"{self.path} is of floating point and stored with white as 0, so what is black is not known;"
                " save it with black as 0"
            )

    def _check_whole(self) -> None:
        """Refuse a file whose next page lies beyond its end: it would look like a shorter stack."""
        last = self.file.pages[len(self.file.pages) - 1]
        kind, handle = self.file.tiff, self.file.filehandle
        handle.seek(last.offset)
        (num_tags,) = struct.unpack(kind.tagnoformat, handle.read(kind.tagnosize))
        handle.seek(num_tags * kind.tagsize, 1)
        (following,) = struct.unpack(kind.offsetformat, handle.read(kind.offsetsize))
        if following:
            raise InputError(
                f"{self.path} ends after page {len(self.file.pages)} of more; copy it again, whole"
            )

    def _count(self) -> int:
        """Return the number of slices; one page may describe those that follow it in its block."""
        images = max(int((self.file.imagej_metadata or {}).get("images", 1)), self._count_described())
        if len(self.pages) > 1 or images == 1 or self.first.compression != tifffile.COMPRESSION.NONE:
            return len(self.pages)
        if self.first.dataoffsets[0] + images * self.first.nbytes > self.file.filehandle.size:
            raise InputError(f"{self.path} ends before the last of its {images} pages; copy it again, whole")
        return images

    def _count_described(self) -> int:
        """Return how many pages the shape has that tifffile writes into the description; 1 without it."""
        shape = self._described_shape()
        size = math.prod(self.first.shape)
        return math.prod(shape) // size if shape and size and math.prod(shape) % size == 0 else 1

    def _described_shape(self) -> tuple[int, ...]:
        try:
            described = parse_json(self.first.description)
            return tuple(int(side) for side in described["shape"])
        except (ValueError, KeyError, TypeError):
            return ()

    def _read_block(self, at: int) -> NDArray[Any]:
        height, width = self.first.imagelength, self.first.imagewidth
        start = self.first.dataoffsets[0] + at * self.first.nbytes
        stored = self.dtype.newbyteorder(self.file.byteorder)
        flat = self.file.filehandle.read_array(stored, height * width, start)
        return flat.reshape(height, width).astype(self.dtype)

    def _read_page(self, at: int) -> NDArray[Any]:
        chosen, first = self.file.pages[self.pages[at]], self.first
        if chosen.shape != first.shape or chosen.dtype != first.dtype:
            raise InputError(
                f"page {self.pages[at]} of {self.path} is {name_shape(chosen.shape)} of {chosen.dtype}, the "
                f"first {name_shape(first.shape)} of {first.dtype}; a stack must be uniform, split it"
            )
        values = self._decode(chosen, self.pages[at])
        if values.ndim == 3 and self._described_shape() == (values.shape[2], *values.shape[:2]):
            self._refuse_planes(values)
        return to_grey(self.path, values).astype(self.dtype)

    def _decode(self, chosen: tifffile.TiffPage | tifffile.TiffFrame, number: int) -> NDArray[Any]:
        """Return (H, W) or (H, W, C); GDAL reads compressions (LZW, Zstandard) that tifffile does not."""
        try:
            values = chosen.asarray()
        except (ValueError, KeyError, ImportError) as error:
            if not isinstance(error, ImportError) and "imagecodecs" not in str(error):
                raise
            with open_raster(Path(f"GTIFF_DIR:{number + 1}:{self.path}")) as dataset:
                bands: NDArray[Any] = dataset.read()
            return bands[0] if len(bands) == 1 else np.moveaxis(bands, 0, -1)
        return np.moveaxis(values, 0, -1) if values.ndim == 3 and chosen.axes.startswith("S") else values

    def _refuse_planes(self, values: NDArray[Any]) -> None:
        """Refuse a stack of three or four slices that tifffile wrote as the planes of a picture."""
        if not (values == values[..., :1]).all():
            count = values.shape[2]
            raise InputError(
                f"{self.path} has {count} channels, perhaps a stack of {count} slices that was saved as "
                "planes of a picture; save it with photometric='minisblack'"
            )

    def _invert(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values stored with white as 0 so that larger is brighter."""
        white = -1 if self.dtype == SIGNED else WHITE[self.dtype]
        return (white - values.astype(np.int32)).astype(self.dtype)


def to_grey(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Return (H, W) from (H, W), or from (H, W, C) whose channels are all the same."""
    if not values.size:
        raise InputError(f"{path} has a page without pixels; copy or export it again")
    if values.ndim == 2:
        return values
    if not (values == values[..., :1]).all():
        raise InputError(f"{path} has {values.shape[-1]} channels, a grey slice is needed; convert it")
    return np.ascontiguousarray(values[..., 0])


def find_orientation(path: Path) -> int:
    """Return the tag Orientation of a TIFF that GDAL, which does not heed it, has opened."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            return int(page.tags.valueof(ORIENTATION, UPRIGHT)) if isinstance(page, tifffile.TiffPage) else 1
    except tifffile.TiffFileError:
        return UPRIGHT


def is_lying(orientation: int) -> bool:
    """Whether rows and columns change places when an image is turned upright."""
    return orientation in (5, 6, 7, 8)


def turn_upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return (H, W) or (H, W, C) turned and mirrored as the tag Orientation says, the first row on top."""
    if is_lying(orientation):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


def name_shape(shape: tuple[int, ...]) -> str:
    """Return the sides as text, `256 x 256`."""
    return " x ".join(map(str, shape))
