from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from pellucid.apply.joint_tiles import Tiling, tiled
from pellucid.data.batch import Batch, Condition
from pellucid.data.ranges import PICTURE, SENTINEL1
from pellucid.generative.noise import NoiseField, TileNoise
from pellucid.generative.path import RectifiedFlow, VariancePreserving, beta_schedule
from pellucid.methods.generative import Generative, GenerativeConfig
from pellucid.methods.space import Latents

RADAR = SENTINEL1.select(("VV",))
STABLE = VariancePreserving(beta_schedule("linear", 20, linear_start=1e-3, linear_end=0.3), "image")


class Local(nn.Module):
    """Looks at a pixel, its neighbours and what it is told there."""

    stride = 4

    def __init__(self, reach: int = 0) -> None:
        super().__init__()
        self.reach = reach
        self.shapes: list[torch.Size] = []

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        self.shapes.append(x_t.shape)
        assert condition.sar is not None
        near = avg_pool2d(x_t, 2 * self.reach + 1, 1, self.reach, count_include_pad=False)
        return torch.tanh(near + condition.sar + c_noise.view(-1, 1, 1, 1))


class Moody(Local):
    """Takes its colour from the mean of all that it sees, as norms of groups of channels do."""

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        assert condition.sar is not None
        assert c_noise.shape == x_t.shape[:1]
        mood = condition.sar.mean((1, 2, 3), keepdim=True)
        return (0.3 * condition.sar + 3 * mood).expand_as(x_t).clamp(-1, 1)


class Blocks:
    """Halves the sides of images and doubles them again, pixel by pixel."""

    def __init__(self) -> None:
        self.network: Any = nn.Identity()
        self.network.config, self.network.factor = SimpleNamespace(latent_channels=3), 2

    def encode(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        known = torch.ones_like(image[:, :1]) if valid is None else valid.float()
        return avg_pool2d(2 * image * known - 1, 2).expand(-1, 3, -1, -1)

    def decode(self, values: Tensor) -> Tensor:
        return (interpolate(values, scale_factor=2) + 1) / 2


def method(network: nn.Module, path: Any = STABLE, *, is_latent: bool = False, **sampling: Any) -> Generative:
    space: Any = Latents(Blocks()) if is_latent else None  # type: ignore[arg-type]
    made = Generative(
        network,
        GenerativeConfig(prediction="image", **{"steps": 3, **sampling}),
        optical=PICTURE,
        radar=RADAR,
        losses={},
        space=space,
        sar_space=space,
    )
    made.path = path
    return made


def batch(height: int, width: int) -> Batch:
    sar = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    valid = torch.ones_like(sar, dtype=torch.bool)
    return Batch(degraded=sar.expand(-1, 3, -1, -1), sar=sar, valid=valid, key=("place",))


def noise(height: int, width: int) -> TileNoise:
    return TileNoise((NoiseField(3),), (0,), (0,), height, width)


@pytest.mark.parametrize("is_latent", [False, True])
@pytest.mark.parametrize("many", [1, 5])
def test_tiles_of_a_network_that_looks_at_pixels_give_the_whole(many: int, is_latent: bool) -> None:
    for options in ({}, {"eta": 1.0}, {"solver": "dpm++"}, {"strength": 0.7, "steps": 10}):
        whole = method(Local(), is_latent=is_latent, **options)
        parts = tiled(whole, Tiling(tile=32, overlap=16, batch=many))
        expected = whole.restore(batch(88, 56), noise(88, 56))
        found = parts.restore(batch(88, 56), noise(88, 56))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_what_a_tile_sees_only_in_part_does_not_count() -> None:
    whole = method(Local(reach=4), RectifiedFlow("image"))
    parts = tiled(whole, Tiling(tile=32, overlap=16))
    expected, found = (each.restore(batch(80, 56), noise(80, 56)) for each in (whole, parts))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_tiles_agree_on_one_image_whatever_each_would_have_made_of_it() -> None:
    """Each tile wants another colour; steps from pixel to pixel stay as small as blending makes them."""
    given = batch(64, 192)
    ramp = torch.linspace(0, 1, 192).expand(1, 1, 64, -1)
    given = Batch(**{**vars(given), "sar": ramp, "degraded": ramp.expand(-1, 3, -1, -1)})
    parts = tiled(method(Moody(), steps=20), Tiling(tile=64, overlap=32))
    result = parts.restore(given, noise(64, 192))
    assert result.std(-1).mean() > 0.1
    assert result.diff(dim=-1).abs().max() < 0.05
    assert result.diff(dim=-2).abs().max() < 1e-5


def test_an_image_no_larger_than_a_tile_is_one_call_a_step() -> None:
    network = Local()
    tiled(method(network), Tiling(tile=64, overlap=16)).restore(batch(48, 64), noise(48, 64))
    assert network.shapes == [torch.Size([1, 3, 48, 64])] * 3


def test_tiles_are_looked_at_together_and_the_method_stays_as_it_was() -> None:
    network = Local()
    whole = method(network)
    tiled(whole, Tiling(tile=32, overlap=16, batch=4)).restore(batch(32, 112), noise(32, 112))
    assert {shape[0] for shape in network.shapes} == {4, 2}
    assert whole.network is network


def test_texts_and_maps_of_another_size_reach_each_tile() -> None:
    seen: list[Condition] = []

    class Reader(nn.Module):
        stride = 4

        def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
            assert c_noise.shape == x_t.shape[:1]
            seen.append(condition)
            return x_t

    parts = tiled(method(Reader(), is_latent=True), Tiling(tile=32, overlap=16, batch=2))
    cloud = torch.arange(64.0).expand(1, 1, 32, -1)
    tokens, scale = torch.rand(1, 7, 5), torch.tensor([2.0])
    parts.network(
        torch.zeros(1, 3, 16, 32), torch.zeros(1), Condition(cloud=cloud, tokens=tokens, guidance=scale)
    )
    first = seen[0]
    assert first.tokens is not None
    assert first.tokens.equal(tokens.repeat(2, 1, 1))
    assert first.guidance is not None
    assert first.guidance.equal(scale.repeat(2))
    assert first.cloud is not None
    assert first.cloud[:, 0, 0, 0].tolist() == [0.0, 16.0]
    assert first.cloud.shape == (2, 1, 32, 32)
