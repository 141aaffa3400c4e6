import json
from pathlib import Path

import pytest

from pellucid.datasets._listing import CheckedSample, Listing
from pellucid.errors import InputError
from pellucid.evaluation.audit_split import assign, find_name_faults, read_any_split


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def sample(roi: str, patch: int = 0) -> CheckedSample:
    return CheckedSample(f"{roi}_p{patch}", roi, ())


def faults(path: Path, *samples: CheckedSample) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for problem in find_name_faults(read_any_split(path), samples):
        found.setdefault(problem.kind, []).append(problem.text)
    return found


def test_a_name_that_begins_a_name_of_another_split_is_found(tmp_path: Path) -> None:
    lists = {
        "train": ["ROIs1158_spring_1", "ROIs1158_spring_2"],
        "test": ["ROIs1158_spring_10", "ROIs1158_spring_100", "ROIs1158_spring_31"],
    }
    samples = [sample(name) for names in lists.values() for name in names]
    found = faults(write(tmp_path / "a.json", lists), *samples)
    assert list(found) == ["prefix match"]
    (text,) = found["prefix match"]
    assert text.startswith(
        "ROIs1158_spring_1 (train) is the beginning of ROIs1158_spring_10 (test), ROIs1158_spring_100 (test)"
    )


def test_names_that_differ_and_names_of_one_split_are_left_alone(tmp_path: Path) -> None:
    lists = {"train": ["ROIs1_fall_1", "ROIs1_fall_12"], "test": ["ROIs1_fall_2"]}
    assert not faults(
        write(tmp_path / "a.json", lists),
        sample("ROIs1_fall_1"),
        sample("ROIs1_fall_12"),
        sample("ROIs1_fall_2"),
    )


def test_a_place_in_two_splits_is_found_by_its_patches_too(tmp_path: Path) -> None:
    lists = {"train": ["ROIs1_fall_1_p1", "x"], "val": ["x"], "test": ["ROIs1_fall_s2_1_p7"]}
    found = faults(write(tmp_path / "a.json", lists), sample("ROIs1_fall_1", 1), sample("ROIs1_fall_1", 7))
    assert found["leak between splits"] == [
        "the place ROIs1_fall_1 is in train and in test of a.json",
        "the place x is in train and in val of a.json",
    ]
    assert found["not in the data"] == [
        "1 of the 2 names of train (x)",
        "1 of the 1 names of val (x)",
    ]


def test_samples_get_the_split_of_the_file_by_whole_names(tmp_path: Path) -> None:
    split = read_any_split(
        write(tmp_path / "a.json", {"train": ["ROIs1_fall_1"], "test": ["ROIs1_fall_1_p3"]})
    )
    listing = Listing([sample("ROIs1_fall_1", 2), sample("ROIs1_fall_1", 3), sample("ROIs1_fall_10", 2)])
    listing, problems = assign(listing, split)
    assert [each.split for each in listing.samples] == ["train", "train", ""]
    assert [problem.text for problem in problems] == ["ROIs1_fall_1_p3 is in train and in test"]
    assert listing.split_by == "a.json"


def test_tables_and_folders_of_the_dataset_are_read(tmp_path: Path) -> None:
    glf = "1,s1,s2,cloudy,ROIs1_fall_s2_3_p1.tif\n3,s1,s2,cloudy,ROIs1_fall_s2_4_p2.tif\n"
    assert read_any_split(write(tmp_path / "a.csv", glf)).names == {
        "train": ("ROIs1_fall_3_p1",),
        "test": ("ROIs1_fall_4_p2",),
    }
    table = "roi,split,patches\nROIs1_fall_s2_cloudy/s2_cloudy_3,train,5\nROIs1_fall_4,val,6\n"
    assert read_any_split(write(tmp_path / "b.csv", table)).names == {
        "train": ("ROIs1_fall_3",),
        "val": ("ROIs1_fall_4",),
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "is not valid JSON"),
        ("a.json", "[1]", "must map the names of splits"),
        ("a.json", "{}", "names no place of any split"),
        ("a.csv", "a,b\nc,d\n", "line 1: a list of splits begins with 1, 2 or 3"),
        ("a.csv", "", "names no place of any split"),
    ],
)
def test_what_is_no_split_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_any_split(write(tmp_path / name, content))


def test_the_digest_depends_on_the_names_alone(tmp_path: Path) -> None:
    one = read_any_split(write(tmp_path / "a.json", {"train": ["a", "b"], "test": ["c"]}))
    other = read_any_split(write(tmp_path / "b.json", {"splits": {"test": ["c"], "train": ["b", "a", "a"]}}))
    assert one.sha256 == other.sha256
    assert len(one.sha256) == 64
