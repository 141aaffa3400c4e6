"""Frozen models of every config key, and the way from YAML to them and back.

An unknown key is an error that offers the nearest name.
"""

import dataclasses
import difflib
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2, SLICE
from pellucid.data_config import DataConfig, Strict
from pellucid.errors import InputError

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
# Terms of the loss that judge images; `denoise` judges what a generative network returns.
ImageTerm = Literal[
    "l1", "l2", "log_l2", "ssim", "cloud_adaptive", "multi_scale", "frequency", "perceptual", "adversarial"
]


class RegressionConfig(Strict):
    """The network maps the degraded image and the radar to the result."""

    name: Literal["regression"] = "regression"
    optical: tuple[str, ...] = SENTINEL2.bands
    """Bands of the images, in the order of the channels."""
    radar: tuple[str, ...] = SENTINEL1.bands
    """Polarisations, in the order of the channels."""
    residual: bool = False
    """Add the degraded image to the network's output."""
    radar_optional: bool = False
    """Accept scenes without radar; the network then sees -1 in place of backscatter."""
    caution: float = Field(0.0, ge=0, lt=1)
    """Share by which a result is drawn towards the mean spectrum of its clear ground."""


class PathConfig(Strict):
    """How an image turns into noise."""

    name: Literal["variance_preserving", "rectified_flow"] = "variance_preserving"
    schedule: Literal["linear", "quad", "warmup10", "warmup50", "const", "jsd", "cosine"] = "cosine"
    """Of the noise variances of a variance-preserving path."""
    num_steps: int = Field(2000, gt=0)
    """Steps into which a variance-preserving path is divided."""
    linear_start: float = Field(1e-6, gt=0, lt=1)
    """First variance; the cosine schedule has its own."""
    linear_end: float = Field(1e-2, gt=0, lt=1)
    """Last variance."""
    shift: float | Literal["auto"] = 0.0
    """Of a straight path's times towards its source: the odds t / (1 - t) are multiplied by exp(shift).
    "auto" takes Flux's shift for the number of the network's tokens."""
    tells: Literal["level", "step"] = "level"
    """What the network is told of the noise of a variance-preserving path: its level, as by SR3, or the
    number of the step, as by Stable Diffusion."""
    spacing: Literal["even", "leading"] = "even"
    """Of the sampling times of a variance-preserving path: from its very end on, or from the start of each
    stretch, as in Stable Diffusion: steps 980, 960, ..., 0 of 1000."""


class SpaceConfig(Strict):
    """The autoencoders in whose latents a network works.

    Each is a run folder, a model that ships, or, of pictures in colour, a folder of diffusers. Of a run that
    works in the latents of one itself, that one is meant.
    """

    optical: str = ""
    """Of the images; empty: the network works on pixels."""
    sar: str = ""
    """Of the radar. An autoencoder of three-band pictures sees one polarisation three times; the name that
    `optical` has too stands for one network."""


class GenerativeConfig(Strict):
    """The network leads from noise, or the degraded image, to the restored one, step by step."""

    name: Literal["generative"]
    optical: tuple[str, ...] = SLICE.bands
    """Bands of the images, in the order of the channels."""
    radar: tuple[str, ...] = ()
    """Polarisations, in the order of the channels."""
    radar_optional: bool = False
    """Accept scenes without radar; the network then sees 0."""
    scale: int = Field(1, gt=0)
    """How many times larger the result is than the degraded image."""
    space: SpaceConfig = SpaceConfig()
    text: str = ""
    """The text encoder that makes tokens of prompts: a run folder, a model that ships, or a folder of
    transformers. Of a run that heeds texts itself, its own is meant. Empty: no texts."""
    path: PathConfig = PathConfig()
    start: Literal["noise", "degraded"] = "noise"
    """Where sampling begins; "degraded" takes few steps, on a straight path."""
    start_noise: float = Field(0.1, gt=0)
    """Standard deviation of the noise that is added to a degraded start, in the network's space."""
    prediction: Literal["noise", "image", "velocity"] = "noise"
    """What the network returns."""
    residual: float = Field(0.0, ge=0)
    """0: whole images are generated; otherwise what the enlarged input lacks, times this."""
    times: Literal["even", "logit_normal"] = "even"
    """How training times are spread, before the path's shift."""
    importance: float = Field(0.0, ge=0, le=1)
    """Share of the training times drawn where the loss is largest; the rest are drawn evenly."""
    drop_condition: float = Field(0.0, ge=0, lt=1)
    """Share of the images that are learnt without their condition, which guidance needs."""
    dropped: Literal["all", "prompt"] = "all"
    """What these images are learnt without, and guidance leads away from: all that is known, or the text."""
    cloud_weight: float = Field(0.0, ge=0)
    """The loss `denoise` counts each pixel 1 + this * cloud, brought to 1 on average over the image."""
    steps: int = Field(50, gt=0)
    """Sampling steps; may be fewer than the path has."""
    eta: float = Field(0.0, ge=0, le=1)
    """Fresh noise per sampling step: 0 is deterministic, 1 the reverse process that was trained."""
    solver: Literal["euler", "heun", "dpm++"] = "euler"
    guidance: float = Field(1.0, ge=0)
    """How many times as far the condition is followed; other than 1, each step takes two calls. A network
    that was taught by being told a guidance, and never without its condition, is told this one instead,
    where it is not 1."""
    strength: float = Field(1.0, gt=0, le=1)
    """Time at which sampling begins: at 1 from the source, earlier from the degraded image under as much
    noise as there is then."""


class AutoencodingConfig(Strict):
    """The network turns images, optical or radar, into latents of fewer pixels and back."""

    name: Literal["autoencoding"]
    optical: tuple[str, ...] = ()
    """Bands of the images, in the order of the channels; none where they are radar."""
    radar: tuple[str, ...] = ()
    """Polarisations of the images, in the order of the channels; none where they are optical."""
    kl_weight: float = Field(1e-5, ge=0)
    """Of the divergence of the code from a standard normal: per pixel, times 256 * 256."""
    sample: bool = True
    """Decode, in training, a code drawn from its distribution instead of the mean."""
    smooth: float = Field(0.0, ge=0, le=1)
    """Share of the training batches whose codes are averaged before they are decoded, so that a mean of
    codes means a mean of images; networks that work on the latents learn better from it."""


class ContrastiveConfig(Strict):
    """The network learns texts by telling apart the images that they describe; it makes no images."""

    name: Literal["contrastive"]
    optical: tuple[str, ...] = PICTURE.bands
    """Bands of the images, in the order of the channels."""
    tokenizer: str = ""
    """Of the texts: empty: of the words of the training prompts; "default": of the published vocabulary;
    otherwise a file `tokenizer.json`, a run folder, or a folder of transformers."""
    radar: ClassVar[tuple[str, ...]] = ()


MethodConfig = Annotated[
    RegressionConfig | GenerativeConfig | AutoencodingConfig | ContrastiveConfig,
    Field(discriminator="name"),
]


class TrainConfig(Strict):
    """Optimiser, schedule and bookkeeping."""

    num_steps: int = Field(1000, gt=0)
    """Optimiser steps of the run."""
    epochs: int = Field(0, ge=0)
    """In place of `num_steps`: so many times as many samples as there are for training."""
    batch: int = Field(4, gt=0)
    """Samples per optimiser step and process, before accumulation."""
    accumulate: int = Field(1, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of Adam's means of the gradient and of its square."""
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "step", "cosine"] = "step"
    steps_per_epoch: int = Field(0, ge=0)
    """Optimiser steps that count as an epoch; 0: one pass over the training samples."""
    step_epochs: int = Field(5, gt=0)
    step_gamma: float = Field(0.5, gt=0, le=1)
    warmup_steps: int = Field(0, ge=0)
    final_rate: float = Field(0.01, ge=0, le=1)
    """The cosine schedule ends at this share of the learning rate."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 switches clipping off."""
    precision: Literal["fp32", "bf16"] = "fp32"
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
    num_workers: int = Field(0, ge=0)
    seed: int = 0
    device: str = "auto"
    num_devices: int = Field(1, gt=0)


class Config(Strict):
    """Everything that a run needs."""

    network: dict[str, Any]
    """`name` is a file in networks/, the rest are fields of its `Config`."""
    data: DataConfig
    method: MethodConfig = RegressionConfig()
    losses: dict[ImageTerm | Literal["denoise"], float] = Field({"l1": 1.0})
    """Weight per loss term; a contrastive method has its own loss, and no others."""
    perceptual_weights: str = ""
    """File or URL of VGG19 weights (torchvision's layout) for the perceptual loss."""
    train: TrainConfig = TrainConfig()

    @model_validator(mode="before")
    @classmethod
    def _drop_losses(cls, values: Any) -> Any:
        method = values.get("method") if isinstance(values, dict) else None
        if isinstance(method, dict) and method.get("name") == "contrastive":
            return {"losses": {}, **values}
        return values

    @field_validator("method", mode="before")
    @classmethod
    def _name_method(cls, value: Any) -> Any:
        return {"name": "regression", **value} if isinstance(value, dict) else value


def load_config(path: Path, changes: tuple[str, ...] = ()) -> Config:
    """Return the config in a YAML file, after the `changes`, each `dotted.key=value` with a YAML value.

    `${NAME}` in the file stands for an environment variable.

    Raises:
        InputError: if the file cannot be read, or a key or value is not allowed.
    """
    try:
        values = yaml.safe_load(os.path.expandvars(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"cannot read the config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no keys, a config needs at least `network` and `data`")
    for change in changes:
        _apply(values, change)
    return parse(Config, values, where=str(path))


def save_config(config: Config, path: Path) -> None:
    """Write the complete config, defaults included, as YAML."""
    values = config.model_dump(mode="json")
    path.write_text(yaml.safe_dump(values, sort_keys=False, width=110), encoding="utf-8")


def parse(kind: type[T], values: object, *, where: str) -> T:
    """Return `values` as a `kind` (pydantic model or dataclass); unknown keys are refused.

    Raises:
        InputError: naming the key, what was found, and the nearest known key where there is one.
    """
    try:
        if dataclasses.is_dataclass(kind) and isinstance(values, dict):
            known = [field.name for field in dataclasses.fields(kind)]
            for key in values:
                if key not in known:
                    raise InputError(f"{where}: unknown key {key!r}{_nearest(str(key), known)}")
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error)}") from error


def _apply(values: dict[str, Any], change: str) -> None:
    """Set one dotted key; a number steps into a list."""
    key, equals, text = change.partition("=")
    if not equals:
        raise InputError(f"--set {change!r} has no '=', write --set train.num_steps=100")
    *parents, last = key.strip().split(".")
    node: Any = values
    try:
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        if isinstance(node, list):
            node[int(last)] = yaml.safe_load(text)
        else:
            node[last] = yaml.safe_load(text)
    except (ValueError, IndexError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"--set {change!r} does not fit the config: {error}") from error


def _explain(error: ValidationError) -> str:
    """Return the first problem of a validation as one clause."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {place!r}{_nearest(str(problem['loc'][-1]), _all_keys())}"
    if problem["type"] == "missing":
        return f"key {place!r} is missing"
    return f"{place!r} is {problem['input']!r}, {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys are {', '.join(sorted(known))}"


def _all_keys() -> list[str]:
    """Return every key of every model."""
    return sorted({key for model in Strict.__subclasses__() for key in model.model_fields})
