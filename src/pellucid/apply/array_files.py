"""Arrays with a place, as files that the readers of scenes take, and back: block by block."""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import ODCExtension  # noqa: F401  registers `.odc`
from rasterio.crs import CRS
from rasterio.windows import Window

from pellucid.data.band_names import band_name
from pellucid.data.checked_raster import write_raster
from pellucid.data.gdal_open import open_raster
from pellucid.data.geotiff import Grid
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.errors import InputError

# Side in pixels of the blocks in which arrays are computed, written and read.
BLOCK = 1024
TIME = "time"


def find_geobox(data: "xr.Dataset | xr.DataArray", what: str) -> GeoBox:
    """Return where the pixels lie; refuse data that do not say so. `what` it is to the user, "ds"."""
    found = data.odc.geobox
    if not isinstance(found, GeoBox):
        raise InputError(
            f"{what} has no regular grid of y and x coordinates; load it with odc.stac or rioxarray, or give "
            "it coordinates with odc.geo.xr.assign_crs"
        )
    if not min(found.shape):
        raise InputError(f"{what} has no pixels ({found.shape.y} x {found.shape.x}); give a larger part")
    if found.crs is None:
        raise InputError(f"{what} has no CRS; set it, for instance {what}.rio.write_crs('EPSG:32633')")
    return found


def check_grid(data: "xr.Dataset | xr.DataArray", what: str, geobox: GeoBox) -> None:
    """Refuse data that lie on another grid than the scene."""
    found, grid = (_grid_of(each) for each in (find_geobox(data, what), geobox))
    if not found.matches(grid):
        raise InputError(
            f"{what} lies on another grid ({found}) than ds ({grid}); reproject it, for instance with "
            f"odc.geo.xr.xr_reproject({what}, ds.odc.geobox)"
        )


def _grid_of(geobox: GeoBox) -> Grid:
    return Grid(CRS.from_user_input(str(geobox.crs)), geobox.affine, geobox.shape.x, geobox.shape.y)


def find_optical(ds: "xr.Dataset | xr.DataArray", what: str) -> dict[str, Hashable]:
    """Return the optical bands of a dataset, B02 for instance, with the variables that hold them."""
    return _find(_variables(ds), what, SENTINEL2.bands, band_name, "red, green, blue, nir or B02 to B12")


def find_radar(ds: "xr.Dataset | xr.DataArray", what: str) -> dict[str, Hashable]:
    """Return the polarisations of a dataset, VV or VH, with the variables that hold them."""
    return _find(_variables(ds), what, SENTINEL1.bands, str.upper, "vv or vh")


def as_dataset(data: "xr.Dataset | xr.DataArray") -> xr.Dataset:
    """Return data as a dataset of a variable per band."""
    if isinstance(data, xr.Dataset):
        return data
    if "band" in data.dims:
        return data.to_dataset("band")
    return data.to_dataset(name=data.name or "band")


def _variables(data: "xr.Dataset | xr.DataArray") -> list[Hashable]:
    return list(as_dataset(data).data_vars)


def _find(
    names: Sequence[Hashable], what: str, wanted: Sequence[str], read: Any, example: str
) -> dict[str, Hashable]:
    found = dict[str, Hashable]()
    for name in names:
        band = read(str(name))
        if band in found:
            raise InputError(f"{what} has {band} twice ({found[band]}, {name}); leave one out")
        if band in wanted:
            found[band] = name
    if not found:
        held = ", ".join(map(str, names)) or "none"
        raise InputError(f"{what} has no band that is known (it has {held}); name them {example}")
    return found


def write_bands(path: Path, ds: xr.Dataset, bands: Mapping[str, Hashable], geobox: GeoBox) -> None:
    """Write variables of one date, on this grid, as the bands of a GeoTIFF, computed block by block."""
    arrays = [ds[name].transpose(*geobox.dimensions) for name in bands.values()]
    dtype = np.result_type(*(array.dtype for array in arrays))
    height, width = geobox.shape.y, geobox.shape.x
    profile: dict[str, Any] = {"width": width, "height": height, "count": len(arrays), "dtype": dtype}
    profile |= {"crs": str(geobox.crs), "transform": geobox.affine, "nodata": _find_nodata(arrays[0])}
    if height >= 256 and width >= 256:
        profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with write_raster(path, bigtiff="IF_SAFER", **profile) as raster:
        raster.dataset.descriptions = tuple(bands)
        raster.dataset.scales = [float(array.attrs.get("scale_factor", 1)) for array in arrays]
        raster.dataset.offsets = [float(array.attrs.get("add_offset", 0)) for array in arrays]
        for top, left in product(range(0, height, BLOCK), range(0, width, BLOCK)):
            part = slice(top, top + BLOCK), slice(left, left + BLOCK)
            values = np.stack([array[part].values for array in arrays]).astype(dtype)
            raster.write(values, Window(left, top, values.shape[2], values.shape[1]))


def _find_nodata(array: xr.DataArray) -> float | None:
    """Return the value that means no data, where the array says so in one of the usual ways."""
    for attributes in (array.attrs, array.encoding):
        for name in ("nodata", "_FillValue"):
            value = attributes.get(name)
            if value is not None:
                return float(value)
    return None


def read_bands(path: Path, dims: tuple[str, str], *, is_lazy: bool) -> xr.DataArray:
    """Return a file as (band, y, x) without coordinates: in memory, or in blocks of dask."""
    if not is_lazy:
        with open_raster(path) as file:
            return xr.DataArray(file.read(), dims=("band", *dims))
    import rioxarray

    lazy: Any = rioxarray.open_rasterio(path, chunks={"band": -1, "y": BLOCK, "x": BLOCK}, cache=False)
    return xr.DataArray(lazy.data, dims=("band", *dims))


class _Once:
    """Work that is done when it is first asked for, and then kept; where it is sent to, anew."""

    def __init__(self, work: Callable[[], xr.Dataset]) -> None:
        self.work, self.lock = work, threading.Lock()
        self.found: xr.Dataset | None = None

    def __call__(self) -> xr.Dataset:
        import dask

        # Not a scheduler of tasks within one of its tasks, which might wait for each other.
        with self.lock, dask.config.set(scheduler="threads"):
            if self.found is None:
                self.found = self.work()
            return self.found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.work,)


def put_off(
    work: Callable[[], xr.Dataset], layers: Mapping[str, tuple[Mapping[str, int], Any]]
) -> dict[str, xr.DataArray]:
    """Return arrays of dask, whose blocks do the work when the first of them is computed.

    Args:
        work: returns a dataset of such arrays.
        layers: sizes by dimension, and type, of the arrays, by name.

    Raises:
        InputError: if dask is not installed.
    """
    try:
        import dask.array
        from dask.delayed import delayed
    except ImportError as error:
        raise InputError(f"a lazy result needs dask ({error}); pip install 'dask[array]'") from error
    da: Any = dask.array
    whole, found = delayed(_Once(work), pure=False, traverse=False)(), dict[str, xr.DataArray]()
    for name, (sizes, dtype) in layers.items():
        sides = {TIME: 1, **({"band": sizes["band"]} if "band" in sizes else {})}
        chunks = da.core.normalize_chunks([sides.get(dim, BLOCK) for dim in sizes], tuple(sizes.values()))
        meta = np.empty((0,) * len(sizes), dtype)
        blocks = da.map_blocks(_take, chunks=chunks, dtype=dtype, meta=meta, whole=whole, layer=name)
        found[name] = xr.DataArray(blocks, dims=tuple(sizes))
    return found


def _take(whole: xr.Dataset, layer: str, block_info: Any = None) -> NDArray[Any]:
    """Return a block of an array of a dataset."""
    import dask

    place = tuple(slice(*ends) for ends in block_info[None]["array-location"])
    with dask.config.set(scheduler="threads"):
        return whole[layer].variable[place].values
