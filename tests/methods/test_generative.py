from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch, Condition
from pellucid.data.ranges import SENTINEL1, SLICE
from pellucid.data.resample import enlarge
from pellucid.errors import InputError
from pellucid.generative.noise import keyed_noise
from pellucid.generative.path import VariancePreserving, beta_schedule
from pellucid.losses import LOSSES
from pellucid.methods.generative import Generative, Sampling, with_sampling
from pellucid.methods.regression import Regression

PATH = VariancePreserving(beta_schedule("cosine", 20), prediction="image")


class Enlarged(nn.Module):
    """Says that the image is its condition, times a weight that is 1 at first."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.levels: list[Tensor] = []

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        assert condition.degraded is not None
        assert x_t.shape == condition.degraded.shape
        self.levels.append(c_noise)
        return self.weight * condition.degraded


def method(**options: Any) -> Generative:
    settings: dict[str, Any] = {
        "losses": {"l1": (1.0, LOSSES["l1"])},
        "scale": 4,
        "sampling": Sampling(steps=3),
        **options,
    }
    return Generative(Enlarged(), path=PATH, optical=SLICE, radar=SENTINEL1.select(()), **settings)


def batch(size: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        degraded=torch.rand(size, 1, 4, 6, generator=generator),
        target=torch.rand(size, 1, 16, 24, generator=generator),
        valid=torch.ones(size, 1, 16, 24, dtype=torch.bool),
        key=tuple(f"slice {i}" for i in range(size)),
    )


def test_a_network_that_sees_through_the_noise_gives_its_image_in_any_number_of_steps() -> None:
    given = batch()
    for sampling in (Sampling(1), Sampling(7), Sampling(5, eta=1.0), Sampling(4, solver="heun")):
        restored = method(sampling=sampling).restore(given)
        torch.testing.assert_close(restored, enlarge(given.degraded, 4).clamp(0, 1), rtol=0, atol=1e-5)


def test_image_terms_judge_the_estimate_in_the_range_of_images() -> None:
    given = batch()
    wanted = (enlarge(given.degraded, 4).clamp(0, 1) - given.target).abs().mean()
    terms = method().loss(given, torch.Generator().manual_seed(1))
    torch.testing.assert_close(terms["l1"], wanted)
    torch.testing.assert_close(terms["total"], wanted)


def test_denoise_judges_what_the_network_says() -> None:
    given = batch()
    found = method(losses={"denoise": (2.0, None)}).loss(given, torch.Generator().manual_seed(1))
    wanted = 2 * (2 * (enlarge(given.degraded, 4).clamp(0, 1) - given.target)).square().mean()
    torch.testing.assert_close(found["denoise"], wanted)


def test_times_drawn_by_importance_leave_the_expected_loss_as_it_is() -> None:
    given = batch(8)
    even, drawn = method(), method(importance=0.9)
    wanted = even.loss(given)["total"]
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([drawn.loss(given, generator)["total"].detach() for _ in range(40)]).mean()
    # The network errs alike at all times, so only the weights can change the mean.
    torch.testing.assert_close(found, wanted.detach(), rtol=0.03, atol=0)
    assert not drawn.times.squares.eq(1).all()


def test_gradients_reach_the_network() -> None:
    trained = method()
    trained.loss(batch())["total"].backward()
    assert trained.network.weight.grad.abs() > 0


def test_noise_follows_from_the_key_alone() -> None:
    noisy = method(sampling=Sampling(1, eta=0.0))
    seen: list[Tensor] = []

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(inputs[0].clone())

    noisy.network.register_forward_hook(remember)
    given = batch()
    noisy.restore(given)
    one = replace(given, **{name: image[1:] for name, image in given.images().items()}, key=given.key[1:])
    noisy.restore(one)
    assert seen[1].equal(seen[0][1:])
    noisy.restore(one, keyed_noise(one.key, 16, 24, sample=1))
    assert not seen[2].equal(seen[1])


def test_a_batch_without_target_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="slice 0 has no target"):
        method().loss(replace(batch(), target=None))


class Halved(Enlarged):
    """Says half of what it is told, so that following it twice as far gives all of it."""

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        return super().forward(x_t, c_noise, condition) / 2


def test_guidance_follows_the_condition_so_many_times_as_far() -> None:
    given = batch()
    plain = method()
    plain.network = Halved()
    changed = with_sampling(plain, guidance=2.0)
    torch.testing.assert_close(
        changed.restore(given), enlarge(given.degraded, 4).clamp(0, 1), rtol=0, atol=1e-5
    )
    assert plain.sampling.guidance == 1.0
    assert len(plain.network.levels) == 2 * plain.sampling.steps


def test_a_method_without_steps_names_the_options_to_leave_out() -> None:
    regression = Regression(Enlarged(), optical=SLICE, radar=SENTINEL1.select(()), losses={})
    assert with_sampling(regression) is regression
    with pytest.raises(InputError, match="takes no steps; leave out --steps and --guidance or choose"):
        with_sampling(regression, steps=4, guidance=2.0)
