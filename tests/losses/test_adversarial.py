import math
from dataclasses import replace

import pytest
import torch
from loss_batches import noisy
from torch import nn

from pellucid.losses.adversarial import AdversarialLoss, discriminator_losses, discriminators
from pellucid.losses.l1 import l1
from pellucid.networks import _patch_discriminator


def adversarial() -> AdversarialLoss:
    torch.manual_seed(0)
    return AdversarialLoss(_patch_discriminator.build(_patch_discriminator.Config(bands=3, width=8)))


def test_an_undecided_discriminator_costs_the_logarithm_of_two() -> None:
    restored, made = noisy()
    loss = AdversarialLoss(nn.Conv2d(3, 1, 8, stride=8))
    nn.init.zeros_(loss.discriminator.weight)
    nn.init.zeros_(loss.discriminator.bias)
    assert loss(restored, made).item() == pytest.approx(math.log(2))
    assert loss.discriminator_loss(restored, made).item() == pytest.approx(math.log(2))


def test_discriminator_and_network_are_trained_apart() -> None:
    restored, made = noisy()
    restored.requires_grad_()
    loss = adversarial()
    loss(restored, made).backward()
    assert restored.grad.any()
    assert all(weight.grad is None for weight in loss.discriminator.parameters())
    restored.grad = None
    loss.discriminator_loss(restored, made).backward()
    assert restored.grad is None
    assert all(weight.grad.any() for weight in loss.discriminator.parameters())


def test_the_discriminator_learns_to_recognise_restored_images() -> None:
    restored, made = noisy()
    made = replace(made, target=0.3 + 0 * made.target)
    loss = adversarial()
    optimizer = torch.optim.Adam(loss.discriminator.parameters(), lr=0.003)
    untrained = loss.discriminator_loss(restored, made).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss.discriminator_loss(restored, made).backward()
        optimizer.step()
    assert loss.discriminator_loss(restored, made) < untrained / 2
    assert loss(made.target, made) < loss(restored, made)


def test_the_discriminator_does_not_see_invalid_pixels() -> None:
    restored, made = noisy()
    valid = made.valid.clone()
    valid[:, :, :, :16] = False
    made = replace(made, valid=valid)
    other = restored.clone()
    other[..., :16] = 0.9
    loss = adversarial()
    for function in (loss, loss.discriminator_loss):
        torch.testing.assert_close(function(restored, made), function(other, made))
    nothing = replace(made, valid=torch.zeros_like(valid))
    assert loss(restored, nothing) == 0


def test_discriminators_are_trained_in_training_only() -> None:
    restored, made = noisy()
    loss = adversarial()
    terms = {"l1": (1.0, l1), "denoise": (1.0, None), "adversarial": (0.01, loss)}
    assert dict(discriminators(terms)) == {"adversarial": loss.discriminator}
    found = discriminator_losses(terms, restored, made)
    assert found.keys() == {"adversarial_discriminator"}
    torch.testing.assert_close(
        found["adversarial_discriminator"], 0.01 * loss.discriminator_loss(restored, made)
    )
    with torch.no_grad():
        assert discriminator_losses(terms, restored, made) == {}
