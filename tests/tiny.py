"""A method, data and config so small that a run takes a fraction of a second."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pellucid.build.run import save_run
from pellucid.config import Config
from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.schema import parse
from pellucid.losses.adversarial import AdversarialLoss
from pellucid.losses.l1 import l1
from pellucid.methods.regression import Regression, RegressionConfig
from pellucid.networks import _patch_discriminator
from pellucid.train.tracking import Logs
from pellucid.train.trainer import TrainReport, train

BANDS = ("B02", "B03", "B04")


class TinyNetwork(nn.Module):
    """Two convolutions, with dropout, so that random numbers matter."""

    stride = 4

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(5, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 3, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:
        return self.second(self.dropout(self.first(torch.cat([degraded, sar], 1)).relu()))


class TinyData(Dataset[Batch]):
    """Clear images under a haze that differs from pixel to pixel."""

    def __init__(self, length: int, *, size: tuple[int, int] = (16, 16), seed: int = 0) -> None:
        self.length, self.size, self.seed = length, size, seed
        self.keys = tuple(f"image {i}" for i in range(length))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        generator = torch.Generator().manual_seed(self.seed + index)
        target = 0.3 * torch.rand(1, 3, *self.size, generator=generator)
        cloud = torch.rand(1, 1, *self.size, generator=generator)
        return Batch(
            degraded=target * (1 - cloud) + cloud,
            sar=torch.rand(1, 2, *self.size, generator=generator),
            cloud=cloud,
            target=target,
            valid=torch.ones_like(cloud, dtype=torch.bool),
            key=(f"image {index}",),
        )


def tiny_config(**options: Any) -> Config:
    """Return a config with these `train` options."""
    defaults = {"num_steps": 8, "batch": 2, "validate_every": 4, "checkpoint_every": 3, "device": "cpu"}
    values = {
        "network": {"name": "tiny"},
        "data": {"train": [], "tile": 16},
        "method": {"optical": BANDS},
        "train": {**defaults, "learning_rate": 0.01, **options},
    }
    return parse(Config, values, where="tiny")


def tiny_method(*, dropout: float = 0.2, seed: int = 0, adversarial: bool = False) -> Regression:
    """Return a method whose random weights depend on the seed alone; `adversarial`: with that loss."""
    torch.manual_seed(seed)
    network = TinyNetwork(dropout)
    term = AdversarialLoss(_patch_discriminator.build(_patch_discriminator.Config(bands=3, width=8)))
    method = Regression(
        network,
        RegressionConfig(),
        optical=SENTINEL2.select(BANDS),
        radar=SENTINEL1,
        losses={"l1": (1.0, l1), **({"adversarial": (0.1, term)} if adversarial else {})},
    )
    method.mean_spectrum = (0.15, 0.15, 0.15)
    return method


def train_tiny(
    folder: Path,
    *,
    method: Regression | None = None,
    train_data: Dataset[Batch] | None = None,
    val_data: Dataset[Batch] | None = None,
    resume: bool = False,
    checkpoint: Path | None = None,
    dry_run: bool = False,
    logs: Logs | None = None,
    **options: Any,
) -> tuple[TrainReport, Regression]:
    """Train a tiny method with these `train` options and return report and method."""
    config, method = tiny_config(**options), method or tiny_method()
    report = train(
        config,
        method,
        train_data or TinyData(1000),
        val_data,
        folder,
        save=partial(save_run, folder, config=config, method=method),
        resume=resume,
        checkpoint=checkpoint,
        dry_run=dry_run,
        logs=logs,
    )
    return report, method
