"""Images as pictures, with fixed stretches so that pictures can be compared, and captioned sheets."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pellucid.data.files import write_atomically
from pellucid.data.ownership import save_image
from pellucid.data.ranges import PICTURE, SENTINEL1, SLICE

RGB = ("B04", "B03", "B02")
# Reflectance shown as black, B04, B03, B02: a little less than that of the atmosphere alone (darkest water of
# SEN12MS-CR, ROIs1868_summer_135), so that pictures have no blue veil.
BLACK = (0.015, 0.03, 0.055)
# Reflectance shown as white; land reflects less, thick clouds may saturate.
WHITE = 0.4
# Shown value = ((reflectance - BLACK) / (WHITE - BLACK)) ** GAMMA, which keeps detail in forest and water.
GAMMA = 1 / 1.6
# Grey level of missing data.
NO_DATA = 128
# Pixels around and between the panels of a sheet, and the height of a line of text.
MARGIN, LINE = 6, 16


def to_rgb(optical: Tensor, bands: tuple[str, ...], valid: Tensor | None = None) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8: B04, B03, B02 from `BLACK` to `WHITE`, gamma 1.6, the same for every image.

    Args:
        optical: (C, H, W) reflectance.
        bands: names of its channels; if one of the three is not among them, the first band is shown grey.
        valid: (1, H, W) bool; the other pixels are drawn grey.
    """
    at = [bands.index(band) for band in RGB] if set(RGB) <= set(bands) else [0, 0, 0]
    black = torch.tensor(BLACK if at != [0, 0, 0] else (0.0, 0.0, 0.0)).view(3, 1, 1)
    return color_to_rgb(
        ((optical[at].detach().float().cpu() - black) / (WHITE - black)).clamp(0, 1) ** GAMMA, valid
    )


def to_picture(image: Tensor, bands: tuple[str, ...], valid: Tensor | None = None) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 of (C, H, W) in [0, 1]: slices in grey, radar and optical images in colour."""
    if bands == SLICE.bands:
        return gray_to_rgb(image)
    if bands == PICTURE.bands:
        return color_to_rgb(image, valid)
    if not set(bands) <= set(SENTINEL1.bands):
        return to_rgb(image, bands, valid)
    image = image if valid is None else image.where(valid, torch.nan)
    return radar_to_rgb(image) if len(bands) == 2 else gray_to_rgb(image)


def color_to_rgb(image: Tensor, valid: Tensor | None = None) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 of (3, H, W) red, green and blue in [0, 1]; pixels not `valid` are grey."""
    picture = (image.detach().float().cpu().clamp(0, 1) * 255).round()
    if valid is not None:
        picture = torch.where(valid.cpu(), picture, float(NO_DATA))
    return picture.nan_to_num(NO_DATA).permute(1, 2, 0).to(torch.uint8).numpy()


def radar_to_rgb(sar: Tensor) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 of VV and VH, (2, H, W) in [0, 1]: red VV, green VH, blue their difference.

    Pixels without radar, NaN, are grey.
    """
    vv, vh = sar.detach().float().cpu()
    picture = torch.stack([vv, vh, (vv - vh + 0.5).clamp(0, 1)], dim=2) * 255
    picture = torch.where(picture.isnan().any(dim=2, keepdim=True), float(NO_DATA), picture)
    return picture.round().to(torch.uint8).numpy()


def gray_to_rgb(values: Tensor, high: float = 1.0) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 grey levels of (1, H, W) values from 0 to `high`; NaN is black."""
    picture = (values.detach().float().cpu()[0] / high).clamp(0, 1).nan_to_num(0) * 255
    return picture.round().to(torch.uint8)[..., None].expand(-1, -1, 3).numpy()


def sheet(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    columns: Sequence[str],
    captions: Sequence[str] | None = None,
    *,
    side: int = 256,
) -> Image.Image:
    """Return pictures (H, W, 3) uint8 in rows, each column under its title and each row under its caption.

    The longer side of each picture is shrunk or enlarged to `side` pixels.

    Raises:
        ValueError: if a row lacks a picture, or a row has no caption.
    """
    if any(len(row) != len(columns) for row in rows) or (captions and len(captions) != len(rows)):
        raise ValueError(f"{len(columns)} titles need as many panels in every row, and a caption per row")
    panels = [[_fit(picture, side) for picture in row] for row in rows]
    line = LINE if captions else 0
    width = max(panel.width for row in panels for panel in row) + MARGIN
    heights = [max(panel.height for panel in row) + MARGIN + line for row in panels]
    canvas = Image.new("RGB", (MARGIN + width * len(columns), MARGIN + LINE + sum(heights)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for j, title in enumerate(columns):
        draw.text((MARGIN + j * width, 3), title, "black", font)
    tops = accumulate(heights, initial=LINE + MARGIN)
    for row, caption, top in zip(panels, captions or [""] * len(rows), tops, strict=False):
        draw.text((MARGIN, top), caption, "black", font)
        for j, panel in enumerate(row):
            canvas.paste(panel, (MARGIN + j * width, top + line))
    return canvas


def spread(count: int, length: int) -> list[int]:
    """Return up to `count` different positions, spread evenly over `length` items."""
    return sorted({round(i * (length - 1) / max(1, count - 1)) for i in range(count)})


def save_picture(picture: Image.Image | NDArray[np.uint8], path: Path) -> None:
    """Write a picture, whole or not at all; the suffix names the format."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    write_atomically(path, partial(save_image, image))


def _fit(picture: NDArray[np.uint8], side: int) -> Image.Image:
    """Return the picture with its longer side `side`: averaged if smaller, with repeated pixels if larger."""
    image = Image.fromarray(picture)
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST)
