from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.losses import LOSSES, cloud_adaptive, l1, l2, ssim


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
    restored, target, degraded = torch.rand(3, 2, 2, 24, 24, generator=generator)
    made = batch(target=target, degraded=degraded)
    return restored, replace(made, cloud=torch.rand(2, 1, 24, 24, generator=generator))


def test_l1_is_the_mean_absolute_error() -> None:
    assert l1(flat(0.3), batch(target=flat(0.5))).item() == pytest.approx(0.2)


def test_l2_is_the_mean_squared_error() -> None:
    assert l2(flat(0.3), batch(target=flat(0.5))).item() == pytest.approx(0.04)


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


@pytest.mark.parametrize("name", ["l1", "l2", "ssim"])
def test_a_perfect_result_costs_nothing(name: str) -> None:
    _, made = noisy()
    assert LOSSES[name](made.target, made).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_pixels_that_are_not_valid_do_not_count(name: str) -> None:
    restored, made = noisy()
    valid = made.valid.clone()
    valid[..., :10, :] = False
    made = replace(made, valid=valid)
    expected = LOSSES[name](restored, made)
    other = restored.clone()
    other[..., :10, :] = 7
    torch.testing.assert_close(LOSSES[name](other, made), expected)
    assert not torch.equal(expected, LOSSES[name](restored, replace(made, valid=torch.ones_like(valid))))


@pytest.mark.parametrize("name", ["l1", "l2", "cloud_adaptive"])
def test_half_the_pixels_weigh_as_much_as_all(name: str) -> None:
    made = batch(target=flat(0.5), degraded=flat(0.9), cloud=0.5)
    half = made.valid.clone()
    half[..., 8:] = False
    torch.testing.assert_close(
        LOSSES[name](flat(0.3), replace(made, valid=half)), LOSSES[name](flat(0.3), made)
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_a_valid_pixel_costs_nothing_and_teaches_nothing(name: str) -> None:
    restored, made = noisy()
    restored.requires_grad_()
    loss = LOSSES[name](restored, replace(made, valid=torch.zeros_like(made.valid)))
    loss.backward()
    assert loss.item() == 0
    assert restored.grad is not None
    assert torch.equal(restored.grad, torch.zeros_like(restored))


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_points_downhill(name: str) -> None:
    restored, made = noisy()
    restored.requires_grad_()
    loss = LOSSES[name](restored, made)
    (slope,) = torch.autograd.grad(loss, restored)
    better = LOSSES[name](restored - 0.01 * slope / slope.norm(), made)
    assert better < loss


def test_ssim_is_computed_in_full_precision_under_autocast() -> None:
    restored, made = noisy()
    with torch.autocast("cpu", torch.bfloat16):
        under = ssim(restored, made)
    assert torch.equal(under, ssim(restored, made))


def test_cloud_adaptive_needs_a_cloud_map() -> None:
    restored, made = noisy()
    with pytest.raises(ValueError, match="the cloud_adaptive loss needs a cloud map"):
        cloud_adaptive(restored, replace(made, cloud=None))


def test_a_loss_needs_a_target() -> None:
    restored, made = noisy()
    with pytest.raises(ValueError, match="image 0 has no target"):
        l1(restored, replace(made, target=None))
