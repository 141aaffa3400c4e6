"""The check of a folder of data: every image is read, and every fault listed."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pellucid.apply.outputs import Output, check_outputs
from pellucid.data.drawing import NO_DATA, save_picture, sheet, spread
from pellucid.data.schema import parse
from pellucid.data.shards import is_there
from pellucid.datasets._listing import CheckedSample, ImageFile, Listing, Problem
from pellucid.datasets._shelf import folder_layouts, recognise
from pellucid.datasets._splits import SPLITS
from pellucid.errors import InputError
from pellucid.evaluation.check_images import PANEL, Facts, draw, read_facts
from pellucid.evaluation.check_leaks import Read, find_leaks
from pellucid.evaluation.check_report import Report, Summary, count

# Samples on the sheet, spread evenly over all, and panels side by side, at most.
SHEET_SAMPLES, SHEET_COLUMNS = 12, 6
# The options that are a key of some layouts alone, and that key.
KEYS = {"pattern": "pattern", "radar": "radar_root", "lr": "lr", "splits": "splits"}


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

    kind: str = "auto"
    pattern: str = ""
    radar: Path | None = None
    lr: Path | None = None
    bands: tuple[str, ...] = ()
    splits: Path | None = None
    seed: int = 0
    limit: int = 0


def check_folder(
    folder: Path,
    options: CheckOptions | None = None,
    *,
    sheet_path: Path | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> Report:
    """Return what a folder of data holds, and what is wrong with it.

    `sheet_path` gets a picture of some samples, and `progress` is called with (samples done, samples).
    """
    options = options or CheckOptions()
    kind, listing = list_samples(folder, options)
    return check_listing(folder, kind, listing, options, sheet_path=sheet_path, progress=progress)


def check_listing(
    folder: Path,
    kind: str,
    listing: Listing,
    options: CheckOptions,
    *,
    inspect: Callable[[CheckedSample], Iterable[Problem]] = lambda _: (),
    sheet_path: Path | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> Report:
    """Return what listed samples hold, and what is wrong with them; see `check_folder`.

    `inspect` finds further problems of a sample, of those whose images are read.
    """
    if sheet_path is not None:
        images = (image.path for sample in listing.samples for image in sample.images)
        check_outputs([Output(sheet_path, sheet_path)], images if sheet_path.exists() else ())
    problems = [*listing.problems]
    if not listing.samples and not problems:
        raise InputError(f"{folder} lists no sample, of layout {kind}; fill its list, or name another folder")
    chosen = _spread(listing.samples, options.limit)
    chosen_keys = {id(sample) for sample in chosen}
    read: list[Read] = []
    for sample in listing.samples:
        problems += _find_missing(sample)
        if id(sample) in chosen_keys:
            facts, found = _read(sample, options.bands)
            read.append((sample, facts))
            problems += [*found, *inspect(sample)]
            if progress is not None:
                progress(len(read), len(chosen))
    problems += [*_find_odd_sizes(listing, read), *_find_odd_scales(read), *find_leaks(listing.samples, read)]
    if sheet_path is not None and chosen:
        _draw_sheet(_spread(chosen, SHEET_SAMPLES), problems, options.bands, sheet_path)
    return _report(folder, kind, listing, read, tuple(problems))


def list_samples(folder: Path, options: CheckOptions) -> tuple[str, Listing]:
    """Return the layout of a folder and its samples."""
    kind = recognise(folder) if options.kind == "auto" else options.kind
    layouts = folder_layouts()
    if kind not in layouts:
        raise InputError(f"--kind is {kind!r}, known are {', '.join(layouts)}; choose one of them")
    layout = layouts[kind]
    config = parse(layout.Config, {"root": folder, **_keys(kind, options)}, where=str(folder))
    listing: Listing = layout.list_samples(config)
    forms = {image.form for sample in listing.samples for image in sample.images}
    if options.bands and "optical" not in forms:
        raise InputError(f"--bands is for optical scenes, this folder, of {kind}, has none; leave it out")
    return kind, listing


def _keys(kind: str, options: CheckOptions) -> dict[str, object]:
    """Return the keys of a layout's config that are given; options of other layouts are refused."""
    fields = {name: layout.Config.model_fields for name, layout in folder_layouts().items()}
    keys: dict[str, object] = {"seed": options.seed} if "seed" in fields[kind] else {}
    for option, key in KEYS.items():
        if value := getattr(options, option):
            kinds = [name for name, known in fields.items() if key in known]
            if kind not in kinds:
                suited = " and ".join(kinds)
                raise InputError(f"--{option} is for {suited}, this folder is of {kind}; leave it out")
            keys[key] = value
    return keys


def _spread(samples: Sequence[CheckedSample], limit: int) -> list[CheckedSample]:
    """Return at most `limit` samples, spread evenly; all of them for 0."""
    number = min(limit or len(samples), len(samples))
    return [samples[i] for i in spread(number, len(samples))]


def _find_missing(sample: CheckedSample) -> Iterator[Problem]:
    for image in sample.images:
        if not is_there(image.path):
            text = f"{image.path} is missing, {sample.key} needs it"
            yield Problem("missing file", text, sample.key, is_fatal=True)


def _read(sample: CheckedSample, bands: tuple[str, ...]) -> tuple[dict[str, Facts], list[Problem]]:
    """Return what the images of a sample hold, by role, and what is wrong with them."""
    facts: dict[str, Facts] = {}
    problems: list[Problem] = []
    for image in sample.images:
        if not is_there(image.path):
            continue
        try:
            facts[image.role] = read_facts(image, bands)
        except InputError as error:
            problems.append(Problem("unusable image", str(error), sample.key, is_fatal=True))
            continue
        problems += _find_faults(sample, image, facts[image.role])
    if all(image.form != "slice" for image in sample.images):
        problems += _compare(sample, facts)
    return facts, problems


def _find_faults(sample: CheckedSample, image: ImageFile, facts: Facts) -> Iterator[Problem]:
    for kind, text in facts.doubts:
        yield Problem(kind, text, sample.key)
    if facts.missing == 1:
        yield Problem("no data", f"{image.path} holds no pixel with data", sample.key, is_fatal=True)
    elif facts.is_constant:
        text = f"{image.path} has one value everywhere, {facts.low[0]:.3g} {facts.unit}"
        yield Problem("constant image", text, sample.key, is_fatal=True)


def _compare(sample: CheckedSample, facts: Mapping[str, Facts]) -> Iterator[Problem]:
    """Yield images of a sample that do not lie on each other."""
    if len({image.size for image in facts.values()}) > 1:
        sizes = ", ".join(f"{role} {image.size}" for role, image in facts.items())
        text = f"the images of {sample.key} differ: {sizes}"
        yield Problem("different sizes", text, sample.key, is_fatal=True)
        return
    grids = [(role, grid) for role, image in facts.items() if (grid := image.grid) and grid.crs]
    for role, grid in grids[1:]:
        first, reference = grids[0]
        if not grid.matches(reference):
            text = f"{sample.key}: {first} lies on {reference}, {role} on {grid}"
            yield Problem("different grids", text, sample.key)


def _find_odd_sizes(listing: Listing, read: Sequence[Read]) -> Iterator[Problem]:
    sizes = {sample.key: next(iter(facts.values())).size for sample, facts in read if facts}
    usual = next(iter(count(sizes.values())), "")
    for key, size in sizes.items() if listing.is_uniform else ():
        if size != usual:
            yield Problem("other size", f"{key} has {size} pixels, most have {usual}", key)


def _find_odd_scales(read: Sequence[Read]) -> Iterator[Problem]:
    """Yield pairs of slices whose sizes do not differ by the usual whole factor."""
    scales: dict[str, tuple[float, float]] = {}
    for sample, facts in read:
        if {"slice", "low resolution"} <= facts.keys():
            high, low = facts["slice"], facts["low resolution"]
            scales[sample.key] = (high.height / low.height, high.width / low.width)
    if not scales:
        return
    usual = Counter(scales.values()).most_common(1)[0][0]
    for key, (down, across) in scales.items():
        if down != across or down % 1 or (down, across) != usual:
            larger = f"{down:.3g} x {across:.3g} times larger than its partner"
            text = f"{key} is {larger}, most are {usual[0]:.3g}"
            yield Problem("other scale", text, key, is_fatal=True)


def _report(
    folder: Path, kind: str, listing: Listing, read: Sequence[Read], problems: tuple[Problem, ...]
) -> Report:
    samples = listing.samples
    roles = dict.fromkeys(role for _, facts in read for role in facts)
    words = dict.fromkeys(name for sample in samples for name in sample.words)
    unusable = {problem.key for problem in problems if problem.is_fatal and problem.key}
    splits = {
        split or "no split": [sample.group for sample in samples if sample.split == split]
        for split in (*SPLITS, "")
        if listing.split_by and any(sample.split == split for sample in samples)
    }
    return Report(
        folder=folder,
        kind=kind,
        num_samples=len(samples),
        num_read=len(read),
        num_unusable=sum(sample.key in unusable for sample in samples),
        num_places=len({sample.group for sample in samples}),
        images=tuple(Summary.of(role, [facts[role] for _, facts in read if role in facts]) for role in roles),
        counts={name: count(sample.words.get(name, "") for sample in samples) for name in words},
        splits={split: tuple(dict.fromkeys(places)) for split, places in splits.items()},
        split_sizes={split: len(places) for split, places in splits.items()},
        split_by=listing.split_by,
        problems=problems,
    )


def _draw_sheet(
    samples: Sequence[CheckedSample], problems: Sequence[Problem], bands: tuple[str, ...], path: Path
) -> None:
    """Write a picture of samples, a row each, with what is wrong with them."""
    roles = list(dict.fromkeys(image.role for sample in samples for image in sample.images))
    rows, captions = [], []
    for sample in samples:
        images = {image.role: image for image in sample.images}
        rows.append([_draw(images.get(role), bands) for role in roles])
        kinds = dict.fromkeys(problem.kind for problem in problems if problem.key == sample.key)
        words = [sample.key, sample.split, ", ".join(kinds), sample.words.get("prompt", "")]
        captions.append("   ".join(word for word in words if word))
    height = math.ceil(len(rows) / max(1, SHEET_COLUMNS // len(roles)))
    starts = range(0, len(rows), height)
    parts = [sheet(rows[i : i + height], roles, captions[i : i + height], side=PANEL) for i in starts]
    canvas = Image.new("RGB", (sum(part.width for part in parts), parts[0].height), "white")
    for i, part in enumerate(parts):
        canvas.paste(part, (sum(each.width for each in parts[:i]), 0))
    save_picture(canvas, path)


def _draw(image: ImageFile | None, bands: tuple[str, ...]) -> np.ndarray:
    """Return the picture of an image, or a grey panel where there is none that can be read."""
    with suppress(InputError):  # the report says why
        if image is not None:
            return draw(image, bands)
    return np.full((PANEL, PANEL, 3), NO_DATA, dtype=np.uint8)
