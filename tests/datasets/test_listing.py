from dataclasses import replace
from typing import Any

import pytest
import torch

from pellucid.data.batch import Batch
from pellucid.datasets._augment import AugmentConfig, change_image
from pellucid.datasets._listing import COMPANION, Described, Patches, Selected, SingleImages, Wanted
from pellucid.errors import InputError

BANDS = ("B02", "B03", "B04")


def make_pair(**changes: Any) -> Batch:
    """A cloudy pair; the first column has no optical data, the last no radar."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 3, 16, 16, generator=generator) * 0.3
    sar = torch.rand(1, 2, 16, 16, generator=generator)
    sar[..., -1] = torch.nan
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    valid[..., 0] = False
    cloud = torch.ones(1, 1, 16, 16)
    pair = Batch(torch.ones_like(target), valid, ("pair",), sar=sar, cloud=cloud, target=target)
    return replace(pair, **changes)


class Pairs(Patches):
    """One pair, as a dataset."""

    keys, groups = ("pair",), ("place",)

    def __init__(self, pair: Batch) -> None:
        self.pair = pair

    def __getitem__(self, index: int, /) -> Batch:
        return self.pair


def change(batch: Batch, bands: tuple[str, ...], **augment: float) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return change_image(batch, generator, augment=AugmentConfig(**augment), bands=bands)


def test_the_optical_image_is_the_clear_one_without_clouds_and_radar() -> None:
    pair = make_pair()
    found = SingleImages(Pairs(pair), BANDS)[0]
    assert torch.equal(found.degraded[..., 1:], pair.target[..., 1:])
    assert not found.degraded[..., 0].any()
    assert found.target is found.degraded
    assert torch.equal(found.valid, pair.valid)
    assert (found.sar, found.cloud, found.key) == (None, None, ("pair",))


def test_pixels_without_radar_are_not_valid_and_hold_zero() -> None:
    pair = make_pair()
    found = SingleImages(Pairs(pair), ())[0]
    assert not found.valid[..., -1].any()
    assert found.valid[..., :-1].all()  # also where there is no optical data
    assert torch.equal(found.degraded[..., :-1], pair.sar[..., :-1])
    assert not found.degraded[..., -1].any()


def test_names_and_places_are_those_of_the_patches() -> None:
    images = SingleImages(Pairs(make_pair()), ())
    assert (len(images), images.keys, images.groups) == (1, ("pair",), ("place",))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("radar", {"sar": None}),
        ("radar", {"sar": torch.full((1, 2, 16, 16), torch.nan)}),
        ("optical", {"target": None}),
        ("optical", {"valid": torch.zeros(1, 1, 16, 16, dtype=torch.bool)}),
    ],
)
def test_a_patch_without_such_an_image_is_named(kind: str, changes: dict[str, Any]) -> None:
    bands = BANDS if kind == "optical" else ()
    with pytest.raises(InputError, match=f"pair has no {kind} image, .* exclude it, or leave its source out"):
        SingleImages(Pairs(make_pair(**changes)), bands)[0]


@pytest.mark.parametrize("bands", [BANDS, ()])
def test_a_changed_image_is_still_its_own_target(bands: tuple[str, ...]) -> None:
    image = SingleImages(Pairs(make_pair()), bands)[0]
    found = change(image, bands, gain=0.2, simulate=1.0, radar_shift=0.1)
    assert found.target is found.degraded
    assert found.cloud is None
    assert not found.degraded.where(~found.valid, 0).any()
    assert not torch.equal(found.degraded, image.degraded)
    assert found.degraded.min() >= 0
    assert found.degraded.max() <= 1


def test_clouds_belong_to_the_image_where_they_are_asked_for() -> None:
    image = SingleImages(Pairs(make_pair()), BANDS)[0]
    assert torch.equal(change(image, BANDS).degraded, image.degraded)
    clouded = change(image, BANDS, simulate=1.0)
    assert clouded.degraded.mean() > image.degraded.mean() + 0.05


def test_radar_is_shifted_as_a_whole_and_never_clouded() -> None:
    image = SingleImages(Pairs(make_pair()), ())[0]
    assert torch.equal(change(image, (), simulate=1.0, gain=0.5).degraded, image.degraded)
    middle = image.degraded.where((image.degraded > 0.4) & (image.degraded < 0.6), torch.nan)
    difference = change(replace(image, degraded=middle), (), radar_shift=0.02).degraded - middle
    for band in difference[0]:
        assert band.nan_to_num(nan=float(band.nanmean())).std() < 1e-6


def test_scenes_have_the_bands_of_their_satellites() -> None:
    assert Wanted(BANDS, ("VV",)).of_scenes() == {"bands": BANDS, "radar": ("VV",)}
    assert Wanted((), ("VV", "VH")).of_scenes() == {"bands": COMPANION, "radar": ("VV", "VH")}
    with pytest.raises(
        InputError, match="the data are scenes of Sentinel-2 and Sentinel-1, but the method names R, VV"
    ):
        Wanted(("R",), ("VV",)).of_scenes()


def test_selected_patches_keep_their_names_and_texts() -> None:
    class Three(Patches):
        keys, groups, prompts = ("a", "b", "c"), ("x", "y", "x"), ("one", "two", "three")

        def __getitem__(self, index: int, /) -> Batch:
            return make_pair(key=(self.keys[index],))

    kept = Selected(Three(), without=("x",))
    assert (len(kept), kept.keys, kept.groups, kept.prompts) == (1, ("b",), ("y",), ("two",))
    assert kept[0].key == ("b",)


def test_described_scenes_have_the_text_that_their_names_say() -> None:
    class Seasons(Patches):
        keys = ("ROIs1158_spring_15_p30", "ROIs1970_fall_2_p1")
        groups = ("ROIs1158_spring_15", "ROIs1970_fall_2")

        def __getitem__(self, index: int, /) -> Batch:
            return make_pair(key=(self.keys[index],))

    texts = Described(Seasons(), "seen in {season}, of {place}")
    assert texts.prompts == ("seen in spring, of ROIs1158_spring_15", "seen in fall, of ROIs1970_fall_2")
    assert texts[1].prompt == texts.prompts[1:]
    assert Selected(texts, without=("ROIs1970_fall_2",)).prompts == texts.prompts[:1]
