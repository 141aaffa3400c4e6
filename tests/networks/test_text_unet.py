import dataclasses
from pathlib import Path

import golden
import pytest
import torch
from torch import Tensor

from pellucid.data.batch import Condition
from pellucid.networks.text_unet import INPUT, Config, TextUNet, build, widen_input

TINY = Config(
    sar_channels=3,
    model_channels=8,
    channel_mult=(1, 2),
    attention_resolutions=(2,),
    num_res_blocks=1,
    num_heads=2,
    context_dim=6,
    groups=4,
)


def network(**changes: object) -> TextUNet:
    torch.manual_seed(0)
    return build(dataclasses.replace(TINY, **changes)).eval()  # type: ignore[arg-type]


def inputs(height: int = 8, width: int = 4) -> tuple[Tensor, Tensor, Condition]:
    generator = torch.Generator().manual_seed(1)
    x_t, sar = (torch.randn(2, count, height, width, generator=generator) for count in (4, 3))
    tokens = torch.randn(2, 5, 6, generator=generator)
    return x_t, torch.tensor([500.0, 20.0]), Condition(sar=sar, tokens=tokens)


@pytest.mark.parametrize(("sar_channels", "count"), [(4, 859_532_484), (0, 859_520_964)])
def test_network_has_the_published_parameters(sar_channels: int, count: int) -> None:
    with torch.device("meta"):
        unet = build(Config(sar_channels=sar_channels))
    assert sum(weight.numel() for weight in unet.parameters()) == count
    assert unet.stride == 8


def test_time_is_encoded_as_published(golden_folder: Path) -> None:
    with torch.device("meta"):
        unet = build(Config())
    expected = golden.arrays(golden_folder, "sar_ddpm")["temb500"]
    found = unet.unet.time_proj(torch.tensor([500.0]))
    torch.testing.assert_close(found, expected, **golden.TOLERANCE)


@pytest.mark.parametrize("size", [(8, 4), (2, 6)])
@torch.inference_mode()
def test_any_size_that_the_stride_divides_is_processed(size: tuple[int, int]) -> None:
    x_t, step, condition = inputs(*size)
    whole = network()(x_t, step, condition)
    assert whole.shape == x_t.shape
    one = Condition(sar=condition.sar[1:], tokens=condition.tokens[1:])  # type: ignore[index]
    torch.testing.assert_close(network()(x_t[1:], step[1:], one), whole[1:], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_radar_comes_before_the_noised_latents() -> None:
    x_t, step, condition = inputs()
    unet = network()
    joined = torch.cat([condition.sar, x_t], dim=1)  # type: ignore[list-item]
    expected = unet.unet(joined, step, encoder_hidden_states=condition.tokens).sample
    torch.testing.assert_close(unet(x_t, step, condition), expected)


@torch.inference_mode()
def test_every_condition_matters() -> None:
    x_t, step, condition = inputs()
    unet, null = network(), condition.null()
    before = unet(x_t, step, condition)
    for other in (
        unet(x_t, step + 1, condition),
        unet(x_t, step, dataclasses.replace(condition, sar=null.sar)),
        unet(x_t, step, dataclasses.replace(condition, tokens=null.tokens)),
    ):
        assert (other - before).abs().amax((1, 2, 3)).min() > 1e-4


@torch.inference_mode()
def test_what_is_missing_is_zero() -> None:
    x_t, step, condition = inputs()
    torch.testing.assert_close(network()(x_t, step, Condition()), network()(x_t, step, condition.null()))
    bare = network(sar_channels=0)
    tokens = Condition(tokens=condition.tokens)
    assert torch.equal(bare(x_t, step, condition), bare(x_t, step, tokens))


def test_gradients_reach_every_parameter() -> None:
    unet = network()
    unet(*inputs()).square().sum().backward()
    for name, weight in unet.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name


def test_checkpointing_changes_no_gradient() -> None:
    networks = [network().train(), network(checkpointing=True).train()]
    for unet in networks:
        unet(*inputs()).square().sum().backward()
    for (name, ours), again in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(again.grad, ours.grad, msg=name)
    assert networks[1].unet.is_gradient_checkpointing


@torch.inference_mode()
def test_widened_network_ignores_the_radar_and_else_does_the_same() -> None:
    x_t, step, condition = inputs()
    narrow, wide = network(sar_channels=0), network()
    wide.load_state_dict(widen_input(narrow.state_dict(), 7))
    expected = narrow(x_t, step, condition)
    torch.testing.assert_close(wide(x_t, step, condition), expected)


def test_widened_network_can_learn_from_the_radar() -> None:
    wide = network()
    wide.load_state_dict(widen_input(network(sar_channels=0).state_dict(), 7))
    wide(*inputs()).square().sum().backward()
    assert wide.state_dict()[INPUT][:, :3].count_nonzero() == 0
    assert wide.unet.conv_in.weight.grad[:, :3].any()


def test_input_is_not_narrowed() -> None:
    state = network().state_dict()
    assert torch.equal(widen_input(state, 7)[INPUT], state[INPUT])
    with pytest.raises(ValueError, match="the weights take 7 channels, cannot be widened to 4"):
        widen_input(state, 4)


def test_heads_and_projections_of_stable_diffusion_2_can_be_built() -> None:
    unet = network(num_heads=(2, 4), linear_projection=True, attention_resolutions=(1, 2))
    heads = [block.attentions[0].transformer_blocks[0].attn2.heads for block in unet.unet.down_blocks]
    assert heads == [2, 4]
    assert isinstance(unet.unet.mid_block.attentions[0].proj_in, torch.nn.Linear)
    assert unet(*inputs()).isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_mult": ()}, "at least one level with one block"),
        ({"num_res_blocks": 0}, "at least one level with one block"),
        ({"groups": 16}, "groups is 16, must divide the 8 channels of a level"),
        ({"num_heads": 3}, "num_heads is 3, must divide the 16 channels of its level"),
        ({"num_heads": 3, "attention_resolutions": ()}, "num_heads is 3, must divide the 16 in the middle"),
        ({"num_heads": (2, 2, 2)}, "must be one number or one for each of 2 levels"),
        (
            {"attention_resolutions": (4,)},
            "attention_resolutions has 4, must be factors of the 2 levels: 1, 2",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sar": torch.zeros(2, 4, 8, 4)},
            r"sar latents have shape \(2, 4, 8, 4\), this network needs \(2, 3, 8, 4",
        ),
        (
            {"tokens": torch.zeros(2, 5, 7)},
            r"tokens have shape \(2, 5, 7\), this network needs \(2, any, 6\)",
        ),
    ],
)
def test_conditions_that_do_not_fit_are_refused(change: dict[str, Tensor], message: str) -> None:
    x_t, step, condition = inputs()
    with pytest.raises(ValueError, match=message):
        network()(x_t, step, dataclasses.replace(condition, **change))


def test_dropout_acts_in_training_alone() -> None:
    sizes = {
        "model_channels": 8,
        "channel_mult": (1,),
        "attention_resolutions": (),
        "num_heads": 1,
        "groups": 4,
    }
    network = build(Config(dropout=0.5, **sizes))
    x_t, noise = torch.randn(1, 4, 8, 8), torch.zeros(1)
    draws = [network(x_t, noise, Condition()) for _ in range(2)]
    assert not torch.equal(*draws)
    network.eval()
    assert torch.equal(*(network(x_t, noise, Condition()) for _ in range(2)))
    with pytest.raises(ValueError, match="dropout is 1"):
        build(Config(dropout=1.0, **sizes))
