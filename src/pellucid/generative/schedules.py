"""How fast a variance-preserving path adds noise: the schedules of SR3, arXiv:2104.07636."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Schedule = Literal["linear", "quad", "warmup10", "warmup50", "const", "jsd", "cosine"]

# arXiv:2102.09672, section 3.2: the offset keeps the first steps from adding too little, the bound keeps the
# last from adding everything.
COSINE_OFFSET = 8e-3
COSINE_MAX_BETA = 0.999


def beta_schedule(
    name: Schedule, num_steps: int, *, linear_start: float = 1e-6, linear_end: float = 1e-2
) -> Tensor:
    """Return the variance that each step adds, (num_steps,) float64.

    Args:
        name: "linear" and "quad" rise from start to end, in the variance or in its root; "warmup10" and
            "warmup50" rise linearly over the first 10 or 50 % of the steps and then stay; "const" is the end
            throughout; "jsd" is 1 / num_steps, 1 / (num_steps - 1), ..., 1; "cosine" is that of
            arXiv:2102.09672. The last two know no start and end.
        num_steps: T, the number of steps from data to noise.
        linear_start: first variance, above 0 and not above `linear_end`.
        linear_end: last variance, below 1.

    Raises:
        ValueError: if the name is unknown, `num_steps` below 1, or start and end are out of bounds.
    """
    if name not in _SCHEDULES:
        raise ValueError(f"no schedule is named {name}; there are {', '.join(_SCHEDULES)}")
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, a schedule needs at least 1")
    if not 0 < linear_start <= linear_end < 1:
        raise ValueError(
            f"linear_start is {linear_start} and linear_end {linear_end}, "
            "must be 0 < linear_start <= linear_end < 1"
        )
    return _SCHEDULES[name](num_steps, linear_start, linear_end)


def _linear(num_steps: int, start: float, end: float) -> Tensor:
    return torch.linspace(start, end, num_steps, dtype=torch.float64)


def _quad(num_steps: int, start: float, end: float) -> Tensor:
    return _linear(num_steps, math.sqrt(start), math.sqrt(end)).square()


def _warmup10(num_steps: int, start: float, end: float) -> Tensor:
    return torch.cat([_linear(num_steps // 10, start, end), _const(num_steps - num_steps // 10, start, end)])


def _warmup50(num_steps: int, start: float, end: float) -> Tensor:
    return torch.cat([_linear(num_steps // 2, start, end), _const(num_steps - num_steps // 2, start, end)])


def _const(num_steps: int, _start: float, end: float) -> Tensor:
    return torch.full((num_steps,), end, dtype=torch.float64)


def _jsd(num_steps: int, _start: float, _end: float) -> Tensor:
    return 1 / torch.arange(num_steps, 0, -1, dtype=torch.float64)


def _cosine(num_steps: int, _start: float, _end: float) -> Tensor:
    t = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    alpha_bar = ((t + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2).cos().square()  # Eq. 17
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=COSINE_MAX_BETA)


_SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": _linear,
    "quad": _quad,
    "warmup10": _warmup10,
    "warmup50": _warmup50,
    "const": _const,
    "jsd": _jsd,
    "cosine": _cosine,
}
