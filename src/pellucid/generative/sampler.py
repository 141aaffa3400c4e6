"""The way back from source to data, in as many steps as wanted, along any path."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from pellucid.generative.path import Path

Denoiser = Callable[[Tensor, Tensor], Tensor]
Solver = Literal["euler", "heun", "dpm++"]


def sample(
    denoiser: Denoiser,
    path: Path,
    source: Tensor,
    times: Tensor,
    *,
    eta: float = 0.0,
    draw: Callable[[int], Tensor] | None = None,
    clip: float | None = None,
    solver: Solver = "euler",
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return what the denoiser finds at the end of the times, like `source`: at time 0, the data.

    From time t to s it goes by x_s = alpha_s x0_hat + sqrt(sigma_s^2 - fresh^2) source_hat + fresh z with
    fresh = eta sigma_s / sigma_t sqrt(sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2): Eq. 12 and 16 of
    arXiv:2010.02502, on any path. With eta 0 that is DDIM, and on the straight path the Euler step of
    rectified flow; with eta 1 it is the ancestral step of DDPM (arXiv:2006.11239).

    Args:
        denoiser: takes x_t, like `source`, and t, (B,) float32 or of the images' type where that is finer;
            returns the output that `path.split` takes.
        path: between data and source.
        source: (B, ...), where the way begins, at the first of the times.
        times: (n + 1,), falling strictly within [0, 1], for instance `path.times(n)`.
        eta: share of the noise that is drawn afresh, in [0, 1].
        draw: returns the standard normal z of step 1, 2, ..., like `source`; needed where eta is above 0.
        clip: x0_hat is clamped to [-clip, clip], and source_hat made to agree with it and x_t.
        solver: "heun" averages over both ends of each step but that to the data, by a second call;
            "dpm++" uses the step before, DPM-Solver++(2M) of arXiv:2211.01095, in all but the first step
            and that to the data. Both are of second order and need eta 0.
        progress: called after each step with how many are done, and n.

    Raises:
        ValueError: if the times do not fall, eta is out of bounds, or it contradicts `draw` or `solver`.
    """
    _check(times, eta, draw, solver)
    times = times.to("cpu", torch.float64)
    alphas, sigmas = path.alpha(times).tolist(), path.sigma(times).tolist()
    points = [_Point(*point) for point in zip(times, alphas, sigmas, strict=True)]
    x = source
    before: tuple[_Point, Tensor] | None = None
    for step, (here, there) in enumerate(pairwise(points), start=1):
        x0_hat, source_hat = _ends(denoiser, path, x, here, clip)
        fresh = _fresh(eta, here, there)
        share = math.sqrt(max(there.sigma**2 - fresh**2, 0.0))
        following = (there.alpha * x0_hat).add_(source_hat, alpha=share)
        if draw is not None and fresh:
            following.add_(draw(step).to(x), alpha=fresh)
        if solver == "heun" and there.sigma:
            later_ends = _ends(denoiser, path, following, there, clip)
            following = _trapezoid(x, (x0_hat, source_hat), later_ends, here, there)
        if solver == "dpm++" and before is not None and there.sigma:
            following.add_(x0_hat - before[1], alpha=_outlook(before[0], here, there))
        before = here, x0_hat
        x = following
        if progress is not None:
            progress(step, len(points) - 1)
    return x


class _Point(NamedTuple):
    t: Tensor  # () float64, on the CPU
    alpha: float
    sigma: float


def _ends(denoiser: Denoiser, path: Path, x: Tensor, at: _Point, clip: float | None) -> tuple[Tensor, Tensor]:
    """Return x0_hat and source_hat of the denoiser at x."""
    t = at.t.expand(len(x))
    # Half precision would make neighbouring times equal.
    output = denoiser(x, t.to(x.device, torch.promote_types(x.dtype, torch.float32)))
    x0_hat, source_hat = path.split(x, output, t)
    if clip is None:
        return x0_hat, source_hat
    x0_hat = x0_hat.clamp(-clip, clip)
    return x0_hat, (x - at.alpha * x0_hat).div_(at.sigma)


def _fresh(eta: float, here: _Point, there: _Point) -> float:
    """Return the standard deviation of the noise to draw, Eq. 16 of arXiv:2010.02502."""
    kept = here.alpha / there.alpha if there.alpha else 0.0
    added = here.sigma**2 - (kept * there.sigma) ** 2
    return eta * there.sigma / here.sigma * math.sqrt(max(added, 0.0))


def _trapezoid(
    x: Tensor, ends: tuple[Tensor, Tensor], later_ends: tuple[Tensor, Tensor], here: _Point, there: _Point
) -> Tensor:
    """Return the point `there` by Heun's rule for dx = x0_hat d alpha + source_hat d sigma.

    In these variables nothing is divided by alpha or sigma, so that both ends of the path are harmless.
    """
    for x0_hat, source_hat in (ends, later_ends):
        x = x.add(x0_hat, alpha=(there.alpha - here.alpha) / 2)
        x.add_(source_hat, alpha=(there.sigma - here.sigma) / 2)
    return x


def _outlook(before: _Point, here: _Point, there: _Point) -> float:
    """Return the share of the last change of x0_hat with which it goes on: h / (2 h_before) (1 - e^-h) alpha.

    h = log(alpha / sigma) there less that here: line 9 of Algorithm 2 of arXiv:2211.01095, by which Euler's
    step goes with x0_hat instead of D.
    """
    if not before.alpha:
        return 0.0
    last, step = (math.log(b.alpha / b.sigma * a.sigma / a.alpha) for a, b in ((before, here), (here, there)))
    return there.alpha * -math.expm1(-step) * step / (2 * last)


def _check(times: Tensor, eta: float, draw: Callable[[int], Tensor] | None, solver: Solver) -> None:
    if times.ndim != 1 or len(times) < 2 or not (times.diff() < 0).all() or times[0] > 1 or times[-1] < 0:
        raise ValueError(f"times must fall strictly within [0, 1], got {times}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}, must lie in [0, 1]")
    if eta and draw is None:
        raise ValueError(f"eta is {eta}, which needs noise: give draw, or set eta to 0")
    if solver not in get_args(Solver):
        raise ValueError(f"solver is {solver}, must be one of {', '.join(get_args(Solver))}")
    if eta and solver != "euler":
        raise ValueError(f"eta is {eta}, but {solver} adds no noise: set eta to 0, or solver to euler")
