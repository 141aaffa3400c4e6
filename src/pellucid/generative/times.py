"""The times at which a generative network is trained: evenly, or more often where it errs most."""

import torch
from torch import Tensor, nn

# Intervals of [0, 1] whose losses are followed, and the decay of their running mean square.
NUM_INTERVALS = 32
DECAY = 0.95


class TrainingTimes(nn.Module):
    """Draws training times in proportion to the root mean square of the loss about them.

    Importance sampling of Nichol & Dhariwal 2021 (arXiv:2102.09672, Eq. 18), over intervals of time with a
    running mean. The weights that come with the times keep the expected loss what even times would give.
    Its buffers belong to the state of a run.

    Args:
        share: of the times drawn by importance, from 0 (all evenly) to 1; the rest are drawn evenly.
    """

    squares: Tensor

    def __init__(self, share: float = 0.0) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("squares", torch.ones(NUM_INTERVALS))

    def draw(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return (count,) times in [0, 1) and the (count,) weights of their losses, 1 on average."""
        even = torch.rand(count, device=self.squares.device, generator=generator)
        if not self.share:
            return even, torch.ones_like(even)
        chances = self._chances()
        at = torch.multinomial(chances, count, replacement=True, generator=generator)
        return (at + even) / NUM_INTERVALS, 1 / (NUM_INTERVALS * chances[at])

    @torch.no_grad()
    def learn(self, times: Tensor, losses: Tensor) -> None:
        """Take the (B,) losses of images at their times into the running means."""
        at = (times * NUM_INTERVALS).long().clamp(max=NUM_INTERVALS - 1)
        for i, loss in zip(at, losses.detach().float(), strict=True):
            self.squares[i] = DECAY * self.squares[i] + (1 - DECAY) * loss.square()

    def _chances(self) -> Tensor:
        by_loss = self.squares.sqrt() / self.squares.sqrt().sum()
        return self.share * by_loss + (1 - self.share) / NUM_INTERVALS
