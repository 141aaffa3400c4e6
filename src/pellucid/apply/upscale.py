"""Slices in, larger slices out: tiles without seams, the same noise for a whole stack, mean and spread."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pellucid.apply.stack import Contrast, SliceFile, Stack, UpscaleOptions
from pellucid.data.batch import Batch
from pellucid.data.drawing import gray_to_rgb, save_picture, sheet
from pellucid.data.files import write_atomically
from pellucid.data.resample import enlarge
from pellucid.data.slice_file import WHITE, from_unit, read_slices, to_unit
from pellucid.data.slice_writer import write_slices
from pellucid.data.tiles import Blender, TileGrid, reflect
from pellucid.data.working_file import explain_write_error
from pellucid.generative.noise import NoiseField
from pellucid.methods.inference import place_noise, run_method
from pellucid.methods.method import Method

# Longer side in pixels of a panel of the preview.
PANEL = 512
# Beside the results of a folder while the work is not done: which slices are, and from what.
NOTE = ".upscale.partial.json"


@dataclass(frozen=True)
class UpscaleReport:
    """What was done.

    Attributes:
        out: the enlarged file, or the folder of such.
        std: file or folder of the standard deviations, if several samples were drawn.
        preview: the PNG, if wanted and anything was done.
        num_slices: enlarged now.
        num_skipped: finished by an earlier, interrupted call.
        seconds: time taken.
    """

    out: Path
    std: Path | None
    preview: Path | None
    num_slices: int
    num_skipped: int
    seconds: float


def upscale(
    source: Path | str,
    out: Path | str,
    *,
    method: Method,
    std: Path | str | None = None,
    options: UpscaleOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UpscaleReport:
    """Write the slices enlarged, in the type and grey values that they came in.

    Everything is read and checked before work starts. A file appears when it is done, whole or not at all. An
    interrupted call on a folder leaves the finished files and a note, and the same call goes on there.

    Args:
        source: a PNG, a TIFF of one or more pages, or a folder of such.
        out: file or, for a folder, the folder that the results go to, under the names they have.
        method: what enlarges.
        std: where the standard deviation of the samples goes, float32 TIFF in grey values; a folder for a
            folder. Default: beside `out`, its name with `_std`.
        options: see `UpscaleOptions`.
        progress: called with what is done and all there is to do, counted in calls of the network.

    Raises:
        InputError: for any input that cannot be used; nothing is written then.
    """
    start, options = time.monotonic(), options or UpscaleOptions()
    stack = Stack(Path(source), Path(out), Path(std) if std else None, method, options)
    note = _Note(stack)
    pending = [file for file in stack.files if not note.holds(file)]
    preview = stack.preview if options.preview and pending else None
    sampler = _Sampler(stack, pending, progress)
    for i, file in enumerate(pending):
        try:
            picture = _enlarge_file(
                file, sampler, wants_picture=preview is not None and i == len(pending) // 2
            )
        except OSError as error:
            raise explain_write_error(file.out, error) from error
        note.add(file)
        if picture and preview:
            save_picture(picture, preview)
    note.drop()
    num_slices = sum(file.info.num_pages for file in pending)
    seconds = time.monotonic() - start
    return UpscaleReport(stack.out, stack.std, preview, num_slices, stack.num_slices - num_slices, seconds)


def check_upscale(
    source: Path | str,
    out: Path | str,
    *,
    method: Method,
    std: Path | str | None = None,
    options: UpscaleOptions | None = None,
) -> str:
    """Return a line about what `upscale` with the same arguments would do, after all its checks.

    Raises:
        InputError: if it would refuse.
    """
    stack = Stack(Path(source), Path(out), Path(std) if std else None, method, options or UpscaleOptions())
    seen = ", ".join(
        f"{dtype} from {contrast.low * WHITE.get(dtype, 1):.5g} to {contrast.high * WHITE.get(dtype, 1):.5g}"
        for dtype, contrast in stack.contrast.items()
    )
    counts = {"slice": stack.num_slices, "tile": sum(_num_tiles(file, stack) for file in stack.files)}
    work = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
    return f"{source}: {work}; {seen} seen as 0 to 1; all checks passed"


def _enlarge_file(file: SliceFile, sampler: "_Sampler", *, wants_picture: bool) -> Image.Image | None:
    """Write the results of one file; return the preview of its middle page, if wanted."""
    picture = None
    info = file.info.enlarged(sampler.method.scale)
    with ExitStack() as open_files:
        write = open_files.enter_context(write_slices(file.out, info))
        spread = replace(info, dtype=np.dtype(np.float32))
        write_std = open_files.enter_context(write_slices(file.std, spread)) if file.std else None
        for page, values in enumerate(read_slices(file.source)):
            result, deviation = sampler.enlarge(values)
            write(result)
            if write_std and deviation is not None:
                write_std(deviation)
            if wants_picture and page == info.num_pages // 2:
                contrast = sampler.stack.contrast[info.dtype]
                picture = _draw(values, result, deviation, contrast=contrast)
    return picture


class _Sampler:
    """The method on its device, with its noise and the count of its calls.

    Args:
        stack: what is enlarged, and how.
        files: those that are to be done.
        progress: called with the calls of the network done, and all, a call per tile and step.
    """

    def __init__(
        self, stack: Stack, files: list[SliceFile], progress: Callable[[int, int], None] | None
    ) -> None:
        self.stack, self.method, self.progress = stack, stack.method, progress
        self.method.network.to(stack.device).eval()
        self.noise = NoiseField(stack.options.seed)
        sampling = self.method.sampling
        self.calls = sampling.num_calls if sampling else 1
        self.done = 0
        self.total = sum(_num_tiles(file, stack) for file in files) * self.calls

    def enlarge(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Return a slice (H, W) enlarged, in its own type, and the standard deviation in its grey values."""
        contrast, grid = self.stack.contrast[values.dtype], self.stack.grids[values.shape]
        unit = WHITE.get(values.dtype, 1.0) * (contrast.high - contrast.low)
        result = np.empty((grid.height, grid.width), values.dtype)
        deviation = np.empty(result.shape, np.float32) if self.stack.options.samples > 1 else None
        for rows, drawn in self._draw_rows(contrast.to_model(to_unit(values)), grid):
            result[rows] = from_unit(contrast.from_model(np.mean(drawn, axis=0)), values.dtype)
            if deviation is not None:
                deviation[rows] = np.std(drawn, axis=0, ddof=1) * unit
        return result, deviation

    def _draw_rows(
        self, seen: NDArray[np.float32], grid: TileGrid
    ) -> Iterator[tuple[slice, list[NDArray[np.float64]]]]:
        """Yield, from top to bottom, rows of the result and every sample of them, (rows, W)."""
        blenders = [Blender(grid, 1) for _ in range(self.stack.options.samples)]
        work = list(product(range(len(blenders)), grid.lefts))
        for top, end in zip(grid.tops, (*grid.tops[1:], grid.height), strict=True):
            for blender in blenders:
                blender.start_row(top)
            for first in range(0, len(work), self.stack.batch):
                chunk = work[first : first + self.stack.batch]
                for (sample, left), tile in zip(chunk, self._restore(seen, grid, top, chunk), strict=True):
                    blenders[sample].add(left, tile)
            rows = slice(top, end)
            yield rows, [blender.blend(rows, slice(0, grid.width))[0] for blender in blenders]

    def _restore(
        self, seen: NDArray[np.float32], grid: TileGrid, top: int, chunk: list[tuple[int, int]]
    ) -> list[NDArray[np.float32]]:
        """Return (1, tile_height, tile_width) for each (sample, left); beyond [0, 1] it is bicubic."""
        scale, size = self.method.scale, (grid.tile_height, grid.tile_width)
        rows = reflect(top // scale, (top + size[0]) // scale, seen.shape[0])
        tiles = [
            seen[np.ix_(rows, reflect(left // scale, (left + size[1]) // scale, seen.shape[1]))]
            for _, left in chunk
        ]
        degraded = torch.from_numpy(np.stack(tiles))[:, None].to(self.stack.device)
        inside = degraded.clamp(0, 1)
        batch = Batch(
            degraded=inside,
            valid=torch.ones(len(chunk), 1, *size, dtype=torch.bool, device=degraded.device),
            key=tuple(f"row {top}, column {left}" for _, left in chunk),
        )
        noise = place_noise(self.noise, [(sample, top, left) for sample, left in chunk], *size)
        with self._counted(len(chunk)):
            restored = run_method(self.method, batch, precision=self.stack.options.precision, noise=noise)
        beyond = degraded - inside
        if beyond.any():
            restored = restored + enlarge(beyond, scale)
        return list(restored.cpu().numpy())

    @contextmanager
    def _counted(self, num_tiles: int) -> Iterator[None]:
        """Report each call of the network on so many tiles, and at last that they are done."""
        end = self.done + num_tiles * self.calls

        def count(*_: object) -> None:
            self._report(min(self.done + num_tiles, end))

        hook = self.method.network.register_forward_hook(count)
        try:
            yield
        finally:
            hook.remove()
        self._report(end)

    def _report(self, done: int) -> None:
        self.done = done
        if self.progress:
            self.progress(done, self.total)


class _Note:
    """Which slices of a folder are done, kept beside their results until all are; else it keeps nothing.

    Args:
        stack: what is enlarged; another model, other options or another brightness begin anew.
    """

    def __init__(self, stack: Stack) -> None:
        self.path = stack.out / NOTE if stack.is_folder else None
        self.key = stack.key() if stack.is_folder else ""
        self.done: dict[str, list[int]] = {}
        if self.path:
            for folder in (stack.out, stack.std):
                if folder:
                    folder.mkdir(exist_ok=True)
            if stack.options.resume:
                self._read(self.path)

    def holds(self, file: SliceFile) -> bool:
        """Whether the file is done, and since then neither it nor its results were touched."""
        results = all(path.exists() for path in (file.out, file.std) if path)
        return results and self.done.get(file.source.name) == _stamp(file)

    def add(self, file: SliceFile) -> None:
        """Note that the file is done."""
        if self.path:
            self.done[file.source.name] = _stamp(file)
            text = json.dumps({"key": self.key, "done": self.done})
            write_atomically(self.path, lambda path: path.write_text(text, encoding="utf-8"))

    def drop(self) -> None:
        """Remove the note: all is done."""
        if self.path:
            self.path.unlink(missing_ok=True)

    def _read(self, path: Path) -> None:
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            if note["key"] == self.key:
                self.done = dict(note["done"])
        except (OSError, ValueError, KeyError, TypeError):
            return  # no note, or one of no use: begin anew


def _stamp(file: SliceFile) -> list[int]:
    """Return size and time of the source and its results."""
    paths = [path for path in (file.source, file.out, file.std) if path]
    return [value for path in paths for value in (path.stat().st_size, path.stat().st_mtime_ns)]


def _num_tiles(file: SliceFile, stack: Stack) -> int:
    """Return the tiles of all pages and samples of a file."""
    return len(stack.grids[file.info.height, file.info.width]) * file.info.num_pages * stack.options.samples


def _draw(
    values: NDArray[Any],
    result: NDArray[Any],
    deviation: NDArray[np.float32] | None,
    *,
    contrast: Contrast,
) -> Image.Image:
    """Return bicubic, result and deviation side by side: the whole slice, and its centre at 100 %."""
    low, high = (torch.from_numpy(contrast.to_model(to_unit(x)))[None] for x in (values, result))
    images = [(enlarge(low[None], result.shape[0] // values.shape[0])[0], 1.0), (high, 1.0)]
    titles = ["bicubic", "result"]
    if deviation is not None:
        white = max(float(np.percentile(deviation, 99.9)), float(np.finfo(np.float32).tiny))
        images.append((torch.from_numpy(deviation)[None], white))
        titles = ["bicubic", "mean of the samples", f"standard deviation, white: {white:.4g}"]
    centre = [gray_to_rgb(_crop(image), white) for image, white in images]
    if max(result.shape) <= PANEL:
        return sheet([centre], titles, side=max(result.shape))
    whole = [gray_to_rgb(_shrink(image), white) for image, white in images]
    return sheet([whole, centre], titles, ["whole slice", "its centre at 100 %"], side=PANEL)


def _crop(image: Tensor) -> Tensor:
    """Return the central part of (1, H, W), at most `PANEL` a side."""
    top, left = (max(0, size - PANEL) // 2 for size in image.shape[1:])
    return image[:, top : top + PANEL, left : left + PANEL]


def _shrink(image: Tensor) -> Tensor:
    """Return (1, H, W) averaged so that the longer side is `PANEL`."""
    factor = max(image.shape[1:]) / PANEL
    height, width = (max(1, round(size / factor)) for size in image.shape[1:])
    return torch.nn.functional.adaptive_avg_pool2d(image, (height, width))
