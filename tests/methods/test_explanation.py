from dataclasses import replace

import pytest
import torch

from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.methods.explanation import explain, feature_shares, main_colours


def scene(size: int = 64) -> Batch:
    noise = torch.Generator().manual_seed(0)
    valid = torch.ones(1, 1, size, size, dtype=torch.bool)
    radar = torch.rand(1, 2, size, size, generator=noise)
    ground = 0.1 + 0.1 * radar[:, :1].expand(1, 13, size, size)
    return Batch(degraded=ground, valid=valid, key=("a",), sar=radar, at=((0, 0),))


def test_shares_are_those_of_the_variance_that_a_feature_makes() -> None:
    features = torch.stack([torch.ones(8, 8), torch.arange(64.0).view(8, 8), torch.arange(64.0).view(8, 8)])
    weights = torch.tensor([[5.0, 5.0], [3.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(feature_shares(features, weights), torch.tensor([0.0, 0.9, 0.1]))


def test_main_colours_are_principal_components_the_strongest_red() -> None:
    rows, columns = torch.meshgrid(torch.arange(50.0), torch.arange(50.0), indexing="ij")
    red, green, blue = main_colours(torch.stack([columns, 9 * rows, torch.ones(50, 50)]))
    torch.testing.assert_close(red, (rows / 47 - 1 / 47).clamp(0, 1), atol=0.03, rtol=0)
    torch.testing.assert_close(green, (columns / 47 - 1 / 47).clamp(0, 1), atol=0.03, rtol=0)
    assert (blue == 0.5).all()


def test_the_layers_of_ground_end_in_its_result() -> None:
    method, batch = load("ground"), scene()
    layers = {layer.name: layer for layer in explain(method, batch)}
    estimate = method.estimate(batch)
    torch.testing.assert_close(layers["result"].values, estimate.image[0])
    torch.testing.assert_close(layers["painted"].values, estimate.cloud[0])  # type: ignore[index]
    assert len(layers) == 12
    assert all(layer.values.shape[1:] == (64, 64) for layer in layers.values())


def test_without_guides_no_features_are_shown() -> None:
    layers = [layer.name for layer in explain(load("ground"), replace(scene(), sar=None))]
    assert not [name for name in layers if name.startswith("guides")]
    assert layers[0] == "cloudy"
    assert "result" in layers


def test_attention_adds_up_to_one() -> None:
    method, batch = load("cross_attention"), scene()
    layers = explain(method, batch)
    followed = [layer for layer in layers if layer.kind == "attention"]
    assert [layer.at for layer in followed] == [(16, 16), (32, 32), (48, 48)]
    for layer in followed:
        assert float(layer.values.sum()) / method.stride**2 == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(layers[-1].values, method.restore(batch)[0])


def test_other_models_show_nothing_of_their_inside() -> None:
    with pytest.raises(InputError, match="nothing of its inside; use --model ground or"):
        explain(load("sr3_ct_x4"), scene())
