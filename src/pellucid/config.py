"""Frozen models of every config key, and the way from YAML to them and back.

An unknown key is an error that offers the nearest name.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, PlainValidator, field_validator, model_validator

from pellucid.data.schema import Precision, Share, Strict, parse, parse_yaml, read_yaml
from pellucid.datasets._augment import AugmentConfig
from pellucid.datasets._shelf import find_layout
from pellucid.errors import InputError
from pellucid.losses._shelf import check_name
from pellucid.methods.autoencoding import AutoencodingConfig
from pellucid.methods.contrastive import ContrastiveConfig
from pellucid.methods.generative import DENOISE, GenerativeConfig
from pellucid.methods.ground import GroundConfig
from pellucid.methods.regression import RegressionConfig


class _Named(BaseModel):
    """The key by which the layout of a source is found."""

    layout: Annotated[Any, PlainValidator(find_layout)] = Field(alias="name")


def _parse_source(value: Any) -> Any:
    if isinstance(value, Strict):
        return value
    return _Named.model_validate(value).layout.Config.model_validate(value)


# `name` is a file in datasets/, the rest are fields of its `Config`.
Source = Annotated[Any, PlainValidator(_parse_source)]

# Methods that take no loss terms.
OWN_LOSS = ("contrastive", "ground")
MethodConfig = Annotated[
    RegressionConfig | GenerativeConfig | AutoencodingConfig | ContrastiveConfig | GroundConfig,
    Field(discriminator="name"),
]


class DataConfig(Strict):
    """Where the images come from and how samples are cut."""

    train: tuple[Source, ...]
    """Sources of the training samples."""
    val: tuple[Source, ...] = ()
    """Sources of the validation images, which choose the best weights."""
    hold_out: tuple[str, ...] = ()
    """Places (ROIs) left out of training, in whichever source they are."""
    tile: int = Field(128, gt=0)
    """Side of a training crop in pixels."""
    augment: AugmentConfig = AugmentConfig()
    """Random changes of a training sample."""
    num_cached: int = Field(0, ge=0)
    """Training samples that a generative method encodes once, keeps on disk and repeats; 0: every sample is
    new."""
    cache: Path = Path("cache")
    """Folder of these samples."""


class TrainConfig(Strict):
    """Optimiser, schedule and bookkeeping."""

    num_steps: int = Field(1000, gt=0)
    """Optimiser steps of the run."""
    epochs: int = Field(0, ge=0)
    """In place of `num_steps`: so many times as many samples as there are for training."""
    batch: int = Field(4, gt=0)
    """Samples per optimiser step and process, before accumulation."""
    accumulate: int = Field(1, gt=0)
    """Batches whose gradients are added up before the optimiser steps."""
    learning_rate: float = Field(1e-4, gt=0)
    """Learning rate of Adam, before the schedule."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of Adam's means of the gradient and of its square."""
    eps: float = Field(1e-8, gt=0)
    """Added to the root of Adam's mean of squares."""
    weight_decay: float = Field(0.0, ge=0)
    """Share of each weight, times the rate, by which it shrinks in a step (AdamW)."""
    schedule: Literal["constant", "step", "cosine"] = "step"
    """How the rate falls: not at all, by `step_gamma` every `step_epochs`, or along a cosine."""
    steps_per_epoch: int = Field(0, ge=0)
    """Optimiser steps that count as an epoch; 0: one pass over the training samples."""
    step_epochs: int = Field(5, gt=0)
    """Epochs between two falls of the schedule step."""
    step_gamma: float = Field(0.5, gt=0, le=1)
    """Factor by which the rate falls in the schedule step."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the rate rises; where they are more than half of the run, a tenth of it."""
    final_rate: float = Field(0.01, ge=0, le=1)
    """The cosine schedule ends at this share of the learning rate."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 switches clipping off."""
    precision: Precision = "fp32"
    """Of the network's computations; weights and optimiser are fp32."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay of the averaged weights that are validated and saved; 0 switches averaging off."""
    early_stopping: int = Field(0, ge=0)
    """Stop after so many validations that are not better than the best; 0 switches it off."""
    validate_every: int = Field(200, gt=0)
    """Optimiser steps between validations."""
    validate_every_epochs: int = Field(0, ge=0)
    """In place of `validate_every`; 0: that counts."""
    checkpoint_every: int = Field(200, gt=0)
    """Optimiser steps between numbered checkpoints."""
    checkpoint_every_epochs: int = Field(0, ge=0)
    """In place of `checkpoint_every`; 0: that counts."""
    init_from: str = ""
    """Whose weights the training starts from: a run folder, a model that ships, or, for a `text_unet`, an
    `autoencoder` or a `text_encoder`, a folder of diffusers or transformers; empty: random weights."""
    freeze: tuple[str, ...] = ()
    """Patterns of the names of weights that stay as they are (`*` is any part of a name); those of a pattern
    after `!` are trained after all, and later patterns win."""
    lora_rank: int = Field(0, ge=0)
    """Rank of the low-rank additions by which frozen linear layers are trained nevertheless; 0: none. The
    saved weights contain them."""
    compile: bool = False
    """Compile the network with torch.compile: slow to start, then faster, mostly on GPUs."""
    num_workers: int = Field(0, ge=0)
    """Processes that read samples beside the training."""
    pin_memory: bool = False
    """Read samples into page-locked memory, from which they reach a GPU sooner."""
    seed: int = 0
    """The same seed trains the same weights on the same machine."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    num_devices: int = Field(1, gt=0)
    """GPUs, or processes on a CPU, of each machine; each takes a batch of its own."""
    num_nodes: int = Field(1, gt=0)
    """Machines that train together; `torchrun` starts the processes of each."""

    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several processes hold the weights: each a copy (ddp, which auto is), or each a part (fsdp), for
    networks that one GPU does not hold."""

    @property
    def num_processes(self) -> int:
        """How many processes train together."""
        return self.num_devices * self.num_nodes

    @property
    def samples_per_step(self) -> int:
        """How many samples an optimiser step takes, over all processes."""
        return self.batch * self.accumulate * self.num_processes


class Config(Strict):
    """Everything that a run needs."""

    network: dict[str, Any]
    """`name` is a file in networks/, the rest are fields of its `Config`."""
    data: DataConfig
    """Where the images come from."""
    method: MethodConfig = RegressionConfig()
    """How the network is trained and how it restores."""
    losses: dict[str, float] = Field({"l1": 1.0})
    """Weight per loss term: the files in losses/, `denoise`, a generative network's own error, and functions
    of your own, `module:function`, which take (restored, batch). The methods contrastive and ground have
    losses of their own, and no others."""
    perceptual_weights: str = ""
    """File or URL of VGG19 weights (torchvision's layout) for the perceptual loss."""
    lpips_weights: str = ""
    """File or URL of VGG16 weights (torchvision's layout) for the loss lpips."""
    train: TrainConfig = TrainConfig()
    """Optimiser, schedule and bookkeeping."""

    @model_validator(mode="before")
    @classmethod
    def _drop_losses(cls, values: Any) -> Any:
        method = values.get("method") if isinstance(values, dict) else None
        if isinstance(method, dict) and method.get("name") in OWN_LOSS:
            return {"losses": {}, **values}
        return values

    @field_validator("losses")
    @classmethod
    def _know_losses(cls, losses: dict[str, float]) -> dict[str, float]:
        for name in losses:
            check_name(name, (DENOISE,))
        return losses

    @model_validator(mode="after")
    def _cache_without_images(self) -> Self:
        others = [name for name, weight in self.losses.items() if weight and name != DENOISE]
        if isinstance(self.method, GenerativeConfig) and self.data.num_cached and others:
            raise InputError(
                f"data.num_cached is {self.data.num_cached}, but encoded samples have no images for the loss "
                f"{', '.join(others)}; train with losses.denoise alone, or set num_cached to 0"
            )
        return self

    @field_validator("method", mode="before")
    @classmethod
    def _name_method(cls, value: Any) -> Any:
        return {"name": "regression", **value} if isinstance(value, dict) else value


def load_config(
    path: Path,
    changes: tuple[str, ...] = (),
    *,
    translate: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Config:
    """Return the config in a YAML file, after the `changes`, each `dotted.key=value` with a YAML value.

    `translate` makes our keys of those in the file, before the changes.
    """
    values = translate(read_yaml(path))
    for change in changes:
        _apply(values, change)
    return parse(Config, values, where=str(path))


def save_config(config: Config, path: Path) -> None:
    """Write the complete config, defaults included, as YAML."""
    values = config.model_dump(mode="json")
    path.write_text(yaml.safe_dump(values, sort_keys=False, width=110), encoding="utf-8")


def _apply(values: dict[str, Any], change: str) -> None:
    """Set one dotted key; a number steps into a list."""
    key, equals, text = change.partition("=")
    if not equals:
        raise InputError(f"--set {change!r} has no '=', write --set train.num_steps=100")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"--set {change!r} does not fit the config: no YAML ({reason}); a text with braces or colons "
            f"needs quotes of its own, --set '{key}=\"...\"'"
        ) from error
    *parents, last = key.strip().split(".")
    node: Any = values
    try:
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        node[int(last) if isinstance(node, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"--set {change!r} does not fit the config: {error}") from error
