import warnings
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from tests.methods.test_generative import Enlarged, batch, cloudy, last_seen, latent, method
from torch import Tensor

from pellucid.data.batch import Batch, Condition
from pellucid.data.ranges import SENTINEL1, SLICE
from pellucid.data.resample import enlarge
from pellucid.errors import InputError
from pellucid.generative.noise import keyed_noise
from pellucid.generative.path import RectifiedFlow, VariancePreserving, beta_schedule
from pellucid.methods.generative import Generative
from pellucid.methods.inference import check_samples
from pellucid.methods.regression import Regression, RegressionConfig
from pellucid.methods.sampling import Sampling, with_sampling

BETAS = beta_schedule("quad", 1000, linear_start=8.5e-4, linear_end=0.012)


class Halved(Enlarged):
    """Says half of what it is told, so that following it twice as far gives all of it."""

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        return super().forward(x_t, c_noise, condition) / 2


class Distilled(Enlarged):
    """Says its condition as many times as the guidance that it is told, and so much by itself."""

    guidance = 0.25

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        said = super().forward(x_t, c_noise, condition)
        told = self.guidance if condition.guidance is None else condition.guidance.view(-1, 1, 1, 1)
        return said * told


def distilled(**options: Any) -> Generative:
    made = method(losses={}, **options)
    config = made.config
    return Generative(Distilled(), config, optical=SLICE, radar=SENTINEL1.select(()), losses={})


def scaled(given: Batch, factor: float) -> Tensor:
    """Return the enlarged image, `factor` times as far from grey."""
    return (0.5 + factor * (enlarge(given.degraded, 4).clamp(0, 1) - 0.5)).clamp(0, 1)


def test_guidance_follows_the_condition_so_many_times_as_far() -> None:
    given = batch()
    plain = method(drop_condition=0.1)
    plain.network = Halved()
    changed = with_sampling(plain, guidance=2.0)
    torch.testing.assert_close(changed.restore(given), scaled(given, 1), rtol=0, atol=1e-5)
    assert plain.sampling.guidance == 1.0
    assert len(plain.network.levels) == 2 * plain.sampling.steps


def test_guidance_of_a_model_that_never_lacked_its_condition_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"guidance is 2\.5, but .* never trained without .*--guidance"):
        with_sampling(method(), guidance=2.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_sampling(method(), guidance=1.0, steps=2)
        with_sampling(method(drop_condition=0.1), guidance=2.5)


def test_a_network_that_learnt_a_guidance_is_told_another_in_one_call() -> None:
    given, plain = batch(), distilled()
    torch.testing.assert_close(plain.restore(given), scaled(given, 0.25), rtol=0, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changed = with_sampling(plain, guidance=0.75)
    torch.testing.assert_close(changed.restore(given), scaled(given, 0.75), rtol=0, atol=1e-5)
    torch.testing.assert_close(with_sampling(plain, guidance=1).restore(given), scaled(given, 1))
    assert len(plain.network.levels) == 3 * plain.sampling.steps


def test_a_network_that_learnt_to_do_without_its_condition_is_guided_by_two_calls() -> None:
    given, plain = batch(), distilled(drop_condition=0.1)
    followed = with_sampling(plain, guidance=2.0).restore(given)
    torch.testing.assert_close(followed, scaled(given, 0.5), rtol=0, atol=1e-5)
    assert len(plain.network.levels) == 2 * plain.sampling.steps


def test_temperature_scales_the_noise_and_without_any_nothing_is_random() -> None:
    given, sampler = cloudy(), latent(steps=4, start="noise")
    noise = keyed_noise(given.key, 8, 12)
    for temperature in (1.0, 0.5, 0.0):
        changed = with_sampling(sampler, temperature=temperature)
        changed.restore(given, noise)
        begun = changed.network.seen[-4][0]
        torch.testing.assert_close(begun, temperature * noise(0, 3, 2))
        assert changed.is_random == (temperature > 0)
    with pytest.raises(InputError, match=r"2 samples .* from no noise, .* use --temperature 1 or"):
        check_samples(with_sampling(sampler, temperature=0), 2)


def test_a_method_without_steps_names_the_options_to_leave_out() -> None:
    regression = Regression(
        Enlarged(), RegressionConfig(), optical=SLICE, radar=SENTINEL1.select(()), losses={}
    )
    assert with_sampling(regression) is regression
    with pytest.raises(InputError, match="takes no steps; leave out --steps and --guidance or choose"):
        with_sampling(regression, steps=4, guidance=2.0)


def test_strength_skips_the_times_above_as_published(golden_folder: Path) -> None:
    timesteps = golden.arrays(golden_folder, "sar_ddpm")["timesteps"]
    path = VariancePreserving(BETAS, time_input="step", spacing="leading")
    times = Sampling(steps=50, strength=0.8).step_times(path)
    torch.testing.assert_close(path.noise_level(times[:-1]), timesteps.double())
    assert times[-1] == 0


def test_the_time_of_the_strength_itself_is_kept() -> None:
    for path in (RectifiedFlow(), VariancePreserving(BETAS)):
        for strength in (0.8, 0.3, 0.7):
            times = Sampling(steps=10, strength=strength).step_times(path)
            assert times[0].item() == pytest.approx(strength)
            assert len(times) == round(10 * strength) + 1
        assert Sampling(steps=10).step_times(path).equal(path.times(10))


def test_less_than_full_strength_begins_with_the_input_under_noise() -> None:
    given, sampler = cloudy(), latent(steps=4, strength=0.25)
    noise = keyed_noise(given.key, 8, 12)
    sampler.restore(given, noise)
    x, condition = last_seen(sampler)
    assert condition.degraded is not None
    torch.testing.assert_close(x, 0.75 * condition.degraded + 0.25 * noise(0, 3, 2))
    assert len(sampler.network.seen) == 1


def test_less_than_full_strength_of_what_the_input_lacks_begins_with_nothing() -> None:
    given, sampler = batch(), method(residual=2.0, steps=20, strength=0.05)
    begun: list[Tensor] = []
    sampler.network.register_forward_hook(lambda _, inputs, __: begun.append(inputs[0]))
    noise = keyed_noise(given.key, 16, 24)
    sampler.restore(given, noise)
    sigma = sampler.path.sigma(torch.tensor(0.05))
    torch.testing.assert_close(begun[0], sigma * noise(0, 1))


@pytest.mark.parametrize(
    ("strength", "message"),
    [
        (0.0, r"--strength: strength is 0, must be above 0 and at most 1"),
        (1.5, r"--strength: strength is 1\.5, must be above 0"),
        (0.1, r"--strength: strength is 0\.1, which leaves none of 3 steps; raise one of them"),
    ],
)
def test_a_strength_that_cannot_be_is_refused(strength: float, message: str) -> None:
    with pytest.raises(InputError, match=r"strength.* is 0\.0|strength.* is 1\.5|method\.strength: .*0\.1"):
        method(steps=3, strength=strength)
    with pytest.raises(InputError, match=message):
        with_sampling(method(), strength=strength)


def test_a_sampling_that_contradicts_the_model_names_the_option() -> None:
    with pytest.raises(InputError, match="Heun's method, which needs 0; leave out --eta"):
        with_sampling(method(steps=3, solver="heun"), eta=0.5)
    with pytest.raises(InputError, match=r"eta is 0\.5, but this model starts from the degraded image"):
        with_sampling(latent(start="degraded"), eta=0.5)
    with pytest.raises(InputError, match=r"--steps: .*21"):
        with_sampling(method(), steps=21)


def test_what_is_not_said_stays() -> None:
    plain = method(steps=5, eta=0.5, guidance=1.0)
    changed = with_sampling(plain, strength=0.6, steps=10)
    assert isinstance(changed, Generative)
    assert changed.sampling == plain.sampling.model_copy(update={"steps": 10, "strength": 0.6})
    assert changed.network is plain.network
