from rasterio.crs import CRS
from rasterio.transform import Affine

from pellucid.data.geotiff import Grid
from pellucid.datasets._listing import CheckedSample, Problem
from pellucid.evaluation.check_images import Facts
from pellucid.evaluation.check_leaks import Read, find_leaks


def read(
    key: str,
    group: str,
    split: str = "",
    *,
    digest: str = "",
    at: tuple[float, float] | None = None,
    is_constant: bool = False,
) -> Read:
    """A sample of 100 x 100 pixels of 10 m, whose corner is `at` (x, y) metres."""
    grid = at and Grid(CRS.from_epsg(32633), Affine(10, 0, at[0], 0, -10, at[1]), 100, 100)
    facts = Facts(
        height=100,
        width=100,
        bands=("B02",),
        dtype="uint16",
        unit="reflectance",
        low=(0.0,),
        mean=(0.0 if is_constant else 0.5,),
        high=(0.0 if is_constant else 1.0,),
        missing=0,
        cloud=0,
        digest=digest or key,
        grid=grid or None,
        doubts=(),
    )
    return CheckedSample(key, group, (), split), {"clear": facts}


def find(*samples: Read) -> list[Problem]:
    return find_leaks([sample for sample, _ in samples], samples)


def test_nothing_is_found_where_all_differ() -> None:
    assert not find(read("a", "x", "train"), read("b", "x", "train"), read("c", "y", "test"))


def test_a_place_in_two_splits_is_a_leak() -> None:
    (problem,) = find(read("a", "x", "train"), read("b", "x", "test"), read("c", "x", "test"))
    assert problem.is_fatal
    assert problem.text == "the place x is in train and in test"


def test_one_image_in_two_splits_is_a_leak_and_in_one_a_duplicate() -> None:
    leak, duplicate = find(
        read("a", "x", "train", digest="1"),
        read("b", "y", "val", digest="1"),
        read("c", "x", "train", digest="1"),
    )
    assert (leak.kind, leak.is_fatal) == ("leak between splits", True)
    assert leak.text == "a (train) and b (val) hold the same clear image"
    assert (duplicate.kind, duplicate.is_fatal, duplicate.key) == ("duplicate image", False, "c")
    empty = {"digest": "0", "is_constant": True}
    assert not find(read("a", "x", "train", **empty), read("b", "y", "val", **empty))


def test_places_that_overlap_on_the_ground_are_found() -> None:
    apart = [read("a", "x", at=(0, 1000)), read("b", "y", at=(1000, 1000)), read("c", "z", at=(0, 2000))]
    assert not find(*apart)
    (problem,) = find(*apart, read("d", "v", at=(-600, 1300)))
    assert problem.kind == "overlapping places"
    assert problem.text.startswith("a and d overlap") or problem.text.startswith("c and d overlap")
    assert not find(read("a", "x", at=(0, 1000)), read("b", "x", at=(500, 1000)))


def test_overlaps_across_splits_are_leaks() -> None:
    (problem,) = find(read("a", "x", "train", at=(50, 1000)), read("b", "y", "test", at=(550, 700)))
    assert problem.is_fatal
    assert problem.text == "a (train) and b (test) overlap on the ground"
