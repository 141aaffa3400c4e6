import time

import pytest
import torch

from pellucid.generative.noise import NoiseField, TileNoise, keyed_noise


def test_noise_is_standard_normal() -> None:
    noise = NoiseField(3).field(-100, 50, 512, 512, channels=2).double()
    num = noise.numel()
    assert abs(noise.mean()) < 4 / num**0.5
    assert abs(noise.var() - 1) < 4 * (2 / num) ** 0.5
    assert abs((noise**3).mean()) < 4 * (15 / num) ** 0.5
    assert abs((noise**4).mean() - 3) < 4 * (96 / num) ** 0.5
    torch.testing.assert_close(
        noise.flatten().sort().values[num * 975 // 1000], torch.tensor(1.96).double(), atol=0.02, rtol=0
    )


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1), (0, 64), (64, 0), (3, -5)])
def test_noise_is_white(shift: tuple[int, int]) -> None:
    noise = NoiseField(1).field(0, 0, 512, 512, channels=1)[0].double()
    assert abs((noise * noise.roll(shift, (0, 1))).mean()) < 4 / 512


def test_its_spectrum_is_flat() -> None:
    noise = NoiseField(2).field(0, 0, 512, 512, channels=1)[0].double()
    power = torch.fft.fft2(noise).abs().square() / noise.numel()
    # Each of the 8 x 8 parts of the frequencies averages some 4096 / 2 independent powers of mean 1.
    parts = power.view(8, 64, 8, 64).mean((1, 3))
    assert (parts - 1).abs().max() < 5 / 2048**0.5


@pytest.mark.parametrize("corner", [(0, 0), (-65, -200), (63, 1), (-1, -1)])
def test_windows_agree_bit_for_bit_where_they_overlap(corner: tuple[int, int]) -> None:
    field = NoiseField(7)
    y, x = corner
    whole = field.field(-300, -300, 600, 600, channels=2, step=5, sample=1)
    part = field.field(y, x, 131, 70, channels=2, step=5, sample=1)
    assert torch.equal(part, whole[:, y + 300 : y + 431, x + 300 : x + 370])


def test_a_channel_does_not_depend_on_how_many_there_are() -> None:
    field = NoiseField(7)
    assert torch.equal(field.field(0, 0, 8, 8, channels=1)[0], field.field(0, 0, 8, 8, channels=3)[0])


def test_every_seed_step_sample_and_channel_has_its_own_noise() -> None:
    window = {"y": 0, "x": 0, "height": 128, "width": 128}
    fields = [
        *NoiseField(0).field(**window, channels=2),
        NoiseField(1).field(**window, channels=1)[0],
        NoiseField(-1).field(**window, channels=1)[0],
        NoiseField(2**64).field(**window, channels=1)[0],
        NoiseField(0).field(**window, channels=1, step=1)[0],
        NoiseField(0).field(**window, channels=1, sample=1)[0],
        NoiseField(0).field(64, 0, 128, 128, channels=1)[0],
        NoiseField(0).field(0, -64, 128, 128, channels=1)[0],
    ]
    correlation = torch.corrcoef(torch.stack(fields).flatten(1).double())
    assert (correlation - torch.eye(len(fields))).abs().max() < 5 / 128


def test_tiles_of_one_scene_share_their_noise() -> None:
    field = NoiseField(4)
    tiles = TileNoise((field, field), (0, -32), (64, 96), 96, 64, sample=2)(3, 2)
    assert tiles.shape == (2, 2, 96, 64)
    assert torch.equal(tiles[0, :, :64, 32:], tiles[1, :, 32:, :32])


def test_latents_have_the_noise_of_their_own_grid() -> None:
    field = NoiseField(4)
    tiles = TileNoise((field,), (64,), (-32,), 32, 16)(1, 4, factor=8)
    assert torch.equal(tiles[0], field.field(8, -4, 4, 2, channels=4, step=1))
    with pytest.raises(
        ValueError, match=r"32 x 16 px at rows \(64,\) and columns \(-32,\) do not divide by 5"
    ):
        TileNoise((field,), (64,), (-32,), 32, 16)(1, 4, factor=5)


def test_noise_of_a_key_does_not_depend_on_its_batch() -> None:
    together = keyed_noise(("a", "b"), 16, 24, sample=2)(0, 3)
    assert torch.equal(keyed_noise(("b",), 16, 24, sample=2)(0, 3)[0], together[1])
    for other in (
        keyed_noise(("b",), 16, 24, sample=1),
        keyed_noise(("a",), 16, 24, sample=2),
    ):
        assert not torch.equal(other(0, 3)[0], together[1])


def test_a_window_takes_a_few_milliseconds() -> None:
    field, seconds = NoiseField(0), []
    for step in range(5):
        start = time.thread_time()
        field.field(17, -13, 256, 256, channels=1, step=step)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.03  # 0.0015 on an idle core of 2020
