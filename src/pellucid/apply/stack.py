"""Slices to enlarge, checked against the model before work starts, and where their results go."""

import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.apply.engine import Engine
from pellucid.apply.options import SliceOptions
from pellucid.apply.outputs import Output, check_outputs
from pellucid.data.array_stack import is_array
from pellucid.data.batch import Batch
from pellucid.data.files import check_folder
from pellucid.data.slice_file import ROUNDING, TIFF, SliceInfo, find_files, is_folder, read_info, read_slices
from pellucid.data.slice_writer import WRITABLE, check_output
from pellucid.data.tiles import TileGrid, reflect
from pellucid.errors import InputError
from pellucid.methods.method import Method, result_range
from pellucid.web.write_page import page_of

# Low-resolution pixels to each side in the bicubic kernel: Keys 1981, doi:10.1109/TASSP.1981.1163711.
KERNEL_REACH = 2
# Percentiles of the grey values, and what the model is to see in their place.
PERCENTILES, SEEN = (0.1, 99.9), (0.02, 0.98)
# Pixels from which the percentiles are taken.
SAMPLE = 2**22


@dataclass(frozen=True)
class Contrast:
    """The grey values that the model sees as 0 and 1, and those between which a result may lie."""

    low: float
    high: float
    lowest: float = -math.inf
    highest: float = math.inf

    def to_model(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Map grey values to what the model sees, without clipping."""
        return np.asarray((values.astype(np.float64) - self.low) / (self.high - self.low), np.float32)

    def from_model(self, values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Map back to grey values that the type can hold."""
        found = (self.low + values * (self.high - self.low)).clip(self.lowest, self.highest)
        return (found if dtype.kind == "f" else np.rint(found)).astype(dtype)


@dataclass(frozen=True)
class SliceFile:
    """A file of one or more slices, and where its results go."""

    source: Path
    info: SliceInfo  # what it holds
    out: Path
    std: Path | None  # the standard deviation of the samples; None where there is but one

    @property
    def results(self) -> tuple[Path, ...]:
        """All that is written."""
        return (self.out, self.std) if self.std else (self.out,)


def cut_slice(seen: NDArray[np.float32], grid: TileGrid, scale: int, top: int, left: int) -> Batch:
    """Return a tile of a slice, (H, W), as the model sees it, mirrored beyond the edges."""
    size = grid.tile_height, grid.tile_width
    at = (
        reflect(first // scale, (first + length) // scale, side)
        for first, length, side in zip((top, left), size, seen.shape, strict=True)
    )
    return Batch(
        degraded=torch.from_numpy(seen[np.ix_(*at)])[None, None],
        valid=torch.ones(1, 1, *size, dtype=torch.bool),
        key=(f"row {top}, column {left}",),
    )


class Stack:
    """The files to enlarge, all of them read once and checked, and how the model is to see them.

    Arguments as of `upscale`. `files` are in the order of their names, `grids` has the tiles by the size of a
    slice. `contrast`, by data type, is the same for all slices, so that a stack keeps its brightness.
    """

    def __init__(
        self, source: Path, out: Path, std: Path | None, method: Method, options: SliceOptions
    ) -> None:
        _check_method(method, options)
        self.engine, self.options = Engine(method, options, keep_samples=True), options
        self.method = self.engine.method
        _warn_of_one_step(self.method, options)
        out = out if out.name else out.resolve()  # "." has no name beside which the other files could lie
        # The parts of a volume make one file, wherever they lie.
        self.source, self.out, self.is_folder = source, out, is_folder(source) and not options.volume
        if options.volume and options.samples > 1:
            raise InputError(f"--samples is {options.samples}, of a volume one is drawn; leave it out")
        if std and options.samples < 2:
            raise InputError("a standard deviation needs several samples, 1 is drawn; add --samples 5")
        default = out.with_name(f"{out.name}_std" if self.is_folder else f"{out.stem}_std.tif")
        self.std = (std or default) if options.samples > 1 else None
        self.preview = out.with_name(f"{out.name if self.is_folder else out.stem}_preview.png")
        self.page = out.with_name(f"{out.name}.html") if self.is_folder else page_of(out)
        self.files = tuple(self._files())
        self._check_outputs()
        sizes = {(file.info.height, file.info.width) for file in self.files}
        self.grids = {size: self.grid(*size) for size in sizes}
        self.contrast = self._read_all()

    @property
    def has_page(self) -> bool:
        """Whether a page to look at is written."""
        return self.options.html

    @property
    def num_slices(self) -> int:
        """Slices in all files."""
        return sum(file.info.num_pages for file in self.files)

    @property
    def volume_info(self) -> SliceInfo:
        """Return what all slices together are, one upon the other; refuse what makes no volume."""
        first = self.files[0].info
        for file in self.files:
            if (file.info.height, file.info.width, file.info.dtype) != (
                first.height,
                first.width,
                first.dtype,
            ):
                raise InputError(
                    f"{file.source} and {self.files[0].source} differ in size or type, which the slices of a "
                    "volume share; move one of them away"
                )
        if self.num_slices < 2:
            raise InputError(f"{self.source} holds one slice, a volume has several; leave out --volume")
        return replace(first, num_pages=self.num_slices)

    def key(self) -> str:
        """Return a digest of everything on which a result depends, but for its own file."""
        return self.engine.key(sorted(map(repr, self.contrast.items())))

    def _files(self) -> Iterator[SliceFile]:
        """Yield the files of the source, with where their results go."""
        if not is_folder(self.source):
            yield SliceFile(self.source, read_info(self.source), self.out, self.std)
            return
        paths = sorted(find_files(self.source), key=_by_numbers)
        if self.options.volume:
            yield from (SliceFile(path, read_info(path), self.out, None) for path in paths)
            return
        for path in paths:
            # A format that is read but not written comes out as the one that keeps grey values best.
            suffix = ".tif" if is_array(path) else ".png"
            name = path.name if path.suffix.lower() in WRITABLE else f"{path.stem}{suffix}"
            std = self.std / f"{path.stem}.tif" if self.std else None
            yield SliceFile(path, read_info(path), self.out / name, std)

    def _check_outputs(self) -> None:
        """Refuse outputs that cannot be written, that replace an input, or each other."""
        for folder in filter(None, (self.out, self.std) if self.is_folder else ()):
            check_folder(folder, self.source, reason="a folder of slices is given")
        outputs, factor = [], self.method.scale
        results = [(file, file.info.enlarged(factor)) for file in self.files]
        if self.options.volume:
            results = [(self.files[0], self.volume_info.enlarged(factor, depth=factor))]
        for file, big in results:
            num_values = big.num_pages * big.height * big.width
            outputs.append(Output(file.out, file.source, num_values * big.dtype.itemsize))
            if file.std:
                outputs.append(Output(file.std, file.source, num_values * np.dtype(np.float32).itemsize))
        sources = [file.source for file in self.files]
        folders = [folder for folder in (self.out, self.std) if folder and self.is_folder]
        check_outputs(outputs, sources, folders=folders)
        wanted = {self.preview: self.options.preview, self.page: self.has_page}
        beside = [Output(path, self.source) for path, is_wanted in wanted.items() if is_wanted]
        check_outputs(beside, [*sources, *(output.path for output in outputs)])
        for file, big in results:
            check_output(file.out, big)
            if file.std and file.std.suffix.lower() not in TIFF:
                raise InputError(f"{file.std} cannot hold a standard deviation, name a .tif")

    def grid(self, height: int, width: int) -> TileGrid:
        """Return the tiles of an enlarged slice; what a kernel sees only in part is in their margins."""
        scale = self.method.scale
        return self.engine.grid(height * scale, width * scale, stride=scale, margin=KERNEL_REACH * scale)

    def _read_all(self) -> dict[np.dtype[Any], Contrast]:
        """Read every slice once, so that none stops the work later; return the contrast of each type."""
        chosen: dict[np.dtype[Any], list[NDArray[Any]]] = {}
        limits: dict[np.dtype[Any], tuple[float, float]] = {}
        sizes = (file.info.num_pages * file.info.height * file.info.width for file in self.files)
        step = math.ceil(math.sqrt(sum(sizes) / SAMPLE))
        for file in self.files:
            dtype = file.info.dtype
            for page, values in enumerate(read_slices(file.source, is_image=False)):
                known = values[~file.info.find_missing(values)]
                low, high = _find_limits(known, f"page {page} of {file.source}")
                before = limits.get(dtype, (math.inf, -math.inf))
                limits[dtype] = min(before[0], low), max(before[1], high)
                some = values[::step, ::step]
                chosen.setdefault(dtype, []).append(some[~file.info.find_missing(some)])
        return {dtype: self._contrast(dtype, parts, *limits[dtype]) for dtype, parts in chosen.items()}

    def _contrast(
        self, dtype: np.dtype[Any], parts: list[NDArray[Any]], lowest: float, highest: float
    ) -> Contrast:
        """Return the contrast of slices of a type, whose grey values lie between `lowest` and `highest`."""
        if dtype.kind == "f":
            within = (0.0 if lowest >= 0 else -math.inf, 1.0 if highest <= 1 + ROUNDING else math.inf)
        else:
            within = (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
        wanted = self.options.grey_range or ("full" if dtype == np.uint8 else "auto")
        if wanted == "full":
            full = (0.0, 1.0) if dtype.kind == "f" else within
            if lowest < full[0] - ROUNDING or highest > full[1] + ROUNDING:
                raise InputError(
                    f"{self.source} holds values from {lowest:.9g} to {highest:.9g}, --range full means 0 to "
                    "1 in floating point; leave it out, or give two grey values"
                )
            return Contrast(*full, *within)
        if wanted != "auto":
            return Contrast(*wanted, *within)
        known = np.concatenate(parts)
        low, high = map(float, np.percentile(known, PERCENTILES)) if known.size else (0.0, 1.0)
        if low == high and lowest < highest:
            low, high = lowest, highest
        span = (high - low) / (SEEN[1] - SEEN[0])
        start = low - SEEN[0] * span
        return Contrast(start, start + (span or 1.0), *within)


def _by_numbers(path: Path) -> tuple[list[int | str], str]:
    """Return what sorts files by their names and the numbers in these: slice 2 before slice 10."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], path.name


def _find_limits(known: NDArray[Any], name: str) -> tuple[float, float]:
    """Return the lowest and highest of the grey values that are known, if any is; refuse infinite ones."""
    if known.dtype.kind == "f" and np.isinf(known).any():
        raise InputError(f"{name} holds infinite values; give finite ones, or NaN where there is no data")
    return (float(known.min()), float(known.max())) if known.size else (math.inf, -math.inf)


def _check_method(method: Method, options: SliceOptions) -> None:
    """Refuse a model that does not enlarge slices, or not as asked."""
    if method.optical.kind != "slice":
        raise InputError(
            f"the model restores {', '.join(result_range(method).bands)}, a slice has grey values alone; "
            "choose a model for slices with --model"
        )
    factor = options.factor or method.scale
    if factor != method.scale or factor < 2:
        found = f"makes slices {method.scale} times larger" if method.scale > 1 else "does not enlarge"
        way_out = f"use --factor {method.scale}, or choose" if method.scale > 1 else "choose"
        raise InputError(f"the model {found}, the factor asked for is {factor}; {way_out} another --model")
    if isinstance(options.grey_range, tuple) and not options.grey_range[0] < options.grey_range[1]:
        low, high = options.grey_range
        raise InputError(f"the range is {low:g},{high:g}, but LOW must lie below HIGH; swap them")


def _warn_of_one_step(method: Method, options: SliceOptions) -> None:
    sampling = method.sampling
    if options.samples > 1 and sampling is not None and sampling.steps == 1:
        warnings.warn(
            "one step gives nearly the same image for every sample, so their spread says little; "
            "add --steps 10",
            stacklevel=2,
        )
