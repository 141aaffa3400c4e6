"""The learning rate from step to step, and whether a run is long enough for it."""

import math
import warnings

from pellucid.config import Config, TrainConfig

# A warm-up that is longer than this share of the run is shortened to the other share.
MAX_WARMUP, SHORT_WARMUP = 0.5, 0.1


def fit_warmup(config: Config) -> Config:
    """Return the config with a warm-up that leaves time at the full rate; a warning says what changes."""
    options = config.train
    if options.warmup_steps <= MAX_WARMUP * options.num_steps:
        return config
    steps = int(SHORT_WARMUP * options.num_steps)
    warnings.warn(
        f"train.warmup_steps is {options.warmup_steps}, but the run has {options.num_steps} steps; the rate "
        f"warms up over {steps} of them. Set another number, or train longer",
        stacklevel=2,
    )
    return config.model_copy(update={"train": options.model_copy(update={"warmup_steps": steps})})


def check_schedule(options: TrainConfig, samples_per_epoch: int) -> None:
    """Warn of a rate that is to fall by steps, the first of which comes after the end of the run."""
    per_epoch = options.steps_per_epoch or math.ceil(samples_per_epoch / options.samples_per_step)
    first = options.step_epochs * per_epoch
    if options.schedule == "step" and options.step_gamma < 1 and first >= options.num_steps:
        warnings.warn(
            f"the learning rate stays as it is: it first falls after {first} steps (train.step_epochs = "
            f"{options.step_epochs} of {per_epoch} steps), and the run has {options.num_steps}",
            stacklevel=2,
        )


def rate_factor(options: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the share of the learning rate at optimiser step `step`, which counts from 0.

    It rises linearly over `warmup_steps`; then it stays, falls by `step_gamma` every `step_epochs` epochs,
    or follows half a cosine down to `final_rate` at the last step.
    """
    if step < options.warmup_steps:
        return (step + 1) / (options.warmup_steps + 1)
    if options.schedule == "step":
        return options.step_gamma ** (step // (options.step_epochs * steps_per_epoch))
    if options.schedule == "cosine":
        length = max(options.num_steps - options.warmup_steps, 1)
        done = min((step - options.warmup_steps) / length, 1.0)
        return options.final_rate + (1 - options.final_rate) * (1 + math.cos(math.pi * done)) / 2
    return 1.0
