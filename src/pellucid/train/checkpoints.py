"""What a training run leaves behind: its history, the weights that were chosen, checkpoints to resume from.

The callbacks stand in the order in which `trainer` must list them, with weight averaging between
`BestWeights` and `Checkpoints`.
"""

import csv
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pellucid.config import Config, TrainConfig
from pellucid.data.files import write_atomically
from pellucid.data.run_folder import CURVES, check_no_run
from pellucid.data.schema import parse
from pellucid.errors import InputError, nearest
from pellucid.train.checkpoint_files import (
    BEST,
    LAST,
    copy,
    find_newest,
    is_there,
    is_whole,
    link,
    make_last,
    read_checkpoint,
)
from pellucid.train.history_plot import draw_history

CHECKPOINTS, HISTORY = "checkpoints", "history.csv"

HistoryRow: TypeAlias = dict[str, float]
Status: TypeAlias = Literal["done", "stopped early", "interrupted", "was done", "dry run"]

# What a resumed run may change without a word: what has no part in the weights.
CHANGEABLE = (
    *("validate_every", "validate_every_epochs", "checkpoint_every", "checkpoint_every_epochs"),
    *("early_stopping", "num_workers", "pin_memory", "compile", "device", "strategy"),
)
# What it may change after saying so, as dotted keys or their beginnings.
RETUNED = (
    *("train.num_steps", "train.epochs", "train.batch", "train.accumulate", "train.learning_rate"),
    *("losses.", "train.betas", "train.eps"),
    *("train.weight_decay", "train.schedule", "train.steps_per_epoch", "train.step_epochs"),
    *("train.step_gamma", "train.warmup_steps", "train.final_rate", "train.clip_norm", "train.precision"),
)


@dataclass(frozen=True)
class TrainReport:
    """How a run ended; steps and seconds are those of the whole run so far."""

    status: Status  # "was done": a resumed run had nothing left to do; an interrupted one can be resumed
    num_steps: int
    best_step: int | None  # whose weights are saved; None without validation
    best_psnr: float | None  # dB, its mean over the validation images; None without validation
    seconds: float
    history: tuple[HistoryRow, ...]  # one row per validation, as in history.csv


class Means:
    """Running means by name, over all processes."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Take one value in; infinite ones and NaN are left out."""
        number = value.item()
        if math.isfinite(number):
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + number, count + 1

    def take(self) -> HistoryRow:
        """Return the means by name, sorted, and start again; every process must call it."""
        shares = [self.sums]
        if torch.distributed.is_initialized():
            shares = [{} for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(shares, self.sums)
        self.sums = {}
        means = {}
        for name in sorted(set().union(*shares)):
            totals, counts = zip(*(share.get(name, (0.0, 0)) for share in shares), strict=True)
            means[name] = sum(totals) / sum(counts)
        return means


class BestWeights(Callback):
    """Turns each validation into a row of the history, and has the best weights saved.

    It stands before weight averaging in the list of callbacks: that one's hook takes the averaged weights
    out of the network again.

    Args:
        folder: the run folder.
        options: of the training.
        means: filled by the training and validation steps.
        save: saves the network's weights, given the history whose last row is theirs.
        gather: makes the weights whole before, where the processes share them; all of them call it.
    """

    def __init__(
        self,
        folder: Path,
        options: TrainConfig,
        means: Means,
        save: Callable[[list[HistoryRow]], None],
        gather: Callable[[Trainer], None] | None = None,
    ) -> None:
        self.gather = gather
        self.folder, self.options, self.means, self.save = folder, options, means, save
        self.history: list[HistoryRow] = []
        self.first_step = 0  # from which on the best row is looked for
        self.is_anew = False
        self.seconds = 0.0
        self.started = time.monotonic()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row; save the weights if none were better; stop if none were for too long."""
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"step": trainer.global_step, "seconds": round(self.elapsed(), 1), "learning_rate": rate}
        self.history.append({**row, **self.means.take()})
        if self.gather is not None and self.best() is self.history[-1]:
            self.gather(trainer)
        if trainer.is_global_zero:
            write_history(self.folder / HISTORY, self.history)
            draw_history(self.history, self.folder / CURVES)
            if self.best() is self.history[-1]:
                self.save(self.candidates())
        if self.has_stalled():
            trainer.should_stop = True

    def best(self) -> HistoryRow | None:
        """Return the row whose weights are saved; None before the first validation."""
        return best_row(self.candidates())

    def candidates(self) -> list[HistoryRow]:
        """Return the rows among which is the best."""
        return [row for row in self.history if row["step"] >= self.first_step]

    def start_anew(self, step: int) -> None:
        """Look for the best row from a step on, whatever a checkpoint says that is loaded hereafter."""
        self.first_step, self.is_anew = step, True

    def has_stalled(self) -> bool:
        """Return whether early stopping is on and the best row is too long ago."""
        best = self.best()
        if best is None or self.options.early_stopping == 0:
            return False
        return len(self.history) - 1 - self.history.index(best) >= self.options.early_stopping

    def elapsed(self) -> float:
        """Return the seconds spent in the whole run."""
        return self.seconds + time.monotonic() - self.started

    def report(self, status: Status, num_steps: int) -> TrainReport:
        """Return how the run ended."""
        best = self.best()
        step, psnr = (None, None) if best is None else (int(best["step"]), best.get("val_psnr"))
        return TrainReport(status, num_steps, step, psnr, self.elapsed(), tuple(self.history))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on with."""
        kept = {"history": self.history, "seconds": self.elapsed(), "means": self.means.sums}
        return {**kept, "first_step": self.first_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the history and the unfinished means."""
        self.history, self.means.sums = list(state_dict["history"]), dict(state_dict["means"])
        self.seconds, self.started = state_dict["seconds"], time.monotonic()
        if not self.is_anew:
            self.first_step = state_dict.get("first_step", 0)


class StopRequest(Callback):
    """Ctrl-C or a terminate signal, answered after the step that runs; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen from here on, in place of Lightning, which puts the earlier handlers back at the end."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._answer)
            signal.signal(signal.SIGTERM, self._answer)

    def _answer(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Checkpoints(Callback):
    """Saves the whole state: last.ckpt at every occasion, best.ckpt, and one every `checkpoint_every` steps.

    It stands after weight averaging in the list of callbacks, so that a step is complete when it is saved.
    What was the last checkpoint becomes previous.ckpt, unless the run was resumed from another one, because
    that was bad.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        best_weights: BestWeights,
        stop: StopRequest,
        *,
        resumed: Path | None = None,
    ) -> None:
        self.folder, self.config = folder / CHECKPOINTS, config
        self.best_weights, self.stop = best_weights, stop
        self.is_last_bad = (
            resumed is not None and resumed != self.folder / LAST and not is_whole(self.folder / LAST)
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after a whole step where that is asked or due, and save where no validation follows."""
        options, step = self.config.train, trainer.global_step
        if (batch_idx + 1) % options.accumulate:
            return
        due = step % options.validate_every == 0
        asked = trainer.strategy.reduce_boolean_decision(self.stop.asked, all=False)
        if asked and not due:
            trainer.limit_val_batches = 0
        if asked or step >= options.num_steps:
            trainer.should_stop = True  # Lightning validates before it stops
        validates = trainer.enable_validation and (due or trainer.should_stop)
        if not validates and (trainer.should_stop or step % options.checkpoint_every == 0):
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save once the validation is done."""
        self._save(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the config too: a checkpoint is enough to predict."""
        checkpoint["config"] = self.config.model_dump(mode="json")

    def _save(self, trainer: Trainer) -> None:
        last, new = self.folder / LAST, self.folder / f".{LAST}.new"
        trainer.save_checkpoint(new)
        if not trainer.is_global_zero:
            return
        make_last(new, is_last_bad=self.is_last_bad)
        self.is_last_bad = False
        step, best = trainer.global_step, self.best_weights.best()
        if step % self.config.train.checkpoint_every == 0:
            link(last, self.folder / f"step-{step:07d}.ckpt")
        if best is not None and best["step"] == step:
            copy(last, self.folder / BEST)


def best_row(history: Sequence[HistoryRow]) -> HistoryRow | None:
    """Return the row with the highest PSNR, the first of several; None if there are no rows.

    Where there are no images to measure, it is the row with the lowest loss of the validation.
    """
    if any("val_psnr" in row for row in history):
        return max(history, key=lambda row: row.get("val_psnr", -math.inf))
    return min(history, key=lambda row: row.get("val_loss_total", math.inf), default=None)


def write_history(path: Path, rows: list[HistoryRow]) -> None:
    """Write the rows as CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def check_new(folder: Path) -> None:
    """Refuse a folder that holds a run, or weights, where a new run begins."""
    if is_there(folder / CHECKPOINTS):
        raise InputError(f"{folder} already holds a run, resume it (--resume) or choose another folder")
    check_no_run(folder)


def last_checkpoint(folder: Path, config: Config, *, resume: bool, chosen: Path | None = None) -> Path | None:
    """Return the checkpoint to resume from, `chosen` or the last; None to start.

    What is different from before is refused, or, if it is one of `RETUNED`, named in a warning.
    """
    saved_in = folder / CHECKPOINTS
    if not resume:
        check_new(folder)
        return None
    if not is_there(saved_in):
        raise InputError(f"{folder} has no {CHECKPOINTS}/{LAST}, leave --resume away to start a run there")
    last = find_newest(saved_in) if chosen is None else find_chosen(saved_in, chosen)
    saved = parse(Config, read_checkpoint(last)["config"], where=str(last))
    before, now = _fixed(saved), _fixed(config)
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    for key in changed:
        if not key.startswith(RETUNED) or "adversarial" in key:
            raise InputError(
                f"{key} is {now.get(key)!r} but the run in {folder} was trained with {before.get(key)!r}, "
                "change it back or start another run"
            )
    if changed:
        named = ", ".join(f"{key} is {_named(now, key)} (was {_named(before, key)})" for key in changed)
        warnings.warn(
            f"the run goes on with other settings: {named}; the optimiser keeps its means", stacklevel=2
        )
    return last


def find_chosen(folder: Path, chosen: Path) -> Path:
    """Return the checkpoint of this name in the folder, or at this path."""
    for path in (folder / chosen, chosen):
        if path.is_file():
            return path
    found = sorted(path.name for path in folder.glob("*.ckpt"))
    raise InputError(f"there is no checkpoint {chosen}{nearest(str(chosen), found)}")


def _named(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if values.get(key) is not None else "left out"


def _fixed(config: Config) -> dict[str, Any]:
    """Return by dotted key what a resumed run has in common with that before; data may move."""
    values = config.model_dump(mode="json")
    kept = {f"train.{key}": value for key, value in values["train"].items() if key not in CHANGEABLE}
    nodes, devices = kept.pop("train.num_nodes"), kept.pop("train.num_devices")
    kept["train.num_nodes x num_devices"] = nodes * devices
    for part in ("network", "method", "losses"):
        kept |= {f"{part}.{key}": value for key, value in values[part].items()}
    data = ("tile", "augment", "hold_out", "num_cached")
    return kept | {f"data.{key}": values["data"][key] for key in data}
