"""Reads scenes and guides of any bands and polarisations: what a file lacks is NaN, never a number."""

import re
from pathlib import Path

import torch
from torch import Tensor

from pellucid.data.band_names import SKIP
from pellucid.data.geotiff import Raster
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.radar_units import NoRadarError
from pellucid.data.ranges import SENTINEL1, SENTINEL2, Bands
from pellucid.data.raster import Offset, OpticalRaster
from pellucid.errors import InputError


def read_bands(
    path: Path, bands: Bands, *, offset: Offset = "auto", names: Bands = ()
) -> tuple[Tensor, Tensor]:
    """Return reflectance in [0, 1], (C, H, W), and where it is valid, (1, H, W) bool.

    Bands that the file lacks are NaN. `names` are those of a file whose bands have none, by position.
    """
    wanted = names or bands
    with OpticalRaster(path, wanted, offset=offset, allow_missing=wanted) as raster:
        raster.log_doubts()
        if not any(raster.indices):
            raise InputError(f"{path} has none of the bands {', '.join(wanted)}; name its bands")
        values, valid = raster.read()
        found = [name for name, index in zip(wanted, raster.indices, strict=True) if index is not None]
        values = SENTINEL2.select(wanted).to_unit(values)
    image = torch.full((len(bands), *values.shape[1:]), torch.nan)
    for i, band in enumerate(bands):
        if band in found:
            image[i] = values[wanted.index(band)]
    return image, valid


def read_polarisations(path: Path, names: Bands = ()) -> Tensor:
    """Return VV and VH in dB scaled to [0, 1] by `SENTINEL1`, (2, H, W), NaN where there is none.

    Args:
        path: GeoTIFF in dB or linear power whose bands are named, or are VV and VH.
        names: of the bands that are VV and VH, for instance of one orbit, ("ASC_VV", "ASC_VH").
    """
    with Raster(path, "radar scene") as raster:
        size = raster.dataset.shape
        named = _name_by_position(raster, names) if names else None
    try:
        with RadarRaster(path, named=named, partial=True) as radar:
            radar.log_doubts()
            return SENTINEL1.to_unit(radar.read_db())
    except NoRadarError:
        return torch.full((len(SENTINEL1.bands), *size), torch.nan)


def _name_by_position(raster: Raster, names: Bands) -> Bands:
    """Return what each band is, VV and VH for those that `names` describe."""
    texts = [(text or "").upper() for text in raster.dataset.descriptions]
    found = {_find_band(texts, name): band for name, band in zip(names, SENTINEL1.bands, strict=False)}
    if not any(at is not None for at in found):
        held = ", ".join(text or "unnamed" for text in texts)
        raise InputError(f"the radar scene {raster.path} has none of {', '.join(names)}, but {held}")
    return tuple(found.get(at, SKIP) for at in range(len(texts)))


def mirror(image: Tensor, size: int) -> Tensor:
    """Return (..., H, W) continued by its mirror image, right and below, to sides of at least `size`."""
    for dim in (-2, -1):
        side = image.shape[dim]
        if side < size:
            at = torch.arange(size) % (2 * side)
            image = image.index_select(dim, torch.where(at < side, at, 2 * side - 1 - at))
    return image


def _find_band(texts: list[str], name: str) -> int | None:
    """Return the first band whose description holds the name as a word of its own, from 0."""
    word = re.compile(rf"(?<![A-Z]){re.escape(name.upper())}(?![A-Z])")
    return next((i for i, text in enumerate(texts) if word.search(text)), None)
