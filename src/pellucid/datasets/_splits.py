"""Splits by place: which ROIs train, validate and test, with a hash, and none in two of them.

Names are compared whole. Matching them as substrings or prefixes of paths, as a widely reused loader does,
takes ROIs1158_spring_106 of the test list for ROIs1158_spring_1 of the training list.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from pellucid.data.text_file import parse_json, read_text
from pellucid.errors import InputError

SPLITS = ("train", "val", "test")
# Orders of the places that are tried, of which the one nearest to the wanted shares is taken.
NUM_TRIALS = 32

Splits = Mapping[str, tuple[str, ...]]


def check_disjoint(splits: Mapping[str, Iterable[str]], *, where: str = "the splits") -> None:
    """Refuse exact ROI names by split if two splits share a place; `where` is what the error calls them."""
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if name in seen:
                raise InputError(
                    f"{where}: {name} is in {seen[name]} and in {split}, a place belongs to one split alone;"
                    " take it out of one of them"
                )
            seen[name] = split


def hash_splits(splits: Splits) -> str:
    """Return the SHA-256 of the splits, in hexadecimal; the order of the names does not matter."""
    content = json.dumps({split: sorted(names) for split, names in splits.items()}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def read_splits(path: Path, known: Iterable[str] | None = None) -> Splits:
    """Return the exact names of places by split, from plain JSON lists by split, or lists with their hash.

    Those in the file must be some of the `known` places; None: any name is accepted.
    """
    try:
        values = parse_json(read_text(path, "the splits"))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    digest, lists = None, values
    if isinstance(values, dict) and "splits" in values:
        digest, lists = values.get("sha256"), values["splits"]
    if not _are_lists_of_names(lists):
        raise InputError(f"{path} must map split names (train, val, test) to lists of ROI names")
    splits = {split: tuple(names) for split, names in lists.items()}
    check_disjoint(splits, where=str(path))
    if digest is not None and digest != hash_splits(splits):
        raise InputError(
            f"{path} was changed after it was saved: its sha256 does not fit; restore it, or leave sha256 out"
        )
    if known is not None:
        check_patterns([(place,) for place in known], chain(*splits.values()), where=str(path))
    return splits


def divide_places(counts: Mapping[str, int], shares: Sequence[float], seed: int) -> Splits:
    """Return whole places for train, val and test, whose samples come near the shares.

    Where a place falls follows from the seed and the counts of samples alone, on every machine. Each split
    that is to have a share gets a place, as long as there are enough.
    """
    trials = [_divide(counts, shares, f"{seed} {trial}") for trial in range(NUM_TRIALS)]
    splits, _ = min(trials, key=lambda trial: trial[1])
    return {split: tuple(sorted(names)) for split, names in splits.items()}


def is_named(names: Sequence[str], patterns: Iterable[str]) -> bool:
    """Return whether a pattern, which may hold the wildcards * and ?, fits one of a sample's whole names."""
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def check_patterns(known: Iterable[Sequence[str]], patterns: Iterable[str], *, where: str) -> None:
    """Refuse a pattern that fits no sample: a mistyped name would let in what should stay out.

    `known` are the names of each sample (sample, place); `where` is what the error calls the patterns' place.
    """
    known = list(known)
    for pattern in patterns:
        if not any(is_named(names, [pattern]) for names in known):
            example = f", for instance {known[0][0]!r}" if known else ""
            raise InputError(f"{where}: {pattern!r} fits no sample and no place; give whole names{example}")


def _divide(
    counts: Mapping[str, int], shares: Sequence[float], salt: str
) -> tuple[dict[str, list[str]], float]:
    """Give each place to the split that lacks most; return them, and how many samples are amiss then."""
    unit = sum(counts.values()) / sum(shares)
    lack = {split: share * unit for split, share in zip(SPLITS, shares, strict=True) if share}
    order = sorted(counts, key=lambda name: hashlib.sha256(f"{salt} {name}".encode()).digest())
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for i, name in enumerate(order):
        empty = [split for split in lack if not splits[split]]
        is_urgent = len(order) - i <= len(empty)
        split = max(empty if is_urgent else lack, key=lack.__getitem__)
        splits[split].append(name)
        lack[split] -= counts[name]
    return splits, sum(map(abs, lack.values()))


def _are_lists_of_names(lists: object) -> bool:
    return isinstance(lists, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists.values()
    )
