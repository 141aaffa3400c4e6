from pathlib import Path as Folder
from typing import get_args

import golden
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.schema import parse
from pellucid.generative.path import (
    Path,
    PathConfig,
    Prediction,
    RectifiedFlow,
    Schedule,
    VariancePreserving,
    beta_schedule,
    time_shift,
)

COSINE = beta_schedule("cosine", 50)
PATHS = [
    make(prediction)  # type: ignore[operator]
    for prediction in get_args(Prediction)
    for make in (lambda name: VariancePreserving(COSINE, name), RectifiedFlow)
]


@pytest.mark.parametrize("name", get_args(Schedule))
def test_schedules_equal_the_published_ones(name: Schedule, golden_folder: Folder) -> None:
    published = golden.arrays(golden_folder, "sr3_beta_schedules_T50")[name]
    ours = beta_schedule(name, 50, linear_start=1e-5, linear_end=2e-2)  # the goldens' own ends
    torch.testing.assert_close(ours, published, rtol=1e-12, atol=0)


def test_a_schedule_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no schedule is named sine; there are linear, quad"):
        beta_schedule("sine", 10)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"linear_start is 0\.1 and linear_end 0\.01"):
        beta_schedule("linear", 10, linear_start=0.1)
    with pytest.raises(ValueError, match="num_steps is 0"):
        beta_schedule("cosine", 0)


def test_trained_steps_have_the_running_product_of_what_is_kept() -> None:
    betas = torch.tensor([0.19, 0.36])  # alpha_bar: 1, 0.81, 0.81 x 0.64
    path = VariancePreserving(betas)
    t = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(path.alpha(t), torch.tensor([1.0, 0.9, 0.72]))
    torch.testing.assert_close(path.sigma(t).square(), torch.tensor([0.0, 0.19, 1 - 0.72**2]))


def test_between_steps_the_noise_level_is_linear() -> None:
    path = VariancePreserving(torch.tensor([0.19, 0.36]))
    torch.testing.assert_close(path.noise_level(torch.tensor([0.25, 0.75])), torch.tensor([0.95, 0.81]))


def test_stable_diffusions_steps_are_told_by_their_number(golden_folder: Folder) -> None:
    known = golden.arrays(golden_folder, "sar_ddpm")
    betas = beta_schedule("quad", 1000, linear_start=8.5e-4, linear_end=0.012)  # "scaled linear"
    path = VariancePreserving(betas, time_input="step")
    t = torch.arange(1, 1001) / 1000
    torch.testing.assert_close(path.alpha(t).square(), known["acp"], rtol=1e-5, atol=0)
    torch.testing.assert_close(path.noise_level(t), torch.arange(1000.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(path.noise_level(torch.tensor([0, 0.0015])), torch.tensor([-1, 0.5]))
    assert VariancePreserving(betas).noise_level(t).equal(path.alpha(t))


def test_the_first_steps_keep_the_digits_of_their_noise() -> None:
    path = VariancePreserving(torch.full((10,), 1e-12, dtype=torch.float64))
    # sqrt(1 - alpha^2) of a float32, or of a float64 alpha, has lost them: alpha is 1 - 5e-13.
    sigma = path.sigma(torch.tensor([0.1, 1.0]))
    torch.testing.assert_close(sigma, torch.tensor([1e-6, 10**0.5 * 1e-6]), rtol=1e-6, atol=0)


def test_a_schedule_that_ends_in_pure_noise_has_no_data_left() -> None:
    path = VariancePreserving(beta_schedule("jsd", 8))
    assert path.alpha(torch.ones(1)) == 0
    assert path.sigma(torch.ones(1)) == 1


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{type(path).__name__}-{path.prediction}")
@given(t=st.floats(0.02, 0.9), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_split_undoes_sample(path: Path, t: float, seed: int) -> None:
    x0, source = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    times = torch.tensor([t, t / 2, 0.5])
    x_t, target = path.sample(x0, source, times)
    x0_hat, source_hat = path.split(x_t, target, times)
    torch.testing.assert_close(x0_hat, x0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(source_hat, source, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{type(path).__name__}-{path.prediction}")
def test_the_ends_are_finite_and_hold_what_is_there(path: Path) -> None:
    x, output = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    x0_hat, source_hat = path.split(x, output, torch.tensor([0.0, 1.0]))
    assert x0_hat.isfinite().all()
    assert source_hat.isfinite().all()
    if path.prediction != "image":  # type: ignore[attr-defined]
        torch.testing.assert_close(x0_hat[0], x[0])  # t = 0 is the image itself
    if path.prediction != "noise":  # type: ignore[attr-defined]
        torch.testing.assert_close(source_hat[1], x[1], rtol=0, atol=0.01)  # t = 1 is (nearly) the source


def test_an_end_that_left_no_trace_is_zero() -> None:
    x, output = torch.randn(2, 1, 4, 4)
    path = VariancePreserving(beta_schedule("jsd", 8), "noise")
    assert (path.split(x[None], output[None], torch.ones(1))[0] == 0).all()
    assert (RectifiedFlow("image").split(x[None], output[None], torch.zeros(1))[1] == 0).all()


def test_velocity_is_the_derivative_along_the_straight_path() -> None:
    x0, source = torch.randn(2, 1, 1, 4, 4, dtype=torch.float64)
    path = RectifiedFlow()
    (early, velocity), (late, _) = (path.sample(x0, source, torch.tensor([t])) for t in (0.25, 0.75))
    torch.testing.assert_close((late - early) / 0.5, velocity)


def test_velocity_turns_data_into_source_on_the_circle() -> None:
    x0, source = torch.randn(2, 1, 1, 4, 4, dtype=torch.float64)
    path, t = VariancePreserving(COSINE, "velocity"), torch.tensor([0.5], dtype=torch.float64)
    alpha, sigma = path.alpha(t).item(), path.sigma(t).item()
    torch.testing.assert_close(path.sample(x0, source, t)[1], alpha * source - sigma * x0)


def test_results_have_the_type_of_the_images() -> None:
    x = torch.randn(2, 1, 4, 4, dtype=torch.bfloat16)
    path = VariancePreserving(COSINE)
    for result in (*path.sample(x, x, torch.rand(2)), *path.split(x, x, torch.rand(2))):
        assert result.dtype == torch.bfloat16


def test_times_lie_on_the_trained_steps() -> None:
    path = VariancePreserving(COSINE)
    assert (path.times(5) * 50).tolist() == [50, 40, 30, 20, 10, 0]
    assert torch.equal((path.times(50) * 50).round(), torch.arange(50.0, -1, -1).double())
    uneven = path.times(7) * 50
    assert uneven[0] == 50
    assert uneven[-1] == 0
    assert set((uneven[:-1] - uneven[1:]).round().int().tolist()) == {7, 8}
    torch.testing.assert_close(uneven, uneven.round())


@given(num_steps=st.integers(1, 50))
def test_times_fall_strictly(num_steps: int) -> None:
    for path in (VariancePreserving(COSINE), RectifiedFlow(shift=1.15)):
        times = path.times(num_steps)
        assert len(times) == num_steps + 1
        assert times[0] == 1
        assert times[-1] == 0
        assert (times.diff() < 0).all()


def test_more_steps_than_trained_are_refused() -> None:
    with pytest.raises(ValueError, match="num_steps is 51, the path has 1 to 50"):
        VariancePreserving(COSINE).times(51)
    with pytest.raises(ValueError, match="num_steps is 0, must be at least 1"):
        RectifiedFlow().times(0)


def test_shifted_times_equal_the_published_ones() -> None:
    times = RectifiedFlow(shift=time_shift(256)).times(4)
    expected = torch.tensor([1, 0.83182, 0.62246, 0.35466, 0], dtype=torch.float64)
    torch.testing.assert_close(times, expected, rtol=0, atol=1e-5)
    assert time_shift(4096) == pytest.approx(1.15)


def test_the_shift_of_an_image_follows_from_its_tokens_in_sampling_and_training() -> None:
    path = RectifiedFlow(shift="auto")
    assert path.times(4, 1024).equal(RectifiedFlow(shift=time_shift(1024)).times(4))
    assert path.times(4, 1024)[1] > path.times(4, 256)[1] == RectifiedFlow(shift=0.5).times(4)[1]
    torch.testing.assert_close(path.move(torch.tensor([0.5]).double(), 1024), path.times(4, 1024)[2:3])


def test_times_without_a_shift_stay_where_they_are() -> None:
    t = torch.rand(5)
    for path in (VariancePreserving(COSINE), RectifiedFlow()):
        assert path.move(t, 4096) is t


def test_times_lead_from_the_first_step_of_each_part() -> None:
    betas = beta_schedule("quad", 1000, linear_start=8.5e-4, linear_end=0.012)
    path = VariancePreserving(betas, time_input="step", spacing="leading")
    for num_steps, step in ((50, 20), (30, 33), (1000, 1), (1, 1000)):
        times = path.times(num_steps)
        wanted = torch.arange((num_steps - 1) * step, -1, -step, dtype=torch.float64)
        torch.testing.assert_close(path.noise_level(times[:-1]), wanted)
        assert times[-1] == 0
    with pytest.raises(ValueError, match="num_steps is 1001, the path has 1 to 1000"):
        path.times(1001)


def test_a_network_that_is_told_steps_is_trained_at_steps() -> None:
    path = VariancePreserving(COSINE, time_input="step")
    t = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    moved = path.move(t, 4096)
    told = path.noise_level(moved)
    torch.testing.assert_close(told, told.round())
    assert told.round().unique().tolist() == list(range(len(COSINE)))
    assert ((moved - t >= 0) & (moved - t <= 1 / len(COSINE))).all()
    assert path.move(torch.zeros(1), 4096) == 1 / len(COSINE)


def test_a_path_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction is x0, must be one of noise, image, velocity"):
        RectifiedFlow("x0")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="time_input is t, must be one of level, step"):
        VariancePreserving(COSINE, time_input="t")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="spacing is odd, must be one of even, leading"):
        VariancePreserving(COSINE, spacing="odd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="row of variances"):
        VariancePreserving(torch.tensor([0.1, 1.1]))


def test_the_time_input_is_read_and_saved_under_its_key() -> None:
    config = parse(PathConfig, {"tells": "step"}, where="path")
    assert config.time_input == "step"
    assert config.model_dump()["tells"] == "step"
