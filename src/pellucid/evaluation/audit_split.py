"""Anybody's split of places, read without judging it, and what its names alone give away."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pellucid.data.text_file import read_rows, read_text
from pellucid.datasets._listing import CheckedSample, Listing, Problem
from pellucid.datasets._splits import SPLITS, hash_splits
from pellucid.datasets.sen12ms_cr import SPLIT_NUMBERS, name_patch
from pellucid.errors import InputError
from pellucid.evaluation.check_leaks import LEAK

PREFIX, ABSENT = "prefix match", "not in the data"
# What a table may call its columns.
SPLIT_COLUMNS, NAME_COLUMNS = (
    ("split", "set", "subset"),
    ("roi", "place", "name", "patch", "key", "file", "scene"),
)
EXAMPLES = 3
# A folder of SEN12MS-CR in place of a name: ROIs1158_spring_s2_cloudy/s2_cloudy_1 is ROIs1158_spring_1.
_FOLDER = re.compile(r"(ROIs\d+_[a-z]+)(?:_s1|_s2|_s2_cloudy)/(?:s1|s2|s2_cloudy)_(\d+)/?")


@dataclass(frozen=True)
class AnySplit:
    """Names of places or patches by split, as a file has them: a name may be in several.

    Attributes:
        path: of the file.
        names: by split, each once.
        sha256: of the names, however they are ordered.
    """

    path: Path
    names: Mapping[str, tuple[str, ...]]

    @property
    def sha256(self) -> str:
        """Return the digest of the names by split, in hexadecimal."""
        return hash_splits(self.names)

    def find(self, sample: CheckedSample) -> list[str]:
        """Return the splits that name a sample or its place, whole names alone."""
        known = {sample.key, sample.group, Path(sample.key).name, *name_patch(Path(sample.key).name)}
        return [split for split, names in self.names.items() if not known.isdisjoint(names)]


def read_any_split(path: Path) -> AnySplit:
    """Return a split from JSON with lists of names, or from a table in CSV.

    A table is a list of the published GLF-CR code (1, 2 or 3 first, file names last), or has a header that
    names a column of `SPLIT_COLUMNS` and one of `NAME_COLUMNS`.
    """
    names = _read_json(path) if path.suffix.lower() == ".json" else _read_table(path)
    if not any(names.values()):
        raise InputError(f"{path} names no place of any split; give lists of names under train, val and test")
    plain = {split: [_plain_name(each) for each in found] for split, found in names.items()}
    return AnySplit(path, {split: tuple(dict.fromkeys(found)) for split, found in plain.items()})


def assign(listing: Listing, split: AnySplit) -> tuple[Listing, list[Problem]]:
    """Return the samples with the split that the file says, and what is wrong with that.

    A sample that several splits name is a leak, and counts for the first.
    """
    samples, problems = [], list[Problem]()
    for sample in listing.samples:
        found = split.find(sample)
        samples.append(replace(sample, split=found[0] if found else ""))
        if len(found) > 1:
            text = f"{sample.key} is in {' and in '.join(found)}"
            problems.append(Problem(LEAK, text, sample.key, is_fatal=True))
    return replace(listing, samples=samples, split_by=split.path.name), problems


def find_name_faults(split: AnySplit, samples: Sequence[CheckedSample]) -> Iterator[Problem]:
    """Yield places in two splits, names that begin as one of another split, and names without a sample."""
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for name, names in split.names.items():
        for each in names:
            places[name_patch(each)[1]].setdefault(name, each)
    for place, found in places.items():
        if len(found) > 1:
            yield Problem(
                LEAK, f"the place {place} is in {' and in '.join(found)} of {split.path.name}", is_fatal=True
            )
    yield from _find_prefixes({place: [*found] for place, found in places.items()})
    yield from _find_absent(split, samples)


def _find_prefixes(places: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Yield names of one split that begin names of another: a loose loader takes ROI 100 for ROI 1."""
    starts: dict[str, list[str]] = defaultdict(list)
    for place in places:
        for cut in re.finditer(r"(?<=\d)(?=\d)", place):
            starts[place[: cut.start()]].append(place)
    for place, splits in places.items():
        caught = [other for other in starts.get(place, ()) if {*places[other]} != {*splits}]
        if caught:
            listed = ", ".join(f"{other} ({places[other][0]})" for other in caught)
            text = (
                f"{place} ({splits[0]}) is the beginning of {listed}: a loader that looks for names inside "
                f"paths puts {'it' if len(caught) == 1 else 'them'} into {splits[0]}"
            )
            yield Problem(PREFIX, text)


def _find_absent(split: AnySplit, samples: Sequence[CheckedSample]) -> Iterator[Problem]:
    known = {
        name for s in samples for name in (s.key, s.group, Path(s.key).name, *name_patch(Path(s.key).name))
    }
    for name, names in split.names.items():
        missing = [each for each in names if each not in known]
        if missing:
            some = ", ".join(missing[:EXAMPLES]) + (" ..." if len(missing) > EXAMPLES else "")
            text = f"{len(missing)} of the {len(names)} names of {name} ({some})"
            yield Problem(ABSENT, text)


def _plain_name(text: str) -> str:
    """Return the name of a place or patch without its sensor, folder of the sensor, and suffix."""
    return name_patch(_FOLDER.sub(r"\1_\2", text).removesuffix(".tif"))[0]


def _read_json(path: Path) -> dict[str, list[str]]:
    try:
        values = json.loads(read_text(path, "the split"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not valid JSON: {error}") from error
    lists = values.get("splits", values) if isinstance(values, dict) else None
    if not isinstance(lists, dict) or not all(isinstance(names, list) for names in lists.values()):
        raise InputError(f"{path} must map the names of splits (train, val, test) to lists of names")
    return {str(split): [str(name) for name in names] for split, names in lists.items()}


def _read_table(path: Path) -> dict[str, list[str]]:
    rows = read_rows(path, "the split")
    names: dict[str, list[str]] = {}
    first = [cell.lower() for cell in rows[0][1]] if rows else []
    split_at = next((first.index(name) for name in SPLIT_COLUMNS if name in first), None)
    name_at = next((first.index(name) for name in NAME_COLUMNS if name in first), None)
    for line, cells in rows[1:] if split_at is not None else rows:
        if split_at is None and cells[0].removesuffix(".0") in SPLIT_NUMBERS and len(cells) > 4:
            names.setdefault(SPLIT_NUMBERS[cells[0].removesuffix(".0")], []).append(
                name_patch(Path(cells[4].replace("\\", "/")).stem)[0]
            )
        elif split_at is not None and name_at is not None and len(cells) > max(split_at, name_at):
            number = cells[split_at]
            names.setdefault(SPLIT_NUMBERS.get(number, number), []).append(cells[name_at])
        else:
            raise InputError(
                f"{path}, line {line}: a list of splits begins with 1, 2 or 3 (as data.csv), or has a header "
                f"with a column {' or '.join(SPLIT_COLUMNS)} and a column {' or '.join(NAME_COLUMNS)}"
            )
    order = [*SPLITS, *names]
    return {split: names[split] for split in dict.fromkeys(order) if split in names}
