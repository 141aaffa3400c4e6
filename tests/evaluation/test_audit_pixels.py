import pytest
import torch
from torch import Tensor

from pellucid.evaluation.audit_pixels import (
    View,
    find_radar_faults,
    find_radar_shift,
    find_shift,
    find_target_faults,
    fingerprint,
)

SIDE = 64


def texture(seed: int, side: int = SIDE) -> Tensor:
    """Return smooth noise, (H, W), between 0 and 1."""
    noise = torch.rand((1, 1, side // 4, side // 4), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, scale_factor=4, mode="bilinear")[0, 0]


def everywhere() -> Tensor:
    return torch.ones((SIDE, SIDE), dtype=torch.bool)


def backscatter() -> Tensor:
    return -20 + 10 * texture(0) + torch.randn((SIDE, SIDE), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shift", [(5, -3), (-7, 0), (0, 2)])
def test_a_shift_is_found_with_its_signs(shift: tuple[int, int]) -> None:
    ((kind, text),) = find_shift(texture(0).roll(shift, (0, 1)), texture(0), everywhere(), "it", 2)
    assert kind == "misregistration"
    assert text.startswith(f"lies {shift[0]:+d} rows and {shift[1]:+d} columns away")


def test_no_shift_is_found_in_place_within_a_pixel_or_between_other_textures() -> None:
    for shift in (0, 1):
        assert not [*find_shift(texture(0).roll(shift, 0), texture(0), everywhere(), "it", 2)]
    for seed in range(1, 6):
        assert not [*find_shift(texture(0), texture(seed), everywhere(), "it", 2)]


def test_a_shift_needs_enough_of_the_place() -> None:
    seen = everywhere()
    seen[:, 8:] = False
    assert not [*find_shift(texture(0).roll(5, 0), texture(0), seen, "it", 2)]


def test_radar_without_values_is_left_alone() -> None:
    view = View(texture(0)[None], everywhere(), ("B02",))
    assert not [*find_radar_shift(view, torch.full((2, SIDE, SIDE), torch.nan))]
    assert not [*find_radar_faults(torch.full((2, SIDE, SIDE), torch.nan), ("VV", "VH"), "dB")]


def test_natural_radar_is_neither_saturated_nor_wrapped() -> None:
    assert not [*find_radar_faults(backscatter()[None], ("VV",), "dB")]


def test_both_ends_of_radar_are_looked_at() -> None:
    values = backscatter()
    top, bottom = values.quantile(0.98), values.quantile(0.06)
    found = [text for _, text in find_radar_faults(values.clamp(bottom, top)[None], ("VH",), "dB")]
    assert [text.partition(" value")[0] for text in found] == [
        "has 2.0% of VH at its highest",
        "has 6.0% of VH at its lowest",
    ]


def test_snow_is_no_cloud_and_a_wrong_scale_says_nothing_of_clouds() -> None:
    bands = ("B02", "B03", "B04", "B11")
    snow = View(torch.tensor([0.8, 0.8, 0.8, 0.1])[:, None, None].expand(4, SIDE, SIDE), everywhere(), bands)
    assert not [*find_target_faults(snow)]
    assert not [*find_target_faults(snow._replace(values=snow.values * 2.5))]


def test_fingerprints_see_through_brightness_and_tell_places_apart() -> None:
    one = fingerprint(texture(0, 128)[None])
    assert one @ fingerprint(0.3 + 0.5 * texture(0, 128)[None]) == pytest.approx(1, abs=1e-3)
    assert abs(one @ fingerprint(texture(1, 128)[None])) < 0.4
    assert not fingerprint(torch.full((3, 128, 128), 0.3)).any()
