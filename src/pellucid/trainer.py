"""The Lightning module and the Trainer set-up: a Method and its data in, a trained Method and its curve out.

Micro-batch number n of a run, its random numbers and its learning rate depend on n alone, so a run that
was stopped continues as if it had not been, and processes share one global order of samples.
"""

import csv
import logging
import math
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.nn.functional import pad
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, Sampler

from pellucid.config import Config, TrainConfig
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.methods.method import Method

CHECKPOINTS, LAST, HISTORY = "checkpoints", "last.ckpt", "history.csv"


class SaveRun(Protocol):
    """Writes the run folder with the weights that the method's network has at the moment."""

    def __call__(self, *, card: str, metrics: dict[str, Any]) -> None:
        """Write `card` and `metrics` beside the weights."""


@dataclass(frozen=True)
class TrainReport:
    """How a run ended.

    Attributes:
        status: "was done" says that a resumed run had nothing left to do; an interrupted one can be resumed.
        num_steps: optimiser steps of the whole run so far.
        best_step: the step whose weights are saved; None without validation.
        best_psnr: dB, its mean PSNR over the validation images; None without validation.
        seconds: spent in the whole run so far.
        history: one row per validation, as in history.csv.
    """

    status: Literal["done", "stopped early", "interrupted", "was done", "dry run"]
    num_steps: int
    best_step: int | None
    best_psnr: float | None
    seconds: float
    history: tuple[dict[str, float], ...]


def train(
    config: Config,
    method: Method,
    train_data: Dataset[Batch],
    val_data: Dataset[Batch] | None,
    folder: Path,
    *,
    save: SaveRun,
    resume: bool = False,
    dry_run: bool = False,
) -> TrainReport:
    """Train the method's network and leave a run folder that can be used and resumed.

    Args:
        config: of the whole run; saved in every checkpoint.
        method: its network is trained in place and holds the last (averaged) weights afterwards.
        train_data: item i is sample i of the run, B = 1, always the same; at least
            num_steps * batch * accumulate * num_devices items.
        val_data: whole images, B = 1, of any size; None trains without validation.
        folder: the run folder, for checkpoints/, history.csv and TensorBoard events.
        save: called with the best weights so far in the network whenever validation finds them, and at the
            end of a run without validation.
        resume: continue the run in `folder` exactly where it stopped.
        dry_run: one training and one validation step, nothing written, the weights left as they were.

    Raises:
        InputError: if `folder` holds a run and `resume` is off, or none and it is on; if the loss is not
            finite; if the device is not there.
    """
    options = config.train
    needed = options.num_steps * options.batch * options.accumulate * options.num_devices
    if len(train_data) < needed:  # type: ignore[arg-type]
        raise ValueError(f"train_data has {len(train_data)} samples, the run needs {needed}")  # type: ignore[arg-type]
    module = Training(method, config, samples_per_epoch=getattr(train_data, "samples_per_epoch", needed))
    if dry_run:
        return _try_one_step(module, train_data, val_data)
    last = folder / CHECKPOINTS / LAST
    done = _check_folder(last, resume=resume)
    if done is not None:
        return done
    judge = Judge(folder, save)
    stop = StopRequest()
    callbacks = [judge, *_averaging(options), Checkpoints(folder, config, stop)]
    with _quiet(), stop.listening():
        trainer = _make_trainer(options, callbacks, max_steps=options.num_steps)
        trainer.fit(
            module,
            _train_loader(trainer, train_data, options),
            None if val_data is None else _val_loader(trainer, val_data, options),
            ckpt_path=last if resume else None,
            weights_only=True,
        )
    judge.finish(trainer)
    status = "interrupted" if stop.asked else "stopped early" if judge.has_stalled(options) else "done"
    return judge.report(status, trainer.global_step)


def choose_device(name: str) -> torch.device:
    """Return the device that is meant; "auto" is the GPU where there is one, otherwise the CPU.

    Raises:
        InputError: if there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"there is no device {name!r} on this machine, use auto or cpu") from error
    return device


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


class RunOrder(Sampler[list[int]]):
    """The samples of each micro-batch of this process, from the trainer's step on.

    Process r of w takes every w-th sample of the order that all share, so that together they take the
    samples that one process would take with a batch w times as large.
    """

    def __init__(self, trainer: Trainer, options: TrainConfig) -> None:
        self.trainer, self.options = trainer, options
        self.length = options.num_steps * options.accumulate

    def __len__(self) -> int:
        # One more than there are: the trainer stops at its last step, and as its epoch never ends
        # a finished run can be continued with more steps.
        return self.length + 1

    def __iter__(self) -> Iterator[list[int]]:
        world, batch = self.trainer.world_size, self.options.batch
        for number in range(self.trainer.global_step * self.options.accumulate, self.length):
            first = number * batch * world + self.trainer.global_rank
            yield [first + world * j for j in range(batch)]


class Share(Sampler[int]):
    """Every w-th item of a dataset, for process r of w."""

    def __init__(self, trainer: Trainer, length: int) -> None:
        self.trainer, self.length = trainer, length

    def __len__(self) -> int:
        return len(range(self.trainer.global_rank, self.length, self.trainer.world_size))

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.trainer.global_rank, self.length, self.trainer.world_size))


class Training(LightningModule):
    """Joins a Method to Lightning: its loss to training steps, its restoration to validation.

    Args:
        method: whose network is trained.
        config: of the run.
        samples_per_epoch: training samples that make an epoch, for the step schedule.
    """

    def __init__(self, method: Method, config: Config, samples_per_epoch: int) -> None:
        super().__init__()
        self.method = method
        self.network = method.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.options = config.train
        self.samples_per_epoch = samples_per_epoch
        self.train_terms, self.val_terms = Means(), Means()

    def configure_optimizers(self) -> Any:
        """Return AdamW, which is Adam where there is no weight decay, and the schedule of its rate."""
        options = self.options
        optimizer = AdamW(
            self.network.parameters(),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )
        per_step = options.batch * options.accumulate * options.num_devices
        per_epoch = options.steps_per_epoch or math.ceil(self.samples_per_epoch / per_step)
        scheduler = LambdaLR(optimizer, lambda step: rate_factor(options, step, per_epoch))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Return the batch with its images in the order that convolutions read fastest."""
        images = {name: x.contiguous(memory_format=torch.channels_last) for name, x in batch.images().items()}
        return replace(batch, **images)  # type: ignore[arg-type]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one micro-batch."""
        seed = (self.options.seed * 1_000_003 + batch_idx) * self.trainer.world_size + self.global_rank
        torch.manual_seed(seed)  # dropout draws from the global generator
        generator = torch.Generator(self.device).manual_seed(seed)
        terms = self.method.loss(batch, generator)
        if not torch.isfinite(terms["total"]):
            raise InputError(
                f"the loss is {terms['total'].item()} at step {self.trainer.global_step} "
                f"({', '.join(batch.key)}), lower train.learning_rate or look at those images"
            )
        self.train_terms.add(terms)
        return terms["total"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Take the PSNR and the loss terms of whole images into the means."""
        padded = pad_batch(batch, self.method.stride)
        self.val_terms.add(self.method.loss(padded))
        height, width = batch.degraded.shape[-2:]
        restored = self.method.restore(padded)[..., :height, :width]
        for value in psnr(restored, batch):
            if value.isfinite():
                self.val_terms.add({"psnr": value})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the unfinished means, so that a resumed run writes the same history."""
        checkpoint["train_terms"] = self.train_terms.sums

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the unfinished means up again."""
        self.train_terms.sums = checkpoint["train_terms"]


class Means:
    """Running means by name."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take one value per name in."""
        for name, value in terms.items():
            pair = torch.stack([value.detach().double().cpu(), torch.ones((), dtype=torch.float64)])
            self.sums[name] = self.sums[name] + pair if name in self.sums else pair

    def take(self, trainer: Trainer) -> dict[str, float]:
        """Return the means over all processes, and start again."""
        means = {}
        for name in sorted(self.sums):
            total, count = trainer.strategy.reduce(
                self.sums[name].to(trainer.strategy.root_device), reduce_op="sum"
            )
            means[name] = float(total / count)
        self.sums = {}
        return means


class Judge(Callback):
    """Turns each validation into a row of the history, and has the best weights saved.

    It stands before weight averaging in the list of callbacks, whose hook puts the plain weights back.
    """

    def __init__(self, folder: Path, save: SaveRun) -> None:
        self.folder, self.save = folder, save
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self.started = time.monotonic()

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the row; save the weights if none were better; stop if none were for too long."""
        assert isinstance(module, Training)
        row = {"step": float(trainer.global_step), "seconds": round(self.elapsed(), 1)}
        row["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        row |= {f"train_{name}": value for name, value in module.train_terms.take(trainer).items()}
        row |= {f"val_{name}": value for name, value in module.val_terms.take(trainer).items()}
        self.history.append(row)
        if trainer.is_global_zero:
            write_history(self.folder / HISTORY, self.history)
            if self.best() is row:
                self.save(card="# Model card\n", metrics=row)
        if self.has_stalled(module.options):
            trainer.should_stop = True

    def best(self) -> dict[str, float] | None:
        """Return the row with the highest PSNR; the first of several."""
        return max(self.history, key=lambda row: row.get("val_psnr", -math.inf), default=None)

    def has_stalled(self, options: TrainConfig) -> bool:
        """Return whether early stopping is on and the best row is too long ago."""
        best = self.best()
        if best is None or options.early_stopping == 0:
            return False
        return len(self.history) - 1 - self.history.index(best) >= options.early_stopping

    def finish(self, trainer: Trainer) -> None:
        """Have the last weights saved where no validation chose any."""
        if not self.history and trainer.is_global_zero:
            self.save(card="# Model card\n", metrics={"step": trainer.global_step})

    def elapsed(self) -> float:
        """Return the seconds spent in the whole run."""
        return self.seconds + time.monotonic() - self.started

    def report(self, status: Any, num_steps: int) -> TrainReport:
        """Return how the run ended."""
        best = self.best() or {}
        step = int(best["step"]) if best else None
        return TrainReport(status, num_steps, step, best.get("val_psnr"), self.elapsed(), tuple(self.history))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on with."""
        return {"history": self.history, "seconds": self.elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the history so far."""
        self.history, self.seconds = list(state_dict["history"]), state_dict["seconds"]
        self.started = time.monotonic()


class Checkpoints(Callback):
    """Saves the whole state: last.ckpt at every occasion, best.ckpt, and one every `checkpoint_every` steps.

    It stands after weight averaging in the list of callbacks, so that a step is complete when it is saved.
    """

    def __init__(self, folder: Path, config: Config, stop: "StopRequest") -> None:
        self.folder, self.config, self.stop = folder / CHECKPOINTS, config, stop

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after a whole step where that is asked or due, and save where no validation follows."""
        options, step = self.config.train, trainer.global_step
        if (batch_idx + 1) % options.accumulate:
            return
        due = step % options.validate_every == 0
        asked = trainer.strategy.reduce_boolean_decision(self.stop.asked, all=False)
        if asked or step >= options.num_steps:
            trainer.should_stop = True  # Lightning validates then
            if asked and not due:
                trainer.limit_val_batches = 0
        validates = trainer.enable_validation and (due or trainer.should_stop)
        if not validates and (trainer.should_stop or step % options.checkpoint_every == 0):
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save once the judgement is in."""
        self._save(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the config too: a checkpoint is enough to predict."""
        checkpoint["config"] = self.config.model_dump(mode="json")

    def _save(self, trainer: Trainer) -> None:
        last, partial = self.folder / LAST, self.folder / f".{LAST}.partial"
        trainer.save_checkpoint(partial)
        if not trainer.is_global_zero:
            return
        partial.replace(last)
        step = trainer.global_step
        if step % self.config.train.checkpoint_every == 0:
            _link(last, self.folder / f"step-{step:07d}.ckpt")
        best = next(callback for callback in trainer.callbacks if isinstance(callback, Judge)).best()
        if best is not None and best["step"] == step:
            _link(last, self.folder / "best.ckpt")


class StopRequest:
    """Ctrl-C or a terminate signal, answered after the step that runs; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen within the block; outside the main thread there is nothing to hear."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def answer(number: int, frame: Any) -> None:  # noqa: ARG001
            self.asked = True
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, answer)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def pad_batch(batch: Batch, stride: int) -> Batch:
    """Return the batch padded by reflection, right and below, to sides that divide by `stride`.

    What is added is not `valid`.
    """
    height, width = batch.degraded.shape[-2:]
    size = (0, -width % stride, 0, -height % stride)
    if size == (0, 0, 0, 0):
        return batch
    images = {name: pad(x, size, mode="reflect") for name, x in batch.images().items() if name != "valid"}
    return replace(batch, valid=pad(batch.valid, size, value=False), **images)  # type: ignore[arg-type]


def psnr(restored: Tensor, batch: Batch) -> Tensor:
    """Return the PSNR of each image in dB over its valid pixels, (B,); NaN where there are none."""
    if batch.target is None:
        raise ValueError(f"{batch.key[0]} has no target to validate against")
    error = ((restored - batch.target).square() * batch.valid).flatten(1).sum(1)
    count = batch.valid.flatten(1).sum(1) * restored.shape[1]
    return -10 * torch.log10(error / count)


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the rows as CSV, whole or not at all."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def _averaging(options: TrainConfig) -> list[Callback]:
    if options.ema_decay == 0:
        return []

    def average(averaged: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
        # Short at first, so that the untrained weights are soon forgotten; as TensorFlow's averaging does.
        decay = min(options.ema_decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
        return torch.lerp(current, averaged, decay)

    # Buffers are copied: an average would spoil indices.
    return [WeightAveraging(use_buffers=False, avg_fn=average)]


def _make_trainer(options: TrainConfig, callbacks: list[Callback], **limits: Any) -> Trainer:
    device = choose_device(options.device)
    devices: Any = options.num_devices
    if device.type == "cuda" and options.num_devices == 1:
        devices = [device.index or 0]
    # Buffers are constants here, and validation shares may differ in length between processes.
    distributed = DDPStrategy(broadcast_buffers=False)
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=devices,
        strategy=distributed if options.num_devices > 1 else "auto",
        precision="bf16-mixed" if options.precision == "bf16" else "32-true",
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=options.clip_norm or None,
        val_check_interval=options.validate_every * options.accumulate,
        check_val_every_n_epoch=None,
        max_epochs=-1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=False,  # a mask that a network builds in validation must serve in training too
        **limits,
    )


def _train_loader(trainer: Trainer, data: Dataset[Batch], options: TrainConfig) -> DataLoader[Batch]:
    return DataLoader(
        data,
        batch_sampler=RunOrder(trainer, options),
        collate_fn=Batch.cat,
        num_workers=options.num_workers,
        persistent_workers=options.num_workers > 0,
        worker_init_fn=_ignore_interrupts,
    )


def _val_loader(trainer: Trainer, data: Dataset[Batch], options: TrainConfig) -> DataLoader[Batch]:
    return DataLoader(
        data,
        sampler=Share(trainer, len(data)),  # type: ignore[arg-type]
        collate_fn=Batch.cat,
        num_workers=min(options.num_workers, 2),
        persistent_workers=options.num_workers > 0,
        worker_init_fn=_ignore_interrupts,
    )


def _ignore_interrupts(worker: int) -> None:  # noqa: ARG001
    """Leave Ctrl-C to the main process, which ends the workers once the step is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _try_one_step(
    module: Training, train_data: Dataset[Batch], val_data: Dataset[Batch] | None
) -> TrainReport:
    before = {name: tensor.clone() for name, tensor in module.network.state_dict().items()}
    options = module.options.model_copy(update={"num_workers": 0, "num_devices": 1})
    started = time.monotonic()
    with _quiet():
        trainer = _make_trainer(options, [], fast_dev_run=True)
        val_loader = None if val_data is None else _val_loader(trainer, val_data, options)
        trainer.fit(module, _train_loader(trainer, train_data, options), val_loader)
    module.network.load_state_dict(before)
    terms = {f"train_{name}": value for name, value in module.train_terms.take(trainer).items()}
    terms |= {f"val_{name}": value for name, value in module.val_terms.take(trainer).items()}
    return TrainReport("dry run", 1, None, terms.get("val_psnr"), time.monotonic() - started, (terms,))


def _check_folder(last: Path, *, resume: bool) -> TrainReport | None:
    """Return a report if the run to resume has nothing left to do.

    Raises:
        InputError: if there is a run and it is not to be resumed, or none and it is.
    """
    folder = last.parent.parent
    if not resume:
        if last.exists():
            raise InputError(
                f"{folder} already holds a run, continue it with --resume or choose another folder"
            )
        return None
    if not last.exists():
        raise InputError(f"{folder} has no {CHECKPOINTS}/{LAST} to resume from, leave --resume away to start")
    return None


def _link(source: Path, link: Path) -> None:
    """Give a file a second name without writing it again, where the file system can."""
    link.unlink(missing_ok=True)
    try:
        os.link(source, link)
    except OSError:
        shutil.copyfile(source, link)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's tips, and warnings that do not apply to a run in one endless epoch."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)
