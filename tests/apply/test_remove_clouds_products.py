"""Clouds are taken off a Sentinel-2 product as off any scene."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from products import SIDE, START, UPPER_LEFT, ramps, write_product, zip_product
from rasterio.transform import Affine
from scenes import OPTIONS, constant, nothing_left, read, write

from pellucid.apply.remove_clouds import restore_scene
from pellucid.data.band_names import LEVEL_2A
from pellucid.data.ranges import SENTINEL2
from pellucid.data.raster import read_optical
from pellucid.errors import InputError
from pellucid.methods.method import Method

PLACE = Affine(10, 0, UPPER_LEFT[0], 0, -10, UPPER_LEFT[1])


def level_2a(value: float) -> Method:
    method = constant(value)
    method.optical = SENTINEL2.select(LEVEL_2A)
    return method


@pytest.mark.parametrize("is_zipped", [False, True])
def test_a_product_becomes_a_scene_in_its_own_digital_numbers(tmp_path: Path, is_zipped: bool) -> None:
    product = write_product(tmp_path)
    product = zip_product(product) if is_zipped else product
    cloud = np.zeros((1, SIDE, SIDE), np.uint8)
    cloud[:, :, :40] = 1
    cloud_map = write(tmp_path / "cloud.tif", cloud, transform=PLACE)
    out = tmp_path / "clear.tif"
    restore_scene(product, out, method=level_2a(0.5), cloud=cloud_map, options=OPTIONS)
    stored = read(out)
    assert (stored[:, :, :40] == 6000).all()  # reflectance 0.5, with the offset of +1000
    np.testing.assert_array_equal(stored[:, 3:-3, 70:-3], ramps(12)[:, 3:-3, 70:-3])
    with rasterio.open(out) as file:
        assert file.descriptions == LEVEL_2A
        assert set(file.offsets) == {-0.1}
        assert file.transform == PLACE
        assert file.tags()["PROCESSING_BASELINE"] == "05.10"
    values, valid = read_optical(out, LEVEL_2A)
    assert valid.all()
    np.testing.assert_allclose(values[:, :, :40], 0.5, atol=1e-6)


def test_a_model_of_level_1c_refuses_level_2a(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    with pytest.raises(InputError, match=r"lacks the band B10 .* give the Level-1C product"):
        restore_scene(product, tmp_path / "clear.tif", method=constant(0.5), options=OPTIONS)
    assert nothing_left(tmp_path, {product.name})


def test_a_damaged_image_leaves_no_result(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1500, 2500, (12, SIDE, SIDE)).astype(np.uint16)
    product = write_product(tmp_path, values=values)
    path = next(product.rglob(f"*_{START}_B8A_20m.jp2"))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"B8A_20m.jp2"):
        restore_scene(product, tmp_path / "clear.tif", method=level_2a(0.5), options=OPTIONS)
    assert nothing_left(tmp_path, {product.name})


def test_no_file_of_a_product_is_replaced(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    out = product / "clear.tif"
    restore_scene(product, out, method=level_2a(0.5), options=OPTIONS)
    band = next(product.rglob("*_B02_10m.jp2"))
    link = tmp_path / "clear.tif"
    link.symlink_to(band)
    with pytest.raises(InputError, match="it is an input"):
        restore_scene(product, link, method=level_2a(0.5), options=OPTIONS)


def test_the_map_of_the_product_is_taken_where_the_model_finds_no_clouds(tmp_path: Path) -> None:
    classes = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
    classes[:, :20] = 9
    product = write_product(tmp_path, classes=classes)
    for cloud in (None, "auto", "product"):
        out = tmp_path / f"{cloud}.tif"
        restore_scene(product, out, method=level_2a(0.5), cloud=cloud, options=OPTIONS)
        stored = read(out)
        assert (stored[:, :, :40] == 6000).all()
        np.testing.assert_array_equal(stored[:, 3:-3, 70:-3], ramps(12)[:, 3:-3, 70:-3])


def test_files_of_bands_are_restored_as_a_scene(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    pattern = product / "GRANULE/*/IMG_DATA/*/*_B*.jp2"
    restore_scene(pattern, tmp_path / "a.tif", method=level_2a(0.5), options=OPTIONS)
    restore_scene(product, tmp_path / "b.tif", method=level_2a(0.5), options=OPTIONS)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"))
    band = next(product.rglob("*_B02_10m.jp2"))
    (tmp_path / "c.tif").symlink_to(band)
    with pytest.raises(InputError, match="it is an input"):
        restore_scene(pattern, tmp_path / "c.tif", method=level_2a(0.5), options=OPTIONS)
