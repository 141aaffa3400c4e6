"""What teaching smaller networks of `ground` shares: teacher, student, and steps towards the teacher."""

import argparse
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.build.method import build_method, load
from pellucid.build.run import read_metadata
from pellucid.config import Config
from pellucid.data.run_folder import find_run
from pellucid.methods.ground import Ground

# Steps until the full rate, and how sharply the mean over the last steps forgets.
WARMUP, FORGET = 50, 0.995


def read_teacher(parser: argparse.ArgumentParser, run: str) -> tuple[Config, Ground]:
    """Return config and method of a run of ground, or of a shipped model; another ends the program."""
    config, _ = read_metadata(find_run(run))
    teacher = load(run, device="cpu")
    if not isinstance(teacher, Ground):
        parser.error(f"{run} is no model of ground")
    return config, teacher


def build_student(
    config: Config, teacher: Ground, sizes: Mapping[str, Any], own: tuple[str, ...]
) -> tuple[Config, Ground]:
    """Return config and method with networks of other sizes; all but the weights that begin so are taught."""
    config = config.model_copy(update={"network": {**config.network, **sizes}})
    student = build_method(config)
    if not isinstance(student, Ground):
        raise TypeError("the config is no config of ground")
    rest = {name: v for name, v in teacher.network.state_dict().items() if not name.startswith(own)}
    student.network.load_state_dict(rest, strict=False)
    student.mean_spectrum = teacher.mean_spectrum
    return config, student


class Follower:
    """Steps of a network towards what it is to give; `mean` is the moving average of its weights."""

    def __init__(
        self, network: nn.Module, parameters: Iterable[Tensor], steps: int, *, rate: float, clip: float
    ) -> None:
        self.network, self.steps, self.rate, self.clip = network, steps, rate, clip
        self.parameters = list(parameters)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=1e-3, betas=(0.9, 0.99))
        self.mean = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def step(self, number: int, loss: Tensor) -> None:
        """Take a step, counted from 1, down the gradient of a loss."""
        decay = 0.02 + 0.49 * (1 + math.cos(math.pi * number / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(number / WARMUP, 1) * decay
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        for name, value in self.network.state_dict().items():
            self.mean[name].lerp_(value, 1 - min(FORGET, number / (number + 20)))
