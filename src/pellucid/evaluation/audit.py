"""The audit of data and of a split: everything that a check finds, and what makes figures untrue.

A check asks whether images can be used; an audit also asks whether figures from them mean anything: whether
places of the test were in training, and whether inputs and references show the same ground.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from rasterio.windows import Window
from torch import Tensor

from pellucid.data.geotiff import Grid
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.ranges import SENTINEL1
from pellucid.data.raster import OpticalRaster
from pellucid.data.shards import is_there
from pellucid.data.slice_file import to_unit
from pellucid.datasets._listing import CLOUDY_ROLE, CheckedSample, ImageFile, Listing, Problem
from pellucid.errors import InputError
from pellucid.evaluation.audit_pixels import (
    Found,
    View,
    find_date_faults,
    find_radar_faults,
    find_radar_shift,
    find_target_faults,
    fingerprint,
)
from pellucid.evaluation.audit_split import ABSENT, PREFIX, AnySplit, assign, find_name_faults
from pellucid.evaluation.check_folder import CheckOptions, check_listing, list_samples
from pellucid.evaluation.check_images import find_bands, read_stored
from pellucid.evaluation.check_leaks import DUPLICATE, LEAK, OVERLAP, relate
from pellucid.evaluation.check_report import Report

OLDER_ROLE = "older"
# Side in pixels of the centre of a scene that is looked at.
MAX_SIDE = 1024
# Products of fingerprints from which two patches are nearly one image, and show the same ground.
NEAR, SAME_GROUND = 0.98, 0.75
# Fingerprints that are compared with all others at once.
BLOCK = 2048
# What is worth knowing and no fault by itself.
NOTES = (PREFIX, ABSENT, "empty metadata")


def audit_folder(
    folder: Path,
    split: AnySplit | None = None,
    options: CheckOptions | None = None,
    *,
    older: Path | None = None,
    cloudy: Path | None = None,
    sheet_path: Path | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> Report:
    """Return what a folder of data holds, and every leak and fault of it.

    Args:
        folder: of one of the layouts of the shelf.
        split: names by split, in place of those that the data come with.
        options: as of a check.
        older: folder of another clear date of each scene, of the same relative names.
        cloudy: likewise, of cloudy ones.
        sheet_path: gets a picture of some samples.
        progress: called with (samples done, samples).
    """
    options = options or CheckOptions()
    kind, listing = list_samples(folder, options)
    listing = _add_images(listing, folder, {OLDER_ROLE: older, CLOUDY_ROLE: cloudy})
    problems: list[Problem] = []
    if split is not None:
        listing, problems = assign(listing, split)
        problems += find_name_faults(split, listing.samples)
    seen = _Prints()
    report = check_listing(
        folder, kind, listing, options, inspect=seen.inspect, sheet_path=sheet_path, progress=progress
    )
    found = [*report.problems, *problems]
    return replace(report, problems=tuple(_without_repeats([*found, *seen.find(found)])))


def is_clean(report: Report) -> bool:
    """Return whether an audit found neither a leak nor a fault."""
    return all(problem.kind in NOTES for problem in report.problems)


def audit_sample(sample: CheckedSample) -> Iterator[Problem]:
    """Yield the faults that the pixels of a sample betray; what cannot be read is left to the check."""
    with suppress(InputError):
        yield from (
            Problem(kind, f"{image.path} {text}", sample.key) for image, (kind, text) in _find_faults(sample)
        )


def _find_faults(sample: CheckedSample) -> Iterator[tuple[ImageFile, Found]]:
    images = [image for image in sample.images if is_there(image.path)]
    radar = next((image for image in images if image.form in ("radar", "gray")), None)
    backscatter = None if radar is None else _read_radar(radar)
    if radar is not None and backscatter is not None:
        is_scene = radar.form == "radar"
        names, unit = (SENTINEL1.bands, "dB") if is_scene else (("the radar",), "of full scale")
        yield from ((radar, found) for found in find_radar_faults(backscatter, names, unit))
    optical = {image.role: image for image in images if image.form == "optical"}
    targets = [image for role, image in optical.items() if role not in (CLOUDY_ROLE, OLDER_ROLE)]
    for target in targets[:1]:
        view = _read_view(target)
        yield from ((target, found) for found in find_target_faults(view))
        for role in (CLOUDY_ROLE, OLDER_ROLE):
            other = optical.get(role)
            if other is not None and (second := _read_view(other)).valid.shape == view.valid.shape:
                yield from ((target, found) for found in find_date_faults(view, second))
        if radar is not None and backscatter is not None and backscatter.shape[1:] == view.valid.shape:
            yield from ((radar, _turn(found)) for found in find_radar_shift(view, backscatter))


def _turn(found: Found) -> Found:
    """Return a shift of the optical image against the radar as that of the radar."""
    kind, text = found
    return kind, text.translate(str.maketrans("+-", "-+")).replace("the radar has", "the optical image has")


def _read_view(image: ImageFile) -> View:
    bands = find_bands(image.path)
    with OpticalRaster(image.path, bands) as raster:
        values, valid = raster.read(_centre(raster.grid))
    return View(values, valid[0], bands)


def _read_radar(image: ImageFile) -> Tensor:
    """Return the centre of radar in dB, NaN where there is none, or of a picture in [0, 1], (P, H, W)."""
    if image.form == "radar":
        with RadarRaster(image.path, partial=True) as raster:
            return raster.read_db(_centre(raster.grid))
    return torch.from_numpy(to_unit(read_stored(image))[:1])


def _centre(grid: Grid) -> Window:
    height, width = min(grid.height, MAX_SIDE), min(grid.width, MAX_SIDE)
    return Window((grid.width - width) // 2, (grid.height - height) // 2, width, height)


class _Prints:
    """The fingerprints of the images that are read, by role."""

    def __init__(self) -> None:
        self.samples: dict[str, list[CheckedSample]] = {}
        self.prints: dict[str, list[Tensor]] = {}

    def inspect(self, sample: CheckedSample) -> Iterator[Problem]:
        """Take in a sample and yield the faults of its pixels."""
        for image in sample.images:
            with suppress(InputError):
                if is_there(image.path):
                    seen = _read_any(image)
                    self.samples.setdefault(image.role, []).append(sample)
                    self.prints.setdefault(image.role, []).append(fingerprint(seen))
        yield from audit_sample(sample)

    def find(self, known: Iterable[Problem]) -> Iterator[Problem]:
        """Yield patches of other places or splits that look alike, one for each, unless that is known."""
        said = {problem.key for problem in known if problem.kind in (DUPLICATE, OVERLAP)}
        leaks = " ".join(problem.text for problem in known if problem.kind == LEAK)
        for role, prints in self.prints.items():
            samples, all_prints = self.samples[role], torch.stack(prints)
            for first in range(0, len(samples), BLOCK):
                alike = all_prints[first : first + BLOCK] @ all_prints.T
                for one, other, value in _pairs(samples, alike, first):
                    is_leak = one.split and other.split and one.split != other.split
                    if other.key in (leaks if is_leak else said):
                        continue  # the very same image, or places that overlap on the ground
                    how = "are nearly the same" if value > NEAR else "show the same ground"
                    text = f"{how} in their {role} images (correlation {value:.2f})"
                    yield relate(one, other, text, "patches alike")


def _pairs(
    samples: Sequence[CheckedSample], alike: Tensor, first: int
) -> Iterator[tuple[CheckedSample, CheckedSample, float]]:
    """Yield, of each sample of a block, an earlier one of another place or split that looks alike."""
    taken = set[int]()
    for row, column in (alike > SAME_GROUND).nonzero().tolist():
        at = first + row
        one, other = samples[column], samples[at]
        if column < at and at not in taken and (one.group, one.split) != (other.group, other.split):
            taken.add(at)
            yield one, other, float(alike[row, column])


def _read_any(image: ImageFile) -> Tensor:
    """Return the centre of an image of any form, (C, H, W)."""
    if image.form == "optical":
        values, valid, _ = _read_view(image)
        return values.where(valid, 0)
    return (
        _read_radar(image)
        if image.form in ("radar", "gray")
        else torch.from_numpy(to_unit(read_stored(image)))
    )


def _add_images(listing: Listing, root: Path, folders: dict[str, Path | None]) -> Listing:
    """Return the samples with further images of the same relative names, where there are such files."""
    for role, folder in folders.items():
        if folder is None:
            continue
        samples, num_found = [], 0
        for sample in listing.samples:
            path = folder / sample.images[0].path.relative_to(root)
            is_added = is_there(path) and all(image.role != role for image in sample.images)
            num_found += is_added
            added = (ImageFile(role, path, "optical"),) if is_added else ()
            samples.append(replace(sample, images=(*sample.images, *added)))
        if not num_found:
            example = listing.samples[0].images[0].path.relative_to(root)
            raise InputError(
                f"{folder} holds no image named like one of {root}, such as {example}; name another"
            )
        listing = replace(listing, samples=samples)
    return listing


def _without_repeats(problems: Sequence[Problem]) -> list[Problem]:
    """Return each problem once: two checks may find the same."""
    return list(dict.fromkeys(problems))
