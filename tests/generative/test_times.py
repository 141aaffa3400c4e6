import pytest
import torch

from pellucid.generative.times import NUM_INTERVALS, TrainingTimes


def test_even_times_cover_the_path_and_weigh_the_same() -> None:
    times, weights = TrainingTimes().draw(4000, torch.Generator().manual_seed(0))
    assert 0 <= times.min() < times.max() < 1
    assert abs(times.mean() - 0.5) < 0.02
    assert weights.eq(1).all()


def test_times_gather_where_the_loss_is_large() -> None:
    sampler = TrainingTimes(share=0.9)
    late = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    sampler.learn(late, torch.where(late > 0.75, 9.0, 1.0))
    times, _ = sampler.draw(4000, torch.Generator().manual_seed(1))
    # A quarter of the path has nine times the loss: 0.9 * 9 / (9 + 3) + 0.1 / 4.
    assert abs((times > 0.75).float().mean() - 0.7) < 0.03


def test_weights_keep_the_expected_loss() -> None:
    sampler = TrainingTimes(share=0.8)
    sampler.squares = torch.linspace(0.1, 4, NUM_INTERVALS)
    times, weights = sampler.draw(40_000, torch.Generator().manual_seed(0))
    assert abs((weights * times.square()).mean() - 1 / 3) < 0.01
    assert abs(weights.mean() - 1) < 0.01


def test_what_was_learnt_is_part_of_the_state() -> None:
    first, second = TrainingTimes(share=0.5), TrainingTimes(share=0.5)
    first.learn(torch.tensor([0.1, 0.9]), torch.tensor([2.0, 5.0]))
    second.load_state_dict(first.state_dict())
    drawn = [sampler.draw(8, torch.Generator().manual_seed(3))[0] for sampler in (first, second)]
    assert drawn[0].equal(drawn[1])


def test_logit_normal_times_have_normal_odds() -> None:
    times, weights = TrainingTimes(spread="logit_normal").draw(20_000, torch.Generator().manual_seed(0))
    # The standard normal lies below log(1/3), the logit of 1/4, with a chance of 0.136.
    assert abs((times < 0.25).float().mean() - 0.136) < 0.01
    assert abs((times < 0.5).float().mean() - 0.5) < 0.01
    assert weights.eq(1).all()


def test_importance_corrects_even_times_alone() -> None:
    with pytest.raises(ValueError, match=r"importance is 0\.5, which needs even times; set it to 0"):
        TrainingTimes(0.5, "logit_normal")


def test_a_schedule_gives_each_step_its_share_of_the_loss() -> None:
    times = TrainingTimes(share=0.9, is_schedule=True)
    even = torch.linspace(1, 0, 5, dtype=torch.float64)
    torch.testing.assert_close(times.spread_evenly(even), even)
    # Three quarters of the path have a root mean square of 1, the last has 3: half of all lies there.
    times.squares = torch.where(torch.arange(NUM_INTERVALS) < 24, 1.0, 9.0)
    wanted = torch.tensor([1, 0.875, 0.75, 0.375, 0], dtype=torch.float64)
    torch.testing.assert_close(times.spread_evenly(even), wanted)
