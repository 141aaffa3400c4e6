import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pellucid.data.array_stack import is_array
from pellucid.data.slice_file import read_info, read_slice, read_slices
from pellucid.errors import InputError

STACK = np.random.default_rng(0).integers(0, 65536, (3, 20, 24), dtype=np.uint16)


def save_zarr(
    path: Path, values: Any, *, axes: str = "zyx", unit: str | None = "micrometer", old: bool = False
) -> Path:
    """Write an OME-Zarr whose pixels are 2, 4 and 8 units, in its version 0.4 or 0.5."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if old else 3)
    group.create_array("full", data=values)
    sizes = {"z": 2.0, "y": 4.0, "x": 8.0}
    described = [{"name": name} | ({"unit": unit} if unit and name in sizes else {}) for name in axes]
    scale = {"type": "scale", "scale": [sizes.get(name, 1.0) / 2 for name in axes]}
    twice = {"type": "scale", "scale": [2.0] * len(axes)}
    image = {
        "axes": described,
        "datasets": [{"path": "full", "coordinateTransformations": [scale]}],
        "coordinateTransformations": [twice],
    }
    group.attrs.update({"multiscales": [image]} if old else {"ome": {"multiscales": [image]}})
    return path


@pytest.mark.parametrize(
    "values", [STACK, STACK[0], STACK.astype(">u2"), STACK[None], np.float16(STACK / 65535)]
)
def test_slices_of_an_npy_come_one_by_one(tmp_path: Path, values: Any) -> None:
    np.save(tmp_path / "x.npy", values)
    info = read_info(tmp_path / "x.npy")
    expected = values.reshape(-1, 20, 24)
    assert (info.num_pages, info.height, info.width, info.dtype) == (
        *expected.shape,
        values.dtype.newbyteorder("="),
    )
    np.testing.assert_array_equal(np.stack(list(read_slices(tmp_path / "x.npy"))), expected)
    np.testing.assert_array_equal(read_slice(tmp_path / "x.npy", info.num_pages - 1), expected[-1])


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("axes", ["zyx", "tczyx", "yx"])
def test_an_ome_zarr_gives_its_largest_image_and_pixel_size(tmp_path: Path, axes: str, old: bool) -> None:
    values = STACK[:1, 0:] if axes == "zyx" else STACK
    values = {"zyx": STACK, "tczyx": STACK[None, None], "yx": STACK[0]}[axes]
    path = save_zarr(tmp_path / "x.ome.zarr", values, axes=axes, old=old)
    np.testing.assert_array_equal(np.stack(list(read_slices(path))), values.reshape(-1, 20, 24))
    info = read_info(path)
    assert info.resolution == pytest.approx((1 / 8e-4, 1 / 4e-4))
    assert info.resolution_unit == 3
    assert info.spacing == pytest.approx(2e-4 if "z" in axes else 4e-4)


def test_a_plain_zarr_and_one_without_units_state_no_size(tmp_path: Path) -> None:
    zarr.save_array(tmp_path / "x.zarr", STACK)
    for path in (tmp_path / "x.zarr", save_zarr(tmp_path / "y.zarr", STACK, unit=None)):
        info = read_info(path)
        assert (info.num_pages, info.resolution, info.spacing) == (3, None, None)
        np.testing.assert_array_equal(read_slice(path, 2), STACK[2])


def test_only_names_of_arrays_are_arrays() -> None:
    assert [name for name in ("a.npy", "b.ome.zarr", "c.ZARR", "d.tif", "e") if is_array(Path(name))] == [
        "a.npy",
        "b.ome.zarr",
        "c.ZARR",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3, 4, 5), np.uint8), "x.npy is 2 x 3 x 4 x 5, slices are rows x columns"),
        (np.zeros(3, np.uint8), "x.npy is 3, slices are rows x columns"),
        (np.zeros((3, 4), np.int64), "x.npy holds values of int64, needed are uint8"),
        (np.array([{}]), "x.npy is damaged or no NPY file"),
    ],
)
def test_what_is_no_stack_of_slices_is_refused(tmp_path: Path, values: Any, message: str) -> None:
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(InputError, match=message):
        read_info(tmp_path / "x.npy")


def test_a_zarr_that_is_no_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    group.create_array("raw", data=STACK)
    with pytest.raises(
        InputError, match=r"group without the metadata of OME-Zarr; name one of its arrays: raw"
    ):
        read_info(tmp_path / "x.zarr")
    with pytest.raises(InputError, match=r"has the axes x, y, slices have z, y, x in this order"):
        read_info(save_zarr(tmp_path / "y.zarr", STACK[0], axes="xy"))
    (tmp_path / "z.zarr").mkdir()
    with pytest.raises(InputError, match=r"z\.zarr is damaged or no ZARR file"):
        read_info(tmp_path / "z.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"run pip install 'pellucid\[zarr\]'"):
        read_info(tmp_path / "x.zarr")
