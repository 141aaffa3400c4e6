"""Slices of tomograms for training and evaluation: of high resolution, with their low resolution."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from pellucid.data.batch import Batch
from pellucid.data.resample import reduce
from pellucid.data.slice_file import SliceInfo, find_files, read_info, read_slice, to_unit
from pellucid.datasets._splits import check_patterns, is_named
from pellucid.errors import InputError
from pellucid.schema import Strict

# Names that a message lists before it counts the rest.
LISTED = 5


class SlicesSource(Strict):
    """Slices of tomograms: of high resolution alone, or paired by name with slices of low resolution."""

    name: Literal["slices"]
    hr: Path
    """Folder of the high resolution."""
    lr: Path | None = None
    """Folder of the low resolution; without it, it is made by Pillow's bicubic reduction."""
    pattern: str = "*"
    numbers: tuple[int, int] | None = None
    """First and last number, taken from the end of the file's name, or the page of a stack, from 0."""
    exclude: tuple[str, ...] = ()
    weight: float = Field(1.0, gt=0)


@dataclass(frozen=True)
class Page:
    """One slice of a file.

    Attributes:
        key: path below the folder, without its suffix; of a stack also the page: `core_page0012`.
        number: from 0.
    """

    key: str
    path: Path
    number: int
    info: SliceInfo

    def names(self) -> tuple[str, ...]:
        """Return what the slice may be called: its key, its key without folders, and its file name."""
        return self.key, Path(self.key).name, self.path.name

    def read(self) -> Tensor:
        """Return (1, 1, H, W) in [0, 1].

        Raises:
            InputError: if the file cannot be read.
        """
        return torch.from_numpy(to_unit(read_slice(self.path, self.number)))[None, None]


class Slices(Dataset[Batch]):
    """Whole slices, each a `Batch` with B = 1 whose `degraded` is `scale` times smaller than its `target`.

    The low resolution is read where the source names it, page by page under the same names, else made from
    the high by Pillow's bicubic reduction, of its top left part whose sides divide by `scale`.

    Args:
        source: where the slices lie and which of them are meant.
        scale: how many times smaller the low resolution is.

    Attributes:
        keys: name of each slice.
        groups: where each slice lies, so that one file is known again in another source. Neighbours in depth
            resemble each other: split by `numbers`, and leave a gap.

    Raises:
        InputError: if a folder or file cannot be read, no slice is left, a slice has no partner, or the sizes
            do not fit `scale`.
    """

    def __init__(self, source: SlicesSource, *, scale: int) -> None:
        self.scale = scale
        high = _find_pages(source.hr, source.pattern)
        low = None if source.lr is None else _find_pages(source.lr, source.pattern)
        names = [page.names() for page in (*high.values(), *(low or {}).values())]
        check_patterns(names, source.exclude, where=f"exclude of {source.hr}")
        high = _select(high, source, source.hr)
        low = None if low is None or source.lr is None else _select(low, source, source.lr)
        if low is None:
            _check_alone(high, scale)
        else:
            _check_pairs(high, low, source, scale)
        self.high = list(high.values())
        self.low = None if low is None else [low[key] for key in high]
        self.keys = tuple(high)
        self.groups = tuple(_name_place(page) for page in self.high)

    def __len__(self) -> int:
        return len(self.high)

    def __getitem__(self, index: int) -> Batch:
        """Return slice `index`.

        Raises:
            InputError: if a file cannot be read.
        """
        target = self.high[index].read()
        if self.low is None:
            height, width = (side // self.scale * self.scale for side in target.shape[-2:])
            target = target[..., :height, :width].contiguous()
            degraded = reduce(target, self.scale).clamp(0, 1)
        else:
            degraded = self.low[index].read()
        valid = torch.ones_like(target, dtype=torch.bool)
        return Batch(degraded=degraded, target=target, valid=valid, key=(self.keys[index],))


def _find_pages(folder: Path, pattern: str) -> dict[str, Page]:
    """Return the slices of a folder by key."""
    pages: dict[str, Page] = {}
    for path in find_files(folder, pattern):
        for page in _split_file(path, folder):
            if page.key in pages:
                raise InputError(
                    f"{pages[page.key].path} and {path} have one name, {page.key}; rename one of them"
                )
            pages[page.key] = page
    return pages


def _select(pages: dict[str, Page], source: SlicesSource, folder: Path) -> dict[str, Page]:
    """Return the slices that the source means."""
    kept = {key: page for key, page in pages.items() if not is_named(page.names(), source.exclude)}
    if source.numbers is not None:
        first, last = source.numbers
        kept = {key: page for key, page in kept.items() if first <= _find_number(page) <= last}
    if not kept:
        raise InputError(
            f"numbers ({source.numbers}) and exclude leave none of the {len(pages)} slices in {folder},"
            f" for instance {next(iter(pages))}; change them"
        )
    return kept


def _split_file(path: Path, folder: Path) -> list[Page]:
    info = read_info(path)
    name = path.relative_to(folder).with_suffix("").as_posix()
    if info.num_pages == 1:
        return [Page(name, path, 0, info)]
    return [Page(f"{name}_page{number:04d}", path, number, info) for number in range(info.num_pages)]


def _find_number(page: Page) -> int:
    """Return the last number in the name of a slice: its depth."""
    found = re.findall(r"\d+", Path(page.key).name)
    if not found:
        raise InputError(f"numbers: the name {page.key} has none; rename the slice, or leave numbers out")
    return int(found[-1])


def _name_place(page: Page) -> str:
    """Return the file, however the source came to it, and the page of a stack."""
    place = page.path.resolve().as_posix()
    return place if page.info.num_pages == 1 else f"{place}:{page.number}"


def _check_alone(high: Mapping[str, Page], scale: int) -> None:
    if scale == 1:
        raise InputError("slices of high resolution alone have nothing to learn at scale 1; name lr too")
    for page in high.values():
        if min(page.info.height, page.info.width) < scale:
            raise InputError(
                f"{page.path} has {_size(page)} pixels, {scale} a side are needed at least; exclude it"
            )


def _check_pairs(high: Mapping[str, Page], low: Mapping[str, Page], source: SlicesSource, scale: int) -> None:
    """Refuse slices without a partner, and partners whose sizes are not `scale` apart."""
    if high.keys() != low.keys():
        alone = [
            f"{folder} holds {_list([key for key in mine if key not in other])} that {other_folder} lacks"
            for folder, mine, other_folder, other in (
                (source.hr, high, source.lr, low),
                (source.lr, low, source.hr, high),
            )
            if mine.keys() - other.keys()
        ]
        raise InputError(
            f"{', and '.join(alone)}; slices are paired by name, so rename, add or exclude these"
        )
    for key, page in high.items():
        small = low[key]
        if (small.info.height * scale, small.info.width * scale) != (page.info.height, page.info.width):
            raise InputError(
                f"{page.path} has {_size(page)} pixels and {small.path} {_size(small)}, the first must be"
                f" {scale} times larger; resize them, or change method.scale"
            )


def _size(page: Page) -> str:
    return f"{page.info.height} x {page.info.width}"


def _list(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
