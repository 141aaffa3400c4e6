"""A stack enlarged along all three axes: slices first, then the planes that stand on them, averaged."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from pellucid.apply.engine import Progress
from pellucid.apply.memory import available_bytes
from pellucid.apply.stack import SliceFile, Stack, cut_slice
from pellucid.data.drawing import gray_to_rgb, save_picture, sheet
from pellucid.data.geotiff import avoid_nodata
from pellucid.data.resample import fill_gaps
from pellucid.data.slice_file import read_slices
from pellucid.data.slice_writer import write_slices
from pellucid.data.tiles import TileGrid
from pellucid.data.working_file import explain_write_error
from pellucid.errors import InputError

# Longer side in pixels of a plane of the preview.
PANEL = 384
# Voxels whose sides differ by more than this share are no cubes, as the planes that stand on slices need.
CUBE = 0.1
# Copies of the enlarged volume in memory: the sum of both planes, and the slices beside it.
COPIES = 1.5


class Volume:
    """The slices of a stack as one volume, and how it is enlarged.

    The network enlarges each slice. Across them, of each row of the enlarged slices the plane of slices x
    columns is brought back to the voxels of the input along its columns, and enlarged by the same network;
    likewise of each column the plane of slices x rows. Each voxel is the mean of the two.

    Raises:
        InputError: if there is one slice alone, they differ in size or type, or memory holds no such volume.
    """

    def __init__(self, stack: Stack, progress: Progress | None = None) -> None:
        self.stack, self.progress = stack, progress
        self.factor, info = stack.method.scale, stack.volume_info
        self.depth, self.height, self.width = stack.num_slices, info.height, info.width
        self.across = stack.grid(self.depth, self.width), stack.grid(self.depth, self.height)
        self.flat = stack.grids[self.height, self.width]
        self.done = 0
        _check_cubes(stack)
        needed = COPIES * self.factor**3 * self.depth * self.height * self.width * np.dtype("f4").itemsize
        if needed > available_bytes():
            raise InputError(
                f"the enlarged volume needs {needed / 1e9:.1f} GB of memory, more than is "
                "free; enlarge parts of it, or its slices alone, without --volume"
            )

    @property
    def num_tiles(self) -> int:
        """Return how often the network is called, in each step."""
        rows, columns = (len(grid) * self.factor for grid in self.across)
        return len(self.flat) * self.depth + rows * self.height + columns * self.width

    def enlarge(self) -> Iterator[NDArray[Any]]:
        """Yield the slices of the enlarged volume in the type they came in; no data stays so."""
        seen, missing = self._read()
        flat = np.stack([self._plane(part, self.flat) for part in seen])  # (Z, f Y, f X)
        total = self._stand(flat) / 2  # (f Z, f Y, f X)
        total += self._stand(flat.swapaxes(1, 2)).swapaxes(1, 2) / 2
        info = self.stack.volume_info
        contrast = self.stack.contrast[info.dtype]
        for at, values in enumerate(total):
            result = contrast.from_model(values.astype(np.float64), info.dtype)
            avoid_nodata(result, info.nodata)
            if missing is not None:
                hidden = missing[at // self.factor].repeat(self.factor, 0).repeat(self.factor, 1)
                result[hidden] = np.nan if info.nodata is None else info.nodata
            yield result

    def _read(self) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Return the volume as the model sees it, gaps filled, (Z, Y, X), and where it has no data."""
        slices = [values for file in self.stack.files for values in read_slices(file.source, is_image=False)]
        contrast = self.stack.contrast[slices[0].dtype]
        missing = np.stack([self.stack.volume_info.find_missing(values) for values in slices])
        filled = [
            fill_gaps(contrast.to_model(values)[None], ~gap)[0]
            for values, gap in zip(slices, missing, strict=True)
        ]
        return np.stack(filled), missing if missing.any() else None

    def _stand(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (f Z, N, f X): each plane of (Z, N, f X), at one N, enlarged along Z."""
        planes = _reduce_columns(np.ascontiguousarray(flat.swapaxes(0, 1)), self.factor)  # (N, Z, X)
        grid = self.stack.grid(*planes.shape[1:])
        return np.stack([self._plane(plane, grid) for plane in planes], axis=1)

    def _plane(self, seen: NDArray[np.float32], grid: TileGrid) -> NDArray[np.float32]:
        """Return a plane (H, W) enlarged; one of one value stays so."""
        result = np.full((grid.height, grid.width), seen.flat[0], np.float32)
        if seen.min() < seen.max():
            cut = partial(cut_slice, seen, grid, self.factor)
            with closing(self.stack.engine.run(grid, cut)) as pieces:
                for piece in pieces:
                    result[piece.rows, piece.columns] = piece.samples[0, 0]
        self.done += len(grid)
        if self.progress:
            self.progress(self.done, self.num_tiles)
        return result


def write_volume(
    stack: Stack, tags: Mapping[str, str], preview: Path | None, progress: Progress | None
) -> list[SliceFile]:
    """Write the enlarged volume and, as a preview, its middle planes; return the files of the slices."""
    volume = Volume(stack, progress)
    info = stack.volume_info.enlarged(volume.factor, depth=volume.factor)
    try:
        with write_slices(stack.out, info, tags) as write:
            for values in volume.enlarge():
                write(values)
    except OSError as error:
        raise explain_write_error(stack.out, error) from error
    if preview:
        save_picture(_draw(stack, volume.factor), preview)
    return list(stack.files)


def _draw(stack: Stack, factor: int) -> Image.Image:
    """Return the planes through the middle of a volume: of the input above, of the result below."""
    inputs = [values for file in stack.files for values in read_slices(file.source, is_image=False)]
    results = np.stack(list(read_slices(stack.out, is_image=False)))
    contrast = stack.contrast[results.dtype]
    large = np.stack(inputs).repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    rows = [
        [
            gray_to_rgb(torch.from_numpy(np.nan_to_num(contrast.to_model(plane)))[None], 1.0)
            for plane in (
                values[len(values) // 2],
                values[:, values.shape[1] // 2],
                values[..., values.shape[2] // 2],
            )
        ]
        for values in (large, results)
    ]
    return sheet(rows, ["slice", "slices x columns", "slices x rows"], ["input", "result"], side=PANEL)


def _reduce_columns(planes: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return (N, H, W / factor), bicubic over `factor` times as many columns."""
    size = planes.shape[1], planes.shape[2] // factor
    images = torch.from_numpy(planes)[:, None]
    return interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)[:, 0].numpy()


def _check_cubes(stack: Stack) -> None:
    """Warn where slices lie farther apart than their pixels, or closer."""
    info = stack.files[0].info
    if info.spacing and info.resolution and abs(info.spacing * info.resolution[1] - 1) > CUBE:
        warnings.warn(
            f"slices lie {info.spacing * info.resolution[1]:.3g} pixels apart; across them the model expects "
            "voxels that are cubes, resample the volume first",
            stacklevel=2,
        )
