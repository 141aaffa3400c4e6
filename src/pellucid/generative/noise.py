"""Noise that depends on where it lies, so that overlapping tiles of a scene are given the same."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

# Side of the squares, in pixels, that are drawn whole, so that a value depends on its place alone.
BLOCK = 64


class Noise(Protocol):
    """Standard normal noise for a batch, the same whenever it is asked for."""

    def __call__(self, step: int, channels: int, factor: int = 1) -> Tensor:
        """Return (B, channels, H / factor, W / factor) float32; step 0 is where sampling starts."""


@dataclass(frozen=True)
class NoiseField:
    """Standard normal noise on the endless plane of pixels: a function of seed and position alone."""

    seed: int

    def field(
        self, y: int, x: int, height: int, width: int, *, channels: int, step: int = 0, sample: int = 0
    ) -> Tensor:
        """Return a window of the plane, (channels, height, width) float32, of independent channels.

        It begins at row `y` and column `x`, which may be negative. Each `step` of sampling and each `sample`
        of the same place has a field of its own.
        """
        window = np.empty((channels, height, width), np.float32)
        rows, columns = _blocks(y, height), _blocks(x, width)
        for channel, row, column in product(range(channels), rows, columns):
            block = _draw(self.seed, step, sample, channel, row, column)
            into_y, from_y = _overlap(row, y, height)
            into_x, from_x = _overlap(column, x, width)
            window[channel, into_y, into_x] = block[from_y, from_x]
        return torch.from_numpy(window)


@dataclass(frozen=True)
class TileNoise:
    """The noise of a batch of tiles, each at its place in its own field.

    First rows and columns, `tops` and `lefts`, and sides are in pixels of the result; `sample` is which of
    several of the same place.
    """

    fields: tuple[NoiseField, ...]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int
    sample: int = 0

    def __call__(self, step: int, channels: int, factor: int = 1) -> Tensor:
        """Return (B, channels, H / factor, W / factor) float32; places and sides must divide by `factor`."""
        if any(value % factor for value in (*self.tops, *self.lefts, self.height, self.width)):
            raise ValueError(
                f"tiles of {self.height} x {self.width} px at rows {self.tops} and columns {self.lefts} "
                f"do not divide by {factor}"
            )
        size = self.height // factor, self.width // factor
        which = {"channels": channels, "step": step, "sample": self.sample}
        places = zip(self.fields, self.tops, self.lefts, strict=True)
        windows = [field.field(top // factor, left // factor, *size, **which) for field, top, left in places]
        return torch.stack(windows)


@dataclass(frozen=True)
class JoinedNoise:
    """The noise of several parts of a batch, one after the other."""

    parts: tuple[Noise, ...]

    def __call__(self, step: int, channels: int, factor: int = 1) -> Tensor:
        """Return (B, channels, H / factor, W / factor) float32."""
        return torch.cat([part(step, channels, factor) for part in self.parts])


def keyed_noise(batch_keys: Sequence[str], height: int, width: int, *, sample: int = 0) -> TileNoise:
    """Return the noise of the images of these names: the same in any batch and order."""
    digests = (hashlib.sha256(f"0 {key}".encode()).digest() for key in batch_keys)
    fields = tuple(NoiseField(int.from_bytes(digest[:8])) for digest in digests)
    corners = (0,) * len(fields)
    return TileNoise(fields, corners, corners, height, width, sample)


def _draw(*names: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the (BLOCK, BLOCK) noise that goes by these numbers."""
    # A hash makes neighbours as different as strangers; Philox takes all 128 bits as its key.
    digest = hashlib.sha256(" ".join(map(str, names)).encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16])))
    return generator.standard_normal((BLOCK, BLOCK), dtype=np.float32)


def _blocks(start: int, length: int) -> range:
    """Return the numbers of the blocks that `length` pixels from `start` on touch."""
    return range(start // BLOCK, (start + length - 1) // BLOCK + 1)


def _overlap(block: int, start: int, length: int) -> tuple[slice, slice]:
    """Return where a block lies in the window, and which part of the block that is."""
    first = max(block * BLOCK, start)
    end = min((block + 1) * BLOCK, start + length)
    return slice(first - start, end - start), slice(first - block * BLOCK, end - block * BLOCK)
