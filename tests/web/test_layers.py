from pathlib import Path

import numpy as np
import pytest
from rasterio.io import MemoryFile
from scenes import BANDS, ground, write

from pellucid.data.geotiff import Raster
from pellucid.data.raster import OpticalRaster
from pellucid.web.layers import (
    AS_BEFORE,
    HELD,
    Layer,
    Part,
    Steps,
    cut_parts,
    optical_bands,
    plain_bands,
    raster_layer,
)


def layer(path: Path, values: np.ndarray, kind: str = "before") -> Layer:
    raster = OpticalRaster(write(path, values, BANDS), BANDS)
    return raster_layer(kind, kind, raster, optical_bands(raster), "reflectance")  # type: ignore[arg-type]


def read(part: Part) -> np.ndarray:
    with MemoryFile(part.geotiff) as memory, memory.open() as file:
        return file.read()


def test_a_small_scene_is_held_as_it_is(tmp_path: Path) -> None:
    values = ground(20, 30)
    (parts,) = cut_parts([layer(tmp_path / "a.tif", values)], Steps(1, 1))
    (part,) = parts
    assert part.bands == tuple(range(13))
    assert (read(part) == values).all()


def test_a_decimated_scene_holds_values_of_the_file_the_coarse_ones_at_places_of_the_fine(
    tmp_path: Path,
) -> None:
    values, steps = ground(41, 62), Steps(3, 6)
    (parts,) = cut_parts([layer(tmp_path / "a.tif", values)], steps)
    fine, coarse = parts
    assert (steps.start, fine.step, coarse.step) == (1, 3, 6)
    assert [BANDS[i] for i in fine.bands] == ["B02", "B03", "B04", "B08"]
    assert (read(fine) == values[list(fine.bands), 1::3, 1::3]).all()
    assert (read(coarse) == values[list(coarse.bands), 1::6, 1::6]).all()


def test_an_embedded_file_lies_where_its_pixels_do(tmp_path: Path) -> None:
    (parts,) = cut_parts([layer(tmp_path / "a.tif", ground(40, 40))], Steps(3, 6))
    with MemoryFile(parts[0].geotiff) as memory, memory.open() as file:
        assert file.crs.to_string() == "EPSG:32633"
        assert file.xy(2, 1) == (500_000 + 10 * (4 + 0.5), 5_000_000 - 10 * (7 + 0.5))


def test_pixels_of_the_result_that_are_as_before_are_held_once(tmp_path: Path) -> None:
    before = ground(20, 30)
    after = before.copy()
    after[:, :, :10] += 1
    layers = [layer(tmp_path / "a.tif", before), layer(tmp_path / "b.tif", after, "after")]
    _, (part, mask) = cut_parts(layers, Steps(1, 1))
    assert not mask.bands
    assert (read(mask)[0, :, :10] == HELD).all()
    assert (read(mask)[0, :, 10:] == AS_BEFORE).all()
    assert (read(part)[:, :, :10] == after[:, :, :10]).all()


def test_pixels_without_data_are_masked(tmp_path: Path) -> None:
    values = ground(20, 30)
    values[:, 5, 6] = 0
    (parts,) = cut_parts([layer(tmp_path / "a.tif", values)], Steps(1, 1))
    mask = read(parts[1])[0]
    assert mask[5, 6] == 0
    assert (mask == HELD).sum() == mask.size - 1


@pytest.mark.parametrize("value", [-12.345678, 0.031234567, 1e-7, 3e20])
def test_floating_point_values_keep_four_digits(tmp_path: Path, value: float) -> None:
    values = np.full((1, 4, 5), value, np.float32)
    raster = Raster(write(tmp_path / "a.tif", values), "result")
    (parts,) = cut_parts([raster_layer("a", "radar", raster, plain_bands(raster))], Steps(1, 1))
    np.testing.assert_allclose(read(parts[0]), value, rtol=1.3e-4)


def test_overviews_are_not_used(tmp_path: Path) -> None:
    values = ground(64, 64)
    path = write(tmp_path / "a.tif", values, BANDS, tiled=True, blockxsize=16, blockysize=16)
    import rasterio

    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)
    raster = OpticalRaster(path, BANDS)
    (parts,) = cut_parts([raster_layer("a", "before", raster, optical_bands(raster))], Steps(4, 8))
    assert (read(parts[0]) == values[list(parts[0].bands), 2::4, 2::4]).all()


@pytest.mark.parametrize("interleave", ["band", "pixel"])
@pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 2), (3, 7), (25, 50)])
def test_a_wide_scene_is_read_in_parts_as_it_would_be_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interleave: str, first: int, step: int
) -> None:
    values = ground(70, 107)
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": interleave}
    path = write(tmp_path / "a.tif", values, BANDS, **tiled)
    monkeypatch.setattr("pellucid.web.layers.COLUMNS", 20)  # 32, in whole blocks
    with OpticalRaster(path, BANDS) as raster:
        found, valid = raster_layer("a", "before", raster, optical_bands(raster)).read(first, step)
    assert (found == values[:, first::step, first::step]).all()
    assert valid.shape == found.shape[1:]
