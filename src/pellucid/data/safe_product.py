"""Sentinel-2 products as they are downloaded: a SAFE folder, its .zip, or the metadata file in it."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as ET

import numpy as np

from pellucid.data.band_names import LEVEL_2A
from pellucid.data.band_stack import BandFile
from pellucid.data.ranges import SENTINEL2, Bands
from pellucid.errors import InputError

# A file that every product has; bands of each level, by the metadata file that products of the level have.
MANIFEST = "manifest.safe"
LEVELS = {"MTD_MSIL1C.xml": SENTINEL2.bands, "MTD_MSIL2A.xml": LEVEL_2A}
# Metres of the native pixels of bands; 20 of those that are not named.
NATIVE_M = dict.fromkeys(("B02", "B03", "B04", "B08"), 10) | dict.fromkeys(("B01", "B09", "B10"), 60)
# Digests in the manifest, as hashlib calls them.
_DIGESTS = {"MD5": "md5", "SHA3-256": "sha3_256"}
# Of a band's file, "T33UUP_20200101T100031_B02_10m"; of the scene classification and of cloud probability,
# which older products call CLD.
_BAND_FILE = re.compile(r"_(B\d[\dA])(?:_(\d\d)m)?$")
_CLASSES, _PROBABILITY = re.compile(r"_SCL_(\d\d)m$"), re.compile(r"(?:MSK_CLDPRB|_CLD)_(\d\d)m$")
# Of a product, "S2A_MSIL2A_20200101T100031_N0500_....SAFE".
_PRODUCT = re.compile(r"^S2[A-D]_MSIL(1C|2A)_.*\.(safe|zip)$", re.IGNORECASE)
# Tags of the metadata, of any baseline.
_IMAGES = ("IMAGE_FILE", "IMAGE_FILE_2A", "IMAGE_ID", "IMAGE_ID_2A")
_QUANTIFICATION = ("QUANTIFICATION_VALUE", "BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE")
_OFFSETS = ("RADIO_ADD_OFFSET", "BOA_ADD_OFFSET")
_ABOUT = ("SPACECRAFT_NAME", "Cloud_Coverage_Assessment")
_URI = ("PRODUCT_URI", "PRODUCT_URI_1C", "PRODUCT_URI_2A")
# Of the metadata of products before December 2016, and what is said of them.
_OLD_METADATA = re.compile(r"_MTD_SAFL(1C|2A)_.*\.xml$")
OLD = (
    "in the format before December 2016, of many tiles; download the tile anew (all of them were processed "
    "again), or give the bands of one granule: --optical 'GRANULE/*_T33UUP_*/IMG_DATA/*_B*.jp2'"
)
# Bytes of the largest metadata file that is read; real ones have some 100 kB.
MAX_XML = 2**25
# Reflectance is at least this exact in tags of files.
DIGITS = 9


class Container:
    """The files of a product, in a folder or an archive; names are relative to the folder of the metadata."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_archive = path.is_file()
        if self.is_archive:
            with _open_archive(path) as archive:
                members = archive.namelist()
            found = [PurePosixPath(name) for name in members if PurePosixPath(name).name in LEVELS]
            top = min((len(each.parts) for each in found), default=0)
            found = [each for each in found if len(each.parts) == top]
            if len(found) > 1:
                raise InputError(
                    f"{path} holds {len(found)} products ({', '.join(map(str, found[:3]))}), one is needed; "
                    "unpack it and name one"
                )
            self.root = found[0].parent if found else PurePosixPath()
            self.members = members
        else:
            found = [PurePosixPath(name) for name in LEVELS if (path / name).is_file()]
        if not found:
            if is_old(self.members if self.is_archive else [each.name for each in path.iterdir()]):
                raise InputError(f"{path} is {OLD}")
            raise InputError(
                f"{path} has no {' or '.join(LEVELS)}, so it is no whole Sentinel-2 product; download it "
                "again, or give a GeoTIFF"
            )
        self.metadata = found[0].name

    @cached_property
    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        if not self.is_archive:
            return sorted(each.relative_to(self.path).as_posix() for each in self.path.rglob("*.*"))
        inside = (PurePosixPath(name) for name in self.members if not name.endswith("/"))
        return sorted(str(each.relative_to(self.root)) for each in inside if self.root in each.parents)

    def read(self, name: str) -> bytes:
        """Return what a file of metadata holds."""
        if not self.is_archive:
            path = self.path / name
            _check_size(path, path.stat().st_size)
            return path.read_bytes()
        with _open_archive(self.path) as archive:
            member = str(self.root / name)
            _check_size(self.path / name, archive.getinfo(member).file_size)
            try:
                return archive.read(member)
            except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
                raise InputError(f"{self.path} is damaged ({error}), download it again") from error

    def digest(self, name: str, kind: str) -> str:
        """Return the digest of a file, of a kind that hashlib knows."""
        try:
            if not self.is_archive:
                with (self.path / name).open("rb") as file:
                    return hashlib.file_digest(file, kind).hexdigest()
            with _open_archive(self.path) as archive, archive.open(str(self.root / name)) as member:
                return hashlib.file_digest(member, kind).hexdigest()  # type: ignore[arg-type]
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
            raise InputError(f"{self.path} has the file {name}, which is damaged ({error})") from error

    def source(self, name: str) -> str:
        """Return a file as GDAL opens it, without unpacking anything."""
        if not self.is_archive:
            return str(self.path.absolute() / name)
        return f"/vsizip/{{{self.path.absolute()}}}/{self.root / name}"


@dataclass(frozen=True)
class Metadata:
    """What the metadata of a product says of its values.

    Attributes:
        root: of the metadata.
        scale: of all bands: reflectance = digital number x scale + offset.
        offsets: by band.
        tags: more of it, under the names of the product specification.
    """

    container: Container
    root: ET.Element
    bands: Bands
    scale: float
    offsets: Mapping[str, float]
    tags: Mapping[str, str]

    def as_band(self, band: str, source: str) -> BandFile:
        """Return a file as a band of the product."""
        return BandFile(band, source, scale=self.scale, offset=self.offsets[band], nodata=0.0)


@dataclass(frozen=True)
class Product:
    """A Sentinel-2 product of one tile: its files, and what its metadata says of their values.

    Attributes:
        files: on the disk, all that is read of it.
        bands: one file per band of the level, the native resolution where there are several; in their order.
        classes: the scene classification; None without.
        probability: the cloud probability in percent; None without.
        tags: what the metadata says, under the names of the product specification.
        about: more of it, which says nothing of a result: satellite, percent of cloud.
    """

    files: tuple[Path, ...]
    bands: tuple[BandFile, ...]
    classes: str | None
    probability: str | None
    tags: Mapping[str, str]
    about: Mapping[str, str]


def is_product(path: Path) -> bool:
    """Whether a path looks like a Sentinel-2 product, whole or not."""
    if path.is_dir():
        return path.suffix.lower() == ".safe" or any((path / name).is_file() for name in LEVELS)
    return path.is_file() and (path.suffix.lower() in (".zip", ".xml") or path.name == MANIFEST)


def is_named_product(path: Path) -> bool:
    """Whether a path is by its name a product, among other files; not its archive where it lies unpacked."""
    is_double = path.suffix.lower() == ".zip" and path.with_suffix(".SAFE").is_dir()
    return _PRODUCT.match(path.name) is not None and is_product(path) and not is_double


def read_metadata(path: Path) -> Metadata:
    """Return what the metadata of a product says, whichever of its bands are there."""
    inside = path.is_file() and path.suffix.lower() != ".zip"
    if inside and path.name not in (*LEVELS, MANIFEST):
        raise InputError(
            f"{path} is not the metadata of a Sentinel-2 product ({' or '.join(LEVELS)}), give this, or the "
            "folder of the product"
        )
    container = Container(path.parent if inside else path)
    name = container.metadata = path.name if path.name in LEVELS else container.metadata
    root = _parse(container.read(name), container.path / name)
    quantification, offsets = _find_units(root, container.path / name)
    tags = {"PRODUCT_URI": _text(root, *_URI) or container.path.name, "SPECIAL_VALUE_NODATA": "0"}
    for key in ("PROCESSING_BASELINE", "PROCESSING_LEVEL", "PRODUCT_START_TIME"):
        tags |= {key: text} if (text := _text(root, key)) else {}
    if len(set(offsets.values())) == 1:
        tags[_OFFSETS["1C" not in name]] = f"{next(iter(offsets.values())):g}"
    scaled = {band: round(offset / quantification, DIGITS) for band, offset in offsets.items()}
    return Metadata(container, root, LEVELS[name], round(1 / quantification, DIGITS), scaled, tags)


def read_product(path: Path) -> Product:
    """Return what a product holds; its pixels are not read.

    Raises:
        InputError: if it is incomplete, damaged, of a format before December 2016, or no such product.
    """
    metadata = read_metadata(path)
    container = metadata.container
    found = _find_bands(metadata.root, container, metadata.bands)
    bands = tuple(metadata.as_band(band, container.source(name)) for band, name in found.items())
    classes, probability = (_find_mask(container, each) for each in (_CLASSES, _PROBABILITY))
    if container.is_archive:
        paths = [container.path]
    else:
        masks = [Path(each) for each in (classes, probability) if each]
        paths = [container.path / container.metadata, *(Path(band.source) for band in bands), *masks]
    about = {key: text for key in _ABOUT if (text := _text(metadata.root, key))}
    return Product(tuple(paths), bands, classes, probability, metadata.tags, about)


def check_digests(path: Path) -> None:
    """Refuse a product of which a band has other bytes than its manifest says, where there is one.

    Damage within JPEG 2000 mostly shows in no other way than in wrong values. Each file is read once, and
    again after it was written.
    """
    if is_product(path):
        _check_digests(path, tuple(each.stat().st_mtime_ns for each in read_product(path).files))


@lru_cache(maxsize=1024)
def _check_digests(path: Path, _written: tuple[int, ...]) -> None:
    metadata = read_metadata(path)
    container = metadata.container
    if MANIFEST not in container.names:
        return
    wanted = set(_find_bands(metadata.root, container, metadata.bands).values())
    for each in _elements(_parse(container.read(MANIFEST), container.path / MANIFEST), "byteStream"):
        name = next((found.get("href", "") for found in _elements(each, "fileLocation")), "")
        name = name.removeprefix("./")
        said = next(iter(_elements(each, "checksum")), None)
        kind = "" if said is None else _DIGESTS.get(said.get("checksumName", ""), "")
        if said is None or not kind or name not in wanted:
            continue
        if container.digest(name, kind) != (said.text or "").strip().lower():
            raise InputError(
                f"{path} has the file {PurePosixPath(name).name}, which is not that of its manifest, so it "
                f"is damaged; download it again, or, if you changed it, take {MANIFEST} away"
            )


def is_old(names: Iterable[str]) -> bool:
    """Whether files are those of a product before December 2016, whose metadata has another name."""
    return any(map(_OLD_METADATA.search, names))


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputError(f"{path} is no readable zip archive ({error}), download it again") from error


def _check_size(path: Path, size: int) -> None:
    if size > MAX_XML:
        raise InputError(f"{path} has {size:,} bytes, metadata has less than {MAX_XML:,}; download it again")


def _parse(data: bytes, path: Path) -> ET.Element:
    """Return the root of metadata.

    Entities can only be declared in a document type, which products do not have: one is refused, so none is
    expanded. Text is decoded before it is searched, so that no other encoding hides one.
    """
    try:
        text = data.decode("utf-8-sig")
        if "<!DOCTYPE" in text:
            raise InputError(
                f"{path} declares a document type, which metadata of Sentinel-2 does not; ask for it"
            )
        return ET.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except (UnicodeDecodeError, ET.ParseError) as error:
        raise InputError(f"{path} is damaged ({error}), download it again") from error


def _elements(root: ET.Element, *tags: str) -> list[ET.Element]:
    """Return the elements of these names, without their namespaces."""
    return [each for each in root.iter() if each.tag.rpartition("}")[2] in tags]


def _text(root: ET.Element, *tags: str) -> str:
    return next((each.text.strip() for each in _elements(root, *tags) if each.text), "")


def _find_bands(root: ET.Element, container: Container, bands: Bands) -> dict[str, str]:
    """Return the file of each band: of the native resolution, or else the finest, that the metadata lists.

    One that is listed and not there is missing, whichever coarser one there is.
    """
    if len(_elements(root, "Granule", "Granules")) > 1:
        raise InputError(f"{container.path} has more than one granule, so it is {OLD}")
    listed = [PurePosixPath(each.text.strip()).name for each in _elements(root, *_IMAGES) if each.text]
    there = {PurePosixPath(name).stem: name for name in container.names if name.lower().endswith(".jp2")}
    candidates: dict[str, list[tuple[bool, int, str]]] = {}
    for stem in listed:
        if match := _BAND_FILE.search(stem.removesuffix(".jp2")):
            metres, native = int(match[2] or 0), NATIVE_M.get(match[1], 20)
            candidates.setdefault(match[1], []).append((bool(metres) and metres != native, metres, stem))
    best = {band: min(named) for band, named in candidates.items()}
    found = {band: there.get(stem, "") for band, (*_, stem) in best.items()}
    if missing := [band for band in bands if not found.get(band)]:
        plural = "s" * (len(missing) > 1)
        named = (f"{band} in {metres} m" if (metres := best[band][1]) else band for band in best)
        lacking = [text for text, band in zip(named, best, strict=True) if band in missing]
        lacking += [band for band in missing if band not in best]
        raise InputError(
            f"{container.path} lacks the file{plural} of {', '.join(lacking)}; needed are all of "
            f"{', '.join(bands)}: download it again, or give the files that are there with --optical"
        )
    return {band: found[band] for band in bands}


def _find_mask(container: Container, pattern: re.Pattern[str]) -> str | None:
    """Return the finest file of a mask as GDAL opens it; None without."""
    matches = [(pattern.search(PurePosixPath(name).stem), name) for name in container.names]
    found = sorted((int(match[1]), name) for match, name in matches if match and name.endswith(".jp2"))
    return container.source(found[0][1]) if found else None


def _find_units(root: ET.Element, path: Path) -> tuple[float, dict[str, float]]:
    """Return the quantification value, and what is added to the digital numbers of each band."""
    quantification = _number(_text(root, *_QUANTIFICATION), path)
    if quantification <= 0:
        raise InputError(f"{path} has the quantification value {quantification:g}, must be positive")
    offsets = dict.fromkeys(SENTINEL2.bands, 0.0)
    for each in _elements(root, *_OFFSETS):
        number = each.get("band_id", "")
        if not number.isdecimal() or int(number) >= len(SENTINEL2.bands):
            raise InputError(
                f"{path} has an offset for the band {number!r}, must be 0 to 12; download it again"
            )
        offsets[SENTINEL2.bands[int(number)]] = _number((each.text or "").strip(), path)
    return quantification, offsets


def _number(text: str, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{path} has {text!r} where a number is needed, download it again")
    return value
