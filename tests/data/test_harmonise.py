import torch
from torch import Tensor

from pellucid.data.harmonise import Colours, date_sums, merge_dates

BANDS = ("B02", "B04", "B08")


def places(seed: int = 0) -> Tensor:
    return 0.3 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) + 0.02


def test_date_of_a_sensor_with_other_values_gets_the_colours_of_the_scene() -> None:
    scene = places()
    older = torch.cat([0.5 * scene[:, [2]] + 0.1, 0.8 * scene[:, [0]]], dim=1)  # two unnamed bands
    clear = torch.zeros(1, 1, 64, 64)
    clear[..., :32] = 1
    found = Colours(date_sums(older, scene, clear), ("", ""), BANDS).apply(older)
    hidden = (..., slice(None), slice(32, None))
    assert (found[:, [0, 2]] - scene[:, [0, 2]])[hidden].abs().max() < 0.02
    # red is in neither band: no better than its mean
    assert (found[:, 1] - scene[:, 1].mean()).abs()[hidden].mean() < 0.02


def test_same_bands_without_a_pixel_in_common_stay_as_they_are() -> None:
    older = places()
    colours = Colours(date_sums(older, places(1), torch.zeros(1, 1, 64, 64)), BANDS, BANDS)
    torch.testing.assert_close(colours.apply(older), older, rtol=0, atol=1e-3)


def test_sums_of_parts_give_the_colours_of_the_whole() -> None:
    scene, older, clear = places(), places(1), torch.ones(1, 1, 64, 64)
    parts = [date_sums(older[..., p], scene[..., p], clear[..., p]) for p in (slice(0, 20), slice(20, 64))]
    whole = Colours(date_sums(older, scene, clear), BANDS, BANDS)
    torch.testing.assert_close(Colours(parts[0] + parts[1], BANDS, BANDS).apply(older), whole.apply(older))


def test_dates_fill_each_other_and_the_better_one_counts_more() -> None:
    scene, clear = places(), torch.ones(1, 1, 64, 64)
    good, poor = scene.clone(), places(1)
    good[..., :8, :] = torch.nan
    poor[..., :4, :] = torch.nan
    colours = [Colours(date_sums(date, scene, clear), BANDS, BANDS) for date in (good, poor)]
    merged = merge_dates([c.apply(d) for c, d in zip(colours, (good, poor), strict=True)], colours)
    assert merged[..., :4, :].isnan().all()
    assert merged[..., 4:, :].isfinite().all()
    assert (merged - scene)[..., 8:, :].abs().mean() < 0.01
