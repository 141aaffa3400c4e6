from dataclasses import replace

import pytest
import torch
from loss_batches import flat, loss_batch, noisy

from pellucid.losses.frequency import frequency


def test_frequency_of_a_wave_is_that_of_its_two_frequencies() -> None:
    # 0.2 cos puts 0.2 / 2 x sqrt(N) into two of the N = 16 x 16 frequencies.
    wave = (2 * torch.pi * 3 / 16 * torch.arange(16)).cos().expand(1, 2, 16, 16)
    target = flat(0.5)
    loss = frequency(target + 0.2 * wave, loss_batch(target=target))
    assert loss.item() == pytest.approx(2 * 0.1 * 16 / 256, rel=1e-5)


def test_frequency_does_not_change_when_both_images_are_shifted() -> None:
    restored, made = noisy()
    assert made.target is not None
    shifted = replace(made, target=made.target.roll((3, 5), (2, 3)))
    torch.testing.assert_close(frequency(restored.roll((3, 5), (2, 3)), shifted), frequency(restored, made))


def test_frequency_of_noise_hardly_depends_on_how_much_is_valid() -> None:
    noise = 0.1 * torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    made = loss_batch(target=torch.zeros_like(noise))
    valid = made.valid.clone()
    valid[..., :48] = False
    whole, quarter = frequency(noise, made), frequency(noise, replace(made, valid=valid))
    assert quarter.item() == pytest.approx(whole.item(), rel=0.1)
