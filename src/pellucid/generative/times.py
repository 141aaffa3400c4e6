"""The times at which a generative network is trained: evenly, mostly mid-way, or where it errs most."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

# Intervals of [0, 1] whose losses are followed, and the decay of their running mean square.
NUM_INTERVALS = 32
DECAY = 0.95

Spread = Literal["even", "logit_normal"]


class TrainingTimes(nn.Module):
    """Draws training times in proportion to the root mean square of the loss about them.

    Importance sampling of Nichol & Dhariwal 2021 (arXiv:2102.09672, Eq. 18), over intervals of time with a
    running mean. The weights that come with the times keep the expected loss what even times would give.
    Its buffers belong to the state of a run.

    Args:
        share: of the times drawn by importance, from 0 (all evenly) to 1; the rest are drawn evenly.
        spread: of the times that are not drawn by importance; "logit_normal" are those whose logarithm of
            the odds is standard normal: few near the ends (arXiv:2403.03206, rf/lognorm(0, 1)); it needs
            share 0.
        is_schedule: whether sampling follows `spread_evenly`, so that what was found belongs to the weights.
    """

    squares: Tensor

    def __init__(self, share: float = 0.0, spread: Spread = "even", *, is_schedule: bool = False) -> None:
        super().__init__()
        self.is_schedule = is_schedule
        if spread not in get_args(Spread):
            raise ValueError(f"times are {spread}, must be {' or '.join(get_args(Spread))}")
        if share and spread != "even":
            raise ValueError(
                f"importance is {share:g}, which needs even times; set it to 0 for {spread} ones"
            )
        self.share, self.spread = share, spread
        self.register_buffer("squares", torch.ones(NUM_INTERVALS))

    def draw(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return (count,) times in [0, 1] and the (count,) weights of their losses, 1 on average."""
        if self.spread == "logit_normal":
            times = torch.randn(count, device=self.squares.device, generator=generator).sigmoid()
            return times, torch.ones_like(times)
        even = torch.rand(count, device=self.squares.device, generator=generator)
        if not self.share:
            return even, torch.ones_like(even)
        by_loss = self.squares.sqrt() / self.squares.sqrt().sum()
        chances = self.share * by_loss + (1 - self.share) / NUM_INTERVALS
        at = torch.multinomial(chances, count, replacement=True, generator=generator)
        return (at + even) / NUM_INTERVALS, 1 / (NUM_INTERVALS * chances[at])

    def spread_evenly(self, shares: Tensor) -> Tensor:
        """Return the times, like `shares`, before which these shares of the root mean square loss lie."""
        weight = self.squares.to("cpu", torch.float64).sqrt()
        ends = torch.cat([weight.new_zeros(1), weight.cumsum(0) / weight.sum()])  # (NUM_INTERVALS + 1,)
        wanted = shares.to(ends)
        below = (torch.searchsorted(ends, wanted, right=True) - 1).clamp(0, NUM_INTERVALS - 1)
        within = (wanted - ends[below]) / (ends[below + 1] - ends[below])
        return ((below + within) / NUM_INTERVALS).clamp(0, 1).to(shares)

    @torch.no_grad()
    def learn(self, times: Tensor, losses: Tensor) -> None:
        """Take the (B,) losses of images at their times into the running means."""
        at = (times * NUM_INTERVALS).long().clamp(max=NUM_INTERVALS - 1)
        for i, loss in zip(at, losses.detach().float(), strict=True):
            self.squares[i] = DECAY * self.squares[i] + (1 - DECAY) * loss.square()
