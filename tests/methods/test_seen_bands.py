from itertools import combinations

import pytest
import torch

from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL2
from pellucid.methods.seen_bands import SETS, place
from pellucid.simulate.clouds import add_clouds
from pellucid.simulate.landscape import make_scene

BANDS = SENTINEL2.bands


def names(bands: tuple[str, ...]) -> set[str]:
    """Which bands of Sentinel-2 the networks see, filled ones too."""
    where = place(bands)
    return {BANDS[i] for i in (*where.channels, *where.filled) if i < len(BANDS)}


@pytest.mark.parametrize("bands", SETS)
def test_sets_of_the_training_are_seen_as_they_are_in_any_order(bands: tuple[str, ...]) -> None:
    for ordered in (bands, bands[::-1]):
        assert place(ordered) == (tuple(BANDS.index(band) for band in ordered), {}, ())


def test_all_that_can_show_clouds_is_seen_as_a_set_of_the_training() -> None:
    others = [band for band in BANDS if band not in ("B02", "B04")]
    for number in range(len(others) + 1):
        for more in combinations(others, number):
            bands = ("B02", "B04", *more)
            assert names(bands) in [set(each) for each in SETS], bands
            where = place(bands)
            assert len(set(where.channels) | set(where.filled)) == len(bands) + len(where.filled)


def test_what_the_smallest_set_lacks_is_a_mean_of_bands_that_are_there() -> None:
    landsat = ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")
    assert names(landsat) == set(SETS[-1])
    beyond = [i for i in place(landsat).channels if i >= len(BANDS)]
    assert beyond == [13, 14, 15, 16]  # B01, B8A, B11, B12
    assert place(landsat).filled == {BANDS.index("B08"): {14: 0.8, BANDS.index("B04"): 0.2}}
    blue, red = (BANDS.index(band) for band in ("B02", "B04"))
    shares = {blue: 0.5, red: 0.5}
    assert place(("B04", "B02")).filled == {BANDS.index(band): shares for band in ("B03", "B08")}
    assert all(sum(of.values()) == pytest.approx(1) for of in place(landsat).filled.values())


@pytest.mark.parametrize("bands", [("B08",), ("B03", "B04", "B11"), ("pan", "nir")])
def test_what_shows_no_clouds_is_seen_as_it_is(bands: tuple[str, ...]) -> None:
    assert not place(bands).filled
    assert names(bands) == set(bands) & set(BANDS)


@pytest.mark.parametrize("bands", [("B02", "B03", "B04", "B08", "B11", "B12"), ("B02", "B03", "B04")])
def test_thick_clouds_are_replaced_in_bands_that_no_image_of_the_training_had(bands: tuple[str, ...]) -> None:
    covered, cloud = add_clouds(make_scene(128, 0).optical, BANDS, torch.Generator().manual_seed(0))
    image = covered[None, [BANDS.index(band) for band in bands]]
    valid = torch.ones(1, 1, 128, 128, dtype=torch.bool)
    batch = Batch(degraded=image, target=None, sar=None, cloud=None, valid=valid, key=("a place",))
    found = load("ground", device="cpu").with_bands(SENTINEL2.select(bands)).estimate(batch)
    assert found.cloud is not None
    assert found.cloud[cloud[None] > 0.65].mean() > 0.98
