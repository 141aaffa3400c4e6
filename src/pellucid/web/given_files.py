"""Files that are given to the service: uploads, and paths below its allowed folder; nothing else is read."""

import os
import re
import zipfile
from pathlib import Path

from pellucid.data.slice_file import read_slices
from pellucid.errors import InputError
from pellucid.web.limits import MAX_FILES, RequestError

# How pictures and rasters begin that a job may read. A VRT, or a catalogue entry, may name files anywhere.
BEGINNINGS = (
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
)
ZIP = b"PK\x03\x04"
# What GDAL takes for a VRT, whatever stands before it, and the bytes in which that is looked for.
VRT, LOOKED_AT = b"<VRTDataset", 2**16
# Formats of GDAL that a job needs; others might read what their files name, here or in the net.
DRIVERS = ("GTiff", "COG", "JPEG", "PNG", "JP2OpenJPEG", "MEM", "Memory", "VRT")
# Suffixes of the files in a folder that are offered.
SUFFIXES = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".zip")
# What no name has: what systems and GDAL take for a place, a pattern or an option.
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\[\]{}]|^[-.~]|[. ]$')
MAX_NAME = 150
# Files of a product, or members of an archive, that are looked at.
MAX_PARTS = 10_000


def check_name(name: str) -> str:
    """Return the name of an upload, or refuse one that could mean another place, a pattern or an option."""
    if not name or len(name) > MAX_NAME or FORBIDDEN.search(name) or not name.isprintable():
        raise InputError(
            f"the file name {name[:MAX_NAME]!r} cannot be used; rename the file: letters, digits, spaces and "
            f"'._-' inside, at most {MAX_NAME} characters"
        )
    return name


def check_content(path: Path) -> None:
    """Refuse a file that is neither raster, picture nor archive of such by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
        if not _is_plain(start) and not start.startswith(ZIP):
            raise InputError(
                f"{path.name} is no TIFF, JPEG 2000, PNG, JPEG or zipped Sentinel-2 product, and the service "
                "takes nothing else; convert it"
            )
        if start.startswith(ZIP):
            _check_archive(path)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror}); choose another file") from error


def check_grey(path: Path) -> None:
    """Refuse a picture whose first page is not grey; the error says its name, and not where it lies."""
    try:
        next(read_slices(path, is_image=False))
    except InputError as error:
        raise InputError(str(error).replace(f"{path.parent}{os.sep}", "")) from error


def _is_plain(start: bytes) -> bool:
    """Whether a file that starts so is a raster or picture that names no other files."""
    return start.startswith(BEGINNINGS) and VRT not in start


def skipped_drivers() -> str:
    """Return what GDAL_SKIP is for a job: all formats that none needs."""
    import rasterio

    with rasterio.Env() as env:
        return ",".join(sorted(set(env.drivers()) - set(DRIVERS)))


def _check_archive(path: Path) -> None:
    """Refuse an archive whose images are something else by their content."""
    try:
        with zipfile.ZipFile(path) as archive:
            images = [each for each in archive.infolist() if each.filename.lower().endswith(".jp2")]
            if len(archive.infolist()) > MAX_PARTS or not images:
                raise InputError(f"{path.name} is no Sentinel-2 product; give its .zip, or a GeoTIFF")
            for each in images:
                with archive.open(each) as file:
                    if not _is_plain(file.read(LOOKED_AT)):
                        raise InputError(f"{each.filename} in {path.name} is no JPEG 2000; download it again")
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise InputError(f"{path.name} is a damaged archive ({error}); download it again") from error


def find_given(folder: Path | None, path: str) -> Path:
    """Return the absolute path of what a request names below the allowed folder.

    Raises:
        RequestError: if it is not there, or lies outside: by `..`, as an absolute path, or through a link.
    """
    if folder is None:
        raise RequestError(403, "this service reads no folder; upload the file, or start it with --folder")
    missing = RequestError(404, f"{path[:200]!r} is not in the shared folder; choose a path below it")
    if "\0" in path or "\\" in path or path.startswith(("/", "~")):
        raise missing
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or any(part.startswith(".") for part in parts):
        raise missing
    try:
        real = folder.joinpath(*parts).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise missing from error
    if not _is_below(real, folder):
        raise missing
    return real


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def check_given(folder: Path, path: Path) -> None:
    """Refuse a file or folder below the allowed one that holds anything from elsewhere, or no raster."""
    if re.search(r"[\x00-\x1f*?\[\]{}]", str(path.relative_to(folder.resolve()))):
        raise InputError(f"{path.name} has a name that means a pattern; rename it")
    if path.is_file():
        check_content(path)
        return
    is_product = any(path.glob("MTD_MSIL*.xml"))
    for number, each in enumerate(_files_below(path)):
        if number == MAX_PARTS:
            raise InputError(f"{path.name} holds more than {MAX_PARTS:,} files; choose a smaller folder")
        if not _is_below(each, folder):
            raise InputError(f"{each.name} in {path.name} is a link to another place; copy the file there")
        if not is_product or each.suffix.lower() == ".jp2":
            check_content(each)


def _files_below(folder: Path) -> list[Path]:
    return [Path(place, name) for place, _, names in os.walk(folder) for name in sorted(names)]


def list_folder(folder: Path | None, path: str) -> list[dict[str, str | int]]:
    """Return name, kind and bytes of what lies in a folder below the allowed one, at most `MAX_FILES`."""
    place = find_given(folder, path)
    if folder is None or not place.is_dir():
        raise RequestError(404, f"{path[:200]!r} is no folder; name one below the shared folder")
    found = list[dict[str, str | int]]()
    for each in sorted(place.iterdir(), key=lambda entry: entry.name.lower()):
        if each.name.startswith(".") or not each.exists() or not _is_below(each, folder):
            continue
        suffix = each.suffix.lower()
        kind = "file" if each.is_file() else "product" if suffix == ".safe" else "folder"
        if each.is_dir() or (each.is_file() and suffix in SUFFIXES):
            found.append({"name": each.name, "kind": kind, "bytes": each.stat().st_size})
    return found[:MAX_FILES]
