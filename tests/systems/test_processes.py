"""Two processes, as torchrun starts them on two machines, against one with the double batch."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.multiprocessing.spawn import start_processes

from pellucid.build.run import read_run
from pellucid.config import Config, load_config

CONFIG = Path(__file__).parents[2] / "configs" / "cross_attention_tiny.yaml"


@dataclass(frozen=True)
class Leg:
    """A training up to a number of steps, in a folder per process."""

    steps: int
    batch: int
    folders: tuple[Path, ...]
    resume: bool = False
    strategy: str = "auto"
    ema: float = 0.5

    def settings(self) -> Config:
        options = {
            "num_steps": self.steps,
            "batch": self.batch,
            "num_nodes": len(self.folders),
            "validate_every": 1,
            "checkpoint_every": 1,
            "ema_decay": self.ema,
            "strategy": self.strategy,
            "device": "cpu",
        }
        return load_config(CONFIG, tuple(f"train.{key}={value}" for key, value in options.items()))


def train_leg(rank: int, leg: Leg, port: int = 0) -> None:
    """Train as process `rank` of those that `torchrun --nproc-per-node 1` starts on as many machines."""
    torch.set_num_threads(1)
    world = len(leg.folders)
    if world > 1:
        names = ("RANK", "GROUP_RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
        os.environ |= dict(zip(names, map(str, (rank, rank, 0, world, 1, "test")), strict=True))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    from pellucid.train.run_training import run_training

    run_training(leg.settings(), leg.folders[rank], resume=leg.resume)


def in_two(work: Callable[..., None], *args: object) -> None:
    """Run `work(rank, *args, port)` in two processes at once."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.set_forkserver_preload(["tiny"])  # the imports take longer than the training
    start_processes(work, args=(*args, port), nprocs=2, start_method="forkserver")


def check_alike(one: Path, other: Path) -> None:
    """Compare the weights of two runs."""
    _, weights, _ = read_run(one)
    _, joined, _ = read_run(other)
    assert weights.keys() == joined.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(joined[name], weight, rtol=0, atol=2e-6)


def test_two_machines_train_as_one_with_the_double_batch_and_the_first_alone_writes(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    train_leg(0, Leg(2, 4, (one,)))
    in_two(train_leg, Leg(1, 2, (two, other)))
    assert not other.exists()
    in_two(train_leg, Leg(2, 2, (two, two), resume=True))
    check_alike(one, two)
    assert {path.name for path in one.rglob("*.*")} - {path.name for path in two.rglob("*.*")} <= {
        path.name for path in one.glob("events*")
    }
    assert "4 samples of 32 x 32 pixels per step, 2 steps" in (two / "card.md").read_text()


def test_processes_that_share_the_weights_train_as_one_and_go_on(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train_leg(0, Leg(2, 4, (one,), ema=0))
    in_two(train_leg, Leg(1, 2, (two, two), strategy="fsdp", ema=0))
    in_two(train_leg, Leg(2, 2, (two, two), resume=True, strategy="fsdp", ema=0))
    check_alike(one, two)
