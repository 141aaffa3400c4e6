import dataclasses
import math
from pathlib import Path

import golden
import pytest
import torch
from torch import Tensor, nn

from pellucid.networks.cross_attention import Config, CrossAttention, CrossAttentionNet, Palette, build
from pellucid.published._read import read_checkpoint

TINY = Config(optical_bands=4, radar_bands=1, width=4, num_heads=2)
COLORED = dataclasses.replace(TINY, blend=True, num_colors=3)
GOLDENS = [("crossattn_13_2", 13, 2), ("crossattn_seed_3_1", 3, 1)]


def published(folder: Path, name: str, checkpoint: Path) -> CrossAttentionNet:
    """The network with the golden weights, by way of a checkpoint as the published code saves it."""
    torch.save({"epoch": 1, "model_state_dict": golden.state_dict(folder, name)}, checkpoint)
    found = read_checkpoint(checkpoint, "cross-attention")
    assert found.network.pop("name") == "cross_attention"
    network = build(Config(**found.network)).eval()
    network.load_state_dict(found.weights)
    return network


def inputs(config: Config, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    batch, height, width = size
    generator = torch.Generator().manual_seed(1)
    return (
        torch.rand(batch, config.optical_bands, height, width, generator=generator),
        torch.rand(batch, config.radar_bands, height, width, generator=generator),
    )


@pytest.mark.parametrize(("name", "optical_bands", "radar_bands"), GOLDENS)
@torch.inference_mode()
def test_network_and_its_stages_equal_the_published_ones(
    golden_folder: Path, tmp_path: Path, name: str, optical_bands: int, radar_bands: int
) -> None:
    known = golden.arrays(golden_folder, name)
    network = published(golden_folder, name, tmp_path / "CR_net.pth")
    optical = network.optical_encoder(known["opt"])[2]
    radar = network.sar_encoder(known["sar"])[2]
    cross = network.cross_attn(known["opt_e3"], known["sar_e3"])
    stages = {
        "opt_e3": optical,
        "sar_e3": radar,
        "cross": cross,
        "gated": network.speckle_gating(known["cross"], known["sar_e3"]),
        "out": network(known["opt"], known["sar"]),
    }
    assert known["opt"].shape[1] == optical_bands
    assert known["sar"].shape[1] == radar_bands
    for stage, value in stages.items():
        torch.testing.assert_close(value, known[stage], **golden.TOLERANCE)


@pytest.mark.parametrize(
    ("name", "optical_bands", "radar_bands", "count"),
    [("crossattn_13_2", 13, 2, 4_085_005), ("crossattn_seed_3_1", 3, 1, 4_078_019)],
)
def test_network_has_the_published_parameters(
    golden_folder: Path, name: str, optical_bands: int, radar_bands: int, count: int
) -> None:
    with torch.device("meta"):
        network = build(Config(optical_bands, radar_bands))
    assert sum(weight.numel() for weight in network.parameters()) == count
    ours = {key: weight.shape for key, weight in network.state_dict().items()}
    assert ours == {key: weight.shape for key, weight in golden.state_dict(golden_folder, name).items()}


def test_attention_over_equal_radar_pixels_returns_their_value_everywhere() -> None:
    torch.manual_seed(0)
    attention = CrossAttention(8, 2)
    pixel = torch.randn(1, 8, 1, 1)
    out = attention(torch.randn(1, 8, 3, 5), pixel.expand(1, 8, 3, 5))
    value = attention.proj(attention.v_proj(pixel.flatten()))
    torch.testing.assert_close(out, value.view(1, 8, 1, 1).expand(1, 8, 3, 5))


def test_attention_does_not_depend_on_the_order_of_the_radar_pixels() -> None:
    torch.manual_seed(0)
    attention = CrossAttention(8, 2)
    optical, radar = torch.randn(2, 8, 4, 6), torch.randn(2, 8, 4, 6)
    torch.testing.assert_close(attention(optical, radar.flip(2, 3)), attention(optical, radar))


@pytest.mark.parametrize("size", [(1, 4, 12), (2, 16, 8)])
def test_any_size_that_the_stride_divides_is_restored(size: tuple[int, int, int]) -> None:
    network = build(TINY).eval()
    degraded, sar = inputs(TINY, size)
    assert network.stride == 4
    with torch.inference_mode():
        assert network(degraded, sar).shape == degraded.shape


@pytest.mark.parametrize("config", [TINY, COLORED])
def test_samples_of_a_batch_do_not_touch_each_other(config: Config) -> None:
    torch.manual_seed(0)
    network = build(config).eval()
    degraded, sar = inputs(TINY, (3, 8, 12))
    with torch.inference_mode():
        alone = torch.cat([network(degraded[i : i + 1], sar[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(network(degraded, sar), alone)


@pytest.mark.parametrize("config", [TINY, COLORED])
def test_gradients_reach_every_parameter_and_both_inputs(config: Config) -> None:
    torch.manual_seed(0)
    network = build(config)
    degraded, sar = (image.requires_grad_() for image in inputs(TINY, (1, 8, 8)))
    network(degraded, sar).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        # A bias that is the same for all keys cancels in the softmax.
        assert weight.grad.any() or name == "cross_attn.k_proj.bias", name
    assert degraded.grad is not None
    assert sar.grad is not None
    assert sar.grad.any()


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_palette_holds_the_ground_that_is_seen_or_else_the_usual_one(is_seen: bool) -> None:
    palette = Palette(8, 4, 3)
    nn.init.constant_(palette.score.bias, 50 if is_seen else -50)
    nn.init.zeros_(palette.score.weight)
    nn.init.constant_(palette.usual, 0.1)
    nn.init.constant_(palette.log_doubt, math.log(0.25))
    ground = torch.rand(2, 4, 16, 24)
    with torch.inference_mode():
        colors = palette(torch.rand(2, 8, 4, 6), ground)
    usual = torch.full((2, 4), 0.1)
    expected = 0.2 * usual + 0.8 * ground.mean((2, 3)) if is_seen else usual
    torch.testing.assert_close(colors, expected[:, None].expand(2, 3, 4))


def test_a_palette_tells_every_pixel_of_all_others() -> None:
    torch.manual_seed(0)
    network = build(COLORED).eval()
    degraded, sar = inputs(TINY, (1, 128, 128))
    other = degraded.clone()
    other[..., :8, :8] = 0
    far = (..., slice(120, 128), slice(120, 128))
    with torch.inference_mode():
        assert not torch.equal(network(degraded, sar)[far], network(other, sar)[far])
        nn.init.constant_(network.palette.score.bias, -50)  # no ground is seen
        torch.testing.assert_close(network(degraded, sar)[far], network(other, sar)[far])


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_heads is 3, must divide 4 \* width = 16"):
        build(dataclasses.replace(TINY, num_heads=3))
