import dataclasses
import math
from pathlib import Path

import golden
import pytest
import torch
from checkpoints import to_published
from torch import Tensor

from pellucid.networks.text_encoder import MIN_TEMPERATURE, Config, TextEncoder, build
from pellucid.published import sar_colorization as layout
from pellucid.published._hints import Hints

TINY = Config(vocab_size=20, width=16, num_layers=2, num_heads=2, length=9)
PAIRED = dataclasses.replace(TINY, bands=4, image_width=8, features=6)
# The second text was cut off before its end.
IDS = torch.tensor([[2, 5, 6, 3, 0, 0, 0, 0, 0], [2, 5, 6, 7, 8, 9, 10, 11, 12]])


@pytest.fixture(scope="module")
def weights(golden_folder: Path) -> dict[str, Tensor]:
    return golden.state_dict(golden_folder, "sar_clip_small")


@pytest.fixture
def paired() -> TextEncoder:
    torch.manual_seed(0)
    return build(PAIRED).eval()


@torch.inference_mode()
def test_network_equals_the_published_one(golden_folder: Path, weights: dict[str, Tensor]) -> None:
    known = golden.arrays(golden_folder, "sar_clip_small")
    config, _, state = layout.TEXTS.convert(weights, Hints(num_heads=4))
    network = build(config).eval()
    network.load_state_dict(state)
    torch.testing.assert_close(network(known["ids"]), known["out"], **golden.TOLERANCE)


def test_network_has_the_published_parameters() -> None:
    with torch.device("meta"):
        network = build(Config())
    assert sum(weight.numel() for weight in network.parameters()) == 85_883_136
    rules = layout.text_encoder_rules(num_layers=12)
    assert len({rule.published for rule in rules}) == len(rules) == 148
    assert {key for rule in rules for key in rule.ours} == set(network.state_dict())


def test_published_weights_survive_the_way_to_our_names_and_back(weights: dict[str, Tensor]) -> None:
    _, _, state = layout.TEXTS.convert(weights, Hints(num_heads=4))
    back = to_published(state, layout.text_encoder_rules(num_layers=2))
    assert back.keys() == weights.keys()
    for key, value in weights.items():
        assert torch.equal(back[key], value), key


def test_heads_of_the_published_size_follow_from_the_width() -> None:
    shapes = {
        "embedding.token_embedding.weight": torch.empty(1000, 768),
        "embedding.position_embedding": torch.empty(77, 768),
        "layers.0.linear_1.weight": torch.empty(1),
    }
    sizes = layout.text_encoder_sizes(shapes, Hints())
    assert Config(**sizes) == dataclasses.replace(Config(), num_layers=1)


@torch.inference_mode()
def test_a_token_knows_those_before_it_alone(paired: TextEncoder) -> None:
    other = IDS.clone()
    other[:, 5] = 19
    before, after = paired(IDS), paired(other)
    assert before.shape == (2, 9, 16)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert not after[:, 5:].isclose(before[:, 5:]).all(2).any()


@torch.inference_mode()
def test_features_of_a_text_are_read_at_its_end(paired: TextEncoder) -> None:
    tokens = paired(IDS)
    expected = torch.stack([tokens[0, 3], tokens[1, 8]]) @ paired.project.weight.mT
    torch.testing.assert_close(paired.text_features(IDS), expected)


@pytest.mark.parametrize("size", [(16, 16), (40, 24)])
@torch.inference_mode()
def test_images_of_any_size_have_features(paired: TextEncoder, size: tuple[int, int]) -> None:
    image = torch.rand(3, 4, *size, generator=torch.Generator().manual_seed(0))
    features = paired.image_features(image)
    assert features.shape == (3, 6)
    torch.testing.assert_close(paired.image_features(image[1:2]), features[1:2])
    assert features.std(0).min() > 1e-4


def test_gradients_reach_every_parameter(paired: TextEncoder) -> None:
    image = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = (paired.image_features(image) * paired.text_features(IDS)).sum() / paired.temperature
    loss.backward()
    for name, weight in paired.named_parameters():
        assert weight.grad is not None, name
        # A bias that is the same for all keys cancels in the softmax.
        assert weight.grad.any() or name.endswith("k_proj.bias"), name


def test_temperature_begins_where_clips_does_and_has_a_bound(paired: TextEncoder) -> None:
    assert paired.temperature.item() == pytest.approx(0.07)
    torch.nn.init.constant_(paired.log_temperature, math.log(MIN_TEMPERATURE) - 1)
    assert paired.temperature.item() == pytest.approx(0.01)


def test_texts_half_alone_takes_the_weights_of_both(paired: TextEncoder) -> None:
    alone = build(TINY).eval()
    assert {name.partition(".")[0] for name in alone.state_dict()} == {"text"}
    alone.load_state_dict({n: v for n, v in paired.state_dict().items() if n.startswith("text.")})
    assert torch.equal(alone(IDS), paired(IDS))
    with pytest.raises(ValueError, match="has no image encoder, its bands are 0"):
        alone.image_features(torch.zeros(1, 4, 16, 16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "num_heads is 3, must divide width = 16"),
        ({"end_id": 20}, "end_id is 20, must be one of the 20 of vocab_size"),
        ({"bands": 3, "image_width": 12}, "image_width is 12, must divide by 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(dataclasses.replace(TINY, **change))


def test_dropout_acts_in_training_alone() -> None:
    network = build(Config(vocab_size=20, width=16, num_layers=2, num_heads=2, length=8, dropout=0.5)).train()
    ids = torch.arange(8)[None]
    assert not torch.equal(network(ids), network(ids))
    network.eval()
    assert torch.equal(network(ids), network(ids))
    with pytest.raises(ValueError, match="dropout is -1"):
        build(Config(dropout=-1.0))
