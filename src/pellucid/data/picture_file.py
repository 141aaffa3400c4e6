"""Reading pictures: PNG, JPEG and the like, in grey or colour, of 8 bit, in grey also of 16."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pellucid.data.slice_file import errors_named, to_unit
from pellucid.errors import InputError

# Pillow's names of pixels with opacity, and of a palette.
_SEE_THROUGH = {"LA": "L", "PA": "RGB", "RGBA": "RGB"}
_PLAIN = ("L", "RGB", "I;16", "I;16B", "I;16L")
OPAQUE = 255


def read_picture(path: Path) -> NDArray[Any]:
    """Return (C, H, W) as stored, uint8 or uint16; C is 1 of a grey picture and 3 of one in colour.

    Raises:
        InputError: if the file is missing, damaged, partly transparent or of another kind.
    """
    with errors_named(path, "picture"), Image.open(path) as image:
        plain = _to_plain(path, image)
        values = np.asarray(plain)
    values = values.astype(values.dtype.newbyteorder("="))
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def read_gray(path: Path) -> Tensor:
    """Return a grey picture, (1, H, W) float32 in [0, 1], also one that is stored in three equal channels.

    Raises:
        InputError: see `read_picture`; or if the channels differ.
    """
    return torch.from_numpy(to_unit(as_gray(path, read_picture(path))))


def read_color(path: Path) -> Tensor:
    """Return a picture in colour, (3, H, W) float32 in [0, 1].

    Raises:
        InputError: see `read_picture`; or if it is grey.
    """
    return torch.from_numpy(to_unit(as_color(path, read_picture(path))))


def as_gray(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Return (1, H, W) of what `read_picture` gave of `path`.

    Raises:
        InputError: if the channels differ.
    """
    if not (values == values[:1]).all():
        raise InputError(
            f"{path} has three different channels, a radar picture is grey; give the radar, not the optical"
            " image"
        )
    return values[:1]


def as_color(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Return (3, H, W) of what `read_picture` gave of `path`.

    Raises:
        InputError: if it is grey.
    """
    if len(values) == 1:
        raise InputError(
            f"{path} is grey, an optical picture in colour is needed; give one, or exchange it with the radar"
        )
    return values


def _to_plain(path: Path, image: Image.Image) -> Image.Image:
    """Return the picture without palette, and without an opacity that is full everywhere."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in _SEE_THROUGH:
        if image.getchannel("A").getextrema() != (OPAQUE, OPAQUE):
            raise InputError(f"{path} is transparent in places, which no part of a picture may be; fill them")
        image = image.convert(_SEE_THROUGH[image.mode])
    if image.mode not in _PLAIN or (image.mode == "RGB" and ";16" in str(getattr(image, "tile", ""))):
        raise InputError(
            f"{path} has pixels of the kind {image.mode!r}, grey of 8 or 16 bit or colour of 8 bit is needed;"
            " convert it"
        )
    return image
