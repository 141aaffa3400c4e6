import math
from dataclasses import replace

import pytest
import torch

from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.evaluation.figures import (
    CLEAR_MEAN,
    GREY_RADAR,
    INPUT,
    MEAN_COLOR,
    MODEL,
    OLDER_DATE,
    SPECTRUM,
    ImageScore,
    baselines,
    find_regions,
    score_image,
)
from pellucid.metrics import ssim_map

BLACK = (0.0, 0.0, 0.0)


def flat_batch(degraded: float, target: float, *, cover: float = 0.5, side: int = 32) -> Batch:
    """A flat image whose upper rows are cloudy, a share `cover` of them."""
    cloud = torch.zeros(1, 1, side, side)
    cloud[..., : round(cover * side), :] = 1
    return Batch(
        degraded=torch.full((1, 3, side, side), degraded),
        target=torch.full((1, 3, side, side), target),
        cloud=cloud,
        valid=torch.ones(1, 1, side, side, dtype=torch.bool),
        key=(f"cover_{cover:g}",),
    )


def score(model: float, degraded: float, target: float, *, cover: float = 0.5) -> ImageScore:
    batch = flat_batch(degraded, target, cover=cover)
    return score_image(batch, torch.full_like(batch.degraded, model), BLACK)


def test_each_source_and_region_has_its_own_figures() -> None:
    batch = flat_batch(0.5, 0.1)
    restored = batch.degraded.clone()
    restored[..., :16, :] = 0.2  # the cloudy half is off by 0.1, the clear one by 0.4
    result = score_image(batch, restored, (0.11, 0.11, 0.11))
    assert result.cover == 0.5
    assert result.values[MODEL, "cloudy", "psnr"] == pytest.approx(20, abs=1e-4)
    assert result.values[MODEL, "cloudy", "mae"] == pytest.approx(0.1)
    assert result.values[MODEL, "clear", "mae"] == pytest.approx(0.4)
    assert result.values[MODEL, "all", "rmse"] == pytest.approx(math.sqrt((0.1**2 + 0.4**2) / 2))
    assert result.values[INPUT, "cloudy", "mae"] == pytest.approx(0.4)
    assert result.values[SPECTRUM, "all", "psnr"] == pytest.approx(40, abs=1e-3)


def test_invalid_pixels_count_nowhere() -> None:
    batch = flat_batch(0.5, 0.1)
    valid = batch.valid.clone()
    valid[..., :8, :] = False
    batch = Batch(batch.degraded, valid, batch.key, cloud=batch.cloud, target=batch.target)
    restored = torch.full_like(batch.degraded, 0.2)
    expected = score_image(batch, restored, (0.01, 0.02, 0.03))
    spoilt = restored.clone()
    spoilt[..., :8, :] = 1.0
    assert score_image(batch, spoilt, (0.01, 0.02, 0.03)) == expected
    assert expected.cover == pytest.approx(8 / 24)
    assert expected.values[MODEL, "all", "mae"] == pytest.approx(0.1)


def test_similarity_counts_no_window_that_touches_an_invalid_pixel() -> None:
    target = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    valid[..., :10, :] = False
    batch = Batch(target, valid, ("half",), target=target)
    restored = target.clone()
    restored[..., 10:18, :] = 0
    found = score_image(batch, restored, None).values[MODEL, "all", "ssim"]
    # Row 15 is the first whose window, five rows up and down, holds valid pixels alone.
    assert found == pytest.approx(ssim_map(restored, target)[..., 15:, :].mean().item())


def test_gain_is_over_the_better_baseline_of_each_image() -> None:
    better_input = score(0.11, 0.2, 0.1)  # 40 dB; input 20 dB, black also 20 dB
    better_black = score(0.11, 0.5, 0.1)  # input far off
    assert better_input.gain() == pytest.approx(20, abs=1e-3)
    assert better_black.gain() == pytest.approx(20, abs=1e-3)
    assert score(0.5, 0.11, 0.1).gain() == pytest.approx(10 * math.log10(0.01**2 / 0.4**2), abs=1e-3)
    assert score(0.5, 0.11, 0.1).gain("clear") == pytest.approx(10 * math.log10(0.01**2 / 0.4**2), abs=1e-3)


def test_a_spectrum_of_other_bands_is_refused() -> None:
    batch = flat_batch(0.5, 0.1)
    with pytest.raises(InputError, match="the mean spectrum has 2 bands, the data 3"):
        score_image(batch, batch.degraded, (0.1, 0.2))


def test_coloured_radar_is_compared_with_grey_and_one_colour() -> None:
    batch = replace(flat_batch(0.5, 0.1), cloud=None)
    restored = torch.full_like(batch.degraded, 0.2)
    score = score_image(batch, restored, (0.11, 0.11, 0.11), is_colored=True)
    assert {source for source, _, _ in score.values} == {MODEL, GREY_RADAR, MEAN_COLOR}
    assert score.values[GREY_RADAR, "all", "mae"] == pytest.approx(0.4)
    assert score.values[MEAN_COLOR, "all", "psnr"] == pytest.approx(40, abs=1e-3)
    assert score.gain() == pytest.approx(20 - 40, abs=1e-3)
    # A colour is no reflectance, so that its angle says nothing.
    assert "sam" not in {metric for _, _, metric in score.values}
    assert (MODEL, "all", "sam") in score_image(batch, restored, None).values


def test_baselines_are_the_input_and_one_spectrum_everywhere() -> None:
    batch = flat_batch(0.5, 0.1)
    images = baselines(batch, (0.1, 0.2, 0.3))
    assert images[INPUT].equal(batch.degraded)
    assert images[SPECTRUM].shape == batch.degraded.shape
    assert images[SPECTRUM][0, :, 5, 7].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert set(baselines(replace(batch, cloud=None), None)) == {INPUT}


def test_the_clear_mean_is_that_of_the_clear_valid_pixels() -> None:
    batch = flat_batch(0.5, 0.1)
    batch.degraded[..., 16:, :] = 0.2
    batch.degraded[..., 31, :] = 0.9
    batch.valid[..., 31, :] = False
    batch.cloud[..., 16:18, :] = 0.3  # hazy
    batch.degraded[..., 16:18, :] = 0.4
    mean = baselines(batch, BLACK)[CLEAR_MEAN]
    torch.testing.assert_close(mean, torch.full_like(batch.degraded, 0.2))


def test_the_clear_mean_of_an_overcast_image_is_the_mean_spectrum_if_known() -> None:
    batch = flat_batch(0.5, 0.1, cover=1.0)
    batch.cloud[..., 0, :5] = 0  # less than 1 % is clear
    images = baselines(batch, (0.1, 0.2, 0.3))
    assert images[CLEAR_MEAN].equal(images[SPECTRUM])
    assert set(baselines(batch, None)) == {INPUT}


def test_graded_cloud_maps_tell_thin_cloud_from_thick() -> None:
    batch = flat_batch(0.5, 0.1)
    assert set(find_regions(batch)) == {"all", "cloudy", "clear"}
    batch.cloud[..., :4, :] = 0.7
    masks = find_regions(batch)
    counts = {region: int(mask.sum()) // 32 for region, mask in masks.items()}
    assert counts == {"all": 32, "cloudy": 16, "clear": 16, "thin": 4, "thick": 12}


def test_models_without_guides_are_scored_but_are_no_baselines() -> None:
    batch = flat_batch(0.5, 0.1)
    restored = torch.full_like(batch.degraded, 0.11)
    other = torch.full_like(batch.degraded, 0.2)
    found = score_image(batch, restored, BLACK, others={"other": other})
    assert found.loss_without("other") == pytest.approx(20, abs=1e-3)
    assert found.gain() == score_image(batch, restored, BLACK).gain()
    assert math.isnan(found.loss_without("none"))


def test_an_older_date_is_a_baseline_and_the_clear_mean_fills_it() -> None:
    batch = flat_batch(0.5, 0.1)
    assert OLDER_DATE not in baselines(batch, None)
    older = torch.full_like(batch.degraded, 0.2)
    older[..., :8] = torch.nan
    made = baselines(replace(batch, older=older), None)
    torch.testing.assert_close(made[OLDER_DATE][..., 8:], older[..., 8:])
    torch.testing.assert_close(made[OLDER_DATE][..., :8], made[CLEAR_MEAN][..., :8])
    nothing = torch.full_like(older, torch.nan)
    assert OLDER_DATE not in baselines(replace(batch, older=nothing), None)


def test_detail_is_measured_on_demand() -> None:
    batch = flat_batch(0.5, 0.1)
    noise = torch.rand(batch.degraded.shape, generator=torch.Generator().manual_seed(0))
    batch = replace(batch, target=noise)
    assert not [key for key in score_image(batch, noise, BLACK).values if "omission" in key]
    values = score_image(batch, noise, BLACK, detail=True).values
    assert values[MODEL, "cloudy", "omission"] == values[MODEL, "all", "hallucination"] == 0
    assert values[INPUT, "cloudy", "omission"] == pytest.approx(1)
    assert values[INPUT, "all", "inconsistency"] == 0
    assert values[MODEL, "all", "inconsistency"] > 0
