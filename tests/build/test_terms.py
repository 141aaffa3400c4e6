"""The terms of the loss that configs name."""

from typing import Any

import pytest
import torch

from pellucid.build.method import build_losses
from pellucid.config import Config
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.losses.adversarial import AdversarialLoss
from pellucid.losses.l1 import l1
from pellucid.schema import parse

REGRESSION = {"name": "regression", "optical": ["B02", "B03", "B04"]}
GENERATIVE = {"name": "generative", "optical": ["gray"]}
AUTOENCODING = {"name": "autoencoding", "radar": ["VV", "VH"]}


def config(method: dict[str, Any], losses: dict[str, float], seed: int = 0) -> Config:
    values = {"network": {"name": "any"}, "data": {"train": []}, "method": method, "losses": losses}
    return parse(Config, {**values, "train": {"seed": seed}}, where="test")


@pytest.mark.parametrize(("method", "bands"), [(REGRESSION, 3), (GENERATIVE, 1), (AUTOENCODING, 2)])
def test_the_discriminator_sees_the_bands_of_the_results(method: dict[str, Any], bands: int) -> None:
    weight, term = build_losses(config(method, {"l1": 0.0, "adversarial": 0.01}))["adversarial"]
    assert weight == 0.01
    image = torch.rand(1, bands, 16, 16)
    batch = Batch(degraded=image, target=image, valid=torch.ones(1, 1, 16, 16, dtype=torch.bool), key=("a",))
    assert term is not None
    assert term(image, batch) > 0


def test_the_discriminator_follows_from_the_seed_and_leaves_the_others_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        _, term = build_losses(config(REGRESSION, {"adversarial": 0.01}, seed))["adversarial"]
        assert isinstance(term, AdversarialLoss)
        found.append(term.discriminator.state_dict()["layers.0.weight"])
    assert found[0].equal(found[1])
    assert not found[0].equal(found[2])
    assert torch.get_rng_state().equal(before)


def test_terms_without_weight_are_left_out() -> None:
    losses = {"l1": 2.0, "ssim": 0.0, "denoise": 1.0}
    assert build_losses(config(GENERATIVE, losses)) == {"l1": (2.0, l1), "denoise": (1.0, None)}


@pytest.mark.parametrize(
    ("method", "losses", "message"),
    [
        (REGRESSION, {"denoise": 1.0}, "is for generative methods, set it to 0 for regression"),
        (AUTOENCODING, {"cloud_adaptive": 1.0}, "is for restored clouds, set it to 0"),
        (AUTOENCODING, {"perceptual": 1.0}, "sees grey or three bands, the method has 2"),
        (REGRESSION, {"perceptual": 1.0}, "needs the weights of VGG19, name a file or URL"),
    ],
)
def test_terms_that_do_not_fit_are_refused(
    method: dict[str, Any], losses: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_losses(config(method, losses))
