"""What limits a training: seconds per step of the network, and samples per second of the loader.

    python -m benchmarks.training configs/cross_attention_tiny.yaml [--steps 8] [--workers 0 2] [--set K=V]

The network is given the same batch again and again; the loader's batches are thrown away. Whichever makes
fewer samples per second is the limit of a training with as many loader processes (`train.num_workers`).
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.optim import AdamW

from pellucid.config import Config, load_config
from pellucid.data.batch import Batch
from pellucid.methods.inference import choose_device
from pellucid.methods.method import Method
from pellucid.train.data import TrainingData, build_training_data, in_steps
from pellucid.train.loaders import train_loader
from pellucid.train.run_training import start_method


@dataclass(frozen=True)
class Start:
    """The position of a run that begins, in one process."""

    global_step: int = 0
    global_rank: int = 0
    world_size: int = 1


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=8, help="that are measured, after one that is not")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="processes of the loader")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", nargs="*", default=[], help="keys of the config to change: train.batch=4")
    options = parser.parse_args()
    config = in_steps(load_config(options.config, tuple(options.set)))
    data, batch = build_training_data(config), config.train.batch
    device = choose_device(options.device)
    network = batch / step_seconds(config, data, device, options.steps)
    table = Table(title=f"{options.config.name}, batches of {batch}, {device}")
    for column in (
        "loader processes",
        "loader, samples per s",
        "network, samples per s",
        "s per step",
        "limit",
    ):
        table.add_column(column, justify="right")
    for workers in options.workers:
        loader = batch / load_seconds(config, data, workers, options.steps)
        limit = "the loader" if loader < network else "the network"
        table.add_row(str(workers), f"{loader:.1f}", f"{network:.1f}", f"{batch / network:.3f}", limit)
    Console(width=110).print(table)


def load_seconds(config: Config, data: TrainingData, workers: int, steps: int) -> float:
    """Return the seconds per batch of the loader alone, once its processes run."""
    options = config.train.model_copy(update={"num_workers": workers, "num_steps": 2 * steps + 8})
    batches = iter(train_loader(Start(), data.stream, options))
    for _ in range(1 + 2 * workers):  # what is read ahead
        next(batches)
    start = time.monotonic()
    for _ in islice(batches, steps):
        pass
    return (time.monotonic() - start) / steps


def step_seconds(config: Config, data: TrainingData, device: torch.device, steps: int) -> float:
    """Return the seconds per optimiser step on a batch that is there already."""
    method = start_method(config)
    batch = Batch.cat([data.stream[i] for i in range(config.train.batch)]).to(device)
    return _steps(config, method, batch, steps)


def _steps(config: Config, method: Method, batch: Batch, steps: int) -> float:
    device = batch.valid.device
    network = method.network.to(device).train()
    weights: Sequence[torch.nn.Parameter] = [w for w in network.parameters() if w.requires_grad]
    optimizer = AdamW(weights, config.train.learning_rate)
    start = 0.0
    for number in range(1 + steps):
        if number == 1:
            start = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.train.precision == "bf16"):
            loss = method.loss(batch, torch.Generator(device).manual_seed(number))["total"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for a GPU
    return (time.monotonic() - start) / steps


if __name__ == "__main__":
    main()
