import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros
from scenes import BANDS, OPTIONS, FakeMethod, constant, ground

from pellucid.errors import InputError
from pellucid.xarray import Restored, restore

HALF = constant(0.5)


def geobox(height: int = 75, width: int = 101) -> GeoBox:
    return GeoBox((height, width), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633")


def arrays(values: np.ndarray, names: tuple[str, ...], **attrs: Any) -> xr.Dataset:
    """Return (C, H, W) as a dataset of a variable per band."""
    like = xr_zeros(geobox(*values.shape[1:]), dtype=str(values.dtype))
    bands = {name: like.copy(data=band).assign_attrs(attrs) for name, band in zip(names, values, strict=True)}
    return xr.Dataset(bands)


def scene(seed: int = 0) -> xr.Dataset:
    return arrays(ground(seed=seed), BANDS)


def left_cloud() -> xr.DataArray:
    cloud = (np.arange(101) < 40).astype(np.uint8) * np.ones((75, 1), np.uint8)
    return arrays(cloud[None], ("cloud",))["cloud"]


def with_time(*dates: xr.Dataset) -> xr.Dataset:
    times = np.array([f"2020-0{month}-01" for month in range(1, len(dates) + 1)], "datetime64[ns]")
    return xr.concat(list(dates), xr.DataArray(times, dims="time", name="time"))


def test_a_dataset_is_restored_on_its_own_grid_and_says_where_and_how() -> None:
    ds = scene()
    out = restore(ds, cloud=left_cloud(), model=HALF, options=OPTIONS)
    assert out.odc.geobox == ds.odc.geobox
    assert out.restored.odc.geobox == ds.odc.geobox
    assert out.restored.dims == ("band", "y", "x")
    assert tuple(out.band.values) == BANDS
    assert out.restored.dtype == np.uint16
    assert (out.restored.isel(x=slice(None, 40)) == 5000).all()
    same = out.painted == 0
    assert (out.restored.where(same, 0) == ds.to_dataarray("band").where(same, 0)).all()
    assert float(out.painted.isel(x=slice(None, 40)).min()) == 1
    assert "std" not in out
    assert out.attrs["pellucid_command"] == "remove-clouds"


def test_common_names_may_come_in_any_order_and_other_variables_are_left_out() -> None:
    names = ("nir", "red", "green", "blue", "scl")
    ds = arrays(ground()[:5], names)
    out = restore(ds, cloud=left_cloud(), model=any_bands(), options=OPTIONS)
    assert tuple(out.band.values) == names[:4]
    assert (out.restored.sel(band="red").isel(x=0) == 5000).all()


def any_bands() -> FakeMethod:
    """Return a method for whatever bands a scene has."""

    class AnyBands(FakeMethod):
        any_bands = True

        def with_bands(self, optical: Any) -> FakeMethod:
            self.optical = optical
            return self

    return AnyBands(lambda batch: torch.full_like(batch.degraded, 0.5))


def test_each_date_of_a_series_is_restored_with_the_others_as_references() -> None:
    seen = list[int]()

    class Dated(FakeMethod):
        takes_older = True

    def remember(batch: Any) -> torch.Tensor:
        seen.append(0 if batch.older is None else 1)
        return torch.full_like(batch.degraded, 0.5)

    ds = with_time(scene(0), scene(1), scene(2))
    out = restore(ds, model=Dated(remember), options=replace(OPTIONS, keep_clear=False))
    assert out.restored.dims == ("time", "band", "y", "x")
    assert (out.time == ds.time).all()
    assert seen
    assert all(seen)
    assert out.odc.geobox == ds.odc.geobox
    assert len(out.pictures) == 3


def test_a_date_of_a_series_that_is_wholly_cloudy_guides_no_other() -> None:
    overcast = arrays(np.full((13, 75, 101), 6000, np.uint16), BANDS)
    for dates in ((scene(0), overcast), (scene(0), overcast, scene(1))):
        out = restore(with_time(*dates), model=dated_half(), options=replace(OPTIONS, keep_clear=False))
        assert out.sizes["time"] == len(dates)
        assert (out.restored == 5000).all()


def test_coordinates_that_differ_by_rounding_are_of_the_same_grid() -> None:
    near = scene(1)
    near = near.assign_coords(x=near.x + 1e-4)
    restore(scene(), references=near, cloud=left_cloud(), model=dated_half(), options=OPTIONS)
    with pytest.raises(InputError, match=r"another grid \(EPSG:32633, 101 x 75 px of 10 x 10 from \(500005"):
        restore(scene(), cloud=left_cloud().assign_coords(x=near.x + 5), model=HALF, options=OPTIONS)


def dated_half() -> FakeMethod:
    class Dated(FakeMethod):
        takes_older = True

    return Dated(lambda batch: torch.full_like(batch.degraded, 0.5))


def test_dask_arrays_are_computed_in_blocks_and_the_result_is_lazy() -> None:
    largest = list[int]()

    def block(block_info: Any = None) -> np.ndarray:
        shape = block_info[None]["chunk-shape"]
        largest.append(int(np.prod(shape)))
        return np.full(shape, 700, np.uint16)

    import dask.array as da

    like = xr_zeros(geobox(1100, 1300), dtype="uint16")
    lazy = da.map_blocks(
        block, chunks=((512, 512, 76), (512, 512, 276)), dtype=np.uint16, meta=np.empty((0, 0), np.uint16)
    )
    ds = xr.Dataset({name: like.copy(data=lazy) for name in ("B02", "B03", "B04")})
    cloud = like.copy(data=np.zeros((1100, 1300), np.uint8))
    largest.clear()
    out = restore(ds, cloud=cloud, model=any_bands(), options=replace(OPTIONS, tile=256))
    assert max(largest) <= 512 * 512
    assert out.restored.chunks is not None
    assert int(out.restored.isel(x=-1, y=-1, band=0)) == 700
    assert out.odc.geobox == ds.odc.geobox


def test_a_lazy_result_is_computed_once_when_a_block_of_it_is_needed(tmp_path: Path) -> None:
    calls = list[int]()

    def half(batch: Any) -> torch.Tensor:
        calls.append(1)
        return torch.full_like(batch.degraded, 0.5)

    method, given = FakeMethod(half), {"options": OPTIONS, "cloud": left_cloud()}
    at_once = restore(scene(), model=HALF, **given)
    out = restore(scene().chunk(40), model=method, lazy=True, folder=tmp_path / "kept", **given)
    assert not calls
    assert not (tmp_path / "kept").exists()
    assert (out.restored.dims, out.restored.dtype) == (at_once.restored.dims, at_once.restored.dtype)
    assert out.odc.geobox == at_once.odc.geobox
    xr.testing.assert_equal(out.restored.compute(), at_once.restored)
    count = len(calls)
    assert count > 0
    xr.testing.assert_equal(out.painted.compute(), at_once.painted)
    assert len(calls) == count
    series = restore(with_time(scene(0), scene(1)), model=HALF, lazy=True, options=OPTIONS)
    expected = restore(with_time(scene(0), scene(1)), model=HALF, options=OPTIONS)
    xr.testing.assert_equal(series.compute().restored, expected.restored)
    with pytest.raises(InputError, match=r"kept: it is no empty folder"):
        restore(scene(), model=HALF, lazy=True, folder=tmp_path / "kept", **given)


def test_a_notebook_shows_before_and_after() -> None:
    out = restore(scene(), cloud=left_cloud(), model=HALF, options=OPTIONS)
    assert isinstance(out, Restored)
    html = out._repr_html_()
    assert html.count("data:image/png;base64,") == 1
    assert "xarray.Restored" in html
    assert "data:image/png" not in out.isel(x=slice(10))._repr_html_()


def test_files_stay_in_a_folder_that_is_empty(tmp_path: Path) -> None:
    restore(scene(), cloud=left_cloud(), model=HALF, options=OPTIONS, folder=tmp_path / "kept")
    assert (tmp_path / "kept" / "ds_restored.tif").is_file()
    with pytest.raises(InputError, match=r"kept: it is no empty folder; name another"):
        restore(scene(), model=HALF, options=OPTIONS, folder=tmp_path / "kept")


def test_what_does_not_fit_is_refused_in_one_sentence() -> None:
    ds = scene()
    elsewhere = arrays(ground(75, 90)[:2], ("vv", "vh"))
    bare = xr.Dataset({name: (("y", "x"), ds[name].values) for name in BANDS})
    no_crs = bare.assign_coords(x=ds.x.values, y=ds.y.values)
    for data, more, message in (
        (bare, {}, "ds has no (regular grid|CRS)"),
        (no_crs, {}, "ds has no CRS; set it, for instance"),
        (ds.rename({name: f"x{name}x" for name in BANDS})[["xB02x"]], {}, "ds has no band that is known"),
        (arrays(ground()[:2], ("B02", "blue")), {}, r"ds has B02 twice \(B02, blue\); leave one out"),
        (ds, {"sar": elsewhere}, r"sar lies on another grid .* than ds .*; reproject it"),
        (ds, {"references": [elsewhere]}, r"references\[0\] (lies on another grid|has no band)"),
        (ds, {"sar": ds}, "sar has no band that is known"),
        (with_time(ds, ds), {"cloud": left_cloud()}, "cloud is the map of one date, but ds is a series"),
        (ds.isel(x=slice(0, 0)), {}, "ds has no (pixels|regular grid)"),
        (xr.zeros_like(ds), {}, "the optical scene ds holds no data at all"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            restore(data, model=HALF, options=OPTIONS, **more)
        assert "tmp" not in str(caught.value)


def test_without_the_extra_it_is_named() -> None:
    code = (
        "import sys; sys.modules['odc'] = None\n"
        "try: import pellucid.xarray\n"
        "except Exception as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "pip install 'pellucid[xarray]'" in said
