"""Lengths of a run that a config gives in passes over the data -> optimiser steps."""

import math

from pellucid.config import Config
from pellucid.data.augment import Selected
from pellucid.sources import read_source


def in_steps(config: Config) -> Config:
    """Return the config with the steps that its epochs stand for: length, validations and checkpoints.

    An epoch is as many samples as the training sources hold, rounded up to a whole optimiser step. A config
    without epochs comes back as it is, and no source is read.

    Raises:
        InputError: if a source cannot be read.
    """
    options = config.train
    wanted = {
        "num_steps": options.epochs,
        "validate_every": options.validate_every_epochs,
        "checkpoint_every": options.checkpoint_every_epochs,
    }
    if not any(wanted.values()):
        return config
    per_step = options.batch * options.accumulate * options.num_devices
    steps = math.ceil(_count_samples(config) / per_step)
    found = {key: epochs * steps for key, epochs in wanted.items() if epochs}
    return config.model_copy(update={"train": options.model_copy(update=found)})


def _count_samples(config: Config) -> int:
    sources = [read_source(source, config) for source in config.data.train]
    return max(1, sum(len(Selected(patches, without=config.data.hold_out)) for patches in sources))
