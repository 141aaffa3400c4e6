import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import golden
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from pellucid.config import ImageTerm
from pellucid.data.batch import Batch
from pellucid.losses import (
    LOSSES,
    AdversarialLoss,
    PerceptualLoss,
    cloud_adaptive,
    frequency,
    judges,
    l1,
    l2,
    log_l2,
    multi_scale,
    ssim,
    teach,
)
from pellucid.networks import _patch_discriminator
from pellucid.networks._vgg import Vgg

TERMS = [*LOSSES, "perceptual"]


def term(name: str) -> Callable[[Tensor, Batch], Tensor]:
    if name != "perceptual":
        return LOSSES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # After the second block's ReLU: half as many pixels per side.
        return PerceptualLoss(Vgg((1, 1, 1, 1, 1), taps=[4]))


def flat(value: float, size: int = 16) -> Tensor:
    return torch.full((1, 2, size, size), value)


def batch(*, target: Tensor, degraded: Tensor | None = None, cloud: float = 1.0) -> Batch:
    return Batch(
        degraded=torch.zeros_like(target) if degraded is None else degraded,
        target=target,
        cloud=torch.full_like(target[:, :1], cloud),
        valid=torch.ones_like(target[:, :1], dtype=torch.bool),
        key=tuple(f"image {i}" for i in range(len(target))),
    )


def noisy(seed: int = 0) -> tuple[Tensor, Batch]:
    generator = torch.Generator().manual_seed(seed)
    restored, target, degraded = torch.rand(3, 2, 3, 24, 24, generator=generator)
    made = batch(target=target, degraded=degraded)
    return restored, replace(made, cloud=torch.rand(2, 1, 24, 24, generator=generator))


def test_l1_is_the_mean_absolute_error() -> None:
    assert l1(flat(0.3), batch(target=flat(0.5))).item() == pytest.approx(0.2)


def test_l2_is_the_mean_squared_error() -> None:
    assert l2(flat(0.3), batch(target=flat(0.5))).item() == pytest.approx(0.04)


def test_log_l2_counts_the_bel_that_each_image_lacks_to_40_db() -> None:
    assert log_l2(flat(0.4), batch(target=flat(0.5))).item() == pytest.approx(math.log10(101))
    images = torch.cat([flat(0.4), flat(0.5)])
    assert log_l2(images, batch(target=torch.full_like(images, 0.5))).item() == pytest.approx(
        math.log10(101) / 2
    )


def test_no_term_has_the_name_of_another_figure_of_validation() -> None:
    """Both go by `val_NAME`, and would be averaged."""
    assert not any(name.startswith("psnr") for name in get_args(ImageTerm))


def test_ssim_of_flat_images_follows_from_their_means() -> None:
    # Without variance SSIM is (2ab + C1) / (a² + b² + C1), C1 = 0.01².
    expected = 1 - (2 * 0.3 * 0.5 + 1e-4) / (0.3**2 + 0.5**2 + 1e-4)
    assert ssim(flat(0.3), batch(target=flat(0.5))).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("cloud", "expected"),
    # restored 0.3, target 0.5, degraded 0.9: |0.3 - (0.5 cloud + 0.9 (1 - cloud))| + |0.3 - 0.5|
    [(1.0, 0.2 + 0.2), (0.0, 0.6 + 0.2), (0.5, 0.4 + 0.2)],
)
def test_cloud_adaptive_keeps_the_clear_and_restores_the_cloudy(cloud: float, expected: float) -> None:
    made = batch(target=flat(0.5), degraded=flat(0.9), cloud=cloud)
    assert cloud_adaptive(flat(0.3), made).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["l1", "l2", "log_l2", "ssim", "multi_scale", "frequency", "perceptual"])
def test_a_perfect_result_costs_nothing(name: str) -> None:
    _, made = noisy()
    assert term(name)(made.target, made).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_pixels_that_are_not_valid_do_not_count(name: str) -> None:
    restored, made = noisy()
    valid = made.valid.clone()
    valid[..., :10, :] = False
    made = replace(made, valid=valid)
    expected = term(name)(restored, made)
    other = restored.clone()
    other[..., :10, :] = 7
    torch.testing.assert_close(term(name)(other, made), expected)
    assert not torch.equal(expected, term(name)(restored, replace(made, valid=torch.ones_like(valid))))


@pytest.mark.parametrize("name", ["l1", "l2", "log_l2", "cloud_adaptive", "multi_scale"])
def test_half_the_pixels_weigh_as_much_as_all(name: str) -> None:
    made = batch(target=flat(0.5), degraded=flat(0.9), cloud=0.5)
    half = made.valid.clone()
    half[..., 8:] = False
    torch.testing.assert_close(term(name)(flat(0.3), replace(made, valid=half)), term(name)(flat(0.3), made))


@pytest.mark.parametrize("name", TERMS)
def test_a_batch_without_a_valid_pixel_costs_nothing_and_teaches_nothing(name: str) -> None:
    restored, made = noisy()
    restored.requires_grad_()
    loss = term(name)(restored, replace(made, valid=torch.zeros_like(made.valid)))
    loss.backward()
    assert loss.item() == 0
    assert restored.grad is not None
    assert torch.equal(restored.grad, torch.zeros_like(restored))


@pytest.mark.parametrize("name", TERMS)
def test_the_gradient_points_downhill(name: str) -> None:
    restored, made = noisy()
    restored.requires_grad_()
    loss = term(name)(restored, made)
    (slope,) = torch.autograd.grad(loss, restored)
    better = term(name)(restored - 0.01 * slope / slope.norm(), made)
    assert better < loss


@pytest.mark.parametrize("name", ["log_l2", "ssim", "multi_scale", "frequency"])
def test_delicate_sums_are_computed_in_full_precision_under_autocast(name: str) -> None:
    restored, made = noisy()
    with torch.autocast("cpu", torch.bfloat16):
        under = term(name)(restored, made)
    assert torch.equal(under, term(name)(restored, made))


@pytest.mark.parametrize("name", TERMS)
def test_an_image_of_low_precision_costs_about_as_much_as_in_full(name: str) -> None:
    restored, made = noisy()
    with torch.autocast("cpu", torch.bfloat16):
        low = term(name)(restored.bfloat16(), made)
    torch.testing.assert_close(low, term(name)(restored, made), rtol=0.01, atol=0, check_dtype=False)


def test_l1_and_multi_scale_equal_the_published_ones(golden_folder: Path) -> None:
    published = golden.arrays(golden_folder, "sr3_losses")
    made = batch(target=published["hr"])
    # Published as a sum; here, as every term, a mean.
    total = l1(published["pred"], made) * published["pred"].numel()
    torch.testing.assert_close(total, published["l1_sum"], **golden.TOLERANCE)
    torch.testing.assert_close(
        multi_scale(published["pred"], made), published["multi_scale"], **golden.TOLERANCE
    )


def test_ssim_equals_the_published_one_for_images_in_a_range_of_1(golden_folder: Path) -> None:
    published = golden.arrays(golden_folder, "sr3_losses")
    # Published: the range of values is that of the batch; SSIM does not change when both are scaled.
    span = max(image.max() - image.min() for image in (published["pred"], published["hr"]))
    loss = ssim(published["pred"] / span, batch(target=published["hr"] / span))
    torch.testing.assert_close(loss, published["ssim_loss"], rtol=0, atol=1e-6)


def test_ssim_equals_that_of_torchmetrics() -> None:
    restored, made = noisy()
    assert made.target is not None
    expected = 1 - structural_similarity_index_measure(restored, made.target, data_range=1.0)
    torch.testing.assert_close(ssim(restored, made), expected, rtol=0, atol=1e-5)


def test_multi_scale_counts_a_constant_error_at_every_scale() -> None:
    assert multi_scale(flat(0.3), batch(target=flat(0.5))).item() == pytest.approx(3 * 0.04)


def test_multi_scale_reduces_images_whose_sides_do_not_divide() -> None:
    made = batch(target=torch.zeros(1, 2, 15, 18))
    error = torch.full((1, 2, 15, 18), 0.2)
    error[..., 12:, :] = error[..., 16:] = 7
    valid = error[:, :1] < 1
    loss = multi_scale(error, replace(made, valid=valid))
    assert loss.item() == pytest.approx(3 * 0.04)


def test_frequency_of_a_wave_is_that_of_its_two_frequencies() -> None:
    # 0.2 cos puts 0.2 / 2 x sqrt(N) into two of the N = 16 x 16 frequencies.
    wave = (2 * torch.pi * 3 / 16 * torch.arange(16)).cos().expand(1, 2, 16, 16)
    target = flat(0.5)
    loss = frequency(target + 0.2 * wave, batch(target=target))
    assert loss.item() == pytest.approx(2 * 0.1 * 16 / 256, rel=1e-5)


def test_frequency_does_not_change_when_both_images_are_shifted() -> None:
    restored, made = noisy()
    assert made.target is not None
    shifted = replace(made, target=made.target.roll((3, 5), (2, 3)))
    torch.testing.assert_close(frequency(restored.roll((3, 5), (2, 3)), shifted), frequency(restored, made))


def test_frequency_of_noise_hardly_depends_on_how_much_is_valid() -> None:
    noise = 0.1 * torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    made = batch(target=torch.zeros_like(noise))
    valid = made.valid.clone()
    valid[..., :48] = False
    whole, quarter = frequency(noise, made), frequency(noise, replace(made, valid=valid))
    assert quarter.item() == pytest.approx(whole.item(), rel=0.1)


def test_perceptual_is_the_mean_squared_difference_of_features() -> None:
    restored, made = noisy()
    assert made.target is not None
    loss = term("perceptual")
    assert isinstance(loss, PerceptualLoss)
    (first,), (second,) = loss.network(restored), loss.network(made.target)
    torch.testing.assert_close(loss(restored, made), (first - second).square().mean())


def test_perceptual_refuses_what_is_neither_grey_nor_rgb() -> None:
    with pytest.raises(ValueError, match="the image has 2 bands, VGG needs grey or RGB"):
        term("perceptual")(flat(0.3), batch(target=flat(0.5)))


def test_cloud_adaptive_needs_a_cloud_map() -> None:
    restored, made = noisy()
    with pytest.raises(ValueError, match="the cloud_adaptive loss needs a cloud map"):
        cloud_adaptive(restored, replace(made, cloud=None))


def test_a_loss_needs_a_target() -> None:
    restored, made = noisy()
    with pytest.raises(ValueError, match="image 0 has no target"):
        l1(restored, replace(made, target=None))


def adversarial() -> AdversarialLoss:
    torch.manual_seed(0)
    return AdversarialLoss(_patch_discriminator.build(_patch_discriminator.Config(bands=3, width=8)))


def test_an_undecided_judge_costs_the_logarithm_of_two() -> None:
    restored, made = noisy()
    loss = AdversarialLoss(nn.Conv2d(3, 1, 8, stride=8))
    nn.init.zeros_(loss.judge.weight)
    nn.init.zeros_(loss.judge.bias)
    assert loss(restored, made).item() == pytest.approx(math.log(2))
    assert loss.teaching(restored, made).item() == pytest.approx(math.log(2))


def test_judge_and_judged_learn_apart() -> None:
    restored, made = noisy()
    restored.requires_grad_()
    loss = adversarial()
    loss(restored, made).backward()
    assert restored.grad.any()
    assert all(weight.grad is None for weight in loss.judge.parameters())
    restored.grad = None
    loss.teaching(restored, made).backward()
    assert restored.grad is None
    assert all(weight.grad.any() for weight in loss.judge.parameters())


def test_the_judge_learns_to_tell_and_the_image_to_deceive_it() -> None:
    restored, made = noisy()
    made = replace(made, target=0.3 + 0 * made.target)
    loss = adversarial()
    optimizer = torch.optim.Adam(loss.judge.parameters(), lr=0.003)
    untaught = loss.teaching(restored, made).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss.teaching(restored, made).backward()
        optimizer.step()
    assert loss.teaching(restored, made) < untaught / 2
    assert loss(made.target, made) < loss(restored, made)


def test_invalid_pixels_are_not_judged() -> None:
    restored, made = noisy()
    valid = made.valid.clone()
    valid[:, :, :, :16] = False
    made = replace(made, valid=valid)
    other = restored.clone()
    other[..., :16] = 0.9
    loss = adversarial()
    for judge in (loss, loss.teaching):
        torch.testing.assert_close(judge(restored, made), judge(other, made))
    nothing = replace(made, valid=torch.zeros_like(valid))
    assert loss(restored, nothing) == 0


def test_judges_are_taught_in_training_only() -> None:
    restored, made = noisy()
    loss = adversarial()
    terms = {"l1": (1.0, l1), "denoise": (1.0, None), "adversarial": (0.01, loss)}
    assert dict(judges(terms)) == {"adversarial": loss.judge}
    taught = teach(terms, restored, made)
    assert taught.keys() == {"adversarial_judge"}
    torch.testing.assert_close(taught["adversarial_judge"], 0.01 * loss.teaching(restored, made))
    with torch.no_grad():
        assert teach(terms, restored, made) == {}
