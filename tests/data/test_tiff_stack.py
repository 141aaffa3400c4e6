from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pellucid.data.slice_file import read_info, read_slice, read_slices
from pellucid.errors import InputError

RAMP = np.arange(20 * 24, dtype=np.uint16).reshape(20, 24) * 130
STACK = np.stack([RAMP + i for i in range(10)])


def read(path: Path) -> NDArray[Any]:
    return np.stack(list(read_slices(path, is_image=False)))


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_stack_of_tifffile_that_describes_its_first_page_alone_is_read(
    tmp_path: Path, byteorder: Any
) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", truncate=True, byteorder=byteorder)
    assert read_info(path).num_pages == 10
    np.testing.assert_array_equal(read(path), STACK)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="ends before the last of its 10 pages"):
        read_info(path)


@pytest.mark.parametrize("count", [3, 4])
def test_a_stack_that_was_saved_as_planes_of_a_picture_is_named_so(tmp_path: Path, count: int) -> None:
    tifffile.imwrite(tmp_path / "x.tif", STACK[:count].astype(np.uint8), photometric="rgb")
    with pytest.raises(InputError, match=f"perhaps a stack of {count} slices that was saved as planes"):
        read_slice(tmp_path / "x.tif")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_white_as_zero_holds_for_every_slice_of_a_block(tmp_path: Path, dtype: str) -> None:
    stack = np.stack([(RAMP // 256).astype(dtype)] * 3)
    options = {"imagej": True} if dtype != "int16" else {}
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="miniswhite", truncate=True, **options)
    found = read(tmp_path / "x.tif")
    white = {"uint8": 255, "uint16": 65535, "int16": -1}[dtype]
    np.testing.assert_array_equal(found, white - stack.astype(np.int64))


def test_floating_point_with_white_as_zero_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 8), np.float32), photometric="miniswhite")
    with pytest.raises(InputError, match="what is black is not known; save it with black as 0"):
        read_info(tmp_path / "x.tif")


def write_geotiff(path: Path) -> None:
    size = {"height": 256, "width": 256, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **size) as file:
        file.write(np.arange(256 * 256).reshape(256, 256).astype(np.uint8), 1)


def test_smaller_copies_of_a_page_are_no_slices(tmp_path: Path) -> None:
    write_geotiff(tmp_path / "x.tif")
    with rasterio.open(tmp_path / "x.tif", "r+") as file:
        file.build_overviews([2, 4])
    assert read_info(tmp_path / "x.tif").num_pages == 1
    assert read(tmp_path / "x.tif").shape == (1, 256, 256)


@pytest.mark.parametrize("hidden", [0, 1])
def test_a_mask_is_no_slice_and_hides_nothing(tmp_path: Path, hidden: int) -> None:
    write_geotiff(tmp_path / "x.tif")
    mask = np.full((256, 256), 255, np.uint8)
    mask[:hidden] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "x.tif", "r+") as file:
        file.write_mask(mask)
    if hidden:
        with pytest.raises(InputError, match="hides pixels by a mask, which an enlarged slice would show"):
            read_info(tmp_path / "x.tif")
    else:
        assert read(tmp_path / "x.tif").shape == (1, 256, 256)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_slices_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "x.tif"
    grey = (RAMP // 256).astype(np.uint8)
    tag = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(path, grey, resolution=(500, 250), resolutionunit="CENTIMETER", extratags=tag)
    turned = np.rot90(grey, {3: 2, 4: 2, 5: -1, 6: -1, 7: 1, 8: 1}.get(orientation, 0))
    expected = turned[:, ::-1] if orientation in (2, 4, 5, 7) else turned
    np.testing.assert_array_equal(read_slice(path), expected)
    info = read_info(path)
    assert (info.height, info.width) == expected.shape
    assert info.resolution == ((250, 500) if orientation > 4 else (500, 250))


@pytest.mark.parametrize(("unit", "per_cm"), [("µm", 1e4), ("mm", 10), ("nm", 1e7)])
def test_the_pixel_size_of_ome_is_kept(tmp_path: Path, unit: str, per_cm: float) -> None:
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": unit, "PhysicalSizeY": 2, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(tmp_path / "x.ome.tif", STACK, metadata={"axes": "ZYX", **sizes})
    info = read_info(tmp_path / "x.ome.tif")
    assert info.num_pages == 10
    assert (info.resolution, info.resolution_unit) == (pytest.approx((per_cm / 0.5, per_cm / 2)), 3)


@pytest.mark.parametrize("orientation", [3, 6])
def test_pictures_are_turned_upright_too(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    grey = (RAMP // 256).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "x.png", exif=exif)
    found = read_slice(tmp_path / "x.png")
    np.testing.assert_array_equal(found, np.rot90(grey, {3: 2, 6: -1}[orientation]))
    info = read_info(tmp_path / "x.png")
    assert (info.height, info.width) == found.shape


def test_a_description_that_is_nested_too_deep_is_no_shape(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8), description="[" * 100_000, metadata=None)
    assert read_info(tmp_path / "a.tif").num_pages == 1
