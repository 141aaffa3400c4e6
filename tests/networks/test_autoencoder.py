import dataclasses
from pathlib import Path

import golden
import pytest
import torch
from checkpoints import to_published
from torch import Tensor

from pellucid.networks.autoencoder import Autoencoder, Config, build
from pellucid.published import cr_rf_autoencoder as layout
from pellucid.published._hints import Hints

TINY = Config(bands=5, width=8, multipliers=(1, 2, 2), num_blocks=1, latent_channels=3, groups=4)


@pytest.fixture(scope="module")
def weights(golden_folder: Path) -> dict[str, Tensor]:
    return golden.state_dict(golden_folder, "crrf_autoencoder_small")


@pytest.fixture
def tiny() -> Autoencoder:
    torch.manual_seed(0)
    return build(TINY)


def images(count: int = 2, height: int = 8, width: int = 12) -> Tensor:
    return torch.rand(count, TINY.bands, height, width, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_network_equals_the_published_one(golden_folder: Path, weights: dict[str, Tensor]) -> None:
    known = golden.arrays(golden_folder, "crrf_autoencoder_small")
    config, _, state = layout.FORMAT.convert(weights, Hints())
    network = build(config).eval()
    network.load_state_dict(state)
    mean, logvar = network.posterior(known["x"])
    found = {
        "mean": mean,
        "logvar": logvar,
        "z": network.encode(known["x"]),
        "dec": network.decode(known["z"]),
    }
    for name, value in found.items():
        torch.testing.assert_close(value, known[name], **golden.TOLERANCE)


def test_network_has_the_published_parameters() -> None:
    with torch.device("meta"):
        network = build(Config(bands=3))
    named = {name: weight for name, weight in network.named_parameters() if name != "error_logvar"}
    assert sum(weight.numel() for weight in named.values()) == 20_945_483
    rules = layout.rules(**dataclasses.asdict(Config(bands=3)))
    assert len({rule.published for rule in rules}) == len(rules) == 244
    ours = {key for rule in rules for key in rule.ours}
    assert ours == set(named)


def test_published_weights_survive_the_way_to_our_names_and_back(weights: dict[str, Tensor]) -> None:
    config, _, state = layout.FORMAT.convert(weights, Hints())
    back = to_published(state, layout.rules(**dataclasses.asdict(config)))
    assert back.keys() == weights.keys()
    for key, value in weights.items():
        assert torch.equal(back[key], value), key


def test_weights_of_an_unknown_name_are_not_lost_in_silence(weights: dict[str, Tensor]) -> None:
    _, _, state = layout.FORMAT.convert(weights | {"loss.logvar": torch.zeros(1)}, Hints())
    assert "loss.logvar" in state


def test_incomplete_weights_are_refused_by_the_name_that_is_missing(weights: dict[str, Tensor]) -> None:
    some = {key: value for key, value in weights.items() if key != "decoder.mid.attn_1.q.bias"}
    with pytest.raises(KeyError, match=r"decoder\.mid\.attn_1\.q\.bias"):
        layout.FORMAT.convert(some, Hints())


@pytest.mark.parametrize("size", [(1, 4, 12), (2, 16, 8)])
@torch.inference_mode()
def test_any_size_that_the_stride_divides_is_encoded(tiny: Autoencoder, size: tuple[int, int, int]) -> None:
    image = images(*size)
    latents = tiny.encode(image)
    assert tiny.factor == tiny.stride == 4
    assert latents.shape == (size[0], 3, size[1] // 4, size[2] // 4)
    assert tiny.decode(latents).shape == image.shape


@torch.inference_mode()
def test_measured_latents_have_mean_zero_and_deviation_one(tiny: Autoencoder) -> None:
    before = tiny.decode(tiny.encode(images()))
    # In parts of unequal size: every pixel counts the same.
    whole = images(7)
    tiny.measure([whole[:4], whole[4:]])
    latents = tiny.encode(whole).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(1, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(tiny.decode(tiny.encode(images())), before, atol=1e-5, rtol=1e-4)


def test_measure_is_saved_with_the_weights(tiny: Autoencoder) -> None:
    tiny.measure([images()])
    other = build(TINY)
    other.load_state_dict(tiny.state_dict())
    assert not torch.equal(tiny.scale, torch.ones(3))
    assert torch.equal(other.encode(images()), tiny.encode(images()))


@pytest.mark.parametrize("batches", [[], [torch.zeros(1, 5, 8, 8)]])
def test_latents_that_do_not_vary_cannot_be_measured(tiny: Autoencoder, batches: list[Tensor]) -> None:
    torch.nn.init.zeros_(tiny.encoder.conv_out.weight)
    with pytest.raises(ValueError, match="must be above 0 and finite"):
        tiny.measure(batches)


@torch.inference_mode()
def test_noise_moves_the_code_by_its_deviation(tiny: Autoencoder) -> None:
    noise = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(2))
    restored, mean, logvar = tiny(images(), noise)
    torch.testing.assert_close(restored, tiny.decode(mean + (logvar / 2).exp() * noise))
    torch.testing.assert_close(tiny(images())[0], tiny.decode(mean))


def test_gradients_reach_every_parameter(tiny: Autoencoder) -> None:
    restored, _, logvar = tiny(images(), torch.ones(2, 3, 2, 3))
    (restored.square().sum() + logvar.sum() + tiny.error_logvar).backward()
    for name, weight in tiny.named_parameters():
        assert weight.grad is not None, name
        # A bias that is the same for all keys cancels in the softmax.
        assert weight.grad.any() or name.endswith("to_k.bias"), name


def test_checkpointing_changes_no_gradient(tiny: Autoencoder) -> None:
    other = build(dataclasses.replace(TINY, checkpointing=True))
    other.load_state_dict(tiny.state_dict())
    for network in (tiny, other):
        network(images())[0].square().sum().backward()
    for (name, ours), again in zip(tiny.named_parameters(), other.parameters(), strict=True):
        if ours.grad is not None:
            torch.testing.assert_close(again.grad, ours.grad, msg=name)
    assert other.encoder.gradient_checkpointing
    assert other.decoder.gradient_checkpointing


def test_network_without_attention_has_none() -> None:
    network = build(dataclasses.replace(TINY, attention=False))
    assert not any("attentions" in name for name, _ in network.named_parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 16}, "groups is 16, must divide the 8 channels of a level"),
        ({"multipliers": ()}, "at least one level with one block"),
        ({"num_blocks": 0}, "at least one level with one block"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(dataclasses.replace(TINY, **change))
