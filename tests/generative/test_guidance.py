import torch
from torch import Tensor

from pellucid.data.batch import Condition
from pellucid.generative.guidance import guided
from pellucid.generative.path import RectifiedFlow
from pellucid.generative.sampler import sample


class Denoise:
    """Says t x_t + the condition, and counts how often it is asked."""

    calls = 0

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert condition.degraded is not None
        self.calls += 1
        return t.view(-1, 1, 1, 1) * x_t + condition.degraded


X_T, T = torch.randn(2, 1, 4, 4), torch.tensor([0.25, 0.75])
CONDITION = Condition(degraded=torch.randn(2, 1, 4, 4))


def test_guidance_goes_on_from_the_null_condition_through_the_condition() -> None:
    null, step = T.view(-1, 1, 1, 1) * X_T, CONDITION.degraded
    for scale in (0.0, 0.5, 2.0, 7.5):
        torch.testing.assert_close(guided(Denoise(), CONDITION, scale)(X_T, T), null + scale * step)


def test_what_is_led_away_from_may_be_another_condition() -> None:
    other = Condition(degraded=torch.randn(2, 1, 4, 4))
    found = guided(Denoise(), CONDITION, 3.0, other)(X_T, T)
    wanted = T.view(-1, 1, 1, 1) * X_T + other.degraded + 3 * (CONDITION.degraded - other.degraded)
    torch.testing.assert_close(found, wanted)


def test_guidance_of_one_asks_once_and_changes_nothing() -> None:
    denoise = Denoise()
    out = guided(denoise, CONDITION, 1.0)(X_T, T)
    assert denoise.calls == 1
    assert torch.equal(out, denoise(X_T, T, CONDITION))


def test_guided_sampling_overshoots_the_condition() -> None:
    """Where the velocity is noise - condition, the image is `scale` times the condition."""

    def denoise(x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return X_T - condition.degraded

    out = sample(guided(denoise, CONDITION, 3.0), RectifiedFlow(), X_T, RectifiedFlow().times(4))
    torch.testing.assert_close(out, 3 * CONDITION.degraded)
