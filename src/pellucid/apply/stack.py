"""Slices to enlarge, checked against the model before work starts, and where their results go."""

import hashlib
import math
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.data.files import check_folder, check_writable
from pellucid.data.slice_file import TIFF, WHITE, SliceInfo, find_files, read_info, read_slices, to_unit
from pellucid.data.slice_writer import WRITABLE, check_output
from pellucid.data.tiles import TileGrid
from pellucid.errors import InputError
from pellucid.methods.inference import check_samples, choose_device, digest_method, tiles_at_once
from pellucid.methods.method import Method, result_range
from pellucid.methods.sampling import with_sampling

# Low-resolution pixels, to each side, that the bicubic kernel touches: Keys 1981,
# doi:10.1109/TASSP.1981.1163711.
KERNEL_REACH = 2
# Percentiles of the grey values, and what the model is to see in their place.
PERCENTILES, SEEN = (0.1, 99.9), (0.02, 0.98)
# Pixels from which the percentiles are taken.
SAMPLE = 2**22

GreyRange = Literal["full", "auto"] | tuple[float, float]


@dataclass(frozen=True)
class UpscaleOptions:
    """How slices are enlarged.

    Attributes:
        factor: how many times larger each side becomes; None: what the model was trained for.
        steps: of the sampler; None: as the model's config says.
        eta: fresh noise per step, from 0, deterministic, to 1; None: as the config says.
        samples: images that are drawn per slice; the result is their mean.
        seed: the same seed gives the same image.
        tile: side of a tile, in pixels of the result; a multiple of the factor and the method's stride.
        overlap: pixels of the result over which neighbouring tiles blend, at least.
        batch: tiles that are sampled at once; 0: 1 on a CPU, 8 on a GPU.
        grey_range: grey values that the model sees as 0 and 1: "full" is the scale of the data type, "auto" a
            little more than the middle 99.8 % of all slices, or (low, high). Values beyond are kept. None:
            "auto" for 16 bit, which scanners seldom use up, else "full".
        precision: "bf16" halves the memory and is quicker where the hardware knows it.
        device: "auto", "cpu", "cuda" and so on.
        preview: write a PNG beside the result: bicubic, result and the spread of the samples.
        resume: of a folder, leave out slices that an interrupted call has finished.
    """

    factor: int | None = None
    steps: int | None = None
    eta: float | None = None
    samples: int = 1
    seed: int = 0
    tile: int = 256
    overlap: int = 32
    batch: int = 0
    grey_range: GreyRange | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    preview: bool = True
    resume: bool = True


@dataclass(frozen=True)
class Contrast:
    """What the model sees as 0 and 1, in shares of the data type's full scale."""

    low: float = 0.0
    high: float = 1.0

    def to_model(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map shares of the full scale to what the model sees, without clipping."""
        return values if self == Contrast() else (values - self.low) / (self.high - self.low)

    def from_model(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map back to shares of the full scale."""
        return values if self == Contrast() else self.low + values * (self.high - self.low)


@dataclass(frozen=True)
class SliceFile:
    """A file of one or more slices, and where its results go.

    Attributes:
        source: what is read.
        info: what it holds.
        out: the enlarged slices.
        std: the standard deviation of the samples; None where there is but one.
    """

    source: Path
    info: SliceInfo
    out: Path
    std: Path | None


class Stack:
    """The files to enlarge, all of them read once and checked, and how the model is to see them.

    Args:
        source: a PNG, a TIFF of one or more pages, or a folder of such.
        out: file or, for a folder, the folder that the results go to.
        std: likewise for the standard deviation; None: beside `out`.
        method: what enlarges.
        options: see `UpscaleOptions`.

    Attributes:
        method: with the steps and eta of the options.
        files: in the order of their names.
        contrast: by data type, the same for all slices, so that a stack keeps its brightness.

    Raises:
        InputError: for whatever cannot be used.
    """

    def __init__(
        self, source: Path, out: Path, std: Path | None, method: Method, options: UpscaleOptions
    ) -> None:
        _check_method(method, options)
        self.method, self.options = with_sampling(method, steps=options.steps, eta=options.eta), options
        _warn_of_one_step(self.method, options)
        self.device = choose_device(options.device)
        self.batch = tiles_at_once(options.batch, self.device)
        out = out if out.name else out.resolve()  # "." has no name beside which the other files could lie
        self.source, self.out, self.is_folder = source, out, source.is_dir()
        if std and options.samples < 2:
            raise InputError("a standard deviation needs several samples, 1 is drawn; add --samples 5")
        self.std = (std or _default_std(out, self.is_folder)) if options.samples > 1 else None
        self.preview = out.with_name(f"{out.name if self.is_folder else out.stem}_preview.png")
        self.files = tuple(self._files())
        self._check_outputs()
        self.grids = {(file.info.height, file.info.width): self._grid(file.info) for file in self.files}
        self.contrast = self._read_all()

    @property
    def num_slices(self) -> int:
        """Slices in all files."""
        return sum(file.info.num_pages for file in self.files)

    def key(self) -> str:
        """Return a digest of everything on which a result depends, but for its own file."""
        settings = replace(self.options, preview=True, resume=True, batch=0, device="", factor=None)
        method = (type(self.method).__name__, self.method.scale, self.method.sampling)
        values = (
            settings,
            method,
            digest_method(self.method),
            sorted(map(repr, self.contrast.items())),
        )
        return hashlib.sha256(repr(values).encode()).hexdigest()

    def _files(self) -> Iterator[SliceFile]:
        """Yield the files of the source, with where their results go."""
        if not self.is_folder:
            yield SliceFile(self.source, read_info(self.source), self.out, self.std)
            return
        for path in find_files(self.source):
            # A format that is read but not written comes out as the one that keeps grey values best.
            name = path.name if path.suffix.lower() in WRITABLE else f"{path.stem}.png"
            std = self.std / f"{path.stem}.tif" if self.std else None
            yield SliceFile(path, read_info(path), self.out / name, std)

    def _check_outputs(self) -> None:
        """Refuse outputs that cannot be written, that replace an input, or each other."""
        folders = [path for path in (self.out, self.std) if path] if self.is_folder else []
        for folder in folders:
            check_folder(folder, self.source, reason="a folder of slices is given")
        places: dict[Path, Path] = {}
        for file in self.files:
            for path in (file.out, file.std):
                if path and places.setdefault(path, file.source) is not file.source:
                    raise InputError(
                        f"{places[path].name} and {file.source.name} would both become {path}; rename one"
                    )
            if file.std and file.std.resolve() == file.out.resolve():
                raise InputError(
                    f"cannot write {file.std}: it is the result itself; name another place with --std"
                )
            if not self.is_folder:
                _check_file(file)
            check_output(file.out, file.info.enlarged(self.method.scale))
            if file.std and file.std.suffix.lower() not in TIFF:
                raise InputError(f"{file.std} cannot hold a standard deviation, name a .tif")
        self._check_room()

    def _check_room(self) -> None:
        """Refuse to begin if the disk cannot hold the results, taken as uncompressed."""
        area = self.method.scale**2
        num_bytes = [
            file.info.num_pages * file.info.height * file.info.width * area
            * (file.info.dtype.itemsize + (4 if file.std else 0))
            for file in self.files
        ]  # fmt: skip
        free = shutil.disk_usage(self.out.parent).free
        if sum(num_bytes) > free:
            raise InputError(
                f"cannot write {self.out}: {self.out.parent} has {free / 1e9:.1f} GB free, "
                f"{sum(num_bytes) / 1e9:.1f} GB may be needed; free the disk or choose another folder"
            )

    def _grid(self, info: SliceInfo) -> TileGrid:
        """Return the tiles of the result; what a kernel sees only in part is in their margins."""
        scale, options = self.method.scale, self.options
        stride, margin = math.lcm(scale, self.method.stride), KERNEL_REACH * scale
        overlap = -(-(options.overlap + 2 * margin) // stride) * stride
        if overlap >= options.tile > 0 and options.tile % stride == 0:
            least = overlap + stride
            raise InputError(
                f"tiles of {options.tile} px are too small for an overlap of {options.overlap} px at factor "
                f"{scale}, {least} px are needed; use --tile {least} or a smaller --overlap"
            )
        try:
            return TileGrid(info.height * scale, info.width * scale, options.tile, overlap, stride, margin)
        except ValueError as error:
            raise InputError(str(error)) from error

    def _read_all(self) -> dict[np.dtype[Any], Contrast]:
        """Read every slice once, so that none stops the work later; return the contrast of each type."""
        chosen: dict[np.dtype[Any], list[NDArray[np.float32]]] = {}
        step = math.ceil(math.sqrt(sum(_num_pixels(file.info) for file in self.files) / SAMPLE))
        for file in self.files:
            for values in read_slices(file.source):
                chosen.setdefault(file.info.dtype, []).append(to_unit(values[::step, ::step]))
        return {dtype: self._contrast(dtype, parts) for dtype, parts in chosen.items()}

    def _contrast(self, dtype: np.dtype[Any], parts: list[NDArray[np.float32]]) -> Contrast:
        wanted = self.options.grey_range or ("auto" if dtype == np.uint16 else "full")
        if wanted == "full":
            return Contrast()
        if wanted != "auto":
            low, high = (float(value) / WHITE.get(dtype, 1.0) for value in wanted)
            return Contrast(low, high)
        low, high = np.percentile(np.concatenate([part.ravel() for part in parts]), PERCENTILES)
        span = float(high - low) / (SEEN[1] - SEEN[0])
        start = float(low) - SEEN[0] * span
        return Contrast(start, start + span) if span else Contrast()


def _check_method(method: Method, options: UpscaleOptions) -> None:
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
    check_samples(method, options.samples)
    if isinstance(options.grey_range, tuple) and not options.grey_range[0] < options.grey_range[1]:
        low, high = options.grey_range
        raise InputError(f"the range is {low:g},{high:g}, but LOW must lie below HIGH; swap them")


def _warn_of_one_step(method: Method, options: UpscaleOptions) -> None:
    """Say that samples of one step are alike: the network has not yet seen an image that it could vary."""
    sampling = method.sampling
    if options.samples > 1 and sampling is not None and sampling.steps == 1:
        warnings.warn(
            "one step gives nearly the same image for every sample, so their spread says little; "
            "add --steps 10",
            stacklevel=2,
        )


def _default_std(out: Path, is_folder: bool) -> Path:
    return out.with_name(f"{out.name}_std") if is_folder else out.with_name(f"{out.stem}_std.tif")


def _check_file(file: SliceFile) -> None:
    """Refuse results that cannot be written or would replace the input."""
    for path in (file.out, file.std):
        if path:
            check_writable(path)
            if path.exists() and path.samefile(file.source):
                raise InputError(f"cannot write {path}: it is the input; name another file")


def _num_pixels(info: SliceInfo) -> int:
    return info.num_pages * info.height * info.width
