"""The order in which a training run takes its samples, alike for one process and several."""

import signal
from collections.abc import Iterator
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pellucid.config import TrainConfig
from pellucid.data.batch import Batch


class Position(Protocol):
    """How far a run is, and which of its processes this is; a Lightning Trainer has both, once it runs."""

    @property
    def global_step(self) -> int:
        """Optimiser steps done."""

    @property
    def global_rank(self) -> int:
        """Number of this process."""

    @property
    def world_size(self) -> int:
        """Number of processes."""


class RunOrder(Sampler[list[int]]):
    """The samples of each micro-batch of this process, from the run's step on.

    Process r of w takes every w-th sample of the order that all share, so that together they take the
    samples that one process would take with a batch w times as large.
    """

    def __init__(self, position: Position, options: TrainConfig) -> None:
        self.position, self.options = position, options
        self.length = options.num_steps * options.accumulate

    def __len__(self) -> int:
        # One more than there are: the trainer stops at its last step, and as its epoch never ends
        # a finished run can be continued with more steps.
        return self.length + 1

    def __iter__(self) -> Iterator[list[int]]:
        world, batch = self.position.world_size, self.options.batch
        for number in range(self.position.global_step * self.options.accumulate, self.length):
            first = number * batch * world + self.position.global_rank
            yield [first + world * j for j in range(batch)]


class Share(Sampler[int]):
    """Every w-th item of a dataset, for process r of w."""

    def __init__(self, position: Position, length: int) -> None:
        self.position, self.length = position, length

    def __len__(self) -> int:
        return len(range(self.position.global_rank, self.length, self.position.world_size))

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.position.global_rank, self.length, self.position.world_size))


class BatchesOfShare(Sampler[list[int]]):
    """Every w-th batch of a dataset, for process r of w, in a random order that is always the same."""

    def __init__(self, position: Position, length: int, batch: int) -> None:
        self.position = position
        order = torch.randperm(length, generator=torch.Generator().manual_seed(0)).tolist()
        self.batches = [order[first : first + batch] for first in range(0, length, batch)]

    def __len__(self) -> int:
        return len(self.batches[self.position.global_rank :: self.position.world_size])

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches[self.position.global_rank :: self.position.world_size])


def train_loader(position: Position, data: Dataset[Batch], options: TrainConfig) -> DataLoader[Batch]:
    """Return the batches that this process has still to train on."""
    return DataLoader(
        data,
        batch_sampler=RunOrder(position, options),
        collate_fn=_join,
        num_workers=options.num_workers,
        pin_memory=options.pin_memory,
        persistent_workers=options.num_workers > 0,
        worker_init_fn=_ignore_interrupts,
    )


def val_loader(
    position: Position, data: Dataset[Batch], options: TrainConfig, *, is_joined: bool = False
) -> DataLoader[Batch]:
    """Return this process's validation images, one by one, for they may differ in size.

    With `is_joined` they come in batches instead, as large as those of training, of images of one size.
    """
    length: int = len(data)  # type: ignore[arg-type]
    return DataLoader(
        data,
        sampler=None if is_joined else Share(position, length),
        batch_sampler=BatchesOfShare(position, length, options.batch) if is_joined else None,
        collate_fn=Batch.cat,
        num_workers=min(options.num_workers, 2),
        persistent_workers=options.num_workers > 0,
        worker_init_fn=_ignore_interrupts,
    )


def _join(items: list[Batch]) -> Batch:
    """Return the items as one batch of their own kind: they may be encoded."""
    return type(items[0]).cat(items)


def _ignore_interrupts(worker: int) -> None:  # noqa: ARG001
    """Leave Ctrl-C to the main process, which ends the workers once the step is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
