"""What one image of a dataset holds: size, bands, type, values, missing pixels, clouds."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from pellucid.data.band_names import match_bands
from pellucid.data.cloud_score import NEEDED, cloud_score
from pellucid.data.drawing import color_to_rgb, gray_to_rgb, radar_to_rgb, to_rgb
from pellucid.data.geotiff import Grid, Raster
from pellucid.data.radar_picture import as_color, as_gray, read_picture
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2, SLICE
from pellucid.data.raster import OpticalRaster
from pellucid.data.slice_file import errors_named, read_slice, to_unit
from pellucid.datasets._listing import CLOUDY_ROLE, ImageFile
from pellucid.errors import InputError

# Side in pixels of the parts in which large scenes are read: 13 bands of one take 55 MB.
WINDOW = 1024
# Longer side in pixels of a panel of the sheet.
PANEL = 256
# Score above which a pixel is cloudy.
CLOUDY = 0.5
# The mean of a radar picture in 8 bit scaled from dB is seldom below; of linear power it is.
DARK = 0.1
# Share of the values above reflectance 1, which are clipped, from which the scale is in doubt; not of images
# that are meant to be cloudy, since thick clouds do reflect so much.
MANY_CLIPPED = 0.1


@dataclass(frozen=True)
class Facts:
    """What an image holds.

    Attributes:
        bands: names, in the order of the other entries by band.
        dtype: of the stored values.
        unit: of `low`, `mean` and `high`: reflectance, dB, or "full scale".
        low: lowest value by band, as `mean` and `high` are; NaN where all is missing.
        missing: share of the pixels that hold no data.
        cloud: share of the pixels with data that are cloudy; NaN where that is not known.
        digest: of the pixels; equal for the same image in another file.
        grid: where it lies; None for pictures and slices.
        doubts: pairs of what is doubtful about it, in a word or two, and in a sentence.
    """

    height: int
    width: int
    bands: tuple[str, ...]
    dtype: str
    unit: str
    low: tuple[float, ...]
    mean: tuple[float, ...]
    high: tuple[float, ...]
    missing: float
    cloud: float
    digest: str
    grid: Grid | None
    doubts: tuple[tuple[str, str], ...]

    @property
    def size(self) -> str:
        """Return the sides for people, `256 x 256`."""
        return f"{self.height} x {self.width}"

    @property
    def is_constant(self) -> bool:
        """Whether it holds one and the same value everywhere."""
        return self.missing < 1 and self.low == self.high


def read_facts(image: ImageFile, bands: tuple[str, ...] = ()) -> Facts:
    """Return what an image holds; every pixel is read.

    `bands` are those that an optical scene must have; none: those that it has.
    """
    if image.form == "optical":
        return _read_optical(image.path, bands, image.role)
    if image.form == "radar":
        return _read_radar(image.path)
    return _describe(image, read_stored(image))


def draw(image: ImageFile, bands: tuple[str, ...] = ()) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 of an image, large ones decimated."""
    if image.form == "optical":
        with OpticalRaster(image.path, find_bands(image.path, bands)) as optical:
            values, valid = optical.read(size=PANEL)
            return to_rgb(values, optical.bands, valid)
    if image.form == "radar":
        with RadarRaster(image.path) as radar:
            return radar_to_rgb(SENTINEL1.to_unit(radar.read_db(size=PANEL)))
    values = torch.from_numpy(to_unit(read_stored(image)))
    return color_to_rgb(values) if len(values) == 3 else gray_to_rgb(values[:1])


def find_bands(path: Path, wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the bands wanted of an optical scene, or, if none are, those of Sentinel-2 that it has."""
    with Raster(path, "optical scene") as raster:
        if wanted:
            match_bands(raster.dataset, wanted, path)
            return wanted
        found = match_bands(raster.dataset, SENTINEL2.bands, path, allow_missing=SENTINEL2.bands)
        names = ", ".join(text or "unnamed" for text in raster.dataset.descriptions)
    bands = tuple(band for band, index in zip(SENTINEL2.bands, found, strict=True) if index is not None)
    if not bands:
        raise InputError(
            f"{path} has no band of Sentinel-2 (it has {names}); name its bands, or leave it out"
        )
    return bands


class _Tally:
    """Lowest, mean and highest value by band, over parts of an image that are added one by one."""

    def __init__(self, num_bands: int) -> None:
        self.low, self.high = np.full(num_bands, np.inf), np.full(num_bands, -np.inf)
        self.total, self.count = np.zeros(num_bands), np.zeros(num_bands)
        self.num_pixels = self.num_missing = self.num_cloudy = 0
        self.digest = hashlib.blake2b(digest_size=16)

    def add(self, values: NDArray[np.float32]) -> None:
        """Add (C, H, W), NaN where there is no data."""
        known = np.isfinite(values)
        flat, there = values.reshape(len(values), -1), known.reshape(len(values), -1)
        self.low = np.minimum(self.low, np.where(there, flat, np.inf).min(1))
        self.high = np.maximum(self.high, np.where(there, flat, -np.inf).max(1))
        self.total += np.where(there, flat, 0).sum(1, dtype=np.float64)
        self.count += there.sum(1)
        self.num_pixels += flat.shape[1]
        self.num_missing += int((~there.all(0)).sum())

    def facts(self, **rest: Any) -> Facts:
        """Return the facts of what was added, and the rest of them."""
        low, mean, high = (
            tuple(np.where(self.count > 0, values, np.nan).tolist())
            for values in (self.low, self.total / np.maximum(self.count, 1), self.high)
        )
        missing = self.num_missing / self.num_pixels
        return Facts(low=low, mean=mean, high=high, missing=missing, digest=self.digest.hexdigest(), **rest)


def _read_optical(path: Path, wanted: tuple[str, ...], role: str) -> Facts:
    bands, above = find_bands(path, wanted), 0
    tally, has_clouds = _Tally(len(bands)), NEEDED.issubset(bands)
    with OpticalRaster(path, bands) as raster:
        for window in _windows(raster.grid):
            stored = raster.read_array(window=window)
            tally.digest.update(f"{stored.dtype} {stored.shape}".encode() + stored.tobytes())
            values, valid = raster.to_reflectance(stored, raster.read_mask(window))
            if has_clouds:
                tally.num_cloudy += int(((cloud_score(values.clamp(0, 1), bands) > CLOUDY) & valid).sum())
            tally.add(values.where(valid, torch.nan).numpy())
            above += int((values > 1).sum())
    doubts = [("offset", doubt) for doubt in raster.doubts]
    num_valid = tally.num_pixels - tally.num_missing
    if role != CLOUDY_ROLE and above > MANY_CLIPPED * max(1, num_valid) * len(bands):
        share = above / num_valid / len(bands)
        clipped = f"{share:.0%} of its reflectances lie above 1 and are clipped"
        doubts.append(("clipped", f"{path}: {clipped}; is its scale right?"))
    cloud = tally.num_cloudy / num_valid if num_valid and has_clouds else np.nan
    return _of_raster(raster, tally, bands=bands, unit=SENTINEL2.unit, cloud=cloud, doubts=tuple(doubts))


def _read_radar(path: Path) -> Facts:
    tally = _Tally(len(SENTINEL1.bands))
    with RadarRaster(path) as raster:
        for window in _windows(raster.grid):
            backscatter = raster.read_db(window).numpy()
            tally.digest.update(f"{backscatter.shape}".encode() + backscatter.tobytes())
            tally.add(backscatter)
    doubts = tuple(("linear radar", doubt) for doubt in raster.doubts)
    return _of_raster(raster, tally, bands=SENTINEL1.bands, unit=SENTINEL1.unit, cloud=np.nan, doubts=doubts)


def _of_raster(raster: Raster, tally: _Tally, **rest: Any) -> Facts:
    grid, dtype = raster.grid, raster.dataset.dtypes[0]
    return tally.facts(height=grid.height, width=grid.width, dtype=dtype, grid=grid, **rest)


def read_stored(image: ImageFile) -> NDArray[Any]:
    """Return (C, H, W) of a picture, a slice, or a file with a reader of its own."""
    if callable(image.form):
        with errors_named(image.path, "image"):
            return image.form(image.path)
    if image.form == "slice":
        return read_slice(image.path, image.page)[None]
    return (as_gray if image.form == "gray" else as_color)(image.path, read_picture(image.path))


def _describe(image: ImageFile, stored: NDArray[Any]) -> Facts:
    tally, values = _Tally(len(stored)), to_unit(stored)
    tally.add(values)
    tally.digest.update(f"{stored.dtype} {stored.shape}".encode() + stored.tobytes())
    named, doubts = {1: SLICE.bands, 3: PICTURE.bands}, []
    if image.form == "gray" and values.mean() < DARK:
        text = f"{image.path} is very dark; radar pictures are scaled from dB, not from linear power"
        doubts.append(("dark radar", text))
    if image.form == "color" and (stored == stored[:1]).all():
        doubts.append(("colourless", f"{image.path} is to be in colour and has three equal channels"))
    return tally.facts(
        height=stored.shape[1],
        width=stored.shape[2],
        bands=named.get(len(stored), tuple(f"band {i + 1}" for i in range(len(stored)))),
        dtype=str(stored.dtype),
        unit=SLICE.unit,
        cloud=np.nan,
        grid=None,
        doubts=tuple(doubts),
    )


def _windows(grid: Grid) -> Iterator[Window]:
    for top in range(0, grid.height, WINDOW):
        for left in range(0, grid.width, WINDOW):
            yield Window(left, top, min(WINDOW, grid.width - left), min(WINDOW, grid.height - top))
