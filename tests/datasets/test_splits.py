import json
from pathlib import Path

import pytest

from pellucid.datasets._splits import (
    check_patterns,
    divide_places,
    hash_splits,
    is_named,
    read_splits,
)
from pellucid.errors import InputError

SPLITS = {"train": ("ROIs1158_spring_1", "ROIs1868_summer_7"), "val": (), "test": ("ROIs1158_spring_106",)}


def save(path: Path) -> None:
    path.write_text(json.dumps({"sha256": hash_splits(SPLITS), "splits": SPLITS}))


def test_splits_are_read_with_their_hash_and_without(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    save(path)
    assert read_splits(path) == SPLITS
    assert len(hash_splits(SPLITS)) == 64
    path.write_text(json.dumps(SPLITS))
    assert read_splits(path) == SPLITS


def test_the_hash_follows_the_names_and_not_their_order() -> None:
    turned = {split: tuple(reversed(names)) for split, names in reversed(SPLITS.items())}
    assert hash_splits(turned) == hash_splits(SPLITS)
    assert hash_splits({**SPLITS, "val": ("ROIs1868_summer_17",)}) != hash_splits(SPLITS)
    moved = {"train": SPLITS["train"][:1], "val": (), "test": SPLITS["test"] + SPLITS["train"][1:]}
    assert hash_splits(moved) != hash_splits(SPLITS)


def test_a_place_in_two_splits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    splits = {**SPLITS, "val": ("ROIs1158_spring_1",)}
    path.write_text(json.dumps(splits))
    with pytest.raises(InputError, match="ROIs1158_spring_1 is in train and in val"):
        read_splits(path)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    save(path)
    path.write_text(path.read_text().replace("spring_106", "spring_107"))
    with pytest.raises(InputError, match="was changed after it was saved"):
        read_splits(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not valid JSON"), ("[1]", "must map split names"), ('{"train": "a"}', "must map split names")],
)
def test_a_file_that_holds_no_splits_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_splits(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the splits .*none\.json: No such file"):
        read_splits(tmp_path / "none.json")


def test_the_official_splits_share_no_place(data_folder: Path) -> None:
    path = data_folder.parent / "splits" / "sen12mscr_official_rois.json"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    splits = read_splits(path)
    assert (len(splits["val"]), len(splits["test"])) == (10, 10)
    # What matching by substring would take out of the test list into training.
    leaks = [roi for roi in splits["test"] if any(train in roi for train in splits["train"])]
    assert len(leaks) == 6
    assert not any(is_named([roi], splits["train"]) for roi in splits["test"] + splits["val"])


def test_names_are_compared_whole_unless_a_wildcard_stands_in_them() -> None:
    assert is_named(("ROIs1158_spring_106_p3", "ROIs1158_spring_106"), ["ROIs1158_spring_106"])
    assert not is_named(("ROIs1158_spring_106_p3", "ROIs1158_spring_106"), ["ROIs1158_spring_1"])
    assert is_named(("ROIs1158_spring_106_p3",), ["ROIs1158_spring_1*"])


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    known = [("a_p1", "a"), ("b_p1", "b")]
    check_patterns(known, ["a", "b_p1"], where="exclude")
    with pytest.raises(InputError, match=r"exclude: 'c' fits no sample and no place; .* 'a_p1'"):
        check_patterns(known, ["a", "c"], where="exclude")


def test_places_are_divided_whole_and_near_the_shares() -> None:
    counts = {f"place_{i}": 1 + i % 7 for i in range(60)}
    splits = divide_places(counts, (8, 1, 1), seed=0)
    assert sorted(name for names in splits.values() for name in names) == sorted(counts)
    total = sum(counts.values())
    shares = [sum(counts[name] for name in names) / total for names in splits.values()]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert splits == divide_places(dict(reversed(counts.items())), (0.8, 0.1, 0.1), seed=0)
    assert splits != divide_places(counts, (8, 1, 1), seed=1)


def test_the_division_of_a_seed_never_changes() -> None:
    counts = {"a": 54, "b": 54, "c": 8, "d": 4, "e": 2, "f": 1, "g": 1}
    assert divide_places(counts, (0.8, 0.1, 0.1), seed=0) == {
        "train": ("a", "b"),
        "val": ("d", "e", "f", "g"),
        "test": ("c",),
    }


def test_every_split_with_a_share_gets_a_place_if_there_are_enough() -> None:
    for seed in range(10):
        assert all(divide_places(dict.fromkeys("abc", 5), (0.98, 0.01, 0.01), seed).values())
    assert divide_places({"a": 3, "b": 3}, (1, 0, 0), seed=0) == {"train": ("a", "b"), "val": (), "test": ()}
