"""Radar in, pictures in colour out: of any size, without seams, conditioned on a prompt."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pellucid.apply.color_jobs import SHEET, ColorJob, NamedPrompt, plan
from pellucid.apply.engine import Engine, Progress
from pellucid.apply.options import PictureOptions
from pellucid.apply.outputs import can_go_on
from pellucid.apply.picture_page import find_page, write_picture_page
from pellucid.apply.provenance import is_current, say_made_anew, tag_of_engine
from pellucid.data.batch import Batch
from pellucid.data.claims import claim_files, claim_folders
from pellucid.data.drawing import color_to_rgb, gray_to_rgb, save_picture, sheet, spread
from pellucid.data.radar_picture import (
    OPAQUE,
    RadarPicture,
    read_color_picture,
    read_radar_picture,
    read_tone,
    set_tone,
    write_color_picture,
)
from pellucid.data.ranges import PICTURE
from pellucid.data.slice_file import from_unit
from pellucid.data.tiles import reflect
from pellucid.errors import InputError
from pellucid.methods.inference import warn_of_unknown
from pellucid.methods.method import Method
from pellucid.methods.tones import expected_tone

# Side in pixels of a panel of the overview, and how many pictures it shows.
PANEL, NUM_SHOWN = 256, 20


@dataclass(frozen=True)
class ColorizeReport:
    """What was done."""

    out: Path  # the picture, or the folder of several
    sheet: Path | None  # the overview of a folder
    num_done: int  # pictures made now
    num_skipped: int  # those that were there
    seconds: float
    page: Path | None = None  # to look at in a browser, of one radar


def colorize_file(
    source: Path | str,
    out: Path | str,
    *,
    method: Method,
    prompt: str = "",
    guess: Path | str | None = None,
    tone: Path | str | None = None,
    options: PictureOptions | None = None,
    progress: Progress | None = None,
) -> ColorizeReport:
    """Write a radar image as a picture in colour; input that is refused leaves nothing.

    Args:
        source: grey picture (PNG, JPEG, TIFF), or GeoTIFF of 8 bit or in dB.
        out: the picture; its suffix names the format, and a TIFF keeps the georeference.
        method: what colorizes.
        prompt: the text on which the picture is conditioned.
        guess: picture in colour of the same size, from which sampling starts at a strength below 1.
        tone: picture in colour, of any size and place, whose mean colour the result gets.
        options: see `PictureOptions`; what is at `out` is replaced.
        progress: called with what is done and all there is to do, counted in tiles.
    """
    if prompt:
        check_takes_text(method)
    prompts, guess = [NamedPrompt(prompt)], Path(guess) if guess else None
    jobs = plan(Path(source), Path(out), prompts=prompts, guess=guess, tone=Path(tone) if tone else None)
    return colorize_all(jobs, Path(out), method=method, options=options, progress=progress)


def colorize_all(
    jobs: Sequence[ColorJob],
    out: Path,
    *,
    method: Method,
    options: PictureOptions | None = None,
    progress: Progress | None = None,
) -> ColorizeReport:
    """Make the pictures that are not there yet, and, of a folder, an overview; see `colorize_file`.

    The jobs come from `pellucid.apply.color_jobs.plan`, those of one radar in a row. `out` is the one
    picture, or the folder of the results, made if it is missing.
    """
    start, options = time.monotonic(), options or PictureOptions()
    colorizer = Colorizer(jobs, method, options)
    is_folder = jobs[0].out != out
    page = find_page(jobs, out) if options.html else None
    claim = claim_folders if is_folder else claim_files
    with claim(out), claim_files(None if is_folder else page), can_go_on(is_kept=is_folder):
        pending = colorizer.pending(out)
        colorizer.run(pending, progress)
        overview = out / SHEET if is_folder else None
        if overview:
            save_picture(colorizer.draw_sheet(), overview)
        if page:
            write_picture_page(page, jobs)
    counts = len(pending), len(jobs) - len(pending)
    return ColorizeReport(out, overview, *counts, time.monotonic() - start, page)


class Colorizer:
    """The method on its device, and all pictures that are to be made, or were, read once and checked.

    `grids` says what of each radar image is restored as one image.
    """

    def __init__(self, jobs: Sequence[ColorJob], method: Method, options: PictureOptions) -> None:
        self.jobs, self.sar_units, self.force = jobs, options.sar_units, options.force
        check_colorizer(method)
        warn_of_unknown(method, (job.prompt for job in jobs))
        self.engine = Engine(method, options, joint=True)
        self.method = self.engine.method
        sampling = self.method.sampling
        if any(job.guess for job in jobs) and (sampling is None or sampling.strength == 1):
            raise InputError(
                "--guess has no effect where sampling starts from noise alone; add --strength 0.8, or leave "
                "it out"
            )
        self.tones = {tone: read_tone(tone) for tone in {job.tone for job in jobs} if tone}
        first = {job.radar: job for job in reversed(jobs)}  # all that share a radar share what belongs to it
        self.grids = {radar: self.engine.grid(*self._check_source(job)) for radar, job in first.items()}

    def pending(self, out: Path) -> list[ColorJob]:
        """Return what is to be made: in a folder, what does not stand there; say if that replaces something.

        `out` is the one picture, or the folder.
        """
        if self.force or self.jobs[0].out == out:
            return list(self.jobs)
        pending = [job for job in self.jobs if not is_current(job.out, self._tags(job), job.inputs)]
        say_made_anew(sum(job.out.exists() for job in pending))
        return pending

    def describe(self, out: Path) -> str:
        """Return a line about what there is to do for `out`, the one picture or the folder."""
        pending = self.pending(out)
        images, tiles = len(pending), sum(self._num_tiles(job) for job in pending)
        return f"{images} picture{'s' * (images != 1)}, {tiles} tile{'s' * (tiles != 1)}; all checks passed"

    def run(self, jobs: Sequence[ColorJob], progress: Progress | None = None) -> None:
        """Make these pictures."""
        done, total = 0, sum(self._num_tiles(job) for job in jobs)

        def report(share: float, job: ColorJob) -> None:
            if progress:
                progress(done + share * self._num_tiles(job), total)

        for _, each in groupby(jobs, key=lambda job: job.radar):
            same = list(each)
            radar = self._read(same[0])
            for job in same:
                picture = self._colorize(radar, job, partial(report, job=job))
                write_color_picture(job.out, picture, radar, self._tags(job))
                done += self._num_tiles(job)

    def _tags(self, job: ColorJob) -> dict[str, str]:
        inputs = {"radar": job.source, "guess": job.guess, "tone": job.tone}
        return tag_of_engine("colorize", self.engine, inputs, prompt=job.prompt or None)

    def _colorize(
        self, radar: RadarPicture, job: ColorJob, report: Callable[[float], None]
    ) -> NDArray[np.uint8]:
        """Return the picture, (H, W, 3); `report` is called with the share that is done."""
        guess = read_color_picture(job.guess) if job.guess else None
        grid = self.grids[job.radar]
        result = np.empty((grid.height, grid.width, 3), np.uint8)
        cut = partial(self._cut, radar, guess, job)
        with closing(self.engine.run(grid, cut, progress=lambda done, all_: report(done / all_))) as pieces:
            for piece in pieces:
                picture = from_unit(piece.samples.mean(axis=0), np.uint8)
                result[piece.rows, piece.columns] = np.moveaxis(picture, 0, -1)
        if job.tone:
            set_tone(result, self.tones[job.tone], radar.valid)
        elif radar.valid.any():
            drawn = result[radar.valid].mean(axis=0) / OPAQUE
            tone = expected_tone(self.method, torch.from_numpy(radar.sar)[None], drawn.tolist())
            if tone:
                set_tone(result, np.array(tone, np.float32), radar.valid)
        return result

    def draw_sheet(self) -> Image.Image:
        """Return an overview of radar, results and, where there are such, truths."""
        groups = [list(each) for _, each in groupby(self.jobs, key=lambda job: job.radar)]
        shown = [groups[at] for at in spread(NUM_SHOWN, len(groups))]
        titles = ["radar", *(job.label for job in shown[0]), *(["truth"] if shown[0][0].truth else [])]
        rows = [self._panels(jobs) for jobs in shown]
        return sheet(rows, titles, [jobs[0].name for jobs in shown], side=PANEL)

    def _num_tiles(self, job: ColorJob) -> int:
        return self.engine.num_tiles(self.grids[job.radar])

    def _cut(
        self, radar: RadarPicture, guess: NDArray[np.float32] | None, job: ColorJob, top: int, left: int
    ) -> Batch:
        """Return a window, mirrored beyond the edges; without a guess, the radar stands for it, in grey."""
        grid, (height, width) = self.grids[job.radar], radar.valid.shape
        rows = reflect(top, top + grid.tile_height, height)
        columns = reflect(left, left + grid.tile_width, width)
        sar, degraded = (
            torch.from_numpy(image[:, rows[:, None], columns])[None]
            for image in (radar.sar, radar.sar if guess is None else guess)
        )
        if guess is None:
            degraded = sar.mean(1, keepdim=True).expand(-1, len(self.method.optical.bands), -1, -1)
        return Batch(
            degraded=degraded,
            sar=sar,
            valid=torch.ones_like(sar[:, :1], dtype=torch.bool),
            key=(f"{job.source.name}, row {top}, column {left}",),
            prompt=(job.prompt,) if self.method.takes_text else None,
        )

    def _panels(self, jobs: Sequence[ColorJob]) -> list[NDArray[np.uint8]]:
        radar = self._read(jobs[0])
        files = [job.out for job in jobs] + [job.truth for job in jobs[:1] if job.truth]
        colors = (color_to_rgb(torch.from_numpy(read_color_picture(file))) for file in files)
        return [gray_to_rgb(torch.from_numpy(radar.sar)), *colors]

    def _read(self, job: ColorJob) -> RadarPicture:
        return read_radar_picture(job.source, self.method.radar, job.page, units=self.sar_units)

    def _check_source(self, job: ColorJob) -> tuple[int, int]:
        """Return rows and columns of a radar image; of a pair or a guess, refuse other ones."""
        height, width = self._read(job).valid.shape
        for path in (job.guess, job.truth):
            if path and (shape := read_color_picture(path).shape[1:]) != (height, width):
                raise InputError(
                    f"{job.source} has {height} x {width} pixels and {path} {shape[0]} x {shape[1]}, both "
                    "must show the same place; resize one"
                )
        return height, width


def check_colorizer(method: Method) -> None:
    """Refuse a model that does not turn radar into pictures in colour."""
    if method.optical.bands != PICTURE.bands or not method.radar.bands or method.scale != 1:
        raise InputError(
            "this model does not turn radar into pictures in colour (red, green and blue); choose another "
            "--model"
        )
    if method.takes_text and method.tokenizer is None:
        raise InputError(
            "this model takes text, but has no tokenizer; put the tokenizer.json of its training into the run"
        )


def check_takes_text(method: Method) -> None:
    """Refuse a model that takes no text, where some is given."""
    if not method.takes_text:
        raise InputError(
            "this model takes no text; leave out prompt, regions and seasons, or choose another --model"
        )
