"""Paths from data to source: x_t = alpha(t) x0 + sigma(t) source, with t = 0 at the data.

The source is noise, or whatever else sampling starts from. A network may estimate any one of three things on
the way; each fixes the two ends, given x_t:

| prediction | variance preserving | straight |
| --- | --- | --- |
| noise | source | source |
| image | x0 | x0 |
| velocity | alpha source - sigma x0 (arXiv:2202.00512) | source - x0 = d x_t / dt |
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, get_args

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from pellucid.data.schema import Strict
from pellucid.errors import InputError

Prediction = Literal["noise", "image", "velocity"]
Shift = float | Literal["auto"]
TimeInput = Literal["level", "step"]
Spacing = Literal["even", "leading"]

# (number of tokens, shift) at the ends of the line along which Flux moves its times towards the noise.
# github.com/black-forest-labs/flux, sampling.py
FEW_TOKENS = 256
SHIFT_POINTS = (FEW_TOKENS, 0.5), (4096, 1.15)

Schedule = Literal["linear", "quad", "warmup10", "warmup50", "const", "jsd", "cosine"]
# Steps over which a schedule rises linearly before it stays.
RISING_PERCENT = {"linear": 100, "warmup10": 10, "warmup50": 50, "const": 0}
# arXiv:2102.09672, section 3.2: the offset keeps the first steps from adding too little, the bound keeps the
# last from adding everything.
COSINE_OFFSET = 8e-3
COSINE_MAX_BETA = 0.999


class PathConfig(Strict):
    """How an image turns into noise."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    name: Literal["variance_preserving", "rectified_flow"] = "variance_preserving"
    schedule: Schedule = "cosine"
    """Of the noise variances of a variance-preserving path."""
    num_steps: int = Field(2000, gt=0)
    """Steps into which a variance-preserving path is divided."""
    linear_start: float = Field(1e-6, gt=0, lt=1)
    """First variance; the cosine schedule has its own."""
    linear_end: float = Field(1e-2, gt=0, lt=1)
    """Last variance."""
    shift: Shift = 0.0
    """Of a straight path's times towards its source: the odds t / (1 - t) are multiplied by exp(shift).
    "auto" takes Flux's shift for the number of the network's tokens."""
    time_input: TimeInput = Field("level", alias="tells")
    """The time input of the network on a variance-preserving path: the noise level, as in SR3, or the number
    of the step, as in Stable Diffusion. Its key is `tells`."""
    spacing: Spacing = "even"
    """Of the sampling times of a variance-preserving path: from its very end on, or from the start of each
    stretch, as in Stable Diffusion: steps 980, 960, ..., 0 of 1000."""


class Path(ABC):
    """A way from data to source and what a network estimates on it.

    A velocity is p source - q x0 with alpha p + sigma q = 1, so that x0 = p x_t - sigma velocity and
    source = q x_t + alpha velocity.
    """

    def __init__(self, prediction: Prediction) -> None:
        _check_known("prediction", prediction, Prediction)
        self.prediction = prediction

    def alpha(self, t: Tensor) -> Tensor:
        """Return the share of the data at times `t` in [0, 1], in their shape."""
        return self._shares(t)[0].to(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the share of the source at times `t` in [0, 1], in their shape."""
        return self._shares(t)[1].to(t)

    @abstractmethod
    def noise_level(self, t: Tensor) -> Tensor:
        """Return the time input of the network at `t`, in its shape."""

    @abstractmethod
    def times(self, num_steps: int, num_tokens: int = FEW_TOKENS) -> Tensor:
        """Return the times of a way back, (num_steps + 1,) float64, down to 0; ValueError if it has fewer."""

    @abstractmethod
    def move(self, t: Tensor, num_tokens: int) -> Tensor:
        """Return times of training, (B,), moved as those of sampling are for images of so many tokens."""

    def sample(self, x0: Tensor, source: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the point x_t and what the network should return there, both like `x0`; `t` is (B,)."""
        alpha, sigma, p, q = self._shares_like(x0, t)
        x_t = alpha * x0 + sigma * source
        if self.prediction == "noise":
            return x_t, source
        return x_t, x0 if self.prediction == "image" else p * source - q * x0

    def split(self, x_t: Tensor, output: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return x0_hat and source_hat that the network's output at x_t means, both like `x_t`; `t` is (B,).

        Where an end has left no trace in x_t and the output does not give it either, it is 0: the source at
        t = 0 if the image is predicted, the image at t = 1 if the noise is.
        """
        alpha, sigma, p, q = self._shares_like(x_t, t)
        if self.prediction == "noise":
            return _divide(x_t - sigma * output, alpha), output
        if self.prediction == "image":
            return output, _divide(x_t - alpha * output, sigma)
        return p * x_t - sigma * output, q * x_t + alpha * output

    def _shares_like(self, x: Tensor, t: Tensor) -> list[Tensor]:
        """Return alpha, sigma, p and q, (B, 1, ...) like `x`."""
        shape = (-1,) + (1,) * (x.ndim - 1)
        return [share.to(x).view(shape) for share in self._shares(t.to(torch.float64))]

    @abstractmethod
    def _shares(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, sigma, p and q in the shape of `t` and at least its precision."""


def _check_known(name: str, value: str, known: Any) -> None:
    if value not in get_args(known):
        raise ValueError(f"{name} is {value}, must be one of {', '.join(get_args(known))}")


class VariancePreserving(Path):
    """The path of diffusion models, alpha^2 + sigma^2 = 1, in T steps as trained or anywhere between them.

    Time t lies at position t T of the steps; between two, alpha is linear, so that a uniform t gives the
    noise levels that SR3 trains with (arXiv:2104.07636, after arXiv:2009.00713).

    Args:
        schedule: (T,) variance that each step adds, above 0 and at most 1; else a ValueError.
        prediction: what the network estimates.
        time_input: "level" is alpha; "step" is t T - 1: T - 1 at the source, 0 at the first step, -1 at data.
        spacing: with "leading" sampling begins a little below 1, where noise is almost all there is.
    """

    def __init__(
        self,
        schedule: Tensor,
        prediction: Prediction = "noise",
        *,
        time_input: TimeInput = "level",
        spacing: Spacing = "even",
    ) -> None:
        super().__init__(prediction)
        _check_known("time_input", time_input, TimeInput)
        _check_known("spacing", spacing, Spacing)
        self.time_input, self.spacing = time_input, spacing
        if schedule.ndim != 1 or not len(schedule) or not ((schedule > 0) & (schedule <= 1)).all():
            raise ValueError(f"a schedule is a row of variances in ]0, 1], got {schedule}")
        # 1 - alpha, from logarithms: near the data alpha itself would leave no digits for sigma.
        log_alpha = torch.log1p(-schedule.to(torch.float64)).cumsum(0) / 2
        self._fading = torch.cat([log_alpha.new_zeros(1), -torch.expm1(log_alpha)])  # (T + 1,)

    @property
    def num_steps(self) -> int:
        """Return T."""
        return len(self._fading) - 1

    def noise_level(self, t: Tensor) -> Tensor:
        """Return the time input of the network at `t`: alpha, or the number of the step."""
        if self.time_input == "level":
            return self.alpha(t)
        return (t.to(torch.float64) * self.num_steps - 1).to(t)

    def times(self, num_steps: int, num_tokens: int = FEW_TOKENS) -> Tensor:  # noqa: ARG002
        """Return times down to 0 that lie on the trained steps, as evenly as whole steps allow."""
        if not 1 <= num_steps <= self.num_steps:
            raise ValueError(f"num_steps is {num_steps}, the path has 1 to {self.num_steps}")
        left = torch.arange(num_steps, -1, -1, dtype=torch.float64)
        if self.spacing == "even":
            return (left * self.num_steps / num_steps).round() / self.num_steps
        firsts = (left[1:] * (self.num_steps // num_steps) + 1) / self.num_steps
        return torch.cat([firsts, left[-1:]])

    def move(self, t: Tensor, num_tokens: int) -> Tensor:  # noqa: ARG002
        """Return the times as they are, or the steps that they belong to where these are the time input."""
        return t if self.time_input == "level" else (t * self.num_steps).ceil().clamp(min=1) / self.num_steps

    def _shares(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = self._fading.to(t.device)
        position = t.to(torch.float64).clamp(0, 1) * self.num_steps
        below = position.floor().clamp(max=self.num_steps - 1).long()
        fading = torch.lerp(values[below], values[below + 1], position - below)
        alpha, sigma = 1 - fading, (fading * (2 - fading)).sqrt()  # sqrt(1 - alpha^2)
        return alpha, sigma, alpha, sigma


class RectifiedFlow(Path):
    """The straight path x_t = (1 - t) x0 + t source of arXiv:2209.03003; the time input is t.

    The shift is that of `PathConfig`, as arXiv:2403.03206 moves the times for large images.
    """

    def __init__(self, prediction: Prediction = "velocity", *, shift: Shift = 0.0) -> None:
        super().__init__(prediction)
        self.shift = shift

    def noise_level(self, t: Tensor) -> Tensor:
        """Return the time input of the network: `t`, 0 at the data."""
        return t

    def times(self, num_steps: int, num_tokens: int = FEW_TOKENS) -> Tensor:
        """Return times from 1 down to 0, evenly spaced unless shifted."""
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}, must be at least 1")
        return self.move(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), num_tokens)

    def move(self, t: Tensor, num_tokens: int) -> Tensor:
        """Return the times moved by the shift, for images of so many tokens."""
        shift = time_shift(num_tokens) if isinstance(self.shift, str) else self.shift
        return t / (t + (1 - t) * math.exp(-shift)) if shift else t

    def _shares(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one = torch.ones_like(t)
        return 1 - t, t, one, one


def time_shift(num_tokens: int) -> float:
    """Return Flux's shift of the times for an image of so many tokens: the more, the more noise."""
    (few, low), (many, high) = SHIFT_POINTS
    return low + (num_tokens - few) * (high - low) / (many - few)


def _divide(values: Tensor, share: Tensor) -> Tensor:
    """Return what a share of in `values` came from; 0 where the share drowns in rounding."""
    return values / share.where(share > torch.finfo(share.dtype).eps, torch.inf)


def build_path(options: PathConfig, prediction: Prediction) -> RectifiedFlow | VariancePreserving:
    """Return the way from the image to the noise."""
    try:
        if options.name == "rectified_flow":
            own = (("tells", options.time_input, "level"), ("spacing", options.spacing, "even"))
            for key, found, usual in own:
                if found != usual:
                    raise ValueError(f"{key} is {found}, which is for variance_preserving; leave it out")
            return RectifiedFlow(prediction, shift=options.shift)
        if options.shift:
            raise ValueError(f"shift is {options.shift}, which is for rectified_flow; leave it out")
        ends = {"linear_start": options.linear_start, "linear_end": options.linear_end}
        betas = beta_schedule(options.schedule, options.num_steps, **ends)
        return VariancePreserving(betas, prediction, time_input=options.time_input, spacing=options.spacing)
    except ValueError as error:
        raise InputError(f"method.path: {error}") from error


def beta_schedule(
    name: Schedule, num_steps: int, *, linear_start: float = 1e-6, linear_end: float = 1e-2
) -> Tensor:
    """Return the variance that each step from data to noise adds, (num_steps,) float64.

    "linear" and "quad" rise from start to end, 0 < start <= end < 1, in the variance or in its root;
    "warmup10" and "warmup50" rise linearly over the first 10 or 50 % of the steps and then stay; "const" is
    the end throughout; "jsd" is 1 / num_steps, 1 / (num_steps - 1), ..., 1; "cosine" is that of
    arXiv:2102.09672. The last two do not depend on start and end.

    Raises:
        ValueError: if the name is unknown, or a number out of bounds.
    """
    if name not in get_args(Schedule):
        raise ValueError(f"no schedule is named {name}; there are {', '.join(get_args(Schedule))}")
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, a schedule needs at least 1")
    if not 0 < linear_start <= linear_end < 1:
        raise ValueError(
            f"linear_start is {linear_start} and linear_end {linear_end}, "
            "must be 0 < linear_start <= linear_end < 1"
        )
    if name == "jsd":
        return 1 / torch.arange(num_steps, 0, -1, dtype=torch.float64)
    if name == "cosine":
        return _cosine(num_steps)
    if name == "quad":
        return _linear(num_steps, math.sqrt(linear_start), math.sqrt(linear_end)).square()
    num_rising = num_steps * RISING_PERCENT[name] // 100
    constant = torch.full((num_steps - num_rising,), linear_end, dtype=torch.float64)
    return torch.cat([_linear(num_rising, linear_start, linear_end), constant])


def _linear(num_steps: int, start: float, end: float) -> Tensor:
    return torch.linspace(start, end, num_steps, dtype=torch.float64)


def _cosine(num_steps: int) -> Tensor:
    t = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    alpha_bar = ((t + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2).cos().square()  # Eq. 17
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=COSINE_MAX_BETA)
