"""The rasters that belong to a restored scene, still empty, with all that they say of themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp

from pellucid.data.gdal_open import colors_of, open_raster
from pellucid.data.geotiff import copy_mask, georeference
from pellucid.data.ownership import PREFIX, TAG
from pellucid.data.spectrum import SPECTRA

# What the layers are called to the user.
LAYERS = {"result": "result", "std": "standard deviation", "painted": "painted", "weight": "weight"}
# Which band is shown in which colour where a file does not say so itself.
COLORS = {"B04": ColorInterp.red, "B03": ColorInterp.green, "B02": ColorInterp.blue}
SHOWN = (*COLORS.values(), ColorInterp.palette)


@dataclass(frozen=True)
class Labels:
    """What the layers of a scene say of themselves.

    Attributes:
        tags: what made them.
        bands: names of bands, by their number in the file, from 1.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    bands: Mapping[int, str] = field(default_factory=dict)


def create_layer(path: Path, source: Any, name: str, *, block: int, labels: Labels) -> None:
    """Make the empty raster of a layer, one of `LAYERS`, on the grid of the open source, in square blocks.

    The result has the type, nodata, bands, tags and mask of the source; the standard deviation, float32, its
    bands; the others have one band, of uint8 (painted) or float32.
    """
    profile = {"width": source.width, "height": source.height, **georeference(source)}
    profile |= {"tiled": True, "blockxsize": block, "blockysize": block, "bigtiff": "IF_SAFER"}
    if name == "result":
        profile |= {"dtype": source.profile.get("dtype"), "count": source.count, "nodata": source.nodata}
    elif name == "std":
        profile |= {"dtype": "float32", "count": source.count, "nodata": np.nan}
    else:
        profile |= {"dtype": "uint8" if name == "painted" else "float32", "count": 1}
    with open_raster(path, "w", driver="GTiff", **profile) as copy:
        if name == "result":
            _describe_as(source, copy)
        copy.update_tags(**{**TAG, **labels.tags, f"{PREFIX}LAYER": LAYERS[name]})
        if name in ("result", "std"):  # a difference has no offset, and the tags of the scene do not apply
            copy.descriptions, copy.units, copy.scales = source.descriptions, source.units, source.scales
            _label(copy, labels.bands)
        else:
            copy.set_band_description(1, LAYERS[name])


def _describe_as(source: Any, copy: Any) -> None:
    """Give the result the mask, offsets, colours and tags of its source, but for statistics."""
    copy_mask(source, copy)
    copy.offsets, copy.colorinterp = source.offsets, colors_of(source)
    copy.update_tags(**{name: text for name, text in source.tags().items() if not name.startswith(PREFIX)})
    for band in source.indexes:
        tags = source.tags(band)
        copy.update_tags(band, **{k: v for k, v in tags.items() if not k.startswith("STATISTICS_")})


def _label(copy: Any, bands: Mapping[int, str]) -> None:
    """Say what the bands are, as far as the file does not: name, wavelength, width and colour."""
    for number, name in bands.items():
        if not copy.descriptions[number - 1]:
            copy.set_band_description(number, name)
        known = {each.lower() for each in copy.tags(number)}
        if name in SPECTRA and "wavelength" not in known:
            copy.update_tags(
                number,
                wavelength=f"{SPECTRA[name].center_um:g}",
                fwhm=f"{SPECTRA[name].width_um:g}",
                wavelength_units="Micrometers",
            )
    colors = list(copy.colorinterp)
    if set(COLORS) <= set(bands.values()) and not set(colors) & set(SHOWN):
        named = [COLORS.get(bands.get(number, "")) for number in copy.indexes]
        rest = (ColorInterp.undefined if color == ColorInterp.gray else color for color in colors)
        copy.colorinterp = [color or other for color, other in zip(named, rest, strict=True)]
