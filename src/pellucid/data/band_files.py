"""A scene whose bands lie in files of their own, which a pattern names: "B*.jp2", "LC08_*_SR_B?.TIF"."""

import re
from collections.abc import Sequence
from pathlib import Path

from pellucid.data.band_names import band_name
from pellucid.data.band_stack import BandFile, stack_bands
from pellucid.data.files import only_files
from pellucid.data.ranges import SENTINEL2
from pellucid.data.safe_product import NATIVE_M, Metadata, is_old, is_product, read_metadata
from pellucid.errors import InputError

# In products, beside the bands: pictures, aerosol, water vapour, classes and probabilities.
_NO_BAND = re.compile(r"_(TCI|PVI|AOT|WVP|SCL|CLD|SNW|MSK_\w+?|CLDPRB|SNWPRB)(_\d\dm)?$")
# What names of files tell of the acquisition: tile and time, and the processing baseline of Sentinel-2.
_TAKEN, _BASELINE = re.compile(r"(T\d\d[A-Z]{3}_\d{8}T\d{6})"), re.compile(r"_N(\d{4})_")
_METRES = re.compile(r"_(\d\d)m$")
# Surface reflectance of Landsat, Collection 2 Level 2, and its bands by number, under their Sentinel-2 names:
# of satellites 8 and 9, and of those before (Landsat Collection 2 Level-2 science product guides).
_LANDSAT = re.compile(r"^L[COTEM]0(\d)_L2S\w_\d{6}_\d{8}_\d{8}_02_\w\w_SR_B(\d)$")
LANDSAT_SCALE, LANDSAT_OFFSET = 2.75e-5, -0.2
_OLI = dict(zip("1234567", ("B01", "B02", "B03", "B04", "B8A", "B11", "B12"), strict=True))
_TM = dict(zip("123457", ("B02", "B03", "B04", "B8A", "B11", "B12"), strict=True))
# Files named in a sentence.
SHOWN = 3


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern for several files, and none itself."""
    return any(each in str(path) for each in "*?[") and not path.exists()


def find_band_files(pattern: Path) -> list[Path]:
    """Return the files that fit a pattern, sorted, without those that hold no band."""
    found = only_files(Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor))))
    files = [path for path in found if not _NO_BAND.search(path.stem)]
    if not files:
        raise InputError(f"no file of a band fits {pattern}, change the pattern or check the folder")
    return files


def files_behind(pattern: Path) -> list[Path]:
    """Return all files that are read for a pattern: those of the bands, and the metadata beside them."""
    files = find_band_files(pattern)
    inside = [read_metadata(folder).container for folder in _products(files)]
    return [*files, *(each.path / each.metadata for each in inside)]


def stack_files(pattern: Path, what: str) -> str:
    """Return the bands of a pattern as one raster, see `stack_bands`; their names are those of the files.

    Files inside a product have the scales and offsets that its metadata says.
    """
    files = find_band_files(pattern)
    name = f"the {what} {pattern}"
    _refuse_mixture(files, name)
    folders = _products(files)
    if len(folders) > 1 or (folders and not all(folders[0] in path.parents for path in files)):
        raise InputError(f"{name} takes files of the product {folders[0]} and others, give those of one")
    metadata = read_metadata(folders[0]) if folders else None
    bands = choose_files([_describe(path, metadata) for path in files], name)
    return stack_bands(bands, name, metadata.tags if metadata else None)


def _products(files: Sequence[Path]) -> list[Path]:
    """Return the folders of the products in which the files lie; not of old ones, which had no offsets."""
    folders = dict.fromkeys(folder for path in files for folder in path.parents)
    found = [each for each in folders if each.name and is_product(each)]
    return [each for each in found if not is_old(path.name for path in each.iterdir())]


def _refuse_mixture(files: Sequence[Path], name: str) -> None:
    """Refuse bands of more than one acquisition or processing baseline, as far as names tell them."""
    for kind, pattern in (("processing baseline", _BASELINE), ("acquisition", _TAKEN)):
        texts = (path.absolute().as_posix() if pattern is _BASELINE else path.name for path in files)
        found = sorted({match[1] for match in map(pattern.search, texts) if match})
        if len(found) > 1:
            raise InputError(
                f"{name} mixes files of more than one {kind} ({', '.join(found[:SHOWN])}), a scene has one; "
                "narrow the pattern"
            )


def _describe(path: Path, metadata: Metadata | None) -> BandFile:
    """Return a file as a band: with the units of its product, of Landsat, or as the file declares them."""
    if landsat := _LANDSAT.match(path.stem):
        names = _OLI if landsat[1] in "89" else _TM
        band = names.get(landsat[2], path.stem)
        return BandFile(band, str(path), scale=LANDSAT_SCALE, offset=LANDSAT_OFFSET, nodata=0.0)
    band = band_name(path.stem)
    last = path.stem.rpartition("_")[2]
    if band not in SENTINEL2.bands and not last.isdecimal():
        band = found if (found := band_name(last)) in SENTINEL2.bands else path.stem
    if metadata and band in metadata.offsets:
        return metadata.as_band(band, str(path))
    return BandFile(band, str(path))


def choose_files(bands: Sequence[BandFile], name: str) -> list[BandFile]:
    """Return one file per band, of the native resolution where names say it, in the order of Sentinel-2."""
    chosen: dict[str, BandFile] = {}
    for band in bands:
        other = chosen.setdefault(band.name, band)
        if other is band:
            continue
        metres = [_METRES.search(Path(each.source).stem) for each in (other, band)]
        if None in metres:
            raise InputError(
                f"{name} has more than one file of {band.name} ({Path(other.source).name}, "
                f"{Path(band.source).name}), narrow the pattern"
            )
        native = NATIVE_M.get(band.name, 20)
        ranks = [(int(each[1]) != native, int(each[1])) for each in metres if each]
        if ranks[1] < ranks[0]:
            chosen[band.name] = band
    order = {band: i for i, band in enumerate(SENTINEL2.bands)}
    return sorted(chosen.values(), key=lambda band: order.get(band.name, len(order)))
