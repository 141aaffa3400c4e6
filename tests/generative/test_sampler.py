from pathlib import Path as Folder

import golden
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from pellucid.data.batch import Condition
from pellucid.generative.path import (
    Path,
    Prediction,
    RectifiedFlow,
    VariancePreserving,
    beta_schedule,
    time_shift,
)
from pellucid.generative.sampler import Solver, sample
from pellucid.networks.sr3_unet import Config, build

T = 40
BETAS = beta_schedule("linear", T, linear_start=1e-3, linear_end=0.2)
# Their word for each of ours.
PREDICTION = {"noise": "epsilon", "image": "sample", "velocity": "v_prediction"}


def fake(x_t: Tensor, t: Tensor) -> Tensor:
    """Return something that depends on x_t, its neighbours and t as a network's output does."""
    return torch.tanh(0.7 * x_t + 0.3 * x_t.roll(1, -1) + t.view(-1, 1, 1, 1))


def images() -> tuple[Tensor, list[Tensor]]:
    """Return a source and the noise of each step."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 3, 8, 8, generator=generator),
        [torch.randn(2, 3, 8, 8, generator=generator) for _ in range(T)],
    )


def test_exact_velocity_reaches_the_image_in_one_step() -> None:
    x0, noise = torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    out = sample(lambda x_t, t: noise - x0, RectifiedFlow(), noise, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(out, x0)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("prediction", ["noise", "image", "velocity"])
@pytest.mark.parametrize("num_steps", [T, 8])
def test_eta_one_is_ddpm(prediction: Prediction, clip: float | None, num_steps: int) -> None:
    source, _ = images()
    theirs = DDPMScheduler(
        T,
        trained_betas=BETAS.tolist(),
        prediction_type=PREDICTION[prediction],
        clip_sample=clip is not None,
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(num_steps)
    x, generator = source, torch.Generator().manual_seed(1)
    for k in theirs.timesteps:
        x = theirs.step(fake(x, torch.full((2,), (k + 1) / T)), k, x, generator=generator).prev_sample
    path, generator = VariancePreserving(BETAS, prediction), torch.Generator().manual_seed(1)
    ours = sample(
        fake,
        path,
        source,
        path.times(num_steps),
        eta=1.0,
        clip=clip,
        draw=lambda _: torch.randn(source.shape, generator=generator),
    )
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("prediction", ["noise", "image", "velocity"])
@pytest.mark.parametrize("num_steps", [T, 10, 1])
def test_any_eta_is_ddim(prediction: Prediction, eta: float, clip: float | None, num_steps: int) -> None:
    source, noises = images()
    theirs = DDIMScheduler(
        T,
        trained_betas=BETAS.tolist(),
        prediction_type=PREDICTION[prediction],
        clip_sample=clip is not None,
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(num_steps)
    x = source
    for k, noise in zip(theirs.timesteps, noises, strict=False):
        output = fake(x, torch.full((2,), (k + 1) / T))
        kwargs = {"use_clipped_model_output": clip is not None, "variance_noise": noise}
        x = theirs.step(output, k, x, eta=eta, **kwargs).prev_sample
    path = VariancePreserving(BETAS, prediction)
    times = path.times(num_steps)
    ours = sample(fake, path, source, times, eta=eta, clip=clip, draw=lambda step: noises[step - 1])
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["noise", "image", "velocity"])
@pytest.mark.parametrize("num_steps", [T, 10, 2, 1])
def test_dpm_plus_plus_is_that_of_diffusers(prediction: Prediction, num_steps: int) -> None:
    source, _ = images()
    theirs = DPMSolverMultistepScheduler(
        T,
        trained_betas=BETAS.tolist(),
        prediction_type=PREDICTION[prediction],
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(num_steps)
    x = source
    for k in theirs.timesteps:
        x = theirs.step(fake(x, torch.full((2,), (k + 1) / T)), k, x).prev_sample
    path = VariancePreserving(BETAS, prediction)
    ours = sample(fake, path, source, path.times(num_steps), solver="dpm++")
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [None, time_shift(1024)])
@pytest.mark.parametrize("num_steps", [1, 7, 30])
def test_straight_path_is_flow_match_euler(shift: float | None, num_steps: int) -> None:
    source, _ = images()
    theirs = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=shift is not None)
    theirs.set_timesteps(sigmas=torch.linspace(1, 1 / num_steps, num_steps).tolist(), mu=shift)
    x = source
    for timestep, sigma in zip(theirs.timesteps, theirs.sigmas, strict=False):
        x = theirs.step(fake(x, sigma.expand(2)), timestep, x).prev_sample
    path = RectifiedFlow(shift=shift)
    torch.testing.assert_close(sample(fake, path, source, path.times(num_steps)), x, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_ancestral_step_is_the_published_one(golden_folder: Folder) -> None:
    """Step 8 of 20 on the cosine schedule, of the published network with one level."""
    published = golden.arrays(golden_folder, "sr3_p_mean_variance_T20_t7")
    x_t, condition = published["x_t"], Condition(degraded=published["cond"])
    config = Config(width=16, multipliers=(1,), num_blocks=1, attention=(16,), image_size=16, groups=8)
    network = build(config).eval()
    network.load_state_dict(golden.state_dict(golden_folder, "sr3_unet_onelevel_crossattn"))
    path, times = VariancePreserving(beta_schedule("cosine", 20)), torch.tensor([8 / 20, 7 / 20])

    def step(z: float) -> Tensor:
        return sample(
            lambda x, t: network(x, path.noise_level(t), condition),
            path,
            x_t,
            times,
            eta=1.0,
            draw=lambda _: torch.full_like(x_t, z),
            clip=1.0,
        )

    torch.testing.assert_close(step(0.0), published["mean"], **golden.TOLERANCE)
    spread = (published["log_var"] / 2).exp().expand(x_t.shape)
    torch.testing.assert_close(step(1.0) - step(0.0), spread, **golden.TOLERANCE)


class Gaussian:
    """The exact denoiser of images that are normal: every point of the way back is known."""

    mean, std = 0.3, 0.2

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (share(t).view(-1, 1) for share in (self.path.alpha, self.path.sigma))
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)

    def point(self, t: Tensor) -> Tensor:
        """Return where at time t the way lies that leads to mean + std."""
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        return alpha * self.mean + (alpha**2 * self.std**2 + sigma**2).sqrt()

    def error(self, num_steps: int, solver: Solver) -> float:
        """Return how far from that way it ends, a little above the data: the step to the data is Euler's.

        So is that from where nothing is left of the data, by "dpm++": it begins a little below.
        """
        first = 0.9 if solver == "dpm++" else 1.0
        times = torch.linspace(first, 0.1, num_steps + 1, dtype=torch.float64)
        out = sample(self, self.path, self.point(times[:1, None]), times, solver=solver)
        return abs((out - self.point(times[-1])).item())


@pytest.mark.parametrize(
    "path",
    [RectifiedFlow("image"), VariancePreserving(beta_schedule("cosine", 2000), "image")],
    ids=["straight", "variance_preserving"],
)
def test_halving_the_steps_halves_eulers_error_and_quarters_heuns(path: Path) -> None:
    problem = Gaussian(path)
    assert problem.error(40, "euler") / problem.error(80, "euler") == pytest.approx(2, rel=0.15)
    assert problem.error(40, "heun") / problem.error(80, "heun") == pytest.approx(4, rel=0.15)
    assert problem.error(80, "heun") < problem.error(80, "euler") / 10
    assert problem.error(160, "dpm++") / problem.error(320, "dpm++") > 3.5
    assert problem.error(80, "dpm++") < problem.error(80, "heun")


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_of_a_gaussian_have_its_mean_and_spread(eta: float) -> None:
    path, generator = (
        VariancePreserving(beta_schedule("cosine", 200), "image"),
        torch.Generator().manual_seed(0),
    )
    source = torch.randn(20_000, 1, generator=generator)
    out = sample(
        Gaussian(path),
        path,
        source,
        path.times(200),
        eta=eta,
        draw=lambda _: torch.randn(source.shape, generator=generator),
    )
    assert out.mean() == pytest.approx(Gaussian.mean, abs=0.01)
    assert out.std() == pytest.approx(Gaussian.std, abs=0.01)


def test_dpm_plus_plus_asks_once_in_every_step_and_starts_at_any_time() -> None:
    calls: list[float] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(t[0].item())
        return x_t

    out = sample(denoiser, RectifiedFlow(), torch.ones(1, 1), RectifiedFlow().times(4), solver="dpm++")
    assert calls == [1.0, 0.75, 0.5, 0.25]
    assert out.isfinite().all()


def test_heun_asks_once_more_in_every_step_but_the_last() -> None:
    calls: list[float] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(t[0].item())
        return x_t

    sample(denoiser, RectifiedFlow(), torch.ones(1, 1), RectifiedFlow().times(4), solver="heun")
    assert calls == [1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25]


def test_one_image_of_a_batch_does_not_depend_on_the_others() -> None:
    source, _ = images()
    path = VariancePreserving(BETAS)
    together = sample(fake, path, source, path.times(10))
    torch.testing.assert_close(sample(fake, path, source[1:], path.times(10))[0], together[1])


def test_clip_bounds_the_image_and_nothing_is_overwritten() -> None:
    source = images()[0]
    output, before = 5 * torch.ones_like(source), source.clone()
    path = VariancePreserving(BETAS, "image")
    assert (sample(lambda x, t: output, path, source, path.times(5), clip=1.0) == 1).all()
    assert torch.equal(source, before)
    assert (output == 5).all()


def test_gradients_reach_the_source_through_every_step() -> None:
    source = images()[0].double()[:1, :1, :2, :2].requires_grad_()
    for path in (VariancePreserving(BETAS), RectifiedFlow()):
        assert torch.autograd.gradcheck(lambda x, path=path: sample(fake, path, x, path.times(3)), source)
    heun = sample(fake, RectifiedFlow(), source, RectifiedFlow().times(3), solver="heun", clip=3.0)
    assert torch.autograd.grad(heun.sum(), source)[0].abs().min() > 0


def test_half_precision_is_told_exact_times() -> None:
    seen: list[Tensor] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x_t

    out = sample(denoiser, RectifiedFlow(), torch.ones(2, 1).bfloat16(), torch.tensor([0.501, 0.0]))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(seen[0], torch.full((2,), 0.501))


@pytest.mark.parametrize("path", [VariancePreserving(BETAS), RectifiedFlow("image")])
def test_everything_happens_on_the_device_of_the_source(path: Path) -> None:
    """The device here is torch's "meta", which refuses to be mixed as a GPU does."""
    source = images()[0].to("meta")
    told: list[Tensor] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        told.append(path.noise_level(t))
        return fake(x_t, t)

    for options in ({"eta": 1.0, "draw": lambda _: images()[0]}, {"solver": "heun"}):
        assert sample(denoiser, path, source, path.times(3), clip=1.0, **options).device == source.device
    assert {level.device for level in told} == {source.device}


STABLE = VariancePreserving(
    beta_schedule("quad", 1000, linear_start=8.5e-4, linear_end=0.012), time_input="step"
)


def test_steps_of_the_published_colorization_are_ancestral(golden_folder: Folder) -> None:
    known = golden.arrays(golden_folder, "sar_ddpm")

    def step(first: int, last: int, noise: Tensor) -> Tensor:
        times = torch.tensor([first + 1, last + 1], dtype=torch.float64) / 1000
        return sample(lambda *_: known["eps"], STABLE, known["x"], times, eta=1.0, draw=lambda _: noise)

    zero, one = torch.zeros_like(known["x"]), torch.ones_like(known["x"])
    torch.testing.assert_close(step(0, -1, one), known["step_t0"], **golden.TOLERANCE)
    drawn = step(500, 480, one) - step(500, 480, zero)
    torch.testing.assert_close(drawn, known["var_t500"].sqrt().expand_as(one), **golden.TOLERANCE)


def test_sampling_from_midway_is_the_published_one(golden_folder: Folder) -> None:
    """Strength 0.8 of 50 steps, evenly spaced from the first trained step on."""
    timesteps = golden.arrays(golden_folder, "sar_ddpm")["timesteps"]
    theirs = DDPMScheduler(
        1000,
        beta_start=8.5e-4,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        timestep_spacing="leading",
    )
    theirs.set_timesteps(50)
    assert theirs.timesteps[10:].equal(timesteps)
    x, generator = images()[0], torch.Generator().manual_seed(1)
    for k in timesteps:
        x = theirs.step(fake(x, torch.full((2,), k / 1000)), k, x, generator=generator).prev_sample
    generator.manual_seed(1)
    ours = sample(
        lambda x_t, t: fake(x_t, STABLE.noise_level(t) / 1000),
        STABLE,
        images()[0],
        torch.cat([(timesteps + 1) / 1000, torch.zeros(1)]),
        eta=1.0,
        draw=lambda _: torch.randn(2, 3, 8, 8, generator=generator),
    )
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


def test_progress_counts_the_steps() -> None:
    counts: list[tuple[int, int]] = []
    path = RectifiedFlow()
    sample(fake, path, images()[0], path.times(3), progress=lambda *count: counts.append(count))
    assert counts == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("values", [[0.0, 1.0], [1.0], [1.0, 0.5, 0.5], [1.1, 0.0], [[1.0, 0.0]]])
def test_times_that_do_not_fall_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="times must fall strictly within"):
        sample(fake, RectifiedFlow(), images()[0], torch.tensor(values))


def test_contradictions_are_refused() -> None:
    path, source = RectifiedFlow(), images()[0]
    with pytest.raises(ValueError, match=r"eta is 1\.5, must lie in"):
        sample(fake, path, source, path.times(2), eta=1.5)
    with pytest.raises(ValueError, match="give draw, or set eta to 0"):
        sample(fake, path, source, path.times(2), eta=0.5)
    for solver in ("heun", "dpm++"):
        with pytest.raises(ValueError, match="adds no noise"):
            sample(fake, path, source, path.times(2), eta=0.5, draw=lambda _: source, solver=solver)
    with pytest.raises(ValueError, match="solver is rk4, must be one of euler, heun, dpm"):
        sample(fake, path, source, path.times(2), solver="rk4")  # type: ignore[arg-type]
