"""How a generative method samples, and how the user changes that for a trained one."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor

from pellucid.data.schema import Strict
from pellucid.errors import InputError
from pellucid.generative.path import FEW_TOKENS, Path
from pellucid.generative.sampler import Solver
from pellucid.methods.method import Method

# Two times that differ by less are one: 0.8 as a share of 1000 steps, and as it is written.
SAME_TIME = 1e-9


class Sampling(Strict):
    """How an image is sampled."""

    steps: int = Field(50, gt=0)
    """Sampling steps over the whole path; may be fewer than the path has."""
    eta: float = Field(0.0, ge=0, le=1)
    """Fresh noise per sampling step: 0 is deterministic, 1 the reverse process that was trained."""
    solver: Solver = "euler"
    """"heun" calls the network twice per step; it and "dpm++" need eta 0."""
    guidance: float = Field(1.0, ge=0)
    """Classifier-free guidance scale; other than 1, each step calls the network twice. A guidance-distilled
    network takes the scale as an input instead, and this one replaces its own where it is not 1."""
    strength: float = Field(1.0, gt=0, le=1)
    """Time at which sampling begins: at 1 from the source, earlier from the degraded image under as much
    noise as there is then; the steps before are left out."""
    temperature: float = Field(1.0, ge=0, le=1)
    """All noise is multiplied by this. At 0 one step gives nearly the mean of all images that could be drawn,
    which is nearest to the truth; the texture that was trained needs 1, and many steps."""
    detail: float = Field(4.0, ge=0)
    """With a prior of broad colours, only detail finer than this is sampled, a blur's deviation in pixels;
    0: none, so that the prior alone remains; .inf: all, without the prior."""

    @property
    def num_calls(self) -> int:
        """Calls of the network per image, at most."""
        return self.steps * (2 if self.solver == "heun" else 1) * (1 if self.guidance == 1 else 2)

    def step_times(
        self, path: Path, num_tokens: int = FEW_TOKENS, move: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return the times of the steps that are taken, falling to 0, float64; `move` is a learned schedule.

        Raises:
            ValueError: if the path has not so many steps, or none of them is left.
        """
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength is {self.strength:g}, must be above 0 and at most 1")
        times = path.times(self.steps, num_tokens)
        if move is not None:
            times = move(times)
        kept = times[times <= self.strength + SAME_TIME]
        if len(kept) < 2:
            raise ValueError(
                f"strength is {self.strength:g}, which leaves none of {self.steps} steps; raise one of them"
            )
        return kept


def with_sampling(
    method: Method,
    *,
    steps: int | None = None,
    eta: float | None = None,
    guidance: float | None = None,
    strength: float | None = None,
    solver: Solver | None = None,
    temperature: float | None = None,
    detail: float | None = None,
) -> Method:
    """Return the method, or, where there are changes, a copy that samples so.

    Warns of guidance for a model that is neither guidance-distilled nor trained without its condition.
    """
    given = {"steps": steps, "eta": eta, "guidance": guidance, "strength": strength, "solver": solver}
    given |= {"temperature": temperature, "detail": detail}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not changes:
        return method
    if method.sampling is None:
        options = " and ".join(f"--{name}" for name in changes)
        raise InputError(f"this model takes no steps; leave out {options} or choose another --model")
    if detail is not None and method.prior is None:
        raise InputError(
            "this model draws all of its pictures, there is no prior of broad colours; leave out --detail or "
            "choose another --model"
        )
    changed: Any = copy.copy(method)
    changed.sampling = method.sampling.model_copy(update=changes)
    if temperature is not None:
        changed.is_random = temperature > 0
    check_sampling(changed, "--")
    _warn_of_guidance(changed, guidance)
    return changed


def check_sampling(method: Any, where: str) -> None:
    """Refuse a sampling that contradicts itself, the path or the start of a generative `method`.

    `where` comes before the names of the options: "method." in a config, "--" for commands.
    """
    sampling, eta = method.sampling, method.sampling.eta
    reason = {"heun": "is sampled by Heun's method", "dpm++": "is sampled by DPM-Solver++"}.get(
        sampling.solver
    )
    if reason is None and method.start_noise is not None:
        reason = "starts from the degraded image"
    if eta and reason is not None:
        raise InputError(f"eta is {eta:g}, but this model {reason}, which needs 0; leave out {where}eta")
    try:
        sampling.step_times(method.path, move=method.schedule)
    except ValueError as error:
        option = "strength" if str(error).startswith("strength") else "steps"
        raise InputError(f"{where}{option}: {error}") from error


def _warn_of_guidance(method: Any, guidance: float | None) -> None:
    if guidance in (None, 1) or method.config.drop_condition or method.is_guidance_distilled:
        return
    warnings.warn(
        f"guidance is {guidance:g}, but this model was never trained without its condition "
        "(method.drop_condition is 0), so where guidance leads is a guess; leave out --guidance",
        stacklevel=3,
    )
