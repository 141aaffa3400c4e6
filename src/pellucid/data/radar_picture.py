"""Radar pictures and the colour pictures made from them: PNG, JPEG and TIFF, georeferenced or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from pellucid.data.backscatter import Backscatter
from pellucid.data.band_names import find_polarisations, name_bands, names_polarisations
from pellucid.data.checked_raster import write_raster
from pellucid.data.files import only_files, temporary_beside, write_atomically
from pellucid.data.gdal_open import GDAL_ERRORS, colors_of
from pellucid.data.geotiff import Grid, Raster
from pellucid.data.ownership import NO_TAGS, save_image
from pellucid.data.radar_units import RadarUnit
from pellucid.data.ranges import ValueRange
from pellucid.data.slice_file import TIFF, errors_named, find_orientation, is_deep_color, to_unit
from pellucid.data.tiff_stack import UPRIGHT, turn_upright
from pellucid.data.tiff_stack import find_orientation as find_tiff_orientation
from pellucid.data.working_file import explain_write_error, write_cog
from pellucid.errors import InputError, counted

JPEG = (".jpg", ".jpeg")
WRITABLE = (".png", *JPEG, *TIFF)
READABLE = (*WRITABLE, ".bmp")
# Quality of a JPEG, from 1 to 95: the highest, to keep fine detail.
QUALITY = 95

# Pillow's modes with opacity, and what each becomes without it; the modes that are read as they are.
_SEE_THROUGH = {"LA": "L", "PA": "RGB", "RGBA": "RGB"}
_PLAIN = ("L", "RGB", "I;16", "I;16B", "I;16L")
OPAQUE = 255


@dataclass(frozen=True)
class RadarPicture:
    """A radar image as the input of a model.

    Attributes:
        sar: (P, H, W) float32 in [0, 1]; pixels without data are filled from the nearest ones with data.
        valid: (H, W) bool, pixels that hold data.
        place: where they lie, as the arguments with which rasterio writes a file; empty if that is not known.
    """

    sar: NDArray[np.float32]
    valid: NDArray[np.bool_]
    place: dict[str, Any] = field(default_factory=dict)


def find_pages(path: Path) -> list[str]:
    """Return what GDAL calls the pages of a TIFF of several radar images; [] of any other picture."""
    if path.suffix.lower() not in TIFF:
        return []
    with Raster(path, "radar image", is_stack=True) as raster:
        found = list(raster.dataset.subdatasets) if raster.dataset.driver == "GTiff" else []
    return found if len(found) > 1 else []


def read_radar_picture(
    path: Path, radar: ValueRange, page: str = "", *, units: RadarUnit = "auto"
) -> RadarPicture:
    """Return the radar image in a grey picture, or in a GeoTIFF of 8 bit, in dB, linear power or amplitude.

    Values of 8 bit (in a PNG also 16) are scaled by the full scale of their type, dB by the range of `radar`,
    which are the polarisations of the model. `page` is one of `find_pages`; `units` says the unit of values
    that are not of 8 bit.
    """
    _check_suffix(path)
    if path.suffix.lower() in TIFF:
        return _read_tiff(path, radar, page, units)
    _refuse_unit(path, units)
    if len(radar.bands) != 1:
        raise InputError(
            f"{path} is a picture of one polarisation, the model needs {', '.join(radar.bands)}; "
            "give a GeoTIFF with these bands"
        )
    sar = read_gray(path)
    return RadarPicture(sar, np.ones(sar.shape[1:], np.bool_))


def read_color_picture(path: Path) -> NDArray[np.float32]:
    """Return a colour picture of 8 bit, (3, H, W) in [0, 1]; pixels of a GeoTIFF without data are 0."""
    _check_suffix(path)
    if path.suffix.lower() not in TIFF:
        return read_color(path)
    with Raster(path, "picture") as raster:
        values, valid = _read_bands(raster)
        if values.dtype != np.uint8 or len(values) not in (1, 3):
            raise InputError(
                f"{path} has {counted(len(values), 'band')} of {values.dtype}, a picture has three of "
                "8 bit; convert it"
            )
        return to_unit(as_color(path, values) * valid)


def read_tone(path: Path) -> NDArray[np.float32]:
    """Return the mean colour of a colour picture of 8 bit, (3,) in [0, 1]; black, as no data is, left out."""
    picture = read_color_picture(path)
    known = (picture > 0).any(axis=0)
    if not known.any():
        raise InputError(f"{path} is black all over, it has no tone to follow; give another picture")
    return picture[:, known].mean(axis=1)


def set_tone(picture: NDArray[np.uint8], tone: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    """Shift each channel of (H, W, 3) in place, so that its mean where `valid`, (H, W), is the tone's."""
    if valid.any():
        shift = tone * OPAQUE - picture[valid].mean(axis=0)
        picture[:] = np.rint(picture + shift).clip(0, OPAQUE)


def read_as_stored(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_], Grid]:
    """Return a picture (C, H, W) as its file holds it, upright, where it holds data, (H, W), and its grid."""
    if path.suffix.lower() not in TIFF:
        values = read_picture(path)
        height, width = values.shape[1:]
        return values, np.ones((height, width), np.bool_), Grid(None, Affine.identity(), width, height)
    with Raster(path, "picture") as raster:
        values, valid = _read_bands(raster)
        return values, valid, raster.grid


def write_color_picture(
    path: Path, picture: NDArray[np.uint8], like: RadarPicture, tags: Mapping[str, str] = NO_TAGS
) -> None:
    """Write (H, W, 3) with the georeference of the radar, whole or not at all; the suffix names the format.

    `tags` say what made it.

    A TIFF is a Cloud-Optimized GeoTIFF. If the radar lacks data somewhere, all bands are 0 there, a TIFF
    declares 0 as nodata, and zeros elsewhere become 1.
    """
    if not like.valid.all():
        picture = np.where(like.valid[..., None], picture.clip(min=1), 0).astype(np.uint8)
    try:
        if path.suffix.lower() in TIFF:
            _write_tiff(path, picture, like, tags)
            return
        options: dict[str, Any] = {"quality": QUALITY} if path.suffix.lower() in JPEG else {}
        write_atomically(path, partial(save_image, Image.fromarray(picture), tags=tags, **options))
    except (OSError, *GDAL_ERRORS) as error:
        raise explain_write_error(path, error) from error


def check_picture_output(path: Path) -> None:
    """Refuse a file name whose suffix is not one of `WRITABLE`."""
    if path.suffix.lower() not in WRITABLE:
        raise InputError(
            f"{path} has the suffix {path.suffix!r}, pictures are written as {', '.join(WRITABLE)}"
        )


def find_pictures(folder: Path) -> list[Path]:
    """Return the pictures in a folder, sorted, without hidden files and subfolders."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name a folder of radar pictures")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in READABLE]
    found = [path for path in only_files(paths) if not path.name.startswith(".")]
    if not found:
        raise InputError(f"no picture ({', '.join(READABLE)}) lies in {folder}; name another folder")
    return found


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in READABLE:
        raise InputError(
            f"{path} has the suffix {path.suffix!r}, pictures are read from {', '.join(READABLE)}"
        )


def _read_tiff(path: Path, radar: ValueRange, page: str, units: RadarUnit) -> RadarPicture:
    import torch

    from pellucid.data.resample import fill_gaps

    with Raster(path, "radar image", is_stack=bool(page), source=page or None) as raster:
        values, valid = _read_bands(raster)
        values, numbers = _choose(raster, values, radar)
        backscatter = Backscatter(raster, numbers, radar.bands, said=units)
        if values.dtype == np.uint8 and not backscatter.is_scaled:
            _refuse_unit(path, units)
            sar = to_unit(values)
        else:
            backscatter.find_unit(values, valid)
            raster.log_doubts()
            found = backscatter.to_db(values, valid)
            valid = valid & np.isfinite(found).all(axis=0)
            sar = radar.to_unit(torch.from_numpy(found)).numpy()
        if not valid.any():
            raise InputError(f"the radar image {path} holds no data, give another")
        return RadarPicture(fill_gaps(sar, valid), valid, raster.grid.place)


def _refuse_unit(path: Path, units: RadarUnit) -> None:
    if units != "auto":
        raise InputError(
            f"{path} is a picture, whose grey has no unit, and --sar-units is {units}; leave it out, or give "
            "backscatter as a GeoTIFF"
        )


def _read_bands(raster: Raster) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return every band except opacity, (C, H, W) as stored, and where they hold data, (H, W)."""
    if not raster.numbers:
        raise InputError(f"the {raster.what} {raster.path} has only a band of opacity, give another")
    values = raster.read_array(raster.numbers)
    if colors_of(raster.dataset)[0] == ColorInterp.palette and values.dtype == np.uint8:
        values = _look_up(values[0], raster.dataset.colormap(1))
    valid = raster.read_mask() & np.isfinite(values).all(axis=0)
    if (nodata := raster.dataset.nodata) is not None:
        valid &= (values != nodata).any(axis=0)
    if not raster.grid.place and (turn := find_tiff_orientation(raster.path)) != UPRIGHT:
        values = np.stack([turn_upright(band, turn) for band in values])
        valid = turn_upright(valid, turn)
    return values, valid


def _look_up(values: NDArray[np.uint8], palette: dict[int, tuple[int, ...]]) -> NDArray[np.uint8]:
    """Return the colours that pixels number, grey (1, H, W) or (3, H, W); 0 as white is such a palette."""
    colors = np.zeros((256, 3), np.uint8)
    for number, color in palette.items():
        colors[number] = color[:3]
    is_grey = (colors == colors[:, :1]).all()
    return colors[values, :1].transpose(2, 0, 1) if is_grey else colors[values].transpose(2, 0, 1)


def _choose(raster: Raster, values: NDArray[Any], radar: ValueRange) -> tuple[NDArray[Any], list[int]]:
    """Return the bands of the model's polarisations, (P, H, W), by name or in order, and their numbers."""
    named = find_polarisations(raster.dataset, raster.path, radar.bands)
    if all(named):
        numbers = [number for number in named if number]
        return values[[raster.numbers.index(number) for number in numbers]], numbers
    if not names_polarisations(raster.dataset):
        if len(radar.bands) == 1 and len(values) == 3:
            # what is missing in one band is so in all
            return as_gray(raster.path, np.nan_to_num(values)), raster.numbers[:1]
        if len(values) == len(radar.bands):
            return values, raster.numbers
    raise InputError(
        f"the radar image {raster.path} has {counted(len(values), 'band')} ({name_bands(raster.dataset)}), "
        f"the model needs {', '.join(radar.bands)}; give a file with these, or name its bands"
    )


def _write_tiff(path: Path, picture: NDArray[np.uint8], like: RadarPicture, tags: Mapping[str, str]) -> None:
    height, width, count = picture.shape
    profile = {"height": height, "width": width, "count": count, "dtype": "uint8", "photometric": "RGB"}
    profile |= {"bigtiff": "IF_SAFER", "nodata": None if like.valid.all() else 0}
    profile |= like.place
    with temporary_beside(path) as made:
        with write_raster(made, **profile) as raster:
            raster.dataset.update_tags(**tags)
            raster.write(np.moveaxis(picture, -1, 0))
        write_cog(made, path)


def read_picture(path: Path) -> NDArray[Any]:
    """Return (C, H, W) as stored, uint8 or uint16; C is 1 for a grey picture and 3 for a colour picture."""
    with errors_named(path, "picture"), Image.open(path) as image:
        values = turn_upright(np.asarray(_to_plain(path, image)), find_orientation(image))
    values = values.astype(values.dtype.newbyteorder("="))
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def read_gray(path: Path) -> NDArray[np.float32]:
    """Return a grey picture, (1, H, W) float32 in [0, 1]; see `read_picture` and `as_gray`."""
    return to_unit(as_gray(path, read_picture(path)))


def read_color(path: Path) -> NDArray[np.float32]:
    """Return a colour picture, (3, H, W) float32 in [0, 1]; see `read_picture` and `as_color`."""
    return to_unit(as_color(path, read_picture(path)))


def as_gray(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Return the first of equal channels, (1, H, W); refuse the picture at `path` if they differ."""
    if not (values == values[:1]).all():
        raise InputError(
            f"{path} has three different channels, a radar picture is grey; give the radar, not the optical"
            " image"
        )
    return values[:1]


def as_color(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Return the three channels; refuse the picture at `path` if it is grey."""
    if len(values) == 1:
        raise InputError(
            f"{path} is grey, an optical picture in colour is needed; give one, or swap it with the radar"
        )
    return values


def _to_plain(path: Path, image: Image.Image) -> Image.Image:
    """Return the picture without palette and opacity; refuse it if it is transparent somewhere."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in _SEE_THROUGH:
        if image.getchannel("A").getextrema() != (OPAQUE, OPAQUE):
            raise InputError(f"{path} is transparent in places; fill them")
        image = image.convert(_SEE_THROUGH[image.mode])
    if image.mode not in _PLAIN or is_deep_color(image):
        raise InputError(
            f"{path} has pixels of the kind {image.mode!r}, grey of 8 or 16 bit or colour of 8 bit is needed;"
            " convert it"
        )
    return image
