"""How pictures are to be colorized, and what a model cannot do."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pellucid.errors import InputError
from pellucid.generative.sampler import Solver
from pellucid.methods.method import Method
from pellucid.methods.sampling import with_sampling

Sampler = Literal["ddpm", "ddim", "dpm++"]
# Fresh noise and solver of each.
SAMPLERS: dict[Sampler, tuple[float, Solver]] = {
    "ddpm": (1.0, "euler"),
    "ddim": (0.0, "euler"),
    "dpm++": (0.0, "dpm++"),
}


@dataclass(frozen=True)
class ColorizeOptions:
    """How pictures are colorized.

    Attributes:
        steps: of the sampler, over the whole path; None: as the model's config says.
        guidance: how many times as far the prompt is followed; None: as the config says.
        strength: time at which sampling begins; None: as the config says.
        sampler: "ddpm" draws fresh noise in each step, "ddim" and "dpm++" do not; None: as the config says.
        seed: the same seed gives the same picture.
        tile: side of a tile in pixels; a multiple of the method's stride.
        overlap: pixels that neighbouring tiles share; a multiple of the stride.
        batch: tiles that are looked at together; 0: 1 on a CPU, 8 on a GPU.
        precision: "bf16" halves the memory and is quicker where the hardware knows it.
        device: "auto", "cpu", "cuda" and so on.
        force: make anew what is there.
    """

    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    sampler: Sampler | None = None
    seed: int = 0
    tile: int = 256
    overlap: int = 64
    batch: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    force: bool = False


def choose_sampling(method: Method, options: ColorizeOptions) -> Method:
    """Return the method with the options' sampling.

    Raises:
        InputError: if it cannot be sampled so.
    """
    if options.sampler and method.sampling is None:
        raise InputError("this model takes no steps; leave out --sampler or choose another --model")
    if options.sampler == "ddpm" and method.start_noise is not None:
        raise InputError(
            "this model starts from the radar image, which takes no fresh noise; choose another --sampler "
            "than ddpm"
        )
    eta, solver = SAMPLERS[options.sampler] if options.sampler else (None, None)
    return with_sampling(
        method,
        steps=options.steps,
        eta=eta,
        guidance=options.guidance,
        strength=options.strength,
        solver=solver,
    )


def check_colorizer(method: Method) -> None:
    """Refuse a model that does not turn radar into pictures in colour.

    Raises:
        InputError: saying so.
    """
    if method.optical.kind != "picture" or not method.radar.bands or method.scale != 1:
        raise InputError(
            "this model does not turn radar into pictures in colour (red, green and blue); choose another "
            "--model"
        )
    if method.takes_text and method.tokenizer is None:
        raise InputError(
            "this model takes text, but has no tokenizer; put the tokenizer.json of its training into the run"
        )


def check_takes_text(method: Method) -> None:
    """Refuse a model that takes no text, where some is given.

    Raises:
        InputError: saying so.
    """
    if not method.takes_text:
        raise InputError(
            "this model takes no text; leave out prompt, regions and seasons, or choose another --model"
        )


def warn_of_unknown(method: Method, prompts: Iterable[str]) -> None:
    """Say which words of the prompts a model never saw: to it, they are all one."""
    tokenizer: Any = method.tokenizer
    if not method.takes_text or tokenizer is None:
        return
    words = dict.fromkeys(word for prompt in dict.fromkeys(prompts) for word in tokenizer.unknown(prompt))
    if words:
        warnings.warn(
            f"this model does not know {', '.join(map(repr, words))}; it heeds the rest of the prompt",
            stacklevel=3,
        )
