from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pellucid.data import slice_writer
from pellucid.data.slice_file import SliceInfo, read_info, read_slices
from pellucid.data.slice_writer import check_output, write_slices
from pellucid.errors import InputError

STACK = np.random.default_rng(0).integers(0, 65536, (3, 20, 24), dtype=np.uint16)
INFO = SliceInfo(num_pages=3, height=20, width=24, dtype=np.dtype("uint16"))


def write_all(path: Path, info: SliceInfo, pages: Iterable[NDArray[Any]]) -> None:
    with write_slices(path, info) as write:
        for page in pages:
            write(page)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_stack_comes_back_as_it_was_written(tmp_path: Path, dtype: str) -> None:
    stack = (STACK / 65535).astype(dtype) if dtype == "float32" else STACK.astype(dtype)
    write_all(tmp_path / "x.tif", replace(INFO, dtype=np.dtype(dtype)), stack)
    np.testing.assert_array_equal(np.stack(list(read_slices(tmp_path / "x.tif"))), stack)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "x.tif"), stack)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_png_keeps_its_depth(tmp_path: Path, dtype: str) -> None:
    page = STACK[0].astype(dtype)
    write_all(tmp_path / "x.png", replace(INFO, num_pages=1, dtype=np.dtype(dtype)), [page])
    values = np.asarray(Image.open(tmp_path / "x.png"))
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, page)


def test_the_size_of_a_pixel_shrinks_by_the_factor(tmp_path: Path) -> None:
    options = {"imagej": True, "resolution": (2.5, 2.5), "metadata": {"unit": "um", "axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "small.tif", STACK, **options)
    info = read_info(tmp_path / "small.tif").enlarged(2)
    write_all(tmp_path / "big.tif", info, STACK.repeat(2, 1).repeat(2, 2))
    with tifffile.TiffFile(tmp_path / "big.tif") as file:
        assert file.imagej_metadata is not None
        assert file.imagej_metadata["unit"] == "um"
    assert read_info(tmp_path / "big.tif") == info


@pytest.mark.parametrize("depth", [1, 4])
def test_the_distance_of_slices_is_what_it_is_afterwards(tmp_path: Path, depth: int) -> None:
    size = {"PhysicalSizeX": 2, "PhysicalSizeY": 2, "PhysicalSizeZ": 6, "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "ome.tif", STACK, ome=True, metadata=size)
    options = {"imagej": True, "resolution": (0.5, 0.5)}
    tifffile.imwrite(
        tmp_path / "imagej.tif", STACK, **options, metadata={"unit": "um", "spacing": 6, "axes": "ZYX"}
    )
    for name, per_um in (("ome", 1e-4), ("imagej", 1.0)):
        info = read_info(tmp_path / f"{name}.tif")
        assert info.spacing == pytest.approx(6 * per_um)
        big = info.enlarged(2, depth=depth)
        write_all(tmp_path / "big.tif", big, STACK.repeat(2, 1).repeat(2, 2).repeat(depth, 0))
        with tifffile.TiffFile(tmp_path / "big.tif") as file:
            found, page = file.imagej_metadata, file.pages.first
            assert found is not None
            assert found["spacing"] == pytest.approx(6 * per_um / depth)
            assert (found["images"], found["slices"]) == (3 * depth, 3 * depth)
            assert found["unit"] == {"ome": "cm", "imagej": "um"}[name]
            assert 1 / page.get_resolution()[0] == pytest.approx(1 * per_um)


def test_centimetres_become_the_inches_of_a_png(tmp_path: Path) -> None:
    info = replace(INFO, num_pages=1, resolution=(100.0, 50.0), resolution_unit=3)
    write_all(tmp_path / "x.png", info, STACK[:1])
    assert read_info(tmp_path / "x.png").resolution == pytest.approx((254, 127), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "info", "message"),
    [
        ("x.jpg", INFO, r"has the suffix '\.jpg', slices are written as \.png, \.tif"),
        ("x.png", INFO, r"cannot hold 3 pages, a PNG has one page .*; name a \.tif"),
        ("x.png", replace(INFO, num_pages=1, dtype=np.dtype("float32")), "cannot hold float32 values"),
        ("x.png", replace(INFO, num_pages=1, height=20_000, width=10_000), "20000 x 10000 pixels, too many"),
    ],
)
def test_a_format_that_cannot_hold_the_slices_is_refused(name: str, info: SliceInfo, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_output(Path(name), info)


def test_nothing_is_left_after_a_failure(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_text("what was there")
    with pytest.raises(ZeroDivisionError):
        write_all(tmp_path / "x.tif", INFO, (STACK[i] + 1 // (1 - i) for i in range(3)))
    with pytest.raises(ValueError, match="1 pages were written, 3 announced"):
        write_all(tmp_path / "x.tif", INFO, STACK[:1])
    assert [path.name for path in tmp_path.iterdir()] == ["x.tif"]
    assert (tmp_path / "x.tif").read_text() == "what was there"


def test_a_map_in_grey_values_is_written_though_no_image_may_hold_them(tmp_path: Path) -> None:
    values = np.array([[-3.5, 1200.25]], np.float32)
    info = SliceInfo(num_pages=1, height=1, width=2, dtype=values.dtype)
    write_all(tmp_path / "std.tif", info, values[None])
    (read,) = read_slices(tmp_path / "std.tif", is_image=False)
    assert (read == values).all()
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        list(read_slices(tmp_path / "std.tif"))


def test_what_reads_back_otherwise_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_others(_: Path, **__: bool) -> Iterator[NDArray[Any]]:
        return iter(STACK + 1)

    monkeypatch.setattr(slice_writer, "read_slices", read_others)
    with pytest.raises(InputError, match="did not read back as written"):
        write_all(tmp_path / "x.tif", INFO, STACK)
    assert not list(tmp_path.iterdir())


def test_a_page_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the page is 10 x 24 of uint16, announced was 20 x 24"):
        write_all(tmp_path / "x.tif", INFO, [STACK[0, :10]])


def test_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", fail)
    with pytest.raises(InputError, match=r"cannot write .*x\.tif: No space left on device"):
        write_all(tmp_path / "x.tif", INFO, STACK)
    assert not list(tmp_path.iterdir())
