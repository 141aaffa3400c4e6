"""The slices in an array: `.npy`, and Zarr, plain or with the metadata of OME-Zarr."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.data.tiff_stack import SIGNED, WHITE, name_shape
from pellucid.errors import InputError

ARRAYS = (".npy", ".zarr")
# Centimetres in the units of length of OME-Zarr, which are UDUNITS-2's names.
CENTIMETRES = {
    "angstrom": 1e-8,
    "nanometer": 1e-7,
    "micrometer": 1e-4,
    "millimeter": 0.1,
    "centimeter": 1.0,
    "meter": 100.0,
}
# Axes that may precede a slice, where they have one entry alone; "z" may have more.
_AXES = ("t", "c", "z", "y", "x")


@dataclass(frozen=True)
class ArrayStack:
    """An array whose last two axes are the rows and columns of its slices.

    Attributes:
        values: (..., H, W) array, of which parts are read when they are asked for.
        pixel_size_cm: between slices, rows and columns; None if the file does not state it.
    """

    values: Any
    pixel_size_cm: tuple[float, float, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns of a slice."""
        height, width = self.values.shape[-2:]
        return height, width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of a slice, in the byte order of the machine."""
        return np.dtype(self.values.dtype).newbyteorder("=")

    def __len__(self) -> int:
        return math.prod(self.values.shape[:-2])

    def read(self, at: int) -> NDArray[Any]:
        """Return slice `at`, counted from 0, (H, W)."""
        if at >= len(self):
            raise IndexError(f"the array has {len(self)} slices, there is no slice {at}")
        place = np.unravel_index(at, self.values.shape[:-2])
        return np.array(self.values[place], dtype=self.dtype, order="C")


def is_array(path: Path) -> bool:
    """Whether a path, by its name, is an array; a Zarr is a folder."""
    return path.suffix.lower() in ARRAYS


def open_array(path: Path) -> ArrayStack:
    """Return the slices of an array file, opened but not read; of an OME-Zarr, those of full resolution.

    Raises:
        InputError: if it holds anything else than grey slices, or the package zarr is missing.
    """
    stack = _open_zarr(path) if path.is_dir() else ArrayStack(_open_npy(path))
    shape, dtype = tuple(stack.values.shape), stack.dtype
    if len(shape) < 2 or 0 in shape or any(side > 1 for side in shape[:-3]):
        raise InputError(
            f"{path} is {name_shape(shape) or 'a single number'}, slices are rows x columns, or slices x "
            "rows x columns; save one volume of one channel and one time"
        )
    if dtype.kind != "f" and dtype not in (*WHITE, SIGNED):
        raise InputError(
            f"{path} holds values of {dtype}, needed are uint8, uint16, int16 or floating point; convert it"
        )
    return stack


def _open_npy(path: Path) -> Any:
    if path.suffix.lower() != ".npy":
        raise InputError(f"{path} is a file, a Zarr is a folder; check the path")
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _open_zarr(path: Path) -> ArrayStack:
    try:
        import zarr
    except ImportError as error:
        raise InputError(
            f"{path} is a Zarr, which the package zarr reads; run pip install 'pellucid[zarr]'"
        ) from error
    found = zarr.open(path, mode="r")
    if isinstance(found, zarr.Array):
        return ArrayStack(found)
    attributes: Any = dict(found.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    if not images:
        raise InputError(
            f"{path} is a group without the metadata of OME-Zarr; name one of its arrays: "
            f"{', '.join(sorted(found.array_keys())) or 'it has none'}"
        )
    first = images[0]["datasets"][0]
    return ArrayStack(found[first["path"]], _pixel_size(path, images[0], first))


def _pixel_size(
    path: Path, image: Mapping[str, Any], dataset: Mapping[str, Any]
) -> tuple[float, float, float] | None:
    """Return how far slices, rows and columns lie apart, in centimetres, where all that is stated."""
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image.get("axes", _AXES)]
    names = [str(axis["name"]) for axis in axes]
    if names != [name for name in _AXES if name in names] or names[-2:] != ["y", "x"]:
        raise InputError(
            f"{path} has the axes {', '.join(names)}, slices have z, y, x in this order; convert it"
        )
    scales = (
        change["scale"]
        for part in (dataset, image)
        for change in part.get("coordinateTransformations", ())
        if change.get("type") == "scale"
    )
    factors = np.prod([np.ones(len(names)), *scales], axis=0)
    sizes = dict(zip(names, factors, strict=True))
    units = {str(axis["name"]): CENTIMETRES.get(str(axis.get("unit"))) for axis in axes}
    found = [sizes[name] * (units[name] or 0.0) for name in ("z", "y", "x") if name in sizes]
    if not all(size > 0 for size in found):
        return None
    z, y, x = found if len(found) == 3 else [found[0], *found]
    return float(z), float(y), float(x)
