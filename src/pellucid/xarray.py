"""Scenes as arrays: xarray in, xarray out, on the same grid (`pip install 'pellucid[xarray]'`).

The work is that of `restore_scene`, over files in a folder: so memory holds a row of tiles, whatever the size
of the arrays, and what an array of dask holds is computed block by block.
"""

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.errors import InputError

try:
    import xarray as xr

    from pellucid.apply.array_files import (
        TIME,
        as_dataset,
        check_grid,
        find_geobox,
        find_optical,
        find_radar,
        put_off,
        read_bands,
        write_bands,
    )
except ImportError as error:
    raise InputError(
        f"pellucid.xarray needs the extra xarray ({error}); pip install 'pellucid[xarray]'"
    ) from error

from pellucid.apply.options import SceneOptions
from pellucid.apply.references import NoClearReferenceError
from pellucid.apply.remove_clouds import restore_scene
from pellucid.build.method import load
from pellucid.data.ownership import read_tags
from pellucid.methods.method import Method

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

# Dates whose pictures a notebook shows.
MOST_SHOWN = 4
Data = xr.Dataset | xr.DataArray
# Folders of results that are read when they are needed; they go with the process.
_KEPT = list["tempfile.TemporaryDirectory[str]"]()


class Restored(xr.Dataset):  # type: ignore[no-untyped-call]
    """A dataset that a notebook shows with pictures before and after; what is made of it is shown without."""

    __slots__ = ("pictures",)

    def _repr_html_(self) -> str:
        pictures: Mapping[str, bytes] = getattr(self, "pictures", {})
        shown = [
            f"<div>{name}<br><img alt='before and after' src='data:image/png;base64,"
            f"{base64.b64encode(picture).decode()}'></div>"
            for name, picture in list(pictures.items())[:MOST_SHOWN]
        ]
        return "".join(shown) + super()._repr_html_()


@dataclass(frozen=True)
class _Date:
    """One date of a dataset, as a file."""

    name: str
    path: Path


def restore(
    ds: Data,
    *,
    sar: Data | None = None,
    references: Data | Sequence[Data] = (),
    cloud: xr.DataArray | None = None,
    model: str | Path | Method = "ground",
    options: SceneOptions | None = None,
    folder: Path | str | None = None,
    lazy: bool = False,
) -> Restored:
    """Return a scene, or a series of scenes, without its clouds, on the same grid.

    The result is computed at once, unless it is `lazy`, and as a whole, for each block hangs on what the
    whole scene says of its ground. Where `ds` is made of dask arrays, the result is too: it stays in files,
    and is read when it is needed.

    Args:
        ds: variables (y, x) or (time, y, x), or one of bands, by STAC's common names or as B02 to B12, in
            digital numbers or reflectance, with a CRS. Of a series, each date is restored with all others as
            references.
        sar: variables vv, vh or both on the same grid, in dB or linear power. Of a series, each date gets the
            nearest radar.
        references: other dates on the same grid: one dataset, with time or without, or several.
        cloud: cloud map on the same grid, of a single date; without one, the model finds clouds.
        model: a model that ships, a run folder, or a loaded method.
        options: see `SceneOptions`; no files are written beside the result.
        folder: where the files stay, empty or still to be made; else they go with the process.
        lazy: only check; the first block that is computed restores all, in its process. Needs dask. The
            result has no pictures, and does not say what made it.

    Returns:
        `restored`, (band, y, x) or (time, band, y, x) in the type and units of `ds`; `painted`, how much of
        each pixel is new, from 0 to 1; `std`, the standard deviation of the error, NaN without data, where
        the model says it. Attributes say what made it.

    Raises:
        InputError: if something does not fit, before any work.
    """
    geobox, bands = find_geobox(ds, "ds"), find_optical(ds, "ds")
    scene, others = as_dataset(ds), _list_references(references)
    for what, data in (("sar", sar), ("cloud", cloud), *others):
        if data is not None:
            check_grid(data, what, geobox)
    if cloud is not None and TIME in scene.dims:
        raise InputError("cloud is the map of one date, but ds is a series; restore its dates one by one")
    radar = None if sar is None else (as_dataset(sar), find_radar(sar, "sar"))
    named = [(what, as_dataset(data), find_optical(data, what)) for what, data in others]
    method = model if isinstance(model, Method) else load(model)
    _check_place(folder)
    given = _Given(scene, bands, geobox, radar, named, cloud, method, options or SceneOptions())
    if not lazy:
        return _restore(given, folder)
    layers = put_off(partial(_restore, given, folder), _describe(given))
    return _label(layers, scene, list(bands.values()))


@dataclass(frozen=True)
class _Given:
    """Arrays that belong together, checked, and how they are restored."""

    scene: xr.Dataset
    bands: Mapping[str, Any]
    geobox: "GeoBox"
    radar: tuple[xr.Dataset, Mapping[str, Any]] | None
    references: Sequence[tuple[str, xr.Dataset, Mapping[str, Any]]]
    cloud: xr.DataArray | None
    method: Method
    options: SceneOptions


def _describe(given: _Given) -> dict[str, tuple[dict[str, int], Any]]:
    """Return sizes by dimension, and type, of what the result will hold."""
    scene, names = given.scene, given.bands.values()
    date = {TIME: scene.sizes[TIME]} if TIME in scene.dims else {}
    space = {dim: scene.sizes[dim] for dim in given.geobox.dimensions}
    sizes, dtype = (
        {**date, "band": len(names), **space},
        np.result_type(*(scene[each].dtype for each in names)),
    )
    layers: dict[str, tuple[dict[str, int], Any]] = {"restored": (sizes, dtype)}
    layers["painted"] = (date | space, np.float32)
    return layers | ({"std": (sizes, np.float32)} if _has_std(given.method, given.options) else {})


def _restore(given: _Given, folder: Path | str | None) -> Restored:
    """Write what is given into files, restore them, and return what they hold then."""
    place, scene = _make_place(folder), given.scene
    try:
        work = _Work(place, given.geobox, given.method, given.options)
        older = [date for each in given.references for date in work.write(*each)]
        dates = work.write("ds", scene, given.bands)
        results = []
        for i, date in enumerate(dates):
            series = [each for each in dates if each is not date] if given.method.takes_older else []
            guides = {"sar": work.write_radar(given.radar, scene, i), "cloud": work.write_cloud(given.cloud)}
            results.append(work.restore(date, older, series, guides))
    except InputError as error:
        raise InputError(_in_words(str(error), place)) from error
    return _collect(results, scene, list(given.bands.values()), dates, given.geobox)


def _has_std(method: Method, options: SceneOptions) -> bool:
    return method.gives_deviation or (method.is_random and options.samples > 1)


def _list_references(references: Data | Sequence[Data]) -> list[tuple[str, Data]]:
    if isinstance(references, (xr.Dataset, xr.DataArray)):
        return [("references", references)]
    return [(f"references[{i}]", data) for i, data in enumerate(references)]


def _make_place(folder: Path | str | None) -> Path:
    """Return an empty folder for the files."""
    if folder is None:
        _KEPT.append(tempfile.TemporaryDirectory(prefix="pellucid-"))
        return Path(_KEPT[-1].name)
    _check_place(folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


def _check_place(folder: Path | str | None) -> None:
    """Refuse what is no empty folder, nor one that can be made."""
    place = Path(folder or "")
    if folder is not None and place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(f"cannot write to {place}: it is no empty folder; name another")


def _in_words(message: str, place: Path) -> str:
    """Return an error about the files as one about the arrays."""
    return message.replace(f"{place}/", "").replace(".tif", "")


class _Work:
    """The arrays as files on one grid, and what is made of them."""

    def __init__(self, place: Path, geobox: "GeoBox", method: Method, options: SceneOptions) -> None:
        self.place, self.geobox, self.method = place, geobox, method
        self.options = replace(options, preview=True, painted=True, html=False, sidecars=False)
        self.has_std = _has_std(method, options)

    def write(self, what: str, data: xr.Dataset, bands: Mapping[str, Any]) -> list[_Date]:
        """Write each date of a dataset; of one without time, the one that it is."""
        count = data.sizes.get(TIME, 1)
        if count == 0:
            raise InputError(f"{what} holds no date; give one at least")
        dates = list[_Date]()
        for i in range(count):
            one = data.isel({TIME: i}) if TIME in data.dims else data
            name = str(one[TIME].values)[:10] if TIME in one.coords else what
            dates.append(_Date(name, self.place / f"{what}{f'_{i}' if TIME in data.dims else ''}.tif"))
            write_bands(dates[-1].path, one, bands, self.geobox)
        return dates

    def write_radar(
        self, radar: tuple[xr.Dataset, Mapping[str, Any]] | None, scene: xr.Dataset, i: int
    ) -> Path | None:
        """Write the radar of the i-th date, the nearest where there are several."""
        if radar is None:
            return None
        data, bands = radar
        path = self.place / (f"sar_{i}.tif" if TIME in data.dims else "sar.tif")
        if TIME in data.dims:
            data = _nearest(data, scene, i)
        if not path.exists():
            write_bands(path, data, bands, self.geobox)
        return path

    def write_cloud(self, cloud: xr.DataArray | None) -> Path | None:
        """Write the cloud map."""
        if cloud is None:
            return None
        path = self.place / "cloud.tif"
        write_bands(path, cloud.to_dataset(name="cloud"), {"cloud": "cloud"}, self.geobox)
        return path

    def restore(
        self, date: _Date, older: Sequence[_Date], series: Sequence[_Date], guides: Mapping[str, Path | None]
    ) -> Path:
        """Restore a date with those of its series, if any is clear where it is; return where it lies."""
        out = self.place / f"{date.path.stem}_restored.tif"
        std = _std_of(out) if self.has_std else None
        given: dict[str, Any] = {**guides, "method": self.method, "uncertainty": std, "options": self.options}
        try:
            restore_scene(date.path, out, references=[each.path for each in (*older, *series)], **given)
        except NoClearReferenceError:
            if not series:
                raise
            restore_scene(date.path, out, references=[each.path for each in older], **given)
        return out


def _std_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}_std.tif")


def _nearest(data: xr.Dataset, scene: xr.Dataset, i: int) -> xr.Dataset:
    """Return the date of a dataset that is nearest to the i-th of the scene, or to its only one."""
    if TIME not in scene.coords:
        raise InputError("sar has several dates, ds says none; give sar.isel(time=...) of one")
    when = scene[TIME].values[i] if TIME in scene.dims else scene[TIME].values
    return data.sel({TIME: when}, method="nearest")


def _collect(
    results: Sequence[Path],
    scene: xr.Dataset,
    names: Sequence[Any],
    dates: Sequence[_Date],
    geobox: "GeoBox",
) -> Restored:
    """Return the results of all dates as one dataset with the coordinates of the scene."""
    parts, is_lazy = list[xr.Dataset](), bool(scene.chunks)
    for out in results:
        painted = read_bands(out.with_name(f"{out.stem}_painted.tif"), geobox.dimensions, is_lazy=is_lazy)
        part = {"restored": read_bands(out, geobox.dimensions, is_lazy=is_lazy)}
        part["painted"] = painted.isel(band=0).astype("float32") / 255
        if _std_of(out).exists():
            part["std"] = read_bands(_std_of(out), geobox.dimensions, is_lazy=is_lazy)
        parts.append(xr.Dataset(part))
    data = xr.concat(parts, TIME) if TIME in scene.dims else parts[0]
    restored = _label(data.data_vars, scene, names)
    said = read_tags(results[0])
    restored.attrs |= {name.lower(): text for name, text in said.items() if name != "PELLUCID_INPUTS"}
    restored.pictures = {
        date.name: out.with_suffix(".png").read_bytes() for date, out in zip(dates, results, strict=True)
    }
    return restored


def _label(layers: Mapping[Any, Any], scene: xr.Dataset, names: Sequence[Any]) -> Restored:
    """Return the layers of a result with the coordinates and units of the scene."""
    kept = {name: coord for name, coord in scene.coords.items() if name != "band"}
    restored = Restored(layers, {**kept, "band": list(map(str, names))}, dict(scene.attrs))
    first = scene[names[0]]
    for name in ("restored", "std"):
        if name in restored:
            keep = ("scale_factor", "add_offset", "nodata", "units", "grid_mapping")
            restored[name].attrs = {key: first.attrs[key] for key in keep if key in first.attrs}
            restored[name].encoding = {k: v for k, v in first.encoding.items() if k == "grid_mapping"}
    restored["painted"].encoding = dict(restored["restored"].encoding)
    return restored
