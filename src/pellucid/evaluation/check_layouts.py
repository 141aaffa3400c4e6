"""Folders of data -> the samples that they list, whichever of the known layouts they have."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pellucid.data.geotiff import Raster
from pellucid.data.radar_picture import read_picture
from pellucid.data.slice_file import READABLE, TIFF, find_files, read_info
from pellucid.datasets._splits import check_patterns, read_splits
from pellucid.datasets.clear_scenes import ClearScenes, ClearScenesSource
from pellucid.datasets.sar_optical import (
    LISTS,
    Pair,
    SarOpticalSource,
    divide_folders,
    fill_prompt,
    find_lists,
    read_list,
)
from pellucid.datasets.sen12ms_cr import Sample as Patch
from pellucid.datasets.sen12ms_cr import Sen12MsCrSource, find_samples
from pellucid.errors import InputError
from pellucid.evaluation.check_images import CLOUDY_ROLE, ImageFile
from pellucid.evaluation.check_report import Problem

Kind = Literal["sar_optical", "sen12ms_cr", "clear_scenes", "slices"]

DECLARED = "as listed"
# ROIs1970_fall_139 was seen in fall.
_SEASON = re.compile(r"ROIs\d+_([a-z]+)_\d+")


@dataclass(frozen=True)
class CheckOptions:
    """What is to be checked.

    Attributes:
        kind: the layout; "auto" recognises it.
        pattern: which files are clear scenes or slices, as in `Path.glob`; "": all.
        radar: folder of radar named like the clear scenes.
        lr: folder of slices of low resolution, named like the others.
        bands: that optical scenes must have; none: those that they have.
        splits: JSON with names of places per split.
        seed: of the splits of region folders, where there is no such file.
        limit: samples whose images are read, spread evenly over all; 0: all are.
    """

    kind: Kind | Literal["auto"] = "auto"
    pattern: str = ""
    radar: Path | None = None
    lr: Path | None = None
    bands: tuple[str, ...] = ()
    splits: Path | None = None
    seed: int = 0
    limit: int = 0


@dataclass(frozen=True)
class Sample:
    """Images that belong together.

    Attributes:
        key: name.
        group: the place, which belongs to one split.
        images: one per role.
        split: "" where there is none.
        words: what else is known, by its name; "" what is not.
    """

    key: str
    group: str
    images: tuple[ImageFile, ...]
    split: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """The samples of a folder.

    Attributes:
        kind: the layout.
        samples: all that are listed, whether or not their files exist.
        problems: of the lists themselves.
        split_by: where the splits come from; "" where there are none.
    """

    kind: Kind
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    split_by: str = ""


def list_samples(folder: Path, options: CheckOptions) -> Listing:
    """Return the samples of a folder.

    Raises:
        InputError: if its layout is not known, cannot be read, or does not go with the options.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name a folder of data")
    kind = recognise(folder) if options.kind == "auto" else options.kind
    _check_options(kind, options)
    match kind:
        case "sar_optical":
            return _list_pairs(folder, options)
        case "sen12ms_cr":
            return _list_patches(folder, options)
        case "clear_scenes":
            return _list_scenes(folder, options)
        case "slices":
            return _list_slices(folder, options)


def recognise(folder: Path) -> Kind:
    """Return the layout of a folder.

    Raises:
        InputError: if it is none of those that are known.
    """
    if any(folder.glob(LISTS)):
        return "sar_optical"
    if (folder / "s2_cloudy").is_dir() or (folder / "data.csv").is_file():
        return "sen12ms_cr"
    if any(folder.glob("ROIs*_s2_cloudy")):
        return "sen12ms_cr"
    if (folder / "hr").is_dir():
        return "slices"
    return _recognise_images(folder)


def _recognise_images(folder: Path) -> Kind:
    """Tell scenes, of several bands, from slices, which are grey."""
    found = [path for path in sorted(folder.glob("*")) if path.suffix.lower() in READABLE]
    if not found:
        _check_uniform(folder)
        found = sorted(folder.glob("**/*.tif"))
    if not found:
        raise InputError(
            f"{folder} holds none of the known layouts: {LISTS} (sar_optical), data.csv, s2_cloudy or"
            " ROIs*_s2_cloudy (sen12ms_cr), GeoTIFFs of several bands (clear_scenes), grey images (slices)"
        )
    first = found[0]
    if first.suffix.lower() in TIFF:
        return "slices" if _count_bands(first) == 1 else "clear_scenes"
    if _is_colorful(first):
        raise InputError(
            f"{first} is in colour, but slices are grey, and pairs with radar need lists {LISTS}; name a"
            " folder of either"
        )
    return "slices"


def _is_colorful(path: Path) -> bool:
    """Whether a picture has different channels; one that cannot be read has not."""
    try:
        stored = read_picture(path)
    except InputError:
        return False
    return not (stored == stored[:1]).all()


def _check_uniform(folder: Path) -> None:
    """Refuse folders of images of several kinds."""
    firsts = {inner.name: next(iter(sorted(inner.glob("*.tif"))), None) for inner in folder.iterdir()}
    bands = {name: _count_bands(path) for name, path in sorted(firsts.items()) if path is not None}
    if len(set(bands.values())) > 1:
        names = ", ".join(f"{name} ({number} bands)" for name, number in bands.items())
        raise InputError(f"{folder} holds images of several kinds, {names}; name one of these folders")


def _count_bands(path: Path) -> int:
    with Raster(path, "image") as raster:
        return int(raster.dataset.count)


def _check_options(kind: Kind, options: CheckOptions) -> None:
    """Refuse options that say nothing about a layout."""
    known = {
        "pattern": ("clear_scenes", "slices"),
        "radar": ("clear_scenes",),
        "lr": ("slices",),
        "bands": ("clear_scenes", "sen12ms_cr"),
        "splits": ("sar_optical", "sen12ms_cr"),
    }
    for name, kinds in known.items():
        if getattr(options, name) and kind not in kinds:
            raise InputError(f"--{name} is for {' and '.join(kinds)}, this folder is of {kind}; leave it out")


def _list_pairs(folder: Path, options: CheckOptions) -> Listing:
    pairs: list[Pair] = []
    problems: list[Problem] = []
    for path in find_lists(folder):
        try:
            pairs += read_list(path)
        except InputError as error:
            problems.append(Problem("faulty list", str(error), is_fatal=True))
    if not pairs:
        raise InputError(problems[0].text if problems else f"the lists of {folder} name no pair; fill them")
    source = SarOpticalSource(name="sar_optical", root=folder, splits=options.splits, seed=options.seed)
    splits = divide_folders(pairs, source)
    split_of = {group: split for split, groups in splits.items() for group in groups}
    samples = [
        Sample(
            pair.key,
            pair.group,
            (ImageFile("radar", pair.sar, "gray"), ImageFile("optical", pair.optical, "color")),
            split_of.get(pair.group, ""),
            {**pair.words, "prompt": fill_prompt(source.prompt, pair.words)},
        )
        for pair in pairs
    ]
    split_by = str(options.splits.name) if options.splits else f"seed {options.seed}"
    problems += [*_find_unknown(samples), *_find_unlisted(folder, pairs)]
    return Listing("sar_optical", tuple(samples), tuple(problems), split_by)


def _find_unknown(samples: list[Sample]) -> Iterator[Problem]:
    """Tell the pairs whose prompt lacks something, and two words for one season."""
    for sample in samples:
        empty = [name for name in ("region", "season") if not sample.words.get(name)]
        if empty:
            yield Problem("empty metadata", f"{sample.key} has no {' and no '.join(empty)}", sample.key)
    seasons = {sample.words.get("season", "").lower() for sample in samples}
    if {"fall", "autumn"} <= seasons:
        yield Problem("one season, two words", "fall and autumn are both used; prompts know but one as well")


def _find_unlisted(folder: Path, pairs: list[Pair]) -> Iterator[Problem]:
    listed = {path for pair in pairs for path in (pair.sar, pair.optical)}
    for path in sorted(folder.glob("r_*/s[12]_*/*")):
        if path.suffix.lower() in READABLE and path not in listed:
            yield Problem("not listed", f"{path} is in no list")


def _list_patches(folder: Path, options: CheckOptions) -> Listing:
    patches = find_samples(Sen12MsCrSource(name="sen12ms_cr", root=folder))
    if options.splits is None:
        split_of = {patch.key: patch.split for patch in patches}
    else:
        splits = read_splits(options.splits)
        names = [name for split in splits.values() for name in split]
        check_patterns([(patch.group,) for patch in patches], names, where=str(options.splits))
        place = {name: split for split, groups in splits.items() for name in groups}
        split_of = {patch.key: place.get(patch.group, "") for patch in patches}
    split_by = options.splits.name if options.splits else DECLARED if any(split_of.values()) else ""
    samples = [
        Sample(patch.key, patch.group, tuple(_patch_images(patch)), split_of[patch.key], _season(patch.key))
        for patch in patches
    ]
    return Listing("sen12ms_cr", tuple(samples), split_by=split_by)


def _patch_images(patch: Patch) -> Iterator[ImageFile]:
    yield ImageFile(CLOUDY_ROLE, patch.cloudy, "optical")
    yield ImageFile("clear", patch.clear, "optical")
    if patch.radar is not None:
        yield ImageFile("radar", patch.radar, "radar")


def _season(key: str) -> dict[str, str]:
    found = _SEASON.match(key)
    return {"season": found[1] if found else ""}


def _list_scenes(folder: Path, options: CheckOptions) -> Listing:
    pattern = {"pattern": options.pattern} if options.pattern else {}
    source = ClearScenesSource(name="clear_scenes", root=folder, radar_root=options.radar, **pattern)
    samples, problems = [], []
    for scene in ClearScenes(source).scenes:
        images = [ImageFile("optical", scene.optical, "optical")]
        if scene.radar is not None:
            images.append(ImageFile("radar", scene.radar, "radar"))
        elif options.radar is not None:
            problems.append(Problem("no radar", f"{scene.key} has none in {options.radar}", scene.key))
        samples.append(Sample(scene.key, scene.group, tuple(images)))
    return Listing("clear_scenes", tuple(samples), tuple(problems))


def _list_slices(folder: Path, options: CheckOptions) -> Listing:
    pattern = options.pattern or "*"
    inner = folder / "hr"
    high_root = inner if inner.is_dir() else folder
    low_root = options.lr or (folder / "lr" if inner.is_dir() and (folder / "lr").is_dir() else None)
    problems: list[Problem] = []
    high = _find_pages(high_root, pattern, "slice", problems)
    low = {} if low_root is None else _find_pages(low_root, pattern, "low resolution", problems)
    samples = []
    for key in sorted({*high, *low}):
        if low_root is not None and not (key in high and key in low):
            lacking = low_root if key in high else high_root
            text = f"{lacking} holds no {key}, slices are paired by name"
            problems.append(Problem("no partner", text, key, is_fatal=True))
        images = tuple(pages[key] for pages in (high, low) if key in pages)
        samples.append(Sample(key, str(images[0].path), images))
    return Listing("slices", tuple(samples), tuple(problems))


def _find_pages(folder: Path, pattern: str, role: str, problems: list[Problem]) -> dict[str, ImageFile]:
    """Return the slices of a folder by key; files that cannot be read have one, and are found out later."""
    pages: dict[str, ImageFile] = {}
    for path in find_files(folder, pattern):
        name = path.relative_to(folder).with_suffix("").as_posix()
        for key, page in _split_file(path, name):
            if key in pages:
                text = f"{pages[key].path} and {path} have one name; rename one of them"
                problems.append(Problem("one name, two files", text, key, is_fatal=True))
            pages[key] = ImageFile(role, path, "slice", page)
    return pages


def _split_file(path: Path, name: str) -> list[tuple[str, int]]:
    try:
        num_pages = read_info(path).num_pages
    except InputError:
        return [(name, 0)]
    return [(name, 0)] if num_pages == 1 else [(f"{name}_page{i:04d}", i) for i in range(num_pages)]
