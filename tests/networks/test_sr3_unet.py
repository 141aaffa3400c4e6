import dataclasses
from pathlib import Path

import golden
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pellucid.data.batch import Condition
from pellucid.networks.sr3_unet import Config, CrossAttention, NoiseLevelEncoding, Sr3Unet, build

TINY = Config(width=4, multipliers=(1, 2), num_blocks=1, attention=(8,), image_size=16, groups=2, num_heads=2)
BASE = "sr3_unet_small_base"
CROSS = "sr3_unet_onelevel_crossattn"
GOLDENS = {
    BASE: Config(
        width=16, multipliers=(1, 2, 4), attention=(8,), image_size=32, groups=8, use_cross_attention=False
    ),
    CROSS: Config(width=16, multipliers=(1,), num_blocks=1, attention=(16,), image_size=16, groups=8),
}  # fmt: skip
# Parameters without and with cross-attention, measured on the published code.
X8_DEEP = Config(multipliers=(1, 1, 2, 2, 4, 4), attention=(8, 16), groups=16)
X8_LIGHT = Config()
X4_LIGHT = Config(multipliers=(1, 2, 4), attention=(32,))
X4_DEEP = Config(width=32, multipliers=(1, 2, 4), num_blocks=4, attention=(4, 8))
X4_LARGE = Config(multipliers=(1, 2, 4, 8, 8, 16), num_blocks=4, attention=(8, 16, 32))


def inputs(size: tuple[int, int, int], bands: int = 1) -> tuple[Tensor, Tensor, Condition]:
    batch, height, width = size
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(batch, bands, height, width, generator=generator)
    degraded = torch.rand(batch, bands, height, width, generator=generator) * 2 - 1
    return x_t, torch.linspace(0.2, 0.9, batch), Condition(degraded=degraded)


def meta(config: Config) -> Sr3Unet:
    with torch.device("meta"):
        return build(config)


def trained(config: Config) -> Sr3Unet:
    """A network as if trained: its biases are not 0."""
    torch.manual_seed(0)
    network = build(config)
    for name, weight in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.2)
    return network


@pytest.mark.parametrize("name", [BASE, CROSS])
@torch.inference_mode()
def test_network_equals_the_published_one(golden_folder: Path, name: str) -> None:
    known = golden.arrays(golden_folder, name)
    network = build(GOLDENS[name]).eval()
    network.load_state_dict(golden.state_dict(golden_folder, name))
    condition = Condition(degraded=known["x"][:, :1])
    out = network(known["x"][:, 1:], known["noise_level"][:, 0], condition)
    torch.testing.assert_close(out, known["out"], **golden.TOLERANCE)


@torch.inference_mode()
def test_cross_attention_equals_the_published_one(golden_folder: Path) -> None:
    name = "sr3_crossattention_module"
    known = golden.arrays(golden_folder, name)
    attention = CrossAttention(32, 16, groups=8, num_heads=4)
    attention.load_state_dict(golden.state_dict(golden_folder, name))
    torch.testing.assert_close(attention(known["x"], known["context"]), known["out"], **golden.TOLERANCE)
    # A context of higher resolution enters by its areas' means.
    finer = interpolate(known["context"], scale_factor=4)
    torch.testing.assert_close(attention(known["x"], finer), known["out"], **golden.TOLERANCE)


@pytest.mark.parametrize("name", [BASE, CROSS])
def test_state_dict_has_the_published_keys_and_shapes(golden_folder: Path, name: str) -> None:
    ours = {key: weight.shape for key, weight in meta(GOLDENS[name]).state_dict().items()}
    assert ours == {key: weight.shape for key, weight in golden.state_dict(golden_folder, name).items()}


@pytest.mark.parametrize(
    ("config", "base", "with_cross_attention"),
    [
        (X8_DEEP, 28_747_649, 30_560_385),
        (X8_LIGHT, 97_804_033, 101_353_601),
        (X4_LIGHT, 13_826_305, 13_991_681),
        (X4_DEEP, 5_520_961, 5_562_689),
        (X4_LARGE, 471_751_809, 504_713_473),
    ],
)
def test_network_has_the_published_number_of_parameters(
    config: Config, base: int, with_cross_attention: int
) -> None:
    for crosses, expected in ((False, base), (True, with_cross_attention)):
        network = meta(dataclasses.replace(config, use_cross_attention=crosses))
        assert sum(weight.numel() for weight in network.parameters()) == expected


def test_deep_network_attends_where_the_published_one_does() -> None:
    modules = dict(meta(X8_DEEP).named_modules())
    for kind in ("attn", "cross_attn"):
        found = {name.removesuffix(f".{kind}") for name in modules if name.endswith(f".{kind}")}
        expected = [f"downs.{i}" for i in (13, 14, 16, 17)] + [f"ups.{i}" for i in (0, 1, 2, 4, 5, 6)]
        assert found == {*expected, "mid.0"}


def test_noise_level_is_encoded_as_sines_then_cosines() -> None:
    encoded = NoiseLevelEncoding(4)(torch.tensor([0.5, 0.0]))
    # Frequencies 1 and 1e4 ** -0.5; no factor before the level.
    expected = torch.tensor([[0.5, 0.005], [0.0, 0.0]])
    torch.testing.assert_close(encoded, torch.cat([expected.sin(), expected.cos()], dim=1))


def test_attention_over_an_even_context_adds_the_same_to_every_pixel() -> None:
    torch.manual_seed(0)
    attention = CrossAttention(8, 4, groups=2, num_heads=2)
    x = torch.randn(1, 8, 3, 5)
    added = attention(x, torch.randn(1, 4, 1, 1).expand(1, 4, 6, 10)) - x
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added))
    assert added.abs().max() > 0.01


@pytest.mark.parametrize("size", [(1, 32, 48), (2, 20, 8)])
@pytest.mark.parametrize("crosses", [False, True])
def test_any_size_that_the_stride_divides_is_taken(size: tuple[int, int, int], crosses: bool) -> None:
    config = dataclasses.replace(TINY, bands=3, multipliers=(1, 1, 2), use_cross_attention=crosses)
    network = build(config).eval()
    x_t, level, condition = inputs(size, bands=3)
    assert network.stride == 4
    with torch.inference_mode():
        assert network(x_t, level, condition).shape == x_t.shape


def test_samples_of_a_batch_do_not_touch_each_other() -> None:
    network = trained(TINY).eval()
    x_t, level, condition = inputs((3, 8, 12))
    assert condition.degraded is not None
    with torch.inference_mode():
        alone = [
            network(x_t[i : i + 1], level[i : i + 1], Condition(degraded=condition.degraded[i : i + 1]))
            for i in range(3)
        ]
        torch.testing.assert_close(network(x_t, level, condition), torch.cat(alone))


def test_layout_and_gradient_mode_do_not_change_the_result() -> None:
    network = trained(TINY).eval()
    x_t, level, condition = inputs((2, 16, 24))
    with torch.inference_mode():
        expected = network(x_t, level, condition)
        other = x_t.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(other, level, condition), expected)
    torch.testing.assert_close(network(x_t, level, condition), expected)


def test_cross_attention_uses_the_condition() -> None:
    network = trained(TINY).eval()
    attention = network.mid[0].cross_attn
    x = torch.randn(1, 8, 4, 4)
    context = torch.randn(1, 4, 8, 8)
    changed = context.clone()
    changed[..., :4] *= -1
    assert not torch.allclose(attention(x, context), attention(x, changed), atol=1e-3)


def test_gradients_reach_every_parameter_and_every_input() -> None:
    network = trained(dataclasses.replace(TINY, dropout=0.0))
    x_t, level, condition = inputs((2, 16, 16))
    assert condition.degraded is not None
    tensors = [tensor.requires_grad_() for tensor in (x_t, level, condition.degraded)]
    network(x_t, level, condition).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name
    for tensor in tensors:
        assert tensor.grad is not None
        assert tensor.grad.any()


def test_checkpointing_gives_the_same_gradients_and_keeps_fewer_features() -> None:
    # Dropout is on: what was dropped must be dropped again.
    gradients, kept = [], []
    for checkpointing in (False, True):
        network = trained(dataclasses.replace(TINY, dropout=0.5, checkpointing=checkpointing)).train()
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        torch.manual_seed(7)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = network(*inputs((2, 16, 16)))
        kept.append(sum(sizes))
        out.square().sum().backward()
        gradients.append({name: weight.grad for name, weight in network.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
    assert kept[1] < kept[0] / 3


def test_first_weights_are_orthogonal_and_biases_zero() -> None:
    torch.manual_seed(0)
    for name, weight in build(TINY).named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif weight.dim() > 1:
            rows = weight.detach().flatten(1)
            products = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
            torch.testing.assert_close(products, torch.eye(len(products)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"groups": 3}, "groups is 3, must divide width = 4"),
        ({"num_heads": 3}, "num_heads is 3, must divide the 8 channels of a level"),
        ({"width": 5, "groups": 1}, "width is 5, must be even"),
        ({"multipliers": ()}, "at least one level with one block"),
        ({"num_blocks": 0}, "at least one level with one block"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(dataclasses.replace(TINY, **changes))


def test_condition_without_an_image_is_refused() -> None:
    x_t, level, _ = inputs((1, 8, 8))
    with pytest.raises(ValueError, match="no degraded image, sr3_unet needs one"):
        build(TINY)(x_t, level, Condition())
