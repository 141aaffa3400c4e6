from dataclasses import replace

import pytest
import torch
from loss_batches import flat, loss_batch, noisy, term

from pellucid.losses._shelf import known_terms

TERMS = [name for name in known_terms() if name != "adversarial"]


def test_no_term_has_the_name_of_another_figure_of_validation() -> None:
    """Both go by `val_NAME`, and would be averaged."""
    assert not any(name.startswith("psnr") for name in known_terms())


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
    made = loss_batch(target=flat(0.5), degraded=flat(0.9), cloud=0.5)
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
