from pathlib import Path

import golden
import pytest
import torch
from loss_batches import flat, loss_batch, noisy
from torchmetrics.functional.image import structural_similarity_index_measure

from pellucid.losses.ssim import ssim


def test_ssim_of_flat_images_follows_from_their_means() -> None:
    # Without variance SSIM is (2ab + C1) / (a² + b² + C1), C1 = 0.01².
    expected = 1 - (2 * 0.3 * 0.5 + 1e-4) / (0.3**2 + 0.5**2 + 1e-4)
    assert ssim(flat(0.3), loss_batch(target=flat(0.5))).item() == pytest.approx(expected, rel=1e-4)


def test_ssim_equals_the_published_one_for_images_in_a_range_of_1(golden_folder: Path) -> None:
    published = golden.arrays(golden_folder, "sr3_losses")
    # Published: the range of values is that of the batch; SSIM does not change when both are scaled.
    span = max(image.max() - image.min() for image in (published["pred"], published["hr"]))
    loss = ssim(published["pred"] / span, loss_batch(target=published["hr"] / span))
    torch.testing.assert_close(loss, published["ssim_loss"], rtol=0, atol=1e-6)


def test_ssim_equals_that_of_torchmetrics() -> None:
    restored, made = noisy()
    assert made.target is not None
    expected = 1 - structural_similarity_index_measure(restored, made.target, data_range=1.0)
    torch.testing.assert_close(ssim(restored, made), expected, rtol=0, atol=1e-5)
