"""The Lightning module and the Trainer set-up: a Method and its data in, a trained Method and its curve out.

Micro-batch number n of a run, its random numbers and its learning rate depend on n alone, so a run that
was stopped continues as if it had not been, and processes share one global order of samples.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeAlias

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import ConcatDataset, Dataset

from pellucid.config import Config, TrainConfig
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.losses.adversarial import discriminators
from pellucid.methods.inference import choose_device
from pellucid.methods.method import Method, result_range
from pellucid.metrics import psnr, ssim, whole_windows
from pellucid.train.card import write_card
from pellucid.train.checkpoint_files import BEST, LAST, SealedCheckpoints, copy, read_checkpoint
from pellucid.train.checkpoints import (
    CHECKPOINTS,
    BestWeights,
    Checkpoints,
    HistoryRow,
    Means,
    Status,
    StopRequest,
    TrainReport,
    best_row,
    last_checkpoint,
)
from pellucid.train.loaders import train_loader, val_loader
from pellucid.train.processes import is_first, is_launched
from pellucid.train.progress import Board, ProgressBar
from pellucid.train.schedule import rate_factor
from pellucid.train.sharding import choose_strategy, gather_into, precision_of, share_weights
from pellucid.train.tracking import Logs

# Training samples and, where there are any, validation images.
Data: TypeAlias = tuple[Dataset[Batch], Dataset[Batch] | None]


def train(
    config: Config,
    method: Method,
    train_data: Dataset[Batch],
    val_data: Dataset[Batch] | None,
    folder: Path,
    *,
    save: Callable[..., None],
    resume: bool = False,
    checkpoint: Path | None = None,
    dry_run: bool = False,
    logs: Logs | None = None,
    command: str = "",
    quiet: bool = False,
) -> TrainReport:
    """Train the method's network and leave a run folder that can be used and resumed.

    Args:
        config: of the run; saved in every checkpoint.
        method: its network is trained in place and holds the saved weights afterwards.
        train_data: item i is sample i of the run, B = 1, always the same; at least
            num_steps * samples_per_step items.
        val_data: whole images, B = 1, of any size; None trains without validation.
        folder: the run folder, for checkpoints/, history.csv and TensorBoard events.
        save: writes the run folder, given `card` and `metrics`. It is called whenever validation finds better
            weights, and at the end with the best (without validation: the last).
        resume: continue the run in `folder` exactly where it stopped; on a CPU, bit for bit. With other
            settings than before, see `RETUNED`, the optimiser keeps its means, and a warning names them.
        checkpoint: to continue from in place of the last one; the best weights are then chosen among the
            validations from there on.
        dry_run: one training and one validation step, nothing written, the weights left as they were.
        logs: where the curves go; None: to the run folder.
        command: what the user typed, for the card.
        quiet: show no progress bar.

    Raises:
        ValueError: if train_data is too short.
    """
    whole, module = _make_modules(method, config, train_data, dry_run=dry_run)
    if dry_run:
        return _try_one_step(module, (train_data, val_data))
    last = last_checkpoint(folder, config, resume=resume, chosen=checkpoint)

    def keep(history: Sequence[HistoryRow]) -> None:
        card = write_card(folder.name, config, method, history, val_keys=_keys(val_data), command=command)
        save(card=card, metrics=best_row(history) or {})

    gather = None if module is whole else gather_into(whole)
    best_weights = BestWeights(folder, config.train, module.means, keep, gather)
    if last is not None and _is_over(last, best_weights, is_chosen=checkpoint is not None):
        return best_weights.report("was done", read_checkpoint(last)["global_step"])
    _make_folder(folder / CHECKPOINTS)
    board = Board(logs or Logs(), best_weights, result_range(method).bands)
    shown: list[Callback] = [board, ProgressBar(config.train, best_weights, quiet=quiet)]
    trainer, status = _fit(module, config, (train_data, val_data), best_weights, shown, last)
    if trainer.is_global_zero:
        _keep_best(whole, folder / CHECKPOINTS, best_weights.candidates(), keep, is_apart=module is not whole)
    return best_weights.report(status, trainer.global_step)


def _make_modules(
    method: Method, config: Config, train_data: Dataset[Batch], *, dry_run: bool
) -> tuple["Training", "Training"]:
    """Return the module that is saved, and that which is trained: another, where weights are shared."""
    needed = config.train.num_steps * config.train.samples_per_step
    if len(train_data) < needed:  # type: ignore[arg-type]
        raise ValueError(f"train_data has {len(train_data)} samples, the run needs {needed}")  # type: ignore[arg-type]
    epoch = getattr(train_data, "samples_per_epoch", needed)
    whole = Training(method, config, epoch)
    is_shared = config.train.strategy == "fsdp" and not dry_run
    return whole, Training(deepcopy(method), config, epoch) if is_shared else whole


class Training(LightningModule):
    """Joins a Method to Lightning: its loss to training steps, its restoration to validation.

    `samples_per_epoch` training samples make an epoch of the step schedule.
    """

    def __init__(self, method: Method, config: Config, samples_per_epoch: int) -> None:
        super().__init__()
        self.method = method
        self.network = method.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.train.compile:
            self.network.compile()  # in place, so that weights keep their names
        self.times = method.times  # its state belongs to the run's
        self.discriminators = discriminators(method.losses)
        self.options = config.train
        self.samples_per_epoch = samples_per_epoch
        self.means = Means()

    def configure_model(self) -> None:
        """Share the weights among the processes, where the strategy says so."""
        share_weights(self, ("training_step", "validation_step"))

    def configure_optimizers(self) -> Any:
        """Return AdamW, which is Adam where there is no weight decay, and the schedule of its rate."""
        options = self.options
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        optimizer = AdamW(
            weights, options.learning_rate, options.betas, options.eps, weight_decay=options.weight_decay
        )
        scheduler = LambdaLR(optimizer, self._rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate_factor(self, step: int) -> float:
        options = self.options
        per_epoch = options.steps_per_epoch or math.ceil(self.samples_per_epoch / options.samples_per_step)
        return rate_factor(options, step, per_epoch)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Count the micro-batches of the steps done as they would be with this run's `accumulate`."""
        counts = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done = checkpoint["global_step"] * self.options.accumulate
        for progress in (counts["total"], counts["current"]):
            progress.update(dict.fromkeys(progress, done))

    def on_train_start(self) -> None:
        """Go on with this run's own optimiser settings, where a checkpoint brought others."""
        options, optimizer = self.options, self.optimizers(use_pl_optimizer=False)
        rate = options.learning_rate
        kept = {"betas": options.betas, "eps": options.eps, "weight_decay": options.weight_decay}
        for group in optimizer.param_groups:  # type: ignore[union-attr]
            group.update(kept, initial_lr=rate, lr=rate * self._rate_factor(self.trainer.global_step))
        self.lr_schedulers().base_lrs = [rate]  # type: ignore[union-attr]

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
        for name, value in terms.items():
            self.means.add(f"train_loss_{name}", value)
        return terms["total"]

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor | None:  # noqa: ARG002
        """Take PSNR, SSIM and loss terms of whole images into the means; return what was restored, if any."""
        if batch.target is None:
            raise InputError(f"{batch.key[0]} has no clear image, it cannot serve for validation")
        padded, target = batch.pad(self.method.stride), batch.target
        for name, value in self.method.validate(padded).items():
            self.means.add(f"val_{name}", value)
        if self.method.task == "embed":
            return None
        height, width = batch.valid.shape[-2:]
        restored = self.method.restore(padded)[..., :height, :width]
        whole = whole_windows(batch.valid)
        for value in ssim(restored, target, whole):
            self.means.add("val_ssim", value)
        results = {"val_psnr": restored, "val_psnr_input": batch.enlarged()}
        if self.method.mean_spectrum is not None:
            results["val_psnr_spectrum"] = restored.new_tensor(self.method.mean_spectrum).view(1, -1, 1, 1)
        for name, images in results.items():
            for value in psnr(images.expand_as(target), target, batch.valid):
                self.means.add(name, value)
        return restored


def _averaging(options: TrainConfig) -> list[Callback]:
    def average(averaged: Any, current: Any, num_averaged: Tensor | int) -> None:
        # Short at first, so that the untrained weights are soon forgotten; as TensorFlow's averaging does.
        decay = min(options.ema_decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
        torch._foreach_lerp_(averaged, current, 1 - decay)

    # Buffers are copied: an average would spoil indices.
    return [WeightAveraging(use_buffers=False, multi_avg_fn=average)] if options.ema_decay else []


def _make_trainer(options: TrainConfig, callbacks: list[Callback], **limits: Any) -> Trainer:
    device = choose_device(options.device)
    one: Any = [device.index or 0] if device.type == "cuda" else 1
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=one if options.num_devices == 1 else options.num_devices,
        num_nodes=options.num_nodes,
        strategy=choose_strategy(options),
        precision=precision_of(options),
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=options.clip_norm or None,
        val_check_interval=options.validate_every * options.accumulate,
        check_val_every_n_epoch=None,
        max_epochs=-1,
        callbacks=callbacks,
        plugins=[SealedCheckpoints()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=False,  # a mask that a network builds in validation must serve in training too
        **limits,
    )


def _try_one_step(module: Training, data: Data) -> TrainReport:
    before = {name: tensor.clone() for name, tensor in module.network.state_dict().items()}
    alone: dict[str, Any] = {} if is_launched() else {"num_devices": 1, "num_nodes": 1}
    module.options = module.options.model_copy(update={"num_workers": 0, "strategy": "auto", **alone})
    started = time.monotonic()
    with _quiet():
        _run(_make_trainer(module.options, [], fast_dev_run=True), module, data)
    module.network.load_state_dict(before)
    row = module.means.take()
    return TrainReport("dry run", 1, None, row.get("val_psnr"), time.monotonic() - started, (row,))


def _fit(
    module: Training,
    config: Config,
    data: Data,
    best_weights: BestWeights,
    shown: list[Callback],
    checkpoint: Path | None,
) -> tuple[Trainer, Status]:
    """Run Lightning from the checkpoint, or from the start, and say how it ended."""
    options, folder, stop = config.train, best_weights.folder, StopRequest()
    callbacks: list[Callback] = [
        stop,
        best_weights,
        *_averaging(options),
        Checkpoints(folder, config, best_weights, stop, resumed=checkpoint),
        *shown,
    ]
    with _quiet(), torch.random.fork_rng(devices=()):
        trainer = _make_trainer(options, callbacks, max_steps=options.num_steps)
        _run(trainer, module, data, checkpoint)
    if trainer.global_step >= options.num_steps:
        return trainer, "done"
    return trainer, "stopped early" if best_weights.has_stalled() else "interrupted"


def _run(trainer: Trainer, module: Training, data: Data, checkpoint: Path | None = None) -> None:
    samples, images = data
    is_joined = module.method.task == "embed"  # its images are compared with one another
    train = train_loader(trainer, samples, module.options)
    val = None if images is None else val_loader(trainer, images, module.options, is_joined=is_joined)
    trainer.fit(module, train, val, ckpt_path=checkpoint, weights_only=True)


def _keys(data: Dataset[Batch] | None) -> tuple[str, ...]:
    """Return the names of a dataset's images, where it knows them."""
    if isinstance(data, ConcatDataset):
        return tuple(key for part in data.datasets for key in _keys(part))
    return tuple(getattr(data, "keys", ()))


def _make_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written before the time is spent; the first process alone writes."""
    if not is_first():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}), choose another run folder") from error


def _keep_best(
    module: Training,
    folder: Path,
    history: list[HistoryRow],
    keep: Callable[[list[HistoryRow]], None],
    *,
    is_apart: bool,
) -> None:
    """Save the weights that validated best, or, without validation, the last.

    `is_apart`: the module is not that which was trained, and does not hold the last.
    """
    if history or is_apart:
        try:
            module.load_state_dict(read_checkpoint(folder / (BEST if history else LAST))["state_dict"])
        except InputError as error:
            warnings.warn(f"{error}; the weights stay as they were saved when they were best", stacklevel=2)
            return
    keep(history)


def _is_over(last: Path, best_weights: BestWeights, *, is_chosen: bool) -> bool:
    """Return whether nothing is left to do after a checkpoint; set its history.

    After one that was chosen, the best weights are looked for anew.
    """
    checkpoint = read_checkpoint(last)
    if best_weights.state_key not in checkpoint["callbacks"]:
        raise InputError(f"{last} was saved by an earlier version, resume it with that one")
    best_weights.load_state_dict(checkpoint["callbacks"][best_weights.state_key])
    if is_chosen:
        best_weights.start_anew(checkpoint["global_step"])
        best = best_weights.folder / CHECKPOINTS / BEST
        if best_weights.candidates() and last != best:
            copy(last, best)
    return checkpoint["global_step"] >= best_weights.options.num_steps or best_weights.has_stalled()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's tips, and warnings that do not apply to a run in one endless epoch."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [(logger, logger.level) for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
