"""Rasters that a STAC Item on the disk names, one band each, as one: Sentinel-1 RTC, or Sentinel-2."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.data.band_files import choose_files
from pellucid.data.band_names import band_name
from pellucid.data.band_stack import BandFile, stack_bands
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.text_file import parse_json, read_text
from pellucid.errors import InputError

# Bytes of the longest item that is read, and assets that are named in a sentence.
MAX_BYTES, SHOWN = 2**22, 6


def is_item(path: Path) -> bool:
    """Whether a path looks like a STAC Item."""
    return path.suffix.lower() in (".json", ".geojson") and path.is_file()


def find_item_files(path: Path) -> list[Path]:
    """Return an item and the files of its bands."""
    return [path, *(Path(band.source) for band in _read_bands(path))]


def stack_item(path: Path, what: str) -> str:
    """Return the bands of an item as one raster, see `stack_bands`.

    Assets are bands by their keys: VV, VH, or as bands are named elsewhere ("B02", "red"). A file lies where
    the item says, relative to it, or beside it under the same name if the item names a remote one. Scales,
    offsets and nodata of the item count before those of the files.

    Raises:
        InputError: if it is no item, or a band of it is not on this machine.
    """
    return stack_bands(_read_bands(path), f"the {what} {path}")


def _read_bands(path: Path) -> list[BandFile]:
    try:
        item = parse_json(read_text(path, "the STAC Item", max_bytes=MAX_BYTES))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}), give a STAC Item or a GeoTIFF") from error
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(assets, dict):
        raise InputError(f"{path} is no STAC Item: it has no assets; give an item, or a GeoTIFF")
    named = [(_name(key), asset) for key, asset in assets.items() if isinstance(asset, dict)]
    known = (*SENTINEL1.bands, *SENTINEL2.bands)
    bands = [_as_band(name, asset, path) for name, asset in named if name in known]
    if not bands:
        keys = ", ".join(list(assets)[:SHOWN]) or "none"
        raise InputError(
            f"{path} has no asset named VV, VH or as a band of Sentinel-2 (it has {keys}); give the "
            "files, or name its assets"
        )
    return choose_files(bands, str(path))


def _name(key: str) -> str:
    return key.upper() if key.upper() in SENTINEL1.bands else band_name(key)


def _as_band(name: str, asset: Mapping[str, Any], path: Path) -> BandFile:
    href = str(asset.get("href", ""))
    near = path.parent / href.rpartition("/")[2].partition("?")[0]
    is_remote = "://" in href or href.startswith("/vsi")
    source = near if is_remote else path.parent / href.removeprefix("file:")
    if not source.is_file():
        way = f"download it as {near}" if is_remote else "check the item"
        raise InputError(f"{path} names the file {href!r} of {name}, which is not on this machine; {way}")
    listed = asset.get("raster:bands") or asset.get("bands")
    units = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    scale, offset, nodata = (units.get(key) for key in ("scale", "offset", "nodata"))
    return BandFile(name, str(source), scale=_number(scale), offset=_number(offset), nodata=_number(nodata))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
