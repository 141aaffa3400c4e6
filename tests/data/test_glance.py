from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import BANDS, ground, write

from pellucid.data.gdal_open import open_raster
from pellucid.data.geotiff import Raster
from pellucid.data.glance import read_small

LAYOUTS: list[dict[str, Any]] = [
    {"tiled": True, "blockxsize": 32, "blockysize": 16},
    {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "pixel"},
    {"blockysize": 1},
    {"blockysize": 40, "compress": "deflate"},
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixels_are_those_that_gdal_takes(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = write(tmp_path / "s2.tif", ground(203, 331), **layout)
    shapes = [(10, 16), (20, 33), (100, 163), (203, 331), (1, 1)]
    with open_raster(path) as dataset:
        for small, shape in zip(read_small(dataset, shapes), shapes, strict=True):
            expected = dataset.read(out_shape=(dataset.count, *shape))
            np.testing.assert_array_equal(small, expected)


def test_a_scene_is_read_once_for_images_of_several_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Glanced(Raster):
        glances = (8, 16, 64)

    path = write(tmp_path / "s2.tif", ground(75, 101), BANDS)
    with Glanced(path, "scene") as raster, open_raster(path) as dataset:
        expected = [dataset.read(out_shape=(13, *shape)) for shape in ((6, 8), (12, 16), (48, 64))]
        calls = []
        monkeypatch.setattr(
            "pellucid.data.geotiff.read_small", lambda *args: calls.append(1) or read_small(*args)
        )
        for size, image in zip(Glanced.glances, expected, strict=True):
            np.testing.assert_array_equal(raster.read_array(size=size), image)
            np.testing.assert_array_equal(raster.read_array([4, 1], size=size), image[[3, 0]])
    assert len(calls) == 1


def test_a_file_with_overviews_is_left_to_gdal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "s2.tif", ground(600, 500), BANDS)
    with open_raster(path, "r+") as dataset:
        dataset.build_overviews([2, 4])
    monkeypatch.setattr("pellucid.data.geotiff.read_small", None)
    with Raster(path, "scene") as raster:
        assert raster.read_array(size=256).shape == (13, 256, 213)
