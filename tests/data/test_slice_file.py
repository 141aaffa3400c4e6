import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pellucid.data.slice_file import find_files, from_unit, read_info, read_slice, read_slices, to_unit
from pellucid.errors import InputError

RAMP = np.arange(20 * 24, dtype=np.uint16).reshape(20, 24) * 130


def make_stack(path: Path, num_pages: int = 5, **options: Any) -> NDArray[Any]:
    stack = np.stack([RAMP + i for i in range(num_pages)])
    with tifffile.TiffWriter(path) as writer:
        for page in stack:
            writer.write(page, metadata=None, **options)
    return stack


def make_png(path: Path, *, depth: int, kind: int, row: bytes, size: tuple[int, int]) -> None:
    """Write a PNG by hand: Pillow cannot write every kind that it reads."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", size[1], size[0], depth, kind, 0, 0, 0)
    body = zlib.compress((b"\0" + row) * size[0])
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
def test_a_slice_keeps_every_value_and_its_type(tmp_path: Path, suffix: str, dtype: str) -> None:
    values = (RAMP % 256 if dtype == "uint8" else RAMP).astype(dtype)
    path = tmp_path / f"slice{suffix}"
    Image.fromarray(values).save(path)
    info = read_info(path)
    assert (info.num_pages, info.height, info.width, info.dtype) == (1, 20, 24, np.dtype(dtype))
    read = read_slice(path)
    assert read.dtype == info.dtype
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True}, {"rowsperstrip": 3}])
def test_pages_of_a_stack_are_read_one_by_one(tmp_path: Path, options: dict[str, Any]) -> None:
    stack = make_stack(tmp_path / "stack.tif", **options)
    assert read_info(tmp_path / "stack.tif").num_pages == 5
    np.testing.assert_array_equal(read_slice(tmp_path / "stack.tif", 3), stack[3])
    np.testing.assert_array_equal(np.stack(list(read_slices(tmp_path / "stack.tif"))), stack)


@pytest.mark.parametrize("compress", ["lzw", "zstd", "deflate"])
@pytest.mark.parametrize(("dtype", "predictor"), [("uint16", 2), ("float32", 3)])
def test_compressions_of_other_programs_are_read(
    tmp_path: Path, compress: str, dtype: str, predictor: int
) -> None:
    values = RAMP if dtype == "uint16" else (RAMP / 65535).astype(np.float32)
    path = tmp_path / "slice.tif"
    profile = {"height": 20, "width": 24, "count": 1, "compress": compress, "predictor": predictor}
    with rasterio.open(path, "w", driver="GTiff", dtype=dtype, **profile) as file:
        file.write(values, 1)
    np.testing.assert_array_equal(read_slice(path), values)


def test_a_stack_of_imagej_that_describes_its_first_page_alone_is_read(tmp_path: Path) -> None:
    stack = np.stack([RAMP + i for i in range(4)])
    path = tmp_path / "stack.tif"
    options = {"imagej": True, "truncate": True, "resolution": (2.5, 2.5), "byteorder": ">"}
    tifffile.imwrite(path, stack, metadata={"unit": "um", "spacing": 0.4, "axes": "ZYX"}, **options)
    info = read_info(path)
    assert info.num_pages == 4
    assert info.resolution == (2.5, 2.5)
    assert "unit=um" in info.description
    np.testing.assert_array_equal(np.stack(list(read_slices(path))), stack)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="ends before the last of its 4 pages"):
        read_info(path)


def test_white_that_is_stored_as_zero_is_still_bright(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", RAMP, photometric="miniswhite")
    np.testing.assert_array_equal(read_slice(tmp_path / "x.tif"), 65535 - RAMP)


def test_a_description_that_repeats_the_size_is_left_out(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", RAMP)  # writes the shape as JSON
    assert read_info(tmp_path / "x.tif").description == ""


def test_resolution_is_that_of_the_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", RAMP, resolution=(500, 250), resolutionunit="CENTIMETER")
    info = read_info(tmp_path / "x.tif")
    assert (info.resolution, info.resolution_unit) == ((500, 250), 3)
    assert info.enlarged(4).resolution == (2000, 1000)
    assert (info.enlarged(4).height, info.enlarged(4).width) == (80, 96)
    Image.fromarray(RAMP).save(tmp_path / "x.png", dpi=(300, 300))
    assert read_info(tmp_path / "x.png").resolution == pytest.approx((300, 300), rel=1e-4)


@pytest.mark.parametrize("layout", ["png", "contig", "separate", "lzw"])
@pytest.mark.parametrize("same", [True, False])
def test_colour_is_refused_unless_it_is_grey(tmp_path: Path, layout: str, same: bool) -> None:
    grey = (RAMP % 256).astype(np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=-1)
    colour[3, 4, 1] += not same
    path = tmp_path / ("x.png" if layout == "png" else "x.tif")
    if layout in ("contig", "separate"):
        pixels = colour if layout == "contig" else np.moveaxis(colour, -1, 0)
        tifffile.imwrite(path, pixels, photometric="rgb", planarconfig=layout)
    else:
        Image.fromarray(colour).save(path, compression="tiff_lzw" if layout == "lzw" else None)
    if same:
        np.testing.assert_array_equal(read_slice(path), grey)
    else:
        with pytest.raises(InputError, match="has 3 channels, "):
            read_slice(path)


def test_sixteen_bit_colour_is_refused_before_pillow_halves_its_depth(tmp_path: Path) -> None:
    make_png(tmp_path / "x.png", depth=16, kind=2, row=bytes(6 * 4), size=(4, 4))
    with pytest.raises(InputError, match="3 channels of 16 bit"):
        read_info(tmp_path / "x.png")


@pytest.mark.parametrize("mode", ["P", "LA", "1"])
def test_pixels_that_are_no_grey_values_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=f"pixels of the kind '{mode}'"):
        read_slice(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([-0.25, 0.5], r"values from -0.25 to 0.5, .*must lie in \[0, 1\]"),
        ([0.0, 7.0], r"values from 0 to 7, .*must lie in \[0, 1\]"),
        ([0.0, 1.00001], r"values from 0 to 1.00001.*must lie in \[0, 1\]"),
        ([0.0, np.nan], "holds NaN or infinite values; fill them"),
    ],
)
def test_floating_point_outside_the_unit_range_is_refused(
    tmp_path: Path, values: list[float], message: str
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([values], dtype=np.float32))
    with pytest.raises(InputError, match=message):
        read_slice(tmp_path / "x.tif")


def test_rounding_and_signed_values_are_read_as_stored_where_they_are_no_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0.5, 1.0000001]], np.float32))
    assert read_slice(tmp_path / "x.tif").max() == np.float32(1.0000001)
    numbers = np.array([[-1000, 0, 3000]], np.int16)
    tifffile.imwrite(tmp_path / "hu.tif", numbers)
    assert next(read_slices(tmp_path / "hu.tif", is_image=False)).tolist() == numbers.tolist()
    with pytest.raises(InputError, match="holds signed values"):
        read_slice(tmp_path / "hu.tif")


@pytest.mark.parametrize("dtype", ["int8", "uint32"])
def test_other_data_types_are_refused(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "x.tif", RAMP.astype(dtype))
    with pytest.raises(InputError, match=rf"-bit values \({dtype}\), needed are 8 or 16 bit"):
        read_info(tmp_path / "x.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("content", [b"", b"no image at all, only text"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=f"x{suffix} is damaged or no"):
        read_slice(tmp_path / f"x{suffix}")


def test_a_damaged_png_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:2000])
    with pytest.raises(InputError, match="is damaged"):
        read_slice(tmp_path / "x.png")


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    make_stack(tmp_path / "x.tif", num_pages=1, compression="zlib")
    content = bytearray((tmp_path / "x.tif").read_bytes())
    content[-100:-60] = bytes(40)
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        read_slice(tmp_path / "x.tif")


def test_a_stack_that_was_cut_short_is_no_shorter_stack(tmp_path: Path) -> None:
    make_stack(tmp_path / "x.tif", num_pages=4)
    content = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"ends after page \d of more"):
        read_info(tmp_path / "x.tif")


def test_pages_of_other_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(RAMP, metadata=None)
        writer.write(RAMP[:10], metadata=None)
    with pytest.raises(InputError, match=r"page 1 of .* is 10 x 24 of uint16, the first 20 x 24"):
        list(read_slices(tmp_path / "x.tif"))


def test_a_missing_file_and_an_unknown_suffix_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.png does not exist"):
        read_info(tmp_path / "missing.png")
    (tmp_path / "x.nii").touch()
    with pytest.raises(InputError, match=r"has the suffix '\.nii', slices are read from \.png"):
        read_info(tmp_path / "x.nii")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_page_that_does_not_exist_is_a_mistake_of_the_caller(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / f"x{suffix}")
    with pytest.raises(IndexError):
        read_slice(tmp_path / f"x{suffix}", 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_every_integer_survives_the_way_to_unit_and_back(dtype: str) -> None:
    values = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)[None]
    unit = to_unit(values)
    assert (unit.dtype, unit.min(), unit.max()) == (np.float32, 0, 1)
    np.testing.assert_array_equal(from_unit(unit, dtype), values)


def test_results_are_rounded_and_clipped() -> None:
    values = np.array([[-0.3, 0.4 / 255, 0.6 / 255, 1.7]], dtype=np.float32)
    np.testing.assert_array_equal(from_unit(values, np.uint8), [[0, 0, 1, 255]])
    np.testing.assert_array_equal(from_unit(values, np.float32), np.clip(values, 0, 1))


def test_a_folder_gives_its_slices_in_order_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for name in ("b.png", "a.tif", "notes.txt", ".hidden.png", ".ipynb_checkpoints/a.png"):
        (tmp_path / name).touch()
    assert [path.name for path in find_files(tmp_path, "**/*")] == ["a.tif", "b.png"]
    with pytest.raises(InputError, match=r"no slice .* fits 'c\*'; change the folder or the pattern"):
        find_files(tmp_path, "c*")
    with pytest.raises(InputError, match="is not a folder"):
        find_files(tmp_path / "none")


def test_real_slices_are_read(data_folder: Path) -> None:
    info = read_info(data_folder / "rock_ct/dpm_35_1_uint16.tif")
    assert (info.height, info.width, info.dtype) == (1008, 980, np.dtype("uint16"))
    pillow = np.asarray(Image.open(data_folder / "rock_ct/dpm_35_1_uint16.tif"))
    np.testing.assert_array_equal(read_slice(data_folder / "rock_ct/dpm_35_1_uint16.tif"), pillow)
    assert read_slice(data_folder / "soil_ct_sr3xct/lr_32.png").shape == (32, 32)  # stored as RGB
    assert read_slice(data_folder / "soil_ct/slice_0000.png").shape == (500, 500)


def test_a_tag_that_the_library_stumbles_over_means_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "bands.tif"
    with rasterio.open(path, "w", driver="GTiff", count=3, height=4, width=5, dtype="uint8") as file:
        file.write(np.ones((3, 4, 5), np.uint8))
    with tifffile.TiffFile(path) as tiff:
        at = tiff.series[0].pages[0].tags["SampleFormat"].valueoffset
    content = bytearray(path.read_bytes())
    content[at : at + 6] = struct.pack("<3H", 1, 2, 3)
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged or no TIF file"):
        read_info(path)
