"""Slices in, larger slices out: tiles without seams, the same noise for a whole stack, mean and spread."""

import math
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pellucid.apply.engine import Progress
from pellucid.apply.options import SliceOptions
from pellucid.apply.outputs import Done, can_go_on
from pellucid.apply.provenance import tag_of_engine
from pellucid.apply.stack import Contrast, SliceFile, Stack, cut_slice
from pellucid.apply.stack_page import write_stack_page
from pellucid.apply.volume import Volume, write_volume
from pellucid.data.claims import claim_files, claim_folders
from pellucid.data.drawing import gray_to_rgb, save_picture, sheet
from pellucid.data.geotiff import avoid_nodata
from pellucid.data.ownership import PREFIX
from pellucid.data.resample import enlarge, fill_gaps
from pellucid.data.scene_layers import LAYERS
from pellucid.data.slice_file import SliceInfo, read_slices
from pellucid.data.slice_writer import write_slices
from pellucid.data.working_file import explain_write_error
from pellucid.methods.method import Method

# Longer side in pixels of a panel of the preview.
PANEL = 512
# Beside the results of a folder while the work is not done: which slices are, and from what.
NOTE = ".upscale.partial.json"


@dataclass(frozen=True)
class UpscaleReport:
    """What was done."""

    out: Path  # the enlarged file, or the folder of such
    std: Path | None  # likewise the standard deviations, if several samples were drawn
    preview: Path | None  # the PNG, if wanted and anything was done
    num_slices: int  # enlarged now
    num_skipped: int  # finished by an earlier, interrupted call
    seconds: float
    page: Path | None = None  # to look at in a browser


def upscale(
    source: Path | str,
    out: Path | str,
    *,
    method: Method,
    std: Path | str | None = None,
    options: SliceOptions | None = None,
    progress: Progress | None = None,
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
        options: see `SliceOptions`.
        progress: called with what is done and all there is to do, counted in tiles.
    """
    start, options = time.monotonic(), options or SliceOptions()
    stack = Stack(Path(source), Path(out), Path(std) if std else None, method, options)
    preview, page = stack.preview if options.preview else None, stack.page if stack.has_page else None
    claim = claim_folders if stack.is_folder else claim_files
    with claim(stack.out, stack.std), claim_files(preview, page), can_go_on(is_kept=stack.is_folder):
        if options.volume:
            pending = write_volume(stack, _tags(stack.files[0], stack), preview, progress)
        else:
            pending = _enlarge_all(stack, preview, progress)
        if page:
            write_stack_page(page, stack)
    num_slices = sum(file.info.num_pages for file in pending)
    counts = num_slices, stack.num_slices - num_slices
    preview = preview if pending else None
    return UpscaleReport(stack.out, stack.std, preview, *counts, seconds=time.monotonic() - start, page=page)


def _enlarge_all(stack: Stack, preview: Path | None, progress: Progress | None) -> list[SliceFile]:
    """Write the results that an earlier call has not finished, and return their files."""
    note = stack.out / NOTE if stack.is_folder else None
    done = Done(note, stack.key() if note else "", resume=stack.options.resume)
    shown = stack.files[len(stack.files) // 2]
    results = {
        file: (*file.results, *([preview] if preview and file is shown else [])) for file in stack.files
    }
    pending = [file for file in stack.files if not done.holds(file.source, results[file])]
    sampler = _Sampler(stack, pending, progress)
    for file in pending:
        try:
            picture = _enlarge_file(file, sampler, wants_picture=bool(preview) and file is shown)
        except OSError as error:
            raise explain_write_error(file.out, error) from error
        if picture and preview:
            save_picture(picture, preview)
        done.add(file.source, results[file])
    done.drop()
    return pending


def check_upscale(
    source: Path | str,
    out: Path | str,
    *,
    method: Method,
    std: Path | str | None = None,
    options: SliceOptions | None = None,
) -> str:
    """Return a line about what `upscale` with the same arguments would do, after all its checks."""
    stack = Stack(Path(source), Path(out), Path(std) if std else None, method, options or SliceOptions())
    seen = ", ".join(
        f"{dtype} from {contrast.low:.5g} to {contrast.high:.5g}"
        for dtype, contrast in stack.contrast.items()
    )
    num_tiles = sum(_num_tiles(file, stack) for file in stack.files) * stack.options.samples
    if stack.options.volume:
        num_tiles = Volume(stack).num_tiles
    counts = {"slice": stack.num_slices, "tile": num_tiles}
    work = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
    return f"{source}: {work}; {seen} seen as 0 to 1; all checks passed"


def _enlarge_file(file: SliceFile, sampler: "_Sampler", *, wants_picture: bool) -> Image.Image | None:
    """Write the results of one file; return the preview of its middle page, if wanted."""
    picture = None
    info = file.info.enlarged(sampler.stack.method.scale)
    with ExitStack() as open_files:
        tags = _tags(file, sampler.stack)
        write = open_files.enter_context(write_slices(file.out, info, tags))
        nodata = None if info.nodata is None else math.nan
        spread = replace(
            info, dtype=np.dtype(np.float32), nodata=nodata, scaling=(info.scaling[0], 0.0)
        )  # a difference of grey values
        tags = tags | {f"{PREFIX}LAYER": LAYERS["std"]}
        write_std = open_files.enter_context(write_slices(file.std, spread, tags)) if file.std else None
        for page, values in enumerate(read_slices(file.source, is_image=False)):
            result, deviation = sampler.enlarge(values, info)
            write(result)
            if write_std and deviation is not None:
                write_std(deviation)
            if wants_picture and page == info.num_pages // 2:
                low, high = (np.where(info.find_missing(x), np.nan, x) for x in (values, result))
                picture = _draw(low, high, deviation, sampler.stack.contrast[info.dtype])
    return picture


def _tags(file: SliceFile, stack: Stack) -> dict[str, str]:
    """Return what made the result of a file; the grey values that the model saw are those of its stack."""
    contrast = stack.contrast[file.info.dtype]
    seen = contrast.low, contrast.high
    return tag_of_engine("upscale", stack.engine, {"slices": file.source}, grey_range=seen)


class _Sampler:
    """Enlarges slice after slice of the files that are to be done, and counts their tiles."""

    def __init__(self, stack: Stack, files: list[SliceFile], progress: Progress | None) -> None:
        self.stack, self.progress = stack, progress
        self.done, self.total = 0, sum(_num_tiles(file, stack) for file in files)

    def enlarge(
        self, values: NDArray[Any], info: SliceInfo
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Return a slice (H, W) enlarged, in its own type, and the standard deviation in its grey values.

        A slice of one grey value stays so, and where there is no data, the result has none.
        """
        contrast, grid = self.stack.contrast[values.dtype], self.stack.grids[values.shape]
        missing = info.find_missing(values)
        known = values[~missing] if missing.any() else values
        result = np.full((grid.height, grid.width), known.flat[0] if known.size else 0, values.dtype)
        deviation = np.zeros(result.shape, np.float32) if self.stack.options.samples > 1 else None
        if known.size and known.min() < known.max():
            seen = fill_gaps(contrast.to_model(values)[None], ~missing)[0]
            cut = partial(cut_slice, seen, grid, self.stack.method.scale)
            with closing(self.stack.engine.run(grid, cut, progress=self._report)) as pieces:
                for piece in pieces:
                    rows, columns, drawn = piece.rows, piece.columns, piece.samples[:, 0]
                    result[rows, columns] = contrast.from_model(np.mean(drawn, axis=0), values.dtype)
                    if deviation is not None:
                        spread = np.std(drawn, axis=0, ddof=1) * (contrast.high - contrast.low)
                        deviation[rows, columns] = spread
        elif self.progress:
            self.progress(self.done + len(grid), self.total)
        self.done += len(grid)
        avoid_nodata(result, info.nodata)
        if missing.any():
            factor = self.stack.method.scale
            hidden = missing.repeat(factor, 0).repeat(factor, 1)
            result[hidden] = np.nan if info.nodata is None else info.nodata
            if deviation is not None:
                deviation[hidden] = np.nan
        return result, deviation

    def _report(self, done: float, _: int) -> None:
        if self.progress:
            self.progress(self.done + done, self.total)


def _num_tiles(file: SliceFile, stack: Stack) -> int:
    return len(stack.grids[file.info.height, file.info.width]) * file.info.num_pages


def _draw(
    values: NDArray[Any], result: NDArray[Any], deviation: NDArray[np.float32] | None, contrast: Contrast
) -> Image.Image:
    """Return bicubic, result and deviation side by side: the whole slice, and its centre at 100 %."""
    low, high = (torch.from_numpy(np.nan_to_num(contrast.to_model(x)))[None] for x in (values, result))
    images = [(enlarge(low[None], result.shape[0] // values.shape[0])[0], 1.0), (high, 1.0)]
    titles = ["bicubic", "result"]
    if deviation is not None:
        deviation = np.nan_to_num(deviation)
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
