"""Slices of tomograms, of high resolution and of low resolution."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.radar_picture import read_picture
from pellucid.data.ranges import SLICE
from pellucid.data.resample import reduce
from pellucid.data.schema import Strict
from pellucid.data.slice_file import TIFF, SliceInfo, find_files, read_info, read_slice, to_unit
from pellucid.data.tiff_stack import name_shape
from pellucid.datasets._augment import AugmentConfig, change_low_resolution
from pellucid.datasets._listing import (
    CheckedSample,
    ImageFile,
    Listing,
    Patches,
    Problem,
    Wanted,
    count_bands,
    first_image,
)
from pellucid.datasets._splits import check_patterns, is_named
from pellucid.errors import InputError

# Names that a message lists before it counts the rest.
LISTED = 5
# Any grey images are taken, so that the other layouts are asked first.
IS_GENERAL = True
SIGN = "grey images, or hr/"
# Stands for the header of a file that cannot be read.
UNREADABLE = SliceInfo(num_pages=1, height=0, width=0, dtype=np.dtype("uint8"))


class Config(Strict):
    """Slices of tomograms: of high resolution alone, or paired by name with slices of low resolution.

    In place of `hr`, `root` may name a folder of them, or one that holds hr/ and perhaps lr/.
    """

    name: Literal["slices"] = "slices"
    hr: Path
    """Folder of the high resolution."""
    lr: Path | None = None
    """Folder of the low resolution; without it, it is made by Pillow's bicubic reduction."""
    pattern: str = "*"
    """Which files of the folders are slices."""
    numbers: tuple[int, int] | None = None
    """First and last number, taken from the end of the file's name, or the page of a stack, from 0."""
    exclude: tuple[str, ...] = ()
    """Slices to leave out."""
    weight: float = Field(1.0, gt=0)
    """Share of these data in the training samples, relative to the others."""

    @model_validator(mode="before")
    @classmethod
    def _read_root(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "root" not in values or "hr" in values:
            return values
        values = dict(values)
        root = Path(values.pop("root"))
        if not (root / "hr").is_dir():
            return {**values, "hr": root}
        low = {"lr": root / "lr"} if (root / "lr").is_dir() else {}
        return {"hr": root / "hr", **low, **values}


@dataclass(frozen=True)
class Page:
    """Slice `number` of a file, from 0.

    `key` is its path below the folder without its suffix; of a stack also the page: `core_page0012`.
    """

    key: str
    path: Path
    number: int
    info: SliceInfo

    def names(self) -> tuple[str, ...]:
        """Return what the slice may be called: its key, its key without folders, and its file name."""
        return self.key, Path(self.key).name, self.path.name

    def place(self) -> str:
        """Return the file, however the config came to it, and the page of a stack."""
        file = self.path.resolve().as_posix()
        return file if self.info.num_pages == 1 else f"{file}:{self.number}"

    def size(self) -> str:
        """Return the sides as text, `256 x 256`."""
        return name_shape((self.info.height, self.info.width))

    def read(self) -> Tensor:
        """Return (1, 1, H, W) in [0, 1]."""
        return torch.from_numpy(to_unit(read_slice(self.path, self.number)))[None, None]


class Slices(Patches):
    """Whole slices, each a `Batch` with B = 1 whose `degraded` is `scale` times smaller than its `target`.

    The low resolution is read where the config names it, page by page under the same names, else made from
    the high by Pillow's bicubic reduction, of its top left part whose sides divide by `scale`.

    The place of a slice is its file, so that it is recognised in another source. Neighbours in depth resemble
    each other: split by `numbers`, and leave a gap.
    """

    baseline = None

    def __init__(self, config: Config, *, scale: int) -> None:
        self.scale = scale
        folders = [folder for folder in (config.hr, config.lr) if folder is not None]
        found = [_find_pages(folder, config.pattern) for folder in folders]
        names = [page.names() for pages in found for page in pages.values()]
        check_patterns(names, config.exclude, where=f"exclude of {config.hr}")
        high, *paired = (_select(pages, config, at) for pages, at in zip(found, folders, strict=True))
        if paired:
            _check_pairs(high, paired[0], config, scale)
        else:
            _check_alone(high, scale)
        self.high = list(high.values())
        self.low = [paired[0][key] for key in high] if paired else None
        self.keys = tuple(high)
        self.groups = tuple(page.place() for page in self.high)

    def __getitem__(self, index: int) -> Batch:
        """Return slice `index`."""
        target = self.high[index].read()
        if self.low is None:
            height, width = (side // self.scale * self.scale for side in target.shape[-2:])
            target = target[..., :height, :width].contiguous()
            degraded = reduce(target, self.scale).clamp(0, 1)
        else:
            degraded = self.low[index].read()
        valid = torch.ones_like(target, dtype=torch.bool)
        return Batch(degraded=degraded, target=target, valid=valid, key=(self.keys[index],))

    def change(self, batch: Batch, generator: torch.Generator, augment: AugmentConfig) -> Batch:
        """Return the slice with another low resolution."""
        return change_low_resolution(batch, generator, augment=augment.low_resolution)


def build(config: Config, wanted: Wanted) -> Slices:
    """Return the slices."""
    if wanted.scale is None:
        raise InputError("slices are for a method that enlarges; use generative, with a scale")
    if wanted.bands != SLICE.bands or wanted.radar:
        wanted.refuse(f"slices of one band, {SLICE.bands[0]}")
    return Slices(config, scale=wanted.scale)


def recognise(root: Path) -> bool:
    """Return whether a folder holds hr/, or its first image is grey."""
    if (root / "hr").is_dir():
        return True
    first = first_image(root)
    if first is None:
        return False
    if first.suffix.lower() in TIFF:
        return count_bands(first) == 1
    if _is_colorful(first):
        raise InputError(
            f"{first} is in colour, but slices are grey, and pairs with radar need lists; name a folder of"
            " either"
        )
    return True


def _is_colorful(path: Path) -> bool:
    """Whether a picture has different channels; one that cannot be read has not."""
    try:
        stored = read_picture(path)
    except InputError:
        return False
    return not (stored == stored[:1]).all()


def list_samples(config: Config) -> Listing:
    """Return the images of every slice, whether or not it has a partner or is left out by the config."""
    problems: list[Problem] = []
    high = _find_pages(config.hr, config.pattern, problems)
    low = {} if config.lr is None else _find_pages(config.lr, config.pattern, problems)
    samples = []
    for key in sorted({*high, *low}):
        if config.lr is not None and not (key in high and key in low):
            lacking = config.lr if key in high else config.hr
            text = f"{lacking} holds no {key}, slices are paired by name"
            problems.append(Problem("no partner", text, key, is_fatal=True))
        images = tuple(
            ImageFile(role, pages[key].path, "slice", pages[key].number)
            for role, pages in (("slice", high), ("low resolution", low))
            if key in pages
        )
        samples.append(CheckedSample(key, str(images[0].path), images))
    return Listing(samples, problems)


def _find_pages(folder: Path, pattern: str, problems: list[Problem] | None = None) -> dict[str, Page]:
    """Return the slices of a folder by key; what is wrong is added to the problems, or else an error."""
    pages: dict[str, Page] = {}
    for path in find_files(folder, pattern):
        for page in _split_file(path, folder, skip_errors=problems is not None):
            if page.key in pages:
                text = f"{pages[page.key].path} and {path} have one name, {page.key}; rename one of them"
                if problems is None:
                    raise InputError(text)
                problems.append(Problem("one name, two files", text, page.key, is_fatal=True))
            pages[page.key] = page
    return pages


def _select(pages: dict[str, Page], config: Config, folder: Path) -> dict[str, Page]:
    kept = {key: page for key, page in pages.items() if not is_named(page.names(), config.exclude)}
    if config.numbers is not None:
        first, last = config.numbers
        kept = {key: page for key, page in kept.items() if first <= _find_number(page) <= last}
    if not kept:
        raise InputError(
            f"numbers ({config.numbers}) and exclude leave none of the {len(pages)} slices in {folder},"
            f" for instance {next(iter(pages))}; change them"
        )
    return kept


def _split_file(path: Path, folder: Path, *, skip_errors: bool) -> list[Page]:
    name = path.relative_to(folder).with_suffix("").as_posix()
    try:
        info = read_info(path)
    except InputError:
        if not skip_errors:
            raise
        info = UNREADABLE
    if info.num_pages == 1:
        return [Page(name, path, 0, info)]
    return [Page(f"{name}_page{number:04d}", path, number, info) for number in range(info.num_pages)]


def _find_number(page: Page) -> int:
    """Return the last number in the name of a slice: its depth."""
    if found := re.findall(r"\d+", Path(page.key).name):
        return int(found[-1])
    raise InputError(f"numbers: the name {page.key} has none; rename the slice, or leave numbers out")


def _check_alone(high: Mapping[str, Page], scale: int) -> None:
    if scale == 1:
        raise InputError("slices of high resolution alone have nothing to learn at scale 1; name lr too")
    for page in high.values():
        if min(page.info.height, page.info.width) < scale:
            raise InputError(
                f"{page.path} has {page.size()} pixels, {scale} a side are needed at least; exclude it"
            )


def _check_pairs(high: Mapping[str, Page], low: Mapping[str, Page], config: Config, scale: int) -> None:
    """Refuse slices without a partner, and partners whose sizes are not `scale` apart."""
    sides = (config.hr, high, config.lr, low), (config.lr, low, config.hr, high)
    alone = [
        f"{folder} holds {_list([key for key in mine if key not in other])} that {other_folder} lacks"
        for folder, mine, other_folder, other in sides
        if mine.keys() - other.keys()
    ]
    if alone:
        raise InputError(
            f"{', and '.join(alone)}; slices are paired by name, so rename, add or exclude these"
        )
    for key, page in high.items():
        small = low[key]
        if (small.info.height * scale, small.info.width * scale) != (page.info.height, page.info.width):
            raise InputError(
                f"{page.path} has {page.size()} pixels and {small.path} {small.size()}, the first must be"
                f" {scale} times larger; resize them, or change method.scale"
            )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
