"""Radar in, pictures in colour out: of any size, without seams, by the word of a prompt."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pellucid.apply.color_jobs import SHEET, ColorJob, Wish, plan
from pellucid.apply.color_options import (
    ColorizeOptions,
    check_colorizer,
    check_takes_text,
    choose_sampling,
    warn_of_unknown,
)
from pellucid.apply.joint_tiles import Tiling, tiled
from pellucid.data.batch import Batch
from pellucid.data.drawing import color_to_rgb, gray_to_rgb, save_picture, sheet, spread
from pellucid.data.radar_picture import (
    RadarPicture,
    read_color_picture,
    read_radar_picture,
    write_color_picture,
)
from pellucid.data.slice_file import from_unit
from pellucid.data.tiles import Blender, TileGrid, reflect
from pellucid.errors import InputError
from pellucid.generative.noise import NoiseField
from pellucid.methods.generative import Generative
from pellucid.methods.inference import choose_device, place_noise, run_method, tiles_at_once
from pellucid.methods.method import Method

# Side in pixels of what is sampled as one image; of a larger one memory could not hold all.
WINDOW = 4096
# Side in pixels of a panel of the overview, and how many pictures it shows.
PANEL, NUM_SHOWN = 256, 20


@dataclass(frozen=True)
class ColorizeReport:
    """What was done.

    Attributes:
        out: the picture, or the folder of several.
        sheet: the overview of a folder.
        num_done: pictures made now.
        num_skipped: those that were there.
        seconds: time taken.
    """

    out: Path
    sheet: Path | None
    num_done: int
    num_skipped: int
    seconds: float


def colorize_file(
    source: Path | str,
    out: Path | str,
    *,
    method: Method,
    prompt: str = "",
    guess: Path | str | None = None,
    options: ColorizeOptions | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> ColorizeReport:
    """Write a radar image as a picture in colour.

    Args:
        source: grey picture (PNG, JPEG, TIFF), or GeoTIFF of 8 bit or in dB.
        out: the picture; its suffix names the format, and a TIFF keeps the georeference.
        method: what colorizes.
        prompt: what is to be seen.
        guess: picture in colour of the same size, from which sampling starts at a strength below 1.
        options: see `ColorizeOptions`; what is at `out` is replaced.
        progress: called with what is done and all there is to do, counted in tiles and steps.

    Raises:
        InputError: for any input that cannot be used; nothing is written then.
    """
    if prompt:
        check_takes_text(method)
    wishes, guess = [Wish(prompt)], Path(guess) if guess else None
    jobs = plan(Path(source), Path(out), wishes=wishes, guess=guess)
    options = replace(options or ColorizeOptions(), force=True)
    return colorize_all(jobs, Path(out), method=method, options=options, progress=progress)


def colorize_all(
    jobs: Sequence[ColorJob],
    out: Path,
    *,
    method: Method,
    options: ColorizeOptions | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> ColorizeReport:
    """Make the pictures that are not there yet, and, of a folder, an overview.

    Args:
        jobs: see `pellucid.apply.color_jobs.plan`; those of one source in a row.
        out: the one picture, or the folder of the results, made if it is missing.
        method: what colorizes.
        options: see `ColorizeOptions`.
        progress: called with what is done and all there is to do, counted in tiles and steps.

    Raises:
        InputError: for any input that cannot be used; nothing is written then.
    """
    start, options = time.monotonic(), options or ColorizeOptions()
    colorizer = Colorizer(jobs, method, options)
    pending = [job for job in jobs if options.force or not job.out.exists()]
    is_folder = jobs[0].out != out
    if is_folder:
        out.mkdir(exist_ok=True)
    colorizer.run(pending, progress)
    overview = out / SHEET if is_folder else None
    if overview:
        save_picture(colorizer.draw_sheet(), overview)
    num_skipped = len(jobs) - len(pending)
    return ColorizeReport(out, overview, len(pending), num_skipped, time.monotonic() - start)


class Colorizer:
    """The method on its device, and all pictures, read once and checked.

    Args:
        jobs: what is to be made, or was.
        method: what colorizes.
        options: see `ColorizeOptions`.

    Attributes:
        method: with the options' sampling.

    Raises:
        InputError: for anything that cannot be used.
    """

    def __init__(self, jobs: Sequence[ColorJob], method: Method, options: ColorizeOptions) -> None:
        self.jobs, self.options = jobs, options
        check_colorizer(method)
        warn_of_unknown(method, (job.prompt for job in jobs))
        self.method = choose_sampling(method, options)
        self.device = choose_device(options.device)
        self.tiling = Tiling(options.tile, options.overlap, tiles_at_once(options.batch, self.device))
        self.noise = NoiseField(options.seed)
        try:
            self.tiling.grid(options.tile, options.tile, stride=method.stride)
        except ValueError as error:
            raise InputError(str(error)) from error
        self._check_guesses()
        first = {job.source: job for job in reversed(jobs)}  # all that share a radar share what belongs to it
        self.sizes = {source: self._check_source(job) for source, job in first.items()}
        self.done = 0.0

    def describe(self) -> str:
        """Return a line about what there is to do."""
        images, tiles = len(self.jobs), sum(self._num_tiles(job) for job in self.jobs)
        return f"{images} picture{'s' * (images != 1)}, {tiles} tile{'s' * (tiles != 1)}; all checks passed"

    def run(self, jobs: Sequence[ColorJob], progress: Callable[[float, int], None] | None = None) -> None:
        """Make these pictures.

        Raises:
            InputError: if the memory does not suffice, or a file cannot be written.
        """
        self.method.network.to(self.device).eval()
        self.done, total = 0.0, sum(self._num_tiles(job) for job in jobs)

        def report(num_tiles: float) -> None:
            self.done += num_tiles
            if progress:
                progress(self.done, total)

        for source, each in groupby(jobs, key=lambda job: job.source):
            radar = read_radar_picture(source, self.method.radar)
            for job in each:
                write_color_picture(job.out, self.colorize(radar, job, report), radar)

    def colorize(
        self, radar: RadarPicture, job: ColorJob, report: Callable[[float], None] = lambda _: None
    ) -> NDArray[np.uint8]:
        """Return the picture, (H, W, 3); `report` is told of tiles, or parts of them, as they are done."""
        guess = read_color_picture(job.guess) if job.guess else None
        height, width = radar.valid.shape
        result, grid = np.empty((height, width, 3), np.uint8), self._windows(height, width)
        blender = Blender(grid, 3)
        for top, end in zip(grid.tops, (*grid.tops[1:], height), strict=True):
            blender.start_row(top)
            for left in grid.lefts:
                batch = self._cut(radar, guess, job, grid, top, left)
                with self._counted(report, len(self._tiles(grid))):
                    blender.add(left, self._restore(batch, top, left))
            values = blender.blend(slice(top, end), slice(0, width))
            result[top:end] = np.moveaxis(from_unit(values, np.uint8), 0, -1)
        return result

    def draw_sheet(self) -> Image.Image:
        """Return an overview of radar, results and, where there are such, truths."""
        groups = [list(each) for _, each in groupby(self.jobs, key=lambda job: job.source)]
        shown = [groups[at] for at in spread(NUM_SHOWN, len(groups))]
        first = shown[0]
        truth = ["truth"] if first[0].truth else []
        titles = ["radar", *(job.label for job in first), *truth]
        rows = [self._panels(jobs) for jobs in shown]
        return sheet(rows, titles, [jobs[0].name for jobs in shown], side=PANEL)

    @cached_property
    def _joint(self) -> Method:
        """The method, as it restores a whole window."""
        return tiled(self.method, self.tiling) if isinstance(self.method, Generative) else self.method

    def _windows(self, height: int, width: int) -> TileGrid:
        """Return what is restored as one image: all, unless it is huge, or the method takes tiles alone."""
        stride, tile, overlap = self.method.stride, self.tiling.tile, self.tiling.overlap
        if isinstance(self.method, Generative):
            tile, overlap = max(WINDOW // stride * stride, 2 * tile), tile
        return TileGrid(height, width, tile, overlap, stride)

    def _tiles(self, windows: TileGrid) -> TileGrid:
        """Return the tiles of a window."""
        return self.tiling.grid(windows.tile_height, windows.tile_width, stride=self.method.stride)

    def _num_tiles(self, job: ColorJob) -> int:
        windows = self._windows(*self.sizes[job.source])
        return len(windows) * len(self._tiles(windows))

    def _cut(
        self,
        radar: RadarPicture,
        guess: NDArray[np.float32] | None,
        job: ColorJob,
        grid: TileGrid,
        top: int,
        left: int,
    ) -> Batch:
        """Return a window, mirrored beyond the edges; without a guess, the radar stands for it, in grey."""
        height, width = radar.valid.shape
        rows = reflect(top, top + grid.tile_height, height)
        columns = reflect(left, left + grid.tile_width, width)
        sar, seen = (
            torch.from_numpy(image[:, rows[:, None], columns])[None]
            for image in (radar.sar, radar.sar if guess is None else guess)
        )
        bands = len(self.method.optical.bands)
        degraded = seen.mean(1, keepdim=True).expand(-1, bands, -1, -1) if guess is None else seen
        return Batch(
            degraded=degraded,
            sar=sar,
            valid=torch.ones_like(sar[:, :1], dtype=torch.bool),
            key=(f"{job.source.name}, row {top}, column {left}",),
            prompt=(job.prompt,) if self.method.takes_text else None,
        ).to(self.device)

    def _restore(self, batch: Batch, top: int, left: int) -> NDArray[np.float32]:
        noise = place_noise(self.noise, [(0, top, left)], *batch.valid.shape[-2:])
        restored = run_method(self._joint, batch, precision=self.options.precision, noise=noise)
        return restored[0].cpu().numpy()

    @contextmanager
    def _counted(self, report: Callable[[float], None], num_tiles: int) -> Iterator[None]:
        """Report each call of the network as its share of so many tiles, and at last that they are done."""
        sampling = self.method.sampling
        calls, left = sampling.num_calls if sampling else 1, float(num_tiles)

        def count(_: object, inputs: tuple[Any, ...], __: object) -> None:
            nonlocal left
            done = min(len(inputs[0]) / calls, left)
            left -= done
            report(done)

        hook = self.method.network.register_forward_hook(count)
        try:
            yield
        finally:
            hook.remove()
        report(left)

    def _panels(self, jobs: Sequence[ColorJob]) -> list[NDArray[np.uint8]]:
        radar = read_radar_picture(jobs[0].source, self.method.radar)
        files = [job.out for job in jobs] + [job.truth for job in jobs[:1] if job.truth]
        colors = (color_to_rgb(torch.from_numpy(read_color_picture(file))) for file in files)
        return [gray_to_rgb(torch.from_numpy(radar.sar)), *colors]

    def _check_source(self, job: ColorJob) -> tuple[int, int]:
        """Return rows and columns of a radar image; of a pair or a guess, refuse other ones."""
        height, width = read_radar_picture(job.source, self.method.radar).valid.shape
        for path in (job.guess, job.truth):
            if path and (shape := read_color_picture(path).shape[1:]) != (height, width):
                raise InputError(
                    f"{job.source} has {height} x {width} pixels and {path} {shape[0]} x {shape[1]}, both "
                    "must show the same place; resize one"
                )
        return height, width

    def _check_guesses(self) -> None:
        sampling = self.method.sampling
        if any(job.guess for job in self.jobs) and (sampling is None or sampling.strength == 1):
            raise InputError(
                "--guess has no effect where sampling starts from noise alone; add --strength 0.8, or leave "
                "it out"
            )
