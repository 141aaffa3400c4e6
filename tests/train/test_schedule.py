import warnings

import pytest
import torch
from tiny import tiny_config

from pellucid.config import TrainConfig
from pellucid.train.schedule import check_schedule, fit_warmup, rate_factor


def options(**values: object) -> TrainConfig:
    return tiny_config(**values).train


def test_the_step_schedule_halves_the_rate_every_five_epochs() -> None:
    step = options(schedule="step")
    factors = [rate_factor(step, 10 * epoch, 10) for epoch in (0, 4, 5, 9, 10)]
    assert factors == [1, 1, 0.5, 0.5, 0.25]
    assert rate_factor(step, 49, 10) == 1


def test_the_step_schedule_is_that_of_torch() -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)
    for epoch in range(20):
        expected = optimizer.param_groups[0]["lr"]
        assert rate_factor(options(schedule="step"), 3 * epoch, 3) == pytest.approx(expected)
        optimizer.step()
        scheduler.step()


def test_the_cosine_rises_to_the_rate_and_falls_to_its_final_share() -> None:
    cosine = options(schedule="cosine", num_steps=104, warmup_steps=4, final_rate=0.1)
    assert [rate_factor(cosine, step, 1) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rate_factor(cosine, 4, 1) == 1
    assert rate_factor(cosine, 54, 1) == pytest.approx(0.55)
    assert rate_factor(cosine, 104, 1) == pytest.approx(0.1)
    assert rate_factor(cosine, 200, 1) == pytest.approx(0.1)


def test_the_constant_rate_stays() -> None:
    assert {rate_factor(options(schedule="constant"), step, 1) for step in (0, 10, 1000)} == {1.0}


def test_a_warm_up_that_leaves_no_time_is_shortened_and_said_so() -> None:
    with pytest.warns(UserWarning, match="is 2000, but the run has 800 steps; .* over 80 of them"):
        config = fit_warmup(tiny_config(num_steps=800, warmup_steps=2000, schedule="constant"))
    assert config.train.warmup_steps == 80
    assert max(rate_factor(config.train, step, 1) for step in range(800)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = tiny_config(num_steps=800, warmup_steps=400)
        assert fit_warmup(kept) == kept


def test_a_rate_that_never_falls_is_said() -> None:
    with pytest.warns(UserWarning, match="first falls after 50 steps .* 5 of 10 steps.*, and the run has 50"):
        check_schedule(options(schedule="step", num_steps=50, batch=2), 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_schedule(options(schedule="step", num_steps=51, batch=2), 20)
        check_schedule(options(schedule="cosine", num_steps=5, batch=2), 20)
