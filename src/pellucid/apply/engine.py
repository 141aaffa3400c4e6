"""Any method over anything that is cut into tiles: batches, samples, noise by place, seamless blending."""

import hashlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.apply.ahead import run_ahead
from pellucid.apply.joint_tiles import Tiling, tiled
from pellucid.apply.lanes import run_lanes
from pellucid.apply.memory import make_way
from pellucid.apply.options import ApplyOptions, choose_sampling
from pellucid.apply.precision import choose_precision, compile_network
from pellucid.data.batch import Batch
from pellucid.data.resample import enlarge
from pellucid.data.tiles import Blender, TileGrid, mean_of
from pellucid.errors import InputError, is_out_of_memory
from pellucid.generative.noise import JoinedNoise, Noise, NoiseField, TileNoise
from pellucid.methods.generative import Generative
from pellucid.methods.inference import check_samples, choose_device, digest_method
from pellucid.methods.method import Estimate, Method, result_range

# Tiles that a GPU restores at once by default; a CPU gains nothing from more than one.
GPU_BATCH = 8
# Parts of a scene that a CPU works on at once: more of them take more memory.
LANES = 2
# Side in pixels of the smallest tile that is tried where memory is short.
SMALLEST = 32
# Side in pixels of what joint tiles restore as one image; of a larger one memory could not hold all.
WINDOW = 4096
# Options on which no pixel depends, or only by what the key holds already.
NOT_IN_KEY = (
    "batch",
    "device",
    *("preview", "html", "sidecars", "truth"),
    "resume",
    "force",
    "factor",
    *("tile", "overlap", "precision"),
)

Progress = Callable[[float, int], None]


class Piece(NamedTuple):
    """A part of the result that no later tile reaches."""

    rows: slice
    columns: slice
    # (S, C, rows, columns), blended; S = 1, the mean, unless the samples are kept.
    samples: NDArray[np.float64]
    # (C, tile_height, tile_width), the mean of the samples of the tile that begins there, not blended; None
    # where no network was needed.
    tile: NDArray[np.floating] | None
    # Of a method that says so, blended: (C, rows, columns) and (rows, columns), as in `Estimate`.
    deviation: NDArray[np.float64] | None = None
    cloud: NDArray[np.float64] | None = None


class _Work(NamedTuple):
    """Tiles that are restored at once: their row, the number and lefts of their columns, what is seen."""

    row: int
    column: int
    lefts: tuple[int, ...]
    batches: tuple[Batch | None, ...]


class OutOfMemoryError(InputError):
    """The device has too little memory for as many tiles at once, or for one."""


class Engine:
    """A method on its device, with the sampling, noise and tiles of the options.

    With `keep_samples` it gives back every sample, not their mean alone. With `joint`, tiles agree after
    every step of sampling, where the method samples. Without `keep_deviation`, the standard deviation that
    some methods give is left out.
    """

    def __init__(
        self,
        method: Method,
        options: ApplyOptions,
        *,
        keep_samples: bool = False,
        keep_deviation: bool = True,
        joint: bool = False,
    ) -> None:
        self.method, self.options = choose_sampling(method, options), options
        check_samples(self.method, options.samples)
        self.tile = options.tile or method.tile
        self.overlap = method.overlap if options.overlap is None else options.overlap
        self.device = choose_device(options.device)
        self.precision = choose_precision(options.precision, method, self.device)
        self.num_kept = options.samples if keep_samples else 1
        self.has_deviation = self.method.gives_deviation and keep_deviation
        self.noise = NoiseField(options.seed)
        self.batch = options.batch or (1 if self.device.type == "cpu" else GPU_BATCH)
        # Tiles that a CPU restores at once, each with its share of the cores.
        self.lanes = min(LANES, torch.get_num_threads()) if self.device.type == "cpu" else 1
        self.tiling, self._applied = None, self.method
        if joint and isinstance(self.method, Generative):
            self.tiling = Tiling(self.tile, self.overlap, self.batch)
            self._applied, self.batch, self.lanes = tiled(self.method, self.tiling), 1, 1
        self.method.network.to(self.device).eval()
        if options.compile:
            compile_network(self.method, self.device)

    def grid(self, height: int, width: int, *, stride: int = 1, margin: int = 0) -> TileGrid:
        """Return the tiles of a result; of joint tiles, the windows that are restored as one.

        They divide by `stride`, besides the method's. Along the sides of a tile, `margin` pixels do not
        count; the overlap grows by two of them.
        """
        stride = math.lcm(stride, self.method.stride)
        tile, overlap = self.tile, self.overlap
        if margin:
            overlap = -(-(overlap + 2 * margin) // stride) * stride
            if overlap >= tile > 0 and tile % stride == 0:
                raise InputError(
                    f"tiles of {tile} px are too small for an overlap of {self.overlap} px and "
                    f"margins of {margin} px; use --tile {overlap + stride} or a smaller --overlap"
                )
        try:
            if self.tiling:
                self.tiling.grid(tile, tile, stride=stride)  # refuses tiles that no window could hold
                tile, overlap = max(WINDOW // stride * stride, 2 * tile), tile
            if self.method.any_tile and self.options.tile is None and overlap < tile:
                grids = [
                    TileGrid(height, width, side, overlap, stride, margin) for side in _sides(tile, stride)
                ]
                return min(grids, key=lambda grid: grid.area)
            return TileGrid(height, width, tile, overlap, stride, margin)
        except ValueError as error:
            raise InputError(str(error)) from error

    def num_tiles(self, grid: TileGrid) -> int:
        """Return how often the network looks at a part of the image, in each step."""
        if self.tiling is None:
            return len(grid)
        inner = self.tiling.grid(grid.tile_height, grid.tile_width, stride=self.method.stride)
        return len(grid) * len(inner)

    def run(
        self,
        grid: TileGrid,
        cut: Callable[[int, int], Batch | None],
        *,
        first_row: int = 0,
        progress: Progress | None = None,
    ) -> Generator[Piece]:
        """Yield the restored image, tile by tile, as soon as no later tile reaches a part of it.

        Tiles are cut in one thread and restored in another; close the generator to end both.

        Args:
            grid: from `grid`.
            cut: returns what the method sees, B = 1, of the tile at a row and a column; None: the tile needs
                no network. Values of `degraded` beyond [0, 1] are kept: they are enlarged and added.
            first_row: rows of tiles that an earlier call has finished; they are restored again only as far
                as later rows overlap them.
            progress: called with what is done and all there is to do, in tiles of the grid.
        """
        blenders = [Blender(grid, self._num_layers()) for _ in range(self.num_kept)]
        rows = [i for i in range(len(grid.tops)) if i >= first_row or _reaches(grid, i, first_row)]
        tiles = [(i, j) for i in rows for j in range(len(grid.lefts))]
        seen = run_ahead(_cut_all(grid, tiles, cut), self.batch)
        restored = run_ahead(self._restore_all(grid, tiles, seen, first_row, progress), self.batch)
        with closing(restored):
            for (row, column), samples in zip(tiles, restored, strict=True):
                blended, mean = self._blend(blenders, row, column, samples)
                if row >= first_row:
                    yield self._piece(*grid.finished(row, column), blended, mean)

    def restore(
        self, batch: Batch, noise: Noise, progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return (B, C, H, W) in [0, 1] of images on the engine's device; refuse what is no number.

        The deviation and the cloud of an estimate follow as further channels.
        """
        with self._inference(batch, "use a smaller --tile"):
            restored = self._apply(batch, noise, progress).float()
        if not restored.sum().isfinite() and not restored.isfinite().all():
            raise InputError(
                f"the model gave no number at {batch.key[0]} in {self.precision}, try --precision fp32"
            )
        return restored.cpu().numpy()

    def estimate(self, batch: Batch, noise: Noise) -> Estimate:
        """Return what the method says of images on the engine's device, on the CPU; see `restore`."""
        layers, bands = torch.from_numpy(self.restore(batch, noise)), len(result_range(self.method).bands)
        return Estimate(
            layers[:, :bands],
            layers[:, bands : 2 * bands] if self.has_deviation else None,
            layers[:, -1:] if self.method.finds_clouds else None,
        )

    def key(self, *inputs: object) -> str:
        """Return a digest of everything on which a result depends: the method, the options and the inputs."""
        method, chosen = self.method, fields(self.options)
        settings = [(f.name, getattr(self.options, f.name)) for f in chosen if f.name not in NOT_IN_KEY]
        settings += [("tile", self.tile), ("overlap", self.overlap), ("precision", self.precision)]
        about = (type(method).__name__, method.scale, method.optical, method.radar)
        values = (settings, about, method.sampling, digest_method(method), inputs)
        return hashlib.sha256(repr(values).encode()).hexdigest()

    def collect(self, batch: Batch, share: torch.Tensor, *, least: float = 0.0) -> Any:
        """Return what a part says about its scene, see `Method.collect`; None: nothing."""
        with self._inference(batch, f"{make_way()}, or choose another --device"):
            return self.method.collect(batch.to(self.device), share.to(self.device), least=least)

    def set_scene(self, collected: Any) -> None:
        """Let the method restore the tiles of the scene of which so much was collected."""
        self.method = self._applied = self.method.with_scene(collected)
        self.method.network.to(self.device).eval()

    @property
    def collects(self) -> bool:
        """Whether the method looks at all of a scene before it restores."""
        return type(self.method).collect is not Method.collect

    @contextmanager
    def _inference(self, batch: Batch, way_out: str) -> Iterator[None]:
        """Compute without gradients, in the precision chosen; where memory is short, name the way out."""
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
            ):
                yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            count, size = len(batch), max(batch.valid.shape[-2:])
            tiles = "a tile" if count == 1 else f"{count} tiles"
            raise OutOfMemoryError(
                f"{self.device} has too little memory for {tiles} of {size} px; {way_out}"
            ) from error

    def _num_layers(self) -> int:
        """Return how many channels are blended: of the image, its deviation and its cloud."""
        bands = len(result_range(self.method).bands)
        return bands * (1 + self.has_deviation) + self.method.finds_clouds

    def _apply(self, batch: Batch, noise: Noise, progress: Callable[[int, int], None] | None) -> torch.Tensor:
        """Return the channels that are blended, (B, layers, H, W)."""
        if not (self.method.gives_deviation or self.method.finds_clouds):
            return self._applied.restore(batch, noise, progress)
        image, deviation, cloud = self._applied.estimate(
            batch, noise, progress, with_deviation=self.has_deviation
        )
        wanted = (deviation, self.has_deviation), (cloud, self.method.finds_clouds)
        return torch.cat([image, *(x for x, is_wanted in wanted if is_wanted and x is not None)], dim=1)

    def _piece(
        self,
        rows: slice,
        columns: slice,
        blended: NDArray[np.float64],
        tile: NDArray[np.floating] | None,
    ) -> Piece:
        """Return the part of the result, its channels named."""
        bands = len(result_range(self.method).bands)
        mean = mean_of(blended)
        return Piece(
            rows,
            columns,
            blended[:, :bands],
            None if tile is None else tile[:bands],
            mean[bands : 2 * bands] if self.has_deviation else None,
            mean[-1] if self.method.finds_clouds else None,
        )

    def _blend(
        self, blenders: Sequence[Blender], row: int, column: int, samples: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.floating] | None]:
        """Blend in the samples of a tile; return what is finished, (S, C, rows, columns), and their mean."""
        if samples is None:
            return np.stack([blender.add(row, column, None) for blender in blenders]), None
        mean = mean_of(samples)  # blended, it is the mean of the blended; only their spread needs each
        each = zip(blenders, samples if self.num_kept > 1 else [mean], strict=True)
        return np.stack([blender.add(row, column, image) for blender, image in each]), mean

    def _restore_all(
        self,
        grid: TileGrid,
        tiles: Sequence[tuple[int, int]],
        seen: Generator[Batch | None],
        first_row: int,
        progress: Progress | None,
    ) -> Iterator[NDArray[np.float32] | None]:
        """Yield every sample of each tile, (S, C, tile_height, tile_width), or None."""
        step = self.batch  # which short memory may halve
        starts = [tiles[i] for i in sorted({i - j % step for i, (_, j) in enumerate(tiles)})]
        done = {at: 0.0 for at in starts if at[0] >= first_row}  # tiles of those that begin there

        def take() -> Iterator[_Work]:
            for row, column in starts:
                lefts = grid.lefts[column : column + step]
                yield _Work(row, column, tuple(lefts), tuple(next(seen) for _ in lefts))

        def restore(work: _Work) -> list[NDArray[np.float32] | None]:
            def report(share: float) -> None:
                if progress and work.row >= first_row:
                    done[work.row, work.column] = share * len(work.lefts)
                    progress(first_row * len(grid.lefts) + sum(done.values()), len(grid))

            given = [(left, b) for left, b in zip(work.lefts, work.batches, strict=True) if b]
            found = iter(self._restore_tiles(grid, grid.tops[work.row], given, report) if given else ())
            report(1)
            return [next(found) if batch else None for batch in work.batches]

        with closing(seen), closing(run_lanes(restore, take(), self.lanes, OutOfMemoryError)) as restored:
            for samples in restored:
                yield from samples

    def _restore_tiles(
        self, grid: TileGrid, top: int, tiles: Sequence[tuple[int, Batch]], report: Callable[[float], None]
    ) -> NDArray[np.float32]:
        """Return (tiles, S, C, tile_height, tile_width) of tiles and their first columns."""
        work = list(product(tiles, range(self.options.samples)))
        parts = list[NDArray[np.float32]]()
        while (first := sum(map(len, parts))) < len(work):
            chunk = work[first : first + self.batch]
            noise = JoinedNoise(
                tuple(
                    TileNoise((self.noise,), (top,), (left,), grid.tile_height, grid.tile_width, sample)
                    for (left, _), sample in chunk
                )
            )
            batch = Batch.cat([batch for (_, batch), _ in chunk]).to(self.device)

            def steps(done: int, total: int, first: int = first, num: int = len(chunk)) -> None:
                report((first + num * done / total) / len(work))

            try:
                parts.append(self._restore_beyond(batch, noise, steps))
            except OutOfMemoryError as error:
                if len(chunk) == 1:
                    raise self._say_what_fits(batch, error) from error
                self.batch = len(chunk) // 2  # no pixel depends on it
        return np.concatenate(parts).reshape(len(tiles), self.options.samples, *parts[0].shape[1:])

    def _say_what_fits(self, batch: Batch, error: OutOfMemoryError) -> OutOfMemoryError:
        """Return the error about a tile with the largest half, quarter or less that fits into memory."""
        found, _, way_out = str(error).rpartition("; ")
        stride = math.lcm(self.method.stride, batch.scale)
        side = min(batch.valid.shape[-2:])
        while not self.tiling and (side := side // 2 // stride * stride) >= max(stride, SMALLEST):
            noise = JoinedNoise((TileNoise((self.noise,), (0,), (0,), side, side),))
            try:
                self._restore_beyond(batch.corner(side), noise, lambda *_: None)
            except OutOfMemoryError:
                way_out = f"nor is it enough for {side} px: {make_way()}, or choose another --device"
                continue
            overlap = f" --overlap {side // 4}" if self.overlap >= side else ""
            return OutOfMemoryError(f"{found}; one of {side} px fits, use --tile {side}{overlap}")
        return OutOfMemoryError(f"{found}; {way_out}")

    def _restore_beyond(
        self, batch: Batch, noise: Noise, progress: Callable[[int, int], None]
    ) -> NDArray[np.float32]:
        """Return the restored images; what of the degraded ones lies beyond [0, 1] is enlarged and added."""
        low, high = batch.degraded.aminmax()
        if low >= 0 and high <= 1:
            return self.restore(batch, noise, progress)
        inside = batch.degraded.clamp(0, 1)
        restored = self.restore(replace(batch, degraded=inside), noise, progress)
        beyond = batch.degraded - inside
        if beyond.any():
            restored[:, : beyond.shape[1]] += enlarge(beyond, batch.scale).cpu().numpy()
        return restored


def _reaches(grid: TileGrid, row: int, first_row: int) -> bool:
    """Whether a row of tiles overlaps those from `first_row` on, which is not the first."""
    ends = (*grid.tops[1:], grid.height)
    return min(grid.tops[row] + grid.tile_height, grid.height) > ends[first_row - 1]


def _cut_all(
    grid: TileGrid, tiles: Sequence[tuple[int, int]], cut: Callable[[int, int], Batch | None]
) -> Iterator[Batch | None]:
    """Yield what the method sees of each tile."""
    for row, column in tiles:
        yield cut(grid.tops[row], grid.lefts[column])


def _sides(tile: int, stride: int) -> range:
    """Return the sides of tiles up to a quarter larger than one that suits, and an eighth smaller."""
    return range(tile - tile // 8 // stride * stride, tile + tile // 4 + 1, stride)
