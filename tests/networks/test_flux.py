import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from checkpoints import to_published
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from pellucid.data.batch import Condition
from pellucid.networks import flux
from pellucid.networks.flux import Config, FluxNet, Tokens, build, encode_scalar, pack, positions, unpack
from pellucid.published import cr_rf as layout
from pellucid.published._hints import Hints

TINY = Config(sar_channels=2, text_channels=6, width=32, num_heads=2, num_double=2, num_single=2)
JOINED = dataclasses.replace(TINY, join="channels")
SMALL = Config(width=96, num_heads=3, num_double=2, num_single=3)
# By the published code; a context of 4096 channels is that of 1024 latent ones.
PUBLISHED = {"latent_channels": 16, "sar_channels": 1024}
# Of the golden network.
HINTS = Hints(axes=(8, 12, 12))
FULL = {"width": 3072, "num_heads": 24, "num_double": 19, "num_single": 38}


@pytest.fixture(scope="module")
def weights(golden_folder: Path) -> dict[str, Tensor]:
    return golden.state_dict(golden_folder, "crrf_flux_small")


def network(config: Config = TINY) -> FluxNet:
    """A network whose every weight matters, unlike those of a fresh one."""
    torch.manual_seed(0)
    net = build(config)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.5 * weight[0].numel() ** -0.5)
    return net


def inputs(config: Config = TINY, *, size: tuple[int, int, int] = (2, 4, 6)) -> tuple[Any, ...]:
    batch, height, width = size
    draw = torch.Generator().manual_seed(1)
    x_t, degraded = torch.randn(2, batch, config.latent_channels, height, width, generator=draw)
    condition = Condition(
        degraded=degraded,
        sar=torch.randn(batch, config.sar_channels, height, width, generator=draw),
        cloud=torch.rand(batch, 1, 8 * height, 8 * width, generator=draw),
        tokens=torch.randn(batch, 3, config.text_channels, generator=draw) if config.text_channels else None,
    )
    return x_t, torch.rand(batch, generator=draw), condition


def frequencies_as_rounded_for_the_golden(device: torch.device) -> Tensor:
    """Two of them lie one bit beside the exact exponential, as the golden's processor had it.

    The guidance of 2.5 multiplies each by 2500, so that this bit moves the output by 3e-5; on other
    processors (Intel's AVX-512 and AVX2) other frequencies are rounded the other way.
    """
    exponents = -math.log(1e4) * torch.arange(128, dtype=torch.float32) / 128
    rounded = exponents.double().exp().float()
    for index in (12, 106):
        rounded[index] = torch.nextafter(rounded[index], torch.tensor(1.0))
    return rounded.to(device)


@pytest.mark.parametrize("is_rounded_alike", [True, False])
@torch.inference_mode()
def test_network_equals_the_published_one(
    golden_folder: Path,
    weights: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    is_rounded_alike: bool,
) -> None:
    known = golden.arrays(golden_folder, "crrf_flux_small")
    config, _, state = layout.FORMAT.convert(weights, HINTS)
    net = build(config).eval()
    net.load_state_dict(state)
    assert net.sar_in is not None
    if is_rounded_alike:
        monkeypatch.setattr(flux, "frequencies", frequencies_as_rounded_for_the_golden)
    places = known["ids"][0]
    out = net.denoise(
        Tokens(known["img"], places),
        Tokens(net.sar_in(known["txt"]), places),
        net.modulation(known["t"], known["y"], known["guidance"]),
    )
    tolerance = golden.TOLERANCE if is_rounded_alike else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(out, known["out"], **tolerance)


@pytest.mark.parametrize(
    ("sizes", "count", "tensors"),
    [(PUBLISHED, 162_341_120, 184), (PUBLISHED | FULL, 11_890_658_816, 784)],
    ids=["trained", "full"],
)
def test_network_has_the_published_parameters(sizes: dict[str, int], count: int, tensors: int) -> None:
    config = Config(**sizes)
    with torch.device("meta"):
        net = build(config)
    assert sum(weight.numel() for weight in net.parameters()) == count
    rules = layout.rules(**dataclasses.asdict(config))
    assert len({rule.published for rule in rules}) == len(rules) == tensors
    assert {key for rule in rules for key in rule.ours} == net.state_dict().keys()


def test_published_weights_survive_the_way_to_our_names_and_back(weights: dict[str, Tensor]) -> None:
    config, _, state = layout.FORMAT.convert(weights, HINTS)
    back = to_published(state, layout.rules(**dataclasses.asdict(config)))
    assert back.keys() == weights.keys()
    for key, value in weights.items():
        assert torch.equal(back[key], value), key


def test_sizes_of_published_weights_are_read_off_their_shapes(weights: dict[str, Tensor]) -> None:
    expected = Config(4, 4, width=64, num_heads=2, num_double=2, num_single=2)
    assert Config(**layout.sizes(weights, Hints())) == expected
    rest = {key: value for key, value in weights.items() if not key.startswith("guidance_in")}
    assert layout.sizes(rest, Hints())["guidance"] is None


def test_weights_whose_rows_cannot_be_cut_are_refused(weights: dict[str, Tensor]) -> None:
    key = "single_blocks.0.linear1.weight"
    with pytest.raises(ValueError, match=r"single_blocks\.0\.linear1\.weight has 447 rows, must divide by 7"):
        layout.FORMAT.convert(weights | {key: weights[key][1:]}, HINTS)


def test_token_holds_two_by_two_pixels_channel_by_channel() -> None:
    image = torch.arange(32).view(1, 2, 4, 4)
    tokens = pack(image)
    assert tokens[0, 0].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]
    assert tokens[0, 1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]
    assert torch.equal(unpack(tokens, like=image), image)


def test_positions_are_image_row_and_column_in_the_order_of_the_tokens() -> None:
    assert positions(torch.zeros(1, 3, 4, 6), 1.0).tolist() == [
        [1, 0, 0], [1, 0, 1], [1, 0, 2], [1, 1, 0], [1, 1, 1], [1, 1, 2],
    ]  # fmt: skip


def test_encoding_of_the_time_equals_diffusers() -> None:
    time = torch.tensor([0.0, 0.25, 0.8317, 1.0])
    expected = get_timestep_embedding(1000 * time, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(encode_scalar(time), expected, atol=0, rtol=0)


@pytest.mark.parametrize("size", [(1, 8, 8), (2, 4, 10)])
def test_gradients_reach_every_parameter_and_input_at_any_even_size(size: tuple[int, int, int]) -> None:
    config = dataclasses.replace(SMALL, text_channels=8)
    net = network(config)
    x_t, time, condition = inputs(config, size=size)
    given = [x_t, condition.degraded, condition.sar, condition.cloud, condition.tokens]
    for tensor in given:
        tensor.requires_grad_()
    out = net(x_t, time, condition)
    assert out.shape == x_t.shape
    assert net.stride == 2
    out.square().sum().backward()
    assert 1e6 < sum(weight.numel() for weight in net.parameters()) < 3e6
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in given)


@pytest.mark.parametrize("config", [TINY, JOINED])
@torch.inference_mode()
def test_every_condition_and_the_guidance_change_the_result(config: Config) -> None:
    net = network(config).eval()
    x_t, time, condition = inputs()
    before = net(x_t, time, condition)
    for name in ("degraded", "sar", "cloud", "tokens"):
        changed = dataclasses.replace(condition, **{name: 0.5 * getattr(condition, name)})
        assert (net(x_t, time, changed) - before).abs().max() > 1e-3, name
    assert (net(x_t, 0.5 * time, condition) - before).abs().max() > 1e-3
    given = net(x_t, time, dataclasses.replace(condition, guidance=torch.full((2,), 4.0)))
    assert (given - before).abs().max() > 1e-3
    net.guidance = 4.0
    assert net(x_t, time, condition).equal(given)


@pytest.mark.parametrize("config", [TINY, JOINED, dataclasses.replace(JOINED, blend=True)])
@torch.inference_mode()
def test_what_is_missing_is_zero_as_for_guidance(config: Config) -> None:
    net = network(config).eval()
    x_t, time, condition = inputs()
    null = dataclasses.replace(condition.null(), tokens=None)
    torch.testing.assert_close(net(x_t, time, Condition()), net(x_t, time, null))


@pytest.mark.parametrize("config", [TINY, JOINED])
@torch.inference_mode()
def test_network_without_any_context_runs(config: Config) -> None:
    net = network(dataclasses.replace(config, sar_channels=0, text_channels=0, guidance=None)).eval()
    x_t, time, condition = inputs()
    assert net(x_t, time, condition).isfinite().all()


@torch.inference_mode()
def test_joined_channels_make_no_further_tokens() -> None:
    net, (x_t, _, condition) = network(JOINED), inputs()
    image = net.image(x_t, condition, condition.cloud)
    assert image.values.shape == (2, 2 * 3, 4 * (4 + 4 + 2 + 1))
    assert image.places.equal(positions(x_t, 0.0))
    assert net.context(x_t, condition).values.shape == (2, 3, 32)  # the text alone


@torch.inference_mode()
def test_an_untrained_network_returns_zeros_or_mixes_its_input_with_zeros() -> None:
    x_t, time, condition = inputs()
    assert not build(TINY)(x_t, time, condition).any()
    blending = build(dataclasses.replace(TINY, blend=True))
    torch.testing.assert_close(blending(x_t, time, condition), 0.5 * condition.degraded)


@torch.inference_mode()
def test_blending_keeps_what_the_network_has_no_share_in() -> None:
    net = build(dataclasses.replace(JOINED, blend=True)).eval()
    x_t, time, condition = inputs()
    net.transformer.proj_out.bias[:4] = -30  # the shares of the 2 x 2 pixels of a token
    torch.testing.assert_close(net(x_t, time, condition), condition.degraded)
    net.transformer.proj_out.bias[:4] = 30
    assert not net(x_t, time, condition).any()


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (40, 100)])
@torch.inference_mode()
def test_cloud_map_may_have_any_size(size: tuple[int, int]) -> None:
    net = network().eval()
    time = torch.rand(1)
    even = net.modulation(time, torch.full((1, 1, 64, 64), 0.7))
    torch.testing.assert_close(net.modulation(time, torch.full((1, 1, *size), 0.7)), even)


@pytest.mark.parametrize("config", [TINY, JOINED])
@torch.inference_mode()
def test_samples_of_a_batch_do_not_touch_each_other(config: Config) -> None:
    net = network(config).eval()
    x_t, time, condition = inputs(size=(3, 4, 6))
    alone = [
        net(x_t[i : i + 1], time[i : i + 1], Condition(**{
            field.name: value[i : i + 1]
            for field in dataclasses.fields(condition)
            if (value := getattr(condition, field.name)) is not None
        }))
        for i in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(net(x_t, time, condition), torch.cat(alone), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_tokens_differ_by_their_place_alone() -> None:
    """Image and context in another order, with their places, give the same in that order."""
    net = network().eval()
    x_t, time, condition = inputs()
    image = Tokens(pack(x_t), positions(x_t, 0.0))
    context, modulation = net.context(x_t, condition), net.modulation(time, condition.cloud)
    out = net.denoise(image, context, modulation)
    turned = [Tokens(values.flip(1), places.flip(0)) for values, places in (image, context)]
    torch.testing.assert_close(net.denoise(*turned, modulation).flip(1), out, rtol=1e-4, atol=1e-5)
    moved = Tokens(image.values, image.places.flip(0))
    assert (net.denoise(moved, context, modulation) - out).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # slower, not wrong
@torch.inference_mode()
def test_mixed_precision_does_not_round_the_time() -> None:
    net = network().eval()
    cloud = torch.zeros(2, 1, 32, 32)
    x_t, time, condition = inputs()
    exact = net(x_t, time, condition)
    with torch.autocast("cpu", torch.bfloat16):
        early, late = net.modulation(torch.tensor([0.7, 0.701]), cloud)
        rounded = net(x_t, time, condition)
    assert torch.equal(torch.tensor(0.7).bfloat16(), torch.tensor(0.701).bfloat16())
    assert not torch.equal(early, late)
    assert (rounded - exact).square().mean() < 1e-3 * exact.square().mean()


def test_checkpointing_changes_no_gradient() -> None:
    net = network()
    other = build(dataclasses.replace(TINY, checkpointing=True))
    other.load_state_dict(net.state_dict())
    for each in (net, other):
        each(*inputs()).square().sum().backward()
    assert other.transformer.gradient_checkpointing
    for (name, ours), again in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(again.grad, ours.grad, msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "num_heads is 5, must divide width = 32"),
        ({"num_heads": 8}, "a head has 4 channels"),
        ({"axes": (4, 6, 8)}, r"axes is \(4, 6, 8\), must be even and add up to width / num_heads = 16"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(dataclasses.replace(TINY, **change))


@pytest.mark.parametrize("config", [TINY, JOINED])
@pytest.mark.parametrize("name", ["degraded", "sar"])
def test_latents_of_another_autoencoder_are_refused(name: str, config: Config) -> None:
    x_t, time, condition = inputs()
    foreign = dataclasses.replace(condition, **{name: torch.zeros(2, 7, 4, 6)})
    with pytest.raises(ValueError, match=rf"{name} latents have shape \(2, 7, 4, 6\), this network needs"):
        build(config)(x_t, time, foreign)


def test_guidance_that_the_network_has_no_place_for_is_refused() -> None:
    net = build(dataclasses.replace(TINY, guidance=None))
    net.guidance = 2.5
    with pytest.raises(ValueError, match=r"guidance is 2\.5, the network's config has None"):
        net(*inputs())


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # of torch's own, which is compared with
def test_mixed_precision_is_silent_and_norms_as_torch_does() -> None:
    x, norm = torch.randn(2, 5, 8).bfloat16(), flux._FullNorm(8, eps=1e-6)
    torch.nn.init.uniform_(norm.weight)
    assert norm(x).equal(torch.nn.functional.rms_norm(x, (8,), norm.weight, 1e-6))
    torch.set_warn_always(True)  # torch says each of its warnings once
    try:
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
            warnings.simplefilter("error")
            assert network()(*inputs()).isfinite().all()
    finally:
        torch.set_warn_always(False)


def test_the_sizes_of_the_published_parameters_can_be_chosen() -> None:
    plain = build(TINY)
    count = sum(weight.numel() for weight in plain.parameters())
    narrow = build(dataclasses.replace(TINY, mlp_ratio=2.0))
    # Each double block has two perceptrons of 2 x 32 x 32 r weights and 32 r + 32 biases; a single one has
    # 32 x 32 r weights with 32 r biases in its first layer, and 32 x 32 r weights in its second.
    fewer = 2 * 2 * (2 * 32 * 64 + 64) + 2 * (2 * 32 * 64 + 64)
    assert sum(weight.numel() for weight in narrow.parameters()) == count - fewer
    unbiased = build(dataclasses.replace(TINY, qkv_bias=False))
    assert sum(weight.numel() for weight in unbiased.parameters()) == count - 2 * 6 * 32
    terse = build(
        dataclasses.replace(TINY, cloud_channels=8)
    )  # 4 x 128 weights and a bias, and what reads it
    assert sum(weight.numel() for weight in terse.parameters()) == count - 248 * (4 * 128 + 1 + TINY.width)
    for net in (narrow, unbiased, terse):
        x_t, times, condition = inputs()
        assert net(x_t, times, condition).shape == x_t.shape
    with pytest.raises(ValueError, match="mlp_ratio is -1 and theta 10000; both must be above 0"):
        build(dataclasses.replace(TINY, mlp_ratio=-1.0))
    with pytest.raises(ValueError, match="cloud_channels is 0, must be 1 or more"):
        build(dataclasses.replace(TINY, cloud_channels=0))


def test_the_base_of_positions_changes_the_result() -> None:
    x_t, times, condition = inputs()
    near, far = (network(dataclasses.replace(TINY, theta=theta)) for theta in (10_000, 100))
    assert not torch.allclose(near(x_t, times, condition), far(x_t, times, condition))
