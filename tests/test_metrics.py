import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from pellucid.data.resample import enlarge, reduce
from pellucid.metrics import (
    GMSD_C,
    consistency,
    gaussian_window,
    gmsd,
    hallucination,
    inconsistency,
    legacy_psnr,
    legacy_ssim,
    mae,
    mean_inside,
    omission,
    psnr,
    rmse,
    sam,
    ssim,
    ssim_map,
)


def random_pair(side: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 13, side, side, generator=generator)
    noise = 0.1 * torch.randn(target.shape, generator=generator)
    return (target + noise).clamp(0, 1), target


def half_mask() -> torch.Tensor:
    mask = torch.zeros(2, 1, 24, 24, dtype=torch.bool)
    mask[..., :12] = True
    return mask


def test_an_error_of_a_tenth_everywhere_is_20_db() -> None:
    target = torch.full((2, 3, 8, 8), 0.4)
    torch.testing.assert_close(psnr(target + 0.1, target), torch.tensor([20.0, 20.0]))
    torch.testing.assert_close(mae(target - 0.1, target), torch.tensor([0.1, 0.1]))
    torch.testing.assert_close(rmse(target - 0.1, target), torch.tensor([0.1, 0.1]))


def test_each_image_of_a_batch_has_its_own_value() -> None:
    target = torch.zeros(2, 1, 8, 8)
    restored = torch.stack([torch.full((1, 8, 8), 0.1), torch.full((1, 8, 8), 0.01)])
    torch.testing.assert_close(psnr(restored, target), torch.tensor([20.0, 40.0]))


def test_identical_images_have_infinite_psnr_no_angle_and_full_similarity() -> None:
    _, target = random_pair()
    assert psnr(target, target).tolist() == [math.inf, math.inf]
    assert sam(target, target).tolist() == [0, 0]
    torch.testing.assert_close(ssim(target, target), torch.ones(2))


def test_an_image_without_a_pixel_in_the_mask_has_no_value() -> None:
    restored, target = random_pair()
    mask = torch.zeros(2, 1, 24, 24, dtype=torch.bool)
    mask[0] = True
    for metric in (psnr, ssim, sam, mae, rmse):
        first, second = metric(restored, target, mask)
        torch.testing.assert_close(first, metric(restored, target)[0])
        assert second.isnan()


@pytest.mark.parametrize("metric", [psnr, sam, mae, rmse])
def test_what_lies_outside_the_mask_does_not_count(metric: Callable[..., torch.Tensor]) -> None:
    restored, target = random_pair()
    inside = metric(restored[..., :12], target[..., :12])
    restored[..., 12:] = torch.nan
    torch.testing.assert_close(metric(restored, target, half_mask()), inside)


def test_masked_similarity_is_the_mean_of_the_map_over_the_mask() -> None:
    restored, target = random_pair()
    expected = ssim_map(restored, target)[..., :12].flatten(1).mean(1)
    torch.testing.assert_close(ssim(restored, target, half_mask()), expected)


def test_a_mask_weighs_pixels_and_not_bands() -> None:
    values = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 0, 0] = True
    assert mean_inside(values, mask).item() == 2


def test_spectral_angle_of_perpendicular_spectra_is_90_and_ignores_brightness() -> None:
    first = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    second = torch.tensor([0.0, 0.3]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    diagonal = torch.tensor([0.2, 0.2]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    torch.testing.assert_close(sam(first, second), torch.tensor([90.0]))
    torch.testing.assert_close(sam(first, diagonal), torch.tensor([45.0]))
    torch.testing.assert_close(sam(diagonal, 3 * diagonal), torch.tensor([0.0]))


def test_spectral_angle_leaves_black_pixels_out() -> None:
    first, second = torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    second[:, 1] = 0
    second[..., 0, 0] = 0
    torch.testing.assert_close(sam(first, second), torch.tensor([45.0]))
    assert sam(first, torch.zeros_like(first)).isnan()


def test_similarity_equals_that_of_torchmetrics() -> None:
    restored, target = random_pair()
    expected = structural_similarity_index_measure(restored, target, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(restored, target), expected, rtol=0, atol=1e-5)


def test_similarity_does_not_change_when_both_images_are_flipped() -> None:
    restored, target = random_pair()
    torch.testing.assert_close(ssim(restored.flip(-1), target.flip(-1)), ssim(restored, target))


def test_legacy_metrics_equal_the_published_ones(golden_folder: Path) -> None:
    golden = np.load(golden_folder / "glfcr_metrics.npz")
    first, second = torch.from_numpy(golden["a"]), torch.from_numpy(golden["b"])
    assert legacy_psnr(first, second).item() == pytest.approx(float(golden["psnr"]), rel=1e-6)
    assert legacy_ssim(first, second).item() == pytest.approx(float(golden["ssim"]), abs=1e-6)
    np.testing.assert_allclose(gaussian_window(5.5), golden["window1d"], atol=1e-7)


def test_legacy_similarity_changes_when_both_images_are_flipped() -> None:
    restored, target = random_pair()
    assert legacy_ssim(restored.flip(-1), target.flip(-1)) != pytest.approx(
        legacy_ssim(restored, target).item(), abs=1e-6
    )


def test_legacy_psnr_pools_the_batch_and_calls_identical_images_100_db() -> None:
    target = torch.zeros(2, 1, 8, 8)
    restored = torch.stack([torch.zeros(1, 8, 8), torch.full((1, 8, 8), 0.2**0.5)])
    torch.testing.assert_close(legacy_psnr(restored, target), torch.tensor(10.0))
    assert legacy_psnr(target, target).item() == 100


def step(height: float, side: int = 12) -> torch.Tensor:
    """An edge that rises by `height` after half of the columns, (1, 1, side, side)."""
    return height * (torch.arange(side) >= side // 2).float().expand(1, 1, side, side)


def test_gradient_deviation_of_an_edge_that_is_half_as_high() -> None:
    # Averaged: 6 x 6, edge between columns 2 and 3. Of the 4 columns of gradients, 2 cross it: 0.4 and 0.2.
    similarity = (2 * 0.4 * 0.2 + GMSD_C) / (0.4**2 + 0.2**2 + GMSD_C)
    deviation = (1 - similarity) / 2  # of as many values `similarity` as 1
    assert gmsd(step(0.2), step(0.4)).item() == pytest.approx(deviation, rel=1e-5)
    assert gmsd(step(0.2).mT, step(0.4).mT).item() == pytest.approx(deviation, rel=1e-5)


def test_gradient_deviation_is_0_if_identical_and_grows_with_blur_and_with_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    target = enlarge(torch.rand(2, 3, 8, 8, generator=generator), 6)
    noise = torch.randn(target.shape, generator=generator)
    assert gmsd(target, target).tolist() == [0, 0]
    for worse, much_worse in [
        (target + 0.02 * noise, target + 0.1 * noise),
        (enlarge(reduce(target, 3), 3), enlarge(reduce(target, 8), 8)),
    ]:
        assert (gmsd(worse, target) > 0).all()
        assert (gmsd(much_worse, target) > gmsd(worse, target)).all()


def test_gradient_deviation_is_the_mean_of_the_bands_of_each_image() -> None:
    restored, target = random_pair()
    apart = torch.stack([gmsd(restored[:, [band]], target[:, [band]]) for band in range(13)])
    torch.testing.assert_close(gmsd(restored, target), apart.mean(0))


def test_gradient_deviation_inside_a_mask_is_that_of_the_part() -> None:
    restored, target = random_pair()
    inside = gmsd(restored[..., :12], target[..., :12])
    restored[..., 12:] = torch.nan
    torch.testing.assert_close(gmsd(restored, target, half_mask()), inside)
    assert gmsd(restored, target, torch.zeros_like(half_mask())).isnan().all()


def test_an_image_brought_down_to_its_input_but_for_a_tenth_is_consistent_to_20_db() -> None:
    restored, _ = random_pair()
    degraded = reduce(restored, 4)
    assert consistency(restored, degraded, 4).tolist() == [math.inf, math.inf]
    torch.testing.assert_close(consistency(restored, degraded + 0.1, 4), torch.tensor([20.0, 20.0]))


def board(strength: float) -> torch.Tensor:
    """Return a board of 2 x 2 fields about 0.5, which only its detail tells from grey."""
    rows, columns = torch.arange(40)[:, None] // 2, torch.arange(40) // 2
    return (0.5 + strength * ((rows + columns) % 2 * 2 - 1.0)).expand(1, 2, 40, 40)


def test_detail_is_right_missing_or_made_up() -> None:
    real, inside = board(0.1), torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    inside[..., 12:28, 12:28] = True
    for image, made, missing in (
        (real, 0, 0),
        (board(0), 0, 1),
        (board(0.05), 0, 0.5),
        (board(0.3), 2, 0),
        (board(-0.1), 1, 1),  # as strong, and everywhere the other way round
        (real + 0.2, 0, 0),  # another brightness is no detail
    ):
        assert hallucination(image, real, inside).item() == pytest.approx(made, abs=0.02)
        assert omission(image, real, inside).item() == pytest.approx(missing, abs=0.02)


def test_what_is_seen_may_keep_or_lose_its_brightness() -> None:
    image, seen = board(0.1), torch.ones(1, 1, 40, 40, dtype=torch.bool)
    seen[..., :20] = False
    changed = image.clone()
    changed[..., :20] += 0.5  # where nothing is seen
    assert inconsistency(changed, image, seen).item() == pytest.approx(0, abs=1e-6)
    assert inconsistency(image + 0.05, image, seen).item() == pytest.approx(0.05, abs=1e-6)
    assert math.isnan(inconsistency(image, image, torch.zeros_like(seen)).item())
