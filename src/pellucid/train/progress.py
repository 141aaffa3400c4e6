"""What a user watches while a model trains: a progress bar, TensorBoard curves and pictures."""

import math
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pellucid.config import TrainConfig
from pellucid.data.batch import Batch
from pellucid.data.drawing import to_picture
from pellucid.train.checkpoints import BestWeights, HistoryRow
from pellucid.train.tracking import Logs, Writer, open_writers

# Optimiser steps between points of the loss curve in TensorBoard and on the progress bar.
REPORT_EVERY = 10
# Validation images that TensorBoard shows.
NUM_PICTURES = 4
# What is printed of each validation.
PSNRS = {"val_psnr": "restored", "val_psnr_input": "input", "val_psnr_spectrum": "mean spectrum"}
RATES = {"val_found": "images that find their text", "val_chance": "by chance"}


class Board(Callback):
    """Writes scalars of every tenth step and every validation, and pictures of validations.

    They go where `logs` says.
    """

    def __init__(self, logs: Logs, best_weights: BestWeights, bands: tuple[str, ...]) -> None:
        self.logs, self.best_weights, self.bands = logs, best_weights, bands
        self.writers: list[Writer] = []
        self.first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the first step, from which on a resumed run takes steps again."""
        self.first_step = trainer.global_step + 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the loss and the learning rate; the first batch opens the events, so that none is no file."""
        if not self.writers and trainer.is_global_zero:
            self.writers = open_writers(self.logs, self.best_weights.folder, self.first_step)
        if self.writers and trainer.global_step % REPORT_EVERY == 0:
            self._add("loss", outputs["loss"], trainer.global_step)
            self._add("learning_rate", trainer.optimizers[0].param_groups[0]["lr"], trainer.global_step)

    def _add(self, name: str, value: float, step: int) -> None:
        for writer in self.writers:
            writer.add_scalar(name, value, step)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write degraded, restored and true image side by side."""
        if not self.writers or outputs is None or batch_idx >= NUM_PICTURES or batch.target is None:
            return
        images = (batch.enlarged(), outputs, batch.target)
        picture = np.hstack([to_picture(image[0], self.bands, batch.valid[0]) for image in images])
        for writer in self.writers:
            writer.add_image(batch.key[0], picture, trainer.global_step, dataformats="HWC")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row of the history."""
        if not self.writers:
            return
        for name, value in self.best_weights.history[-1].items():
            if name.startswith(("train_", "val_")):
                self._add(f"history/{name}", value, trainer.global_step)
        for writer in self.writers:
            writer.flush()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the events."""
        for writer in self.writers:
            writer.close()


class ProgressBar(Callback):
    """Shows steps, loss, best PSNR and time left on standard error, and a line per validation; or nothing."""

    def __init__(self, options: TrainConfig, best_weights: BestWeights, *, quiet: bool = False) -> None:
        self.best_weights, self.options = best_weights, options
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=Console(stderr=True, quiet=quiet))
        self.task = self.bar.add_task("train", total=options.num_steps)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, on the main process alone."""
        self.bar.update(self.task, completed=trainer.global_step)
        if trainer.is_global_zero:
            self.bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if (batch_idx + 1) % self.options.accumulate == 0:
            self.bar.update(self.task, completed=trainer.global_step)
            if trainer.global_step % REPORT_EVERY == 0:
                rate = trainer.optimizers[0].param_groups[0]["lr"]
                text = f"loss {outputs['loss'].item():.4f}, rate {rate:.2e}"
                self.bar.update(self.task, description=text)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the row of the history."""
        best = self.best_weights.best()
        if best is None or not trainer.is_global_zero:
            return
        text = f"{describe_row(self.best_weights.history[-1])}; best at step {best['step']:.0f}"
        self.bar.console.print(text, highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar as it is."""
        self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self.bar.stop()


def describe_row(row: HistoryRow) -> str:
    """Return what a row of the history says of its validation: the PSNRs, or else loss and texts found."""
    psnrs = ", ".join(f"{label} {row[name]:.2f}" for name, label in PSNRS.items() if name in row)
    if psnrs:
        return f"step {row['step']:.0f}: PSNR in dB: {psnrs}"
    rates = ", ".join(f"{label} {row[name]:.0%}" for name, label in RATES.items() if name in row)
    loss = f"step {row['step']:.0f}: validation loss {row.get('val_loss_total', math.nan):.4f}"
    return f"{loss}; {rates}" if rates else loss
