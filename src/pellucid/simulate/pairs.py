"""Pairs of cloudy and clear scenes, simulated: made-up landscapes, or a user's clear scenes, under clouds."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window
from rasterio.windows import transform as window_transform
from torch import Tensor

from pellucid.data.checked_raster import write_raster
from pellucid.data.claims import claim_folders
from pellucid.data.files import glob_files, make_folder, write_atomically
from pellucid.data.gdal_open import GDAL_ERRORS
from pellucid.data.geotiff import Grid
from pellucid.data.ownership import check_replaceable
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.raster import OpticalRaster
from pellucid.data.text_file import read_rows
from pellucid.data.working_file import explain_write_error
from pellucid.errors import InputError
from pellucid.simulate.clouds import SkyOptions, add_clouds
from pellucid.simulate.landscape import Landscape, make_scene

INDEX_COLUMNS, MADE_UP = ("name", "split_group"), "synthetic_"
FOLDERS = ("s1", "s2_cloudy", "s2_cloudfree", "mask")
# Where made-up scenes pretend to lie: a corner in UTM zone 33 north, 10 m pixels.
CRS_NAME, LEFT_M, TOP_M, PIXEL_M = "EPSG:32633", 400_000.0, 5_800_000.0, 10.0
# Made-up patches that lie side by side, before the next row begins to the south.
ROW = 32
# Tries to find a window without missing pixels in a clear scene.
NUM_TRIES = 50


class ClearPatch(NamedTuple):
    """What clouds are laid over."""

    name: str
    place: str  # pairs of one place belong to one split
    scene: Landscape
    bands: tuple[str, ...]
    grid: Grid


@dataclass(frozen=True)
class PairPaths:
    """The files of one simulated pair; `radar` is None where the scene has no radar."""

    radar: Path | None
    cloudy: Path
    clear: Path
    cloud: Path


# Names of pairs, and what clouds are laid over, in their order.
_Patches = tuple[list[str], Iterator[ClearPatch]]


def write_pair(
    folder: Path,
    name: str,
    scene: Landscape,
    degraded: Tensor,
    cloud: Tensor,
    *,
    bands: tuple[str, ...] = SENTINEL2.bands,
    grid: Grid | None = None,
) -> PairPaths:
    """Write a pair as GeoTIFFs in the folders of SEN12MS-CR: s1, s2_cloudy, s2_cloudfree, mask.

    Optical images are written as uint16 DN (reflectance * 10000; 0 is nodata), radar as float32 dB (NaN is
    nodata; no file if there is nothing else), the cloud map as float32.

    Args:
        folder: made if it is missing.
        name: of each file, without suffix.
        scene: the clear image and its radar.
        degraded: (C, H, W) reflectance in [0, 1].
        cloud: (1, H, W) in [0, 1].
        bands: C names of the optical bands.
        grid: where the pixels lie; None: a made-up place.
    """
    paths = {sub: folder / sub / f"{name}.tif" for sub in FOLDERS}
    has_radar = bool(scene.radar_db.isfinite().any())
    for sub, path in paths.items():
        if has_radar or sub != "s1":
            make_folder(path.parent)
    _write(paths["s2_cloudy"], _to_stored(degraded), bands, grid, nodata=0)
    _write(paths["s2_cloudfree"], _to_stored(scene.optical), bands, grid, nodata=0)
    _write(paths["mask"], cloud.numpy(), ("cloud",), grid, nodata=None)
    if has_radar:
        _write(paths["s1"], scene.radar_db.numpy(), SENTINEL1.bands, grid, nodata=np.nan)
    return PairPaths(
        radar=paths["s1"] if has_radar else None,
        cloudy=paths["s2_cloudy"],
        clear=paths["s2_cloudfree"],
        cloud=paths["mask"],
    )


def simulate_pairs(
    out: Path,
    *,
    count: int,
    size: int,
    seed: int,
    clear: Path | None = None,
    options: SkyOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write cloudy and clear pairs that `pellucid train` reads as SEN12MS-CR; return their list.

    Made-up landscapes come with radar and are listed in data.csv, split into training (1), validation (2) and
    test (3). Users' own clear scenes have no radar: they are listed in index.csv with the scene each was cut
    from (`split_group`), so that no scene falls into two splits.

    Args:
        out: folder to write to.
        count: number of pairs.
        size: side of a patch in pixels.
        seed: the same seed gives the same pairs.
        clear: folder of clear GeoTIFFs, searched with its subfolders; None makes landscapes up.
        options: of the sky.
        progress: called with the number of pairs written.
    """
    with claim_folders(out):
        _check_lists(out, is_made_up=clear is None)
        names, patches = (
            _landscapes(count, size, seed) if clear is None else _cut_scenes(clear, out, count, size, seed)
        )
        for each in names:
            for sub in FOLDERS:
                check_replaceable(out / sub / f"{each}.tif")
        rows = []
        for index, (name, place, scene, bands, grid) in enumerate(patches):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
            degraded, cloud = add_clouds(scene.optical, bands, generator, options)
            valid = (scene.optical > 0).any(0, keepdim=True)
            write_pair(out, name, scene, degraded * valid, cloud * valid, bands=bands, grid=grid)
            rows.append((name, place))
            if progress is not None:
                progress(index + 1)
        index_path = _write_rows(out / "index.csv", [INDEX_COLUMNS, *rows])
        if clear is not None:
            return index_path
        splits = zip(_split(len(rows)), rows, strict=True)
        lines = [(split, "s1", "s2_cloudfree", "s2_cloudy", f"{name}.tif") for split, (name, _) in splits]
        return _write_rows(out / "data.csv", lines)


def _landscapes(count: int, size: int, seed: int) -> _Patches:
    names = [f"{MADE_UP}{seed + index}" for index in range(count)]
    return names, (
        ClearPatch(name, name, make_scene(size, seed + i), SENTINEL2.bands, _place(size, size, i))
        for i, name in enumerate(names)
    )


def _cut_scenes(folder: Path, out: Path, count: int, size: int, seed: int) -> _Patches:
    """Return squares of clear scenes; all are read before the first is given, so that a bad one comes up.

    What lies in `out`, perhaps of an earlier call, is none.
    """
    found = [path for path in glob_files(folder, "**/*") if path.suffix.lower() in (".tif", ".tiff")]
    paths = [path for path in found if out.resolve() not in path.resolve().parents]
    if not paths:
        beside = f" beside those in {out}" if found else ""
        raise InputError(f"{folder} holds no GeoTIFF (.tif){beside}; give the folder of your clear scenes")
    places = {path: path.relative_to(folder).with_suffix("").as_posix().replace("/", "_") for path in paths}
    if twice := [place for place, number in Counter(places.values()).items() if number > 1]:
        same = " and ".join(str(path) for path, place in places.items() if place == twice[0])
        raise InputError(f"the pairs of {same} would have one name, {twice[0]}; rename one")
    rng = np.random.default_rng(seed)
    chosen = [(path, _choose(path, size, rng)) for path in islice(cycle(paths), count)]
    names = [f"{places[path]}_cut{index // len(paths)}" for index, (path, _) in enumerate(chosen)]
    return names, (
        ClearPatch(name, places[path], *_cut(path, window))
        for name, (path, window) in zip(names, chosen, strict=True)
    )


def _choose(path: Path, size: int, rng: np.random.Generator) -> Window:
    """Return a random square of a clear scene, if possible one without missing pixels."""
    with _open_clear(path) as raster:
        raster.log_doubts()
        height, width = raster.grid.height, raster.grid.width
        if min(height, width) < size:
            raise InputError(
                f"{path} has {height} x {width} pixels, patches need {size}; choose a smaller size"
            )
        best, most = None, 0
        for _ in range(NUM_TRIES):
            left, top = int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))
            window = Window(left, top, size, size)
            _, valid = raster.read(window)
            if int(valid.sum()) > most:
                best, most = window, int(valid.sum())
            if valid.all():
                break
    if best is None:
        raise InputError(f"{path} holds no data where it was cut; take it out of the folder")
    return best


def _open_clear(path: Path) -> OpticalRaster:
    return OpticalRaster(path, SENTINEL2.bands, allow_missing=("B10",))


def _cut(path: Path, window: Window) -> tuple[Landscape, tuple[str, ...], Grid]:
    """Return a square of a clear scene, the bands that it has, and where it lies."""
    size = window.width
    with _open_clear(path) as raster:
        there, optical = [index is not None for index in raster.indices], raster.read(window)[0]
        grid = Grid(raster.grid.crs, window_transform(window, raster.grid.transform), size, size)
    scene = Landscape(
        optical=optical[there].clamp(0, 1),
        radar_db=torch.full((2, size, size), torch.nan),
        land_cover=torch.zeros(size, size, dtype=torch.uint8),
    )
    return scene, tuple(band for band, is_there in zip(SENTINEL2.bands, there, strict=True) if is_there), grid


def _split(count: int) -> list[int]:
    """Return the split of each pair: a tenth each, but at least one, for validation (2) and test (3)."""
    splits = [{8: 2, 9: 3}.get(index % 10, 1) for index in range(count)]
    if 3 <= count < 10:
        splits[-2:] = [2, 3]
    return splits


def _place(height: int, width: int, index: int = 0) -> Grid:
    """Return where patch `index` lies: no two made-up places are the same."""
    left = LEFT_M + index % ROW * width * PIXEL_M
    top = TOP_M - index // ROW * height * PIXEL_M
    return Grid(CRS.from_string(CRS_NAME), Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), width, height)


def _to_stored(reflectance: Tensor) -> NDArray[np.uint16]:
    """Return digital numbers; 0 only where every band is 0, which means missing."""
    there = (reflectance > 0).any(0)
    stored = (reflectance * 10_000).round().clamp(1, 10_000) * there
    return stored.numpy().astype(np.uint16)


def _write(
    path: Path, values: NDArray[Any], bands: tuple[str, ...], grid: Grid | None, *, nodata: float | None
) -> None:
    height, width = values.shape[-2:]
    place = grid or _place(height, width)
    profile = {
        "width": width,
        "height": height,
        "count": len(bands),
        "dtype": values.dtype.name,
        "crs": place.crs,
        "transform": place.transform,
        "nodata": nodata,
        "compress": "deflate",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }

    def write(temporary: Path) -> None:
        with write_raster(temporary, **profile) as file:
            file.write(values)
            file.dataset.descriptions = bands

    try:
        write_atomically(path, write)
    except (OSError, *GDAL_ERRORS) as error:
        raise explain_write_error(path, error) from error


def _check_lists(folder: Path, *, is_made_up: bool) -> None:
    """Refuse a folder with lists of another dataset, or of pairs of the other kind."""
    for name, is_own in (("index.csv", partial(_is_index, is_made_up=is_made_up)), ("data.csv", _is_data)):
        path = folder / name
        if not path.exists():
            continue
        try:
            rows = [row for _, row in read_rows(path, "the list")]
        except InputError:
            rows = []
        if not is_own(rows) or (name == "data.csv" and not is_made_up):
            raise InputError(
                f"cannot write {path}: it lists another dataset; name another folder, or move it away"
            )


def _is_index(rows: Sequence[Sequence[str]], *, is_made_up: bool) -> bool:
    has_columns = bool(rows) and tuple(rows[0]) == INDEX_COLUMNS
    return has_columns and all(bool(re.fullmatch(rf"{MADE_UP}\d+", row[0])) == is_made_up for row in rows[1:])


def _is_data(rows: Sequence[Sequence[str]]) -> bool:
    places = ["s1", "s2_cloudfree", "s2_cloudy"]
    return bool(rows) and all(row[1:4] == places and "".join(row[4:]).startswith(MADE_UP) for row in rows)


def _write_rows(path: Path, rows: Sequence[tuple[object, ...]]) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, lambda temporary: temporary.write_text(text.getvalue(), encoding="utf-8"))
    return path
