"""Pictures of radar, paired with pictures in colour of the same places and with words, for colorization.

The layout: lists `data_r_NNN.csv` with one pair a row, and folders `r_NNN/s1_NNN` (radar) and `r_NNN/s2_NNN`
(optical), one `r_NNN` per region.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.functional import interpolate

from pellucid.data.batch import Batch
from pellucid.data.files import glob_files
from pellucid.data.prompts import check_template, fill_prompt
from pellucid.data.radar_picture import read_color, read_gray
from pellucid.data.ranges import PICTURE
from pellucid.data.schema import NotNegative, Strict
from pellucid.data.slice_file import PICTURES
from pellucid.data.text_file import read_rows
from pellucid.data.tiff_stack import name_shape
from pellucid.datasets._augment import AugmentConfig, change_pair
from pellucid.datasets._listing import CheckedSample, ImageFile, Listing, Patches, Problem, Wanted
from pellucid.datasets._splits import Splits, check_patterns, divide_places, is_named, read_splits
from pellucid.errors import InputError

log = logging.getLogger(__name__)

LISTS = SIGN = "data_r_*.csv"
RADAR, OPTICAL = "s1_fileName", "s2_fileName"
# The words about a pair, in the order of the columns.
WORDS = (
    *("coordinates", "country", "date-time", "scale", "region", "season"),
    *("operational-mode", "polarisation", "bands"),
)
# Those by which figures are grouped, and which the prompts name.
COLUMNS = ("region", "season")
# Entries that say nothing, in lower case.
UNKNOWN = frozenset({"", "-", "?", "n/a", "nan", "none", "null", "unknown"})


class Config(Strict):
    """Pictures of radar and of the same places in colour, which lists data_r_NNN.csv pair."""

    name: Literal["sar_optical"] = "sar_optical"
    root: Path
    """Folder of the dataset, with its lists."""
    split: Literal["train", "val", "test", "all"] = "all"
    """Whole region folders (r_NNN) belong to one split."""
    shares: tuple[NotNegative, NotNegative, NotNegative] = (0.8, 0.1, 0.1)
    """Of the pairs in train, val and test, relative to their sum."""
    seed: int = 0
    """Decides which folders are in which split."""
    splits: Path | None = None
    """JSON with exact folder names per split, in place of `shares` and `seed`."""
    folders: tuple[str, ...] = ()
    """Region folders to take; none: all."""
    lists: tuple[str, ...] = ()
    """Names of the lists to take, whatever they are called; none: all `data_r_*.csv`."""
    exclude: tuple[str, ...] = ()
    """Pairs or region folders left out."""
    prompt: str = "Colorise image, Region: {region}, Season: {season}"
    """Text of a pair, with {columns} of the lists; a clause (up to a comma) with an empty one is left out."""
    size: int = Field(0, ge=0)
    """Side in pixels to which every picture is resized; 0: none is."""
    weight: float = Field(1.0, gt=0)
    """Share of these data in the training samples, relative to the others."""

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not sum(value):
            raise ValueError("one share at least must be above 0")
        return value


@dataclass(frozen=True)
class Pair:
    """A row of a list: two files, and the `words` about them by column, "" where one is not known.

    `key` is the path of the radar below the root without its suffix, `r_005/s1_005/img_p12`; `group` is the
    region folder, `r_005`; `row` says where the pair is listed, for messages.
    """

    key: str
    group: str
    sar: Path
    optical: Path
    words: Mapping[str, str]
    row: str

    def names(self) -> tuple[str, ...]:
        """Return what the pair may be called: its key, its key without s1_NNN, and its region folder."""
        return self.key, f"{self.group}/{PurePosixPath(self.key).name}", self.group

    def missing(self) -> tuple[Path, ...]:
        """Return which of its files do not exist."""
        return tuple(path for path in (self.sar, self.optical) if not path.is_file())


class SarOptical(Patches):
    """Whole pairs, each a `Batch` with B = 1: `sar` (1, 1, H, W), `target` in colour, and `prompt`.

    `degraded` is the radar in three equal channels, which a model has to beat. Pairs whose files are missing
    are left out with a warning.
    """

    baseline = "prompt"

    def __init__(self, config: Config) -> None:
        lists = [config.root / name for name in config.lists] or find_lists(config.root)
        pairs = [pair for path in lists for pair in read_list(path)]
        listed = _select(pairs, config)
        self.pairs = tuple(pair for pair in listed if not pair.missing())
        self.missing = tuple(pair for pair in listed if pair.missing())
        if self.missing:
            _report_missing(config, self.missing, len(listed))
        known = {column for pair in self.pairs for column in pair.words}
        check_template(config.prompt, known, "list")
        self.size = config.size
        self.keys = tuple(pair.key for pair in self.pairs)
        self.groups = tuple(pair.group for pair in self.pairs)
        self.prompts = tuple(fill_prompt(config.prompt, pair.words) for pair in self.pairs)
        words = [{column: pair.words[column] for column in COLUMNS} for pair in self.pairs]
        self.words = tuple(
            {"folder": group, **known} for group, known in zip(self.groups, words, strict=True)
        )

    def __getitem__(self, index: int) -> Batch:
        """Return pair `index`."""
        pair = self.pairs[index]
        sar = torch.from_numpy(read_gray(pair.sar))[None]
        target = torch.from_numpy(read_color(pair.optical))[None]
        if sar.shape[-2:] != target.shape[-2:]:
            found, needed = (name_shape(image.shape[-2:]) for image in (sar, target))
            raise InputError(
                f"{pair.sar} has {found} pixels and {pair.optical} {needed}, a pair has one size; exclude it"
            )
        sar, target = (_resize(image, self.size) for image in (sar, target))
        degraded, valid = sar.repeat(1, target.shape[1], 1, 1), torch.ones_like(sar, dtype=torch.bool)
        prompt = (self.prompts[index],)
        return Batch(degraded=degraded, target=target, sar=sar, valid=valid, key=(pair.key,), prompt=prompt)

    def change(self, batch: Batch, generator: torch.Generator, augment: AugmentConfig) -> Batch:
        """Return the pair turned by a small angle, in other colours and with noise on the radar."""
        return change_pair(batch, generator, augment=augment.picture)


def build(config: Config, wanted: Wanted) -> SarOptical:
    """Return the pairs."""
    if wanted.bands not in ((), PICTURE.bands) or len(wanted.radar) > 1:
        wanted.refuse(f"pictures of the bands {', '.join(PICTURE.bands)} and one polarisation")
    return SarOptical(config)


def as_trained(config: Config, trained: Config) -> Config:
    """Return the config of an evaluation with prompts, sizes and splits as in training.

    Without a split in training, a split is refused: the model may have seen it.
    """
    if config.split != "all" and trained.split == "all" and not (trained.splits or config.splits):
        raise InputError(
            f"this model was not trained on a split, so that split {config.split!r} may hold what it has"
            " seen; name the region folders with --folders r_006, or take --split all"
        )
    kept = {key: getattr(trained, key) for key in ("shares", "seed", "prompt", "size")}
    return config.model_copy(update={**kept, "splits": config.splits or trained.splits})


def recognise(root: Path) -> bool:
    """Return whether a folder holds lists of pairs."""
    return bool(glob_files(root, LISTS))


def from_list(path: Path) -> dict[str, object] | None:
    """Return the keys of a config for one list, all of whose pairs are taken; None: it is none of ours."""
    (_, header), *_ = read_rows(path, "the list") or [(1, [])]
    is_ours = {RADAR, OPTICAL} <= {*header}
    return {"root": path.parent, "lists": (path.name,), "split": "all"} if is_ours else None


def list_samples(config: Config) -> Listing:
    """Return both images of every listed pair, whether or not the config selects it."""
    pairs, problems = list[Pair](), list[Problem]()
    for path in find_lists(config.root):
        try:
            pairs += read_list(path)
        except InputError as error:
            problems.append(Problem("faulty list", str(error), is_fatal=True))
    if not pairs:
        raise InputError(
            problems[0].text if problems else f"the lists of {config.root} name no pair; fill them"
        )
    splits = divide_folders(pairs, config)
    split_of = {group: split for split, groups in splits.items() for group in groups}
    samples = []
    for pair in pairs:
        images = ImageFile("radar", pair.sar, "gray"), ImageFile("optical", pair.optical, "color")
        words = {**pair.words, "prompt": fill_prompt(config.prompt, pair.words)}
        samples.append(CheckedSample(pair.key, pair.group, images, split_of.get(pair.group, ""), words))
    split_by = config.splits.name if config.splits else f"seed {config.seed}"
    problems += [*_find_unknown(samples), *_find_unlisted(config.root, pairs)]
    return Listing(samples, problems, split_by, is_uniform=True)


def _find_unknown(samples: list[CheckedSample]) -> Iterator[Problem]:
    """Yield the pairs whose prompt lacks something, and two words for one season."""
    for sample in samples:
        if empty := [column for column in COLUMNS if not sample.words.get(column)]:
            yield Problem("empty metadata", f"{sample.key} has no {' and no '.join(empty)}", sample.key)
    seasons = {sample.words.get("season", "").lower() for sample in samples}
    if {"fall", "autumn"} <= seasons:
        yield Problem("one season, two words", "fall and autumn are both used; choose one of them")


def _find_unlisted(root: Path, pairs: list[Pair]) -> Iterator[Problem]:
    listed = {path for pair in pairs for path in (pair.sar, pair.optical)}
    for path in glob_files(root, "r_*/s[12]_*/*"):
        if path.suffix.lower() in PICTURES and path not in listed:
            yield Problem("not listed", f"{path} is in no list")


def find_lists(root: Path) -> list[Path]:
    """Return the lists of a folder, sorted."""
    if not root.is_dir():
        raise InputError(f"{root} is no folder; root must name a folder of {LISTS} and region folders")
    if lists := glob_files(root, LISTS):
        return lists
    raise InputError(f"{root} holds no {LISTS}; name the folder with the lists of the pairs")


def read_list(path: Path) -> list[Pair]:
    r"""Return the pairs of a list, whether or not their files exist; `\` in paths counts as `/`."""
    (_, header), *rows = read_rows(path, "the list") or [(1, [])]
    if lacking := [column for column in (RADAR, OPTICAL) if column not in header]:
        raise InputError(f"{path} lacks the column {lacking[0]}; its first row must name the columns")
    return [_parse_row(path, header, row, f"{path}, line {line}") for line, row in rows]


def _parse_row(path: Path, header: list[str], row: list[str], where: str) -> Pair:
    if len(row) != len(header):
        raise InputError(
            f"{where} has {len(row)} columns, the first row {len(header)}; put entries with commas in quotes"
        )
    cells = dict(zip(header, row, strict=True))
    files = [_below(path.parent, cells.pop(column), where) for column in (RADAR, OPTICAL)]
    regions = {file.parts[0] if len(file.parts) > 1 else "" for file in files}
    if len(regions) > 1 or "" in regions:
        raise InputError(
            f"{where} pairs {files[0]} with {files[1]}; both must lie in one region folder, as r_000/s1_000/a"
        )
    words = {column: "" if text.lower() in UNKNOWN else text for column, text in cells.items()}
    sar, optical = (path.parent / file for file in files)
    known = {column: words.pop(column, "") for column in WORDS}
    return Pair(str(files[0].with_suffix("")), regions.pop(), sar, optical, {**known, **words}, where)


def _below(root: Path, text: str, where: str) -> PurePosixPath:
    """Return a listed path relative to the root, also if it is absolute; one that leads outside is refused.

    Its first folder is the place, so that others would all become one place.
    """
    found = PurePosixPath(text.replace("\\", "/"))
    for base in (root.absolute(), root.resolve()):
        if found.is_absolute() and found.is_relative_to(base.as_posix()):
            found = found.relative_to(base.as_posix())
    if found.is_absolute() or ".." in found.parts or PureWindowsPath(text).drive:
        raise InputError(
            f"{where} names {text}, which does not lie in {root}; name files there, as r_000/s1_000/a.png"
        )
    return found


def divide_folders(pairs: Iterable[Pair], config: Config) -> Splits:
    """Return the region folders of each split, which do not change when files are lost or pairs excluded."""
    counts = Counter(pair.group for pair in pairs)
    if config.splits is None:
        return divide_places(counts, config.shares, config.seed)
    return read_splits(config.splits, known=counts)


def _select(pairs: list[Pair], config: Config) -> list[Pair]:
    if config.folders and config.split != "all":
        raise InputError(
            f"folders of {config.root} names the region folders, and so does split: {config.split}; leave out"
            " one of the two"
        )
    for patterns, key in ((config.folders, "folders"), (config.exclude, "exclude")):
        check_patterns([pair.names() for pair in pairs], patterns, where=f"{key} of {config.root}")
    if config.split != "all":
        folders = divide_folders(pairs, config).get(config.split, ())
        pairs = [pair for pair in pairs if pair.group in folders]
    if config.folders:
        pairs = [pair for pair in pairs if is_named((pair.group,), config.folders)]
    kept = [pair for pair in pairs if not is_named(pair.names(), config.exclude)]
    if not kept:
        raise InputError(
            f"{config.root} has no pair of split {config.split!r} that is not excluded; there may be too few"
            " region folders, name other splits, folders or shares"
        )
    return kept


def _report_missing(config: Config, missing: tuple[Pair, ...], num_listed: int) -> None:
    first = missing[0]
    what = f"{len(missing)} of {num_listed} pairs of {config.root} lack a file, first {first.missing()[0]}"
    if len(missing) == num_listed:
        raise InputError(f"{what} ({first.row}); paths in the lists are relative to the folder of the lists")
    log.warning(
        "%s (%s): they are left out; `pellucid data check %s` names them", what, first.row, config.root
    )


def _resize(image: Tensor, size: int) -> Tensor:
    if size in (0, image.shape[-1]) and size in (0, image.shape[-2]):
        return image
    return interpolate(image, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
