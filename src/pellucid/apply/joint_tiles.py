"""A generative method on an image larger than its tiles: the tiles agree after every step of sampling.

Bar-Tal et al. 2023, arXiv:2302.08113: in each step the network is applied to one tile after the other, and
the sampler follows the mean of its outputs where they overlap. So neighbours draw one image, where tiles
sampled each on its own would come to different colours on either side of a seam.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.data.batch import Condition
from pellucid.data.tiles import TileGrid
from pellucid.methods.generative import Generative
from pellucid.methods.space import Latents, Space

# The part of the overlap, along each side of a tile, that does not count: a tile sees too little around it.
MARGIN = 4


@dataclass(frozen=True)
class Tiling:
    """How an image is cut; tile and overlap are in its pixels."""

    tile: int
    overlap: int
    batch: int = 1  # tiles that go through the network together

    def grid(self, height: int, width: int, *, stride: int, factor: int = 1) -> TileGrid:
        """Return the tiles of something that is `factor` times smaller than the image.

        Starts and sides of tiles are multiples of `stride`, in pixels of the image.

        Raises:
            ValueError: if tile or overlap are no multiples of the stride, or the overlap is too large.
        """
        tile, overlap, stride = (pixels // factor for pixels in (self.tile, self.overlap, stride))
        return TileGrid(height, width, tile, overlap, stride, overlap // MARGIN)


def tiled(method: Generative, tiling: Tiling) -> Generative:
    """Return a copy of the method that restores images of any size, tile by tile within each step.

    Sides must still divide by `stride`; so must the tiles' side and overlap.
    """
    wrapped = copy.copy(method)
    factor = method.space.factor
    wrapped.network = _TiledNetwork(method.network, tiling, method.stride, factor)
    wrapped.space = _tile_space(method.space, tiling, method.stride)
    wrapped.sar_space = _tile_space(method.sar_space, tiling, method.stride)
    return wrapped


class _TiledNetwork(nn.Module):
    """A generative network that looks at tiles, `factor` times smaller; its output is their blended mean."""

    def __init__(self, network: nn.Module, tiling: Tiling, stride: int, factor: int) -> None:
        super().__init__()
        self.network, self.tiling = network, tiling
        self.stride, self.factor = stride, factor

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        """Return (B, Z, h, w) float32; see the network's own."""

        def look(windows: Sequence[_Window]) -> Tensor:
            known = replace(condition, **_cut_condition(condition, windows, x_t))
            return self.network(_cut(x_t, windows, x_t), c_noise.repeat(len(windows)), known)

        grid = self.tiling.grid(*x_t.shape[-2:], stride=self.stride, factor=self.factor)
        return _blend(grid, self.tiling.batch, len(x_t), look)


class _TiledLatents:
    """Latents that are made and decoded tile by tile."""

    def __init__(self, space: Space, tiling: Tiling, stride: int) -> None:
        self.space, self.tiling, self.stride = space, tiling, stride
        self.channels, self.factor, self.limit = space.channels, space.factor, space.limit

    def encode(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return latents, (B, Z, H / factor, W / factor); see `Latents.encode`."""
        height, width = (side // self.factor for side in image.shape[-2:])
        like = image.new_empty(1, 1, height, width)

        def look(windows: Sequence[_Window]) -> Tensor:
            known = None if valid is None else _cut(valid, windows, like)
            return self.space.encode(_cut(image, windows, like), known)

        grid = self.tiling.grid(height, width, stride=self.stride, factor=self.factor)
        return _blend(grid, self.tiling.batch, len(image), look)

    def decode(self, values: Tensor) -> Tensor:
        """Return the image, (B, C, H, W), not clipped."""
        height, width = (side * self.factor for side in values.shape[-2:])
        like = values.new_empty(1, 1, 1, 1).expand(1, 1, height, width)

        def look(windows: Sequence[_Window]) -> Tensor:
            return self.space.decode(_cut(values, windows, like))

        grid = self.tiling.grid(height, width, stride=self.stride)
        return _blend(grid, self.tiling.batch, len(values), look)


@dataclass(frozen=True)
class _Window:
    """Rows and columns of a grid, each from the first to before the last."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, image: Tensor, like: Tensor) -> Tensor:
        """Return its part of an image, (B, C, ...), that covers what `like` covers, in its own pixels."""
        height, width = like.shape[-2:]
        top, bottom = (at * image.shape[-2] // height for at in (self.top, self.bottom))
        left, right = (at * image.shape[-1] // width for at in (self.left, self.right))
        return image[..., top:bottom, left:right]


def _tile_space(space: Space, tiling: Tiling, stride: int) -> Any:
    """Return a space that works on any size; pixels do already."""
    return _TiledLatents(space, tiling, stride) if isinstance(space, Latents) else space


def _cut(image: Tensor, windows: Sequence[_Window], like: Tensor) -> Tensor:
    """Return the windows of a batch of images, one after the other, (windows * B, C, ...)."""
    return torch.cat([window.of(image, like) for window in windows])


def _cut_condition(condition: Condition, windows: Sequence[_Window], like: Tensor) -> dict[str, Tensor]:
    """Return the condition of each window: of images their part, of all else the whole."""
    values = {field.name: getattr(condition, field.name) for field in fields(condition)}
    return {
        name: _cut(value, windows, like)
        if value.ndim == 4
        else value.repeat(len(windows), *[1] * (value.ndim - 1))
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def _blend(
    grid: TileGrid, batch: int, num_images: int, look: Callable[[Sequence[_Window]], Tensor]
) -> Tensor:
    """Return the weighted mean of the tiles' outputs, (B, C, grid.height, grid.width), in their type."""
    windows = [_Window(top, top + grid.tile_height, left, left + grid.tile_width) for top, left in grid]
    if len(windows) == 1:
        return look(windows)
    for first in range(0, len(windows), batch):
        chunk = windows[first : first + batch]
        output = look(chunk)
        if first == 0:
            size = (num_images, output.shape[1], grid.height, grid.width)
            sums = output.new_zeros(size, dtype=torch.float64)
        for window, part in zip(chunk, output.split(num_images), strict=True):
            weight = torch.from_numpy(grid.weights(window.top, window.left)).to(part.device)
            window.of(sums, sums).add_(part * weight)
    row_sums, column_sums = (torch.from_numpy(x).to(sums.device) for x in (grid.row_sums, grid.column_sums))
    return (sums / row_sums[:, None] / column_sums).to(output.dtype)
