"""Config -> data: the datasets that a config's sources describe, for training and for judging."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pellucid.build.datasets import _kind, join, read_source
from pellucid.build.method import text_options, text_sizes
from pellucid.config import Config, Source
from pellucid.data.batch import ANY_PROMPT, Batch, Encoded, Images
from pellucid.data.tokenizer import Tokenizer, default_tokenizer, learn_tokenizer, read_tokenizer
from pellucid.datasets._augment import change_clouds, change_image, change_low_resolution, change_pair
from pellucid.datasets._listing import Patches, Selected
from pellucid.datasets.sar_optical import SarOptical, SarOpticalSource
from pellucid.datasets.sen12ms_cr import Sen12MsCrSource
from pellucid.datasets.slices import SlicesSource
from pellucid.errors import InputError
from pellucid.methods.autoencoding import AutoencodingConfig
from pellucid.methods.contrastive import ContrastiveConfig
from pellucid.methods.generative import Generative
from pellucid.methods.inference import choose_device, digest_weights
from pellucid.methods.method import Method
from pellucid.methods.space import Latents
from pellucid.train.encoded_samples import EncodedSamples
from pellucid.train.stream import Centres, Change, Clouded, TrainingStream

# Shared places that a message names before it counts the rest.
NAMED = 5

# What `method.tokenizer` names beside files and folders.
DEFAULT = "default"


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and is judged by.

    Attributes:
        stream: the samples of the run.
        val: whole patches for validation; None where the config names none.
        mean_spectrum: mean per band of the clear images of the training places, a baseline; None for slices,
            whose baseline is bicubic, and for autoencoders, which have none.
        mean_colors: the same per prompt, and under "" of all, where radar is given colours; else None.
    """

    stream: TrainingStream
    val: Dataset[Batch] | None
    mean_spectrum: tuple[float, ...] | None
    mean_colors: Mapping[str, tuple[float, ...]] | None = None


def build_training_data(config: Config) -> TrainingData:
    """Return the training samples and the validation patches that `config.data` names.

    Raises:
        InputError: if a source cannot be read, or training and validation share a place.
    """
    data, run = config.data, config.train
    sources = [(read_source(source, config), source) for source in data.train]
    try:
        stream = TrainingStream(
            [(patches, source.weight, _change(source, config)) for patches, source in sources],
            length=run.num_steps * run.batch * run.accumulate * run.num_devices,
            tile=data.tile,
            augment=data.augment,
            seed=run.seed,
            hold_out=data.hold_out,
        )
    except ValueError as error:
        raise InputError(f"data: {error}") from error
    val = [_judged(source, config) for source in data.val]
    _check_apart(stream.places, {group for patches in val for group in patches.groups})
    has_slices = any(isinstance(source, SlicesSource) for source in data.train)
    if has_slices or isinstance(config.method, AutoencodingConfig | ContrastiveConfig):
        return TrainingData(stream, join(val) if val else None, None)
    real = [patches for patches, source in sources if isinstance(source, Sen12MsCrSource)]
    kept = [
        Selected(patches, without=data.hold_out) for patches in real or [patches for patches, _ in sources]
    ]
    means = mean_colors(join(kept))
    are_pictures = all(isinstance(source, SarOpticalSource) for source in data.train)
    return TrainingData(
        stream, join(val) if val else None, means[ANY_PROMPT], means if are_pictures else None
    )


def keep_encoded(config: Config, method: Method, samples: TrainingStream) -> Dataset[Batch]:
    """Return the first `data.num_cached` samples as the method encodes them, over and over, kept on disk.

    Raises:
        InputError: if the method does not encode, or the folder cannot be written.
    """
    if not isinstance(method, Generative):
        raise InputError("data.num_cached is for generative methods, set it to 0")
    data = config.data.model_dump(mode="json", exclude={"cache", "num_cached", "val"})
    spaces = (method.space, method.sar_space)
    coders = [digest_weights(space.network) if isinstance(space, Latents) else "" for space in spaces]
    ranges = (asdict(method.optical), asdict(method.radar))
    basis = (data, sorted(samples.places), config.train.seed, ranges, method.scale, method.residual, coders)
    device = choose_device(config.train.device)

    def encode(batch: Batch) -> Encoded:
        return method.encode(batch.to(device)).to("cpu")

    kept = EncodedSamples(
        samples,
        encode,
        folder=config.data.cache,
        count=min(config.data.num_cached, len(samples)),
        digest=hashlib.sha256(repr(basis).encode()).hexdigest()[:16],
    )
    return cast("Dataset[Batch]", kept)


def _change(source: Source, config: Config) -> Change:
    """Return what makes the training samples of a source."""
    augment = config.data.augment
    if isinstance(config.method, AutoencodingConfig):
        bands = config.method.optical
        return partial(change_image, augment=augment, bands=bands, kind=_kind(config.method))
    if isinstance(source, SlicesSource):
        return partial(change_low_resolution, augment=augment.low_resolution)
    if isinstance(source, SarOpticalSource):
        return partial(change_pair, augment=augment.picture)
    is_clear = not isinstance(source, Sen12MsCrSource)
    return partial(change_clouds, augment=augment, bands=config.method.optical, is_clear=is_clear)


def _check_apart(training: set[str], validation: set[str]) -> None:
    shared = sorted(training & validation)
    if shared:
        more = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise InputError(
            f"training and validation share {', '.join(shared[:NAMED])}{more}; add them to data.hold_out, or"
            " let the sources exclude them"
        )


def _judged(source: Source, config: Config) -> Patches:
    """Return the dataset, clear scenes under simulated clouds unless they are to be encoded as they are.

    Images that are compared with one another are cut to one size.
    """
    patches = read_source(source, config)
    if isinstance(config.method, ContrastiveConfig):
        return Centres(patches, config.data.tile)
    is_encoded = isinstance(config.method, AutoencodingConfig)
    if is_encoded or isinstance(source, Sen12MsCrSource | SlicesSource | SarOpticalSource):
        return patches
    return Clouded(patches, config.method.optical, seed=config.train.seed)


def mean_colors(data: Images) -> dict[str, tuple[float, ...]]:
    """Return the mean of each band over the valid pixels of the targets, in [0, 1], by prompt.

    That of all images is under `ANY_PROMPT`.

    Raises:
        InputError: if there is no valid pixel, or no target.
    """
    sums: dict[str, tuple[Tensor, int]] = {}
    for i in range(len(data)):
        batch = data[i]
        target, (prompt,) = batch.reference(), batch.prompt or (ANY_PROMPT,)
        total = target.double().where(batch.valid, 0).sum((0, 2, 3))
        for text in {prompt, ANY_PROMPT}:
            before, count = sums.get(text, (torch.zeros_like(total), 0))
            sums[text] = before + total, count + int(batch.valid.sum())
    means = {text: tuple((total / count).tolist()) for text, (total, count) in sums.items() if count}
    if not means:
        raise InputError("there is no valid pixel to take the mean spectrum of, give other training data")
    return means


def in_steps(config: Config) -> Config:
    """Return the config with the steps that its epochs stand for: length, validations and checkpoints.

    An epoch is as many samples as the training sources hold, rounded up to a whole optimiser step. A config
    without epochs comes back as it is, and no source is read.

    Raises:
        InputError: if a source cannot be read.
    """
    options = config.train
    wanted = {
        "num_steps": options.epochs,
        "validate_every": options.validate_every_epochs,
        "checkpoint_every": options.checkpoint_every_epochs,
    }
    if not any(wanted.values()):
        return config
    per_step = options.batch * options.accumulate * options.num_devices
    steps = math.ceil(_count_samples(config) / per_step)
    found = {key: epochs * steps for key, epochs in wanted.items() if epochs}
    return config.model_copy(update={"train": options.model_copy(update=found)})


def _count_samples(config: Config) -> int:
    sources = [read_source(source, config) for source in config.data.train]
    return max(1, sum(len(Selected(patches, without=config.data.hold_out)) for patches in sources))


def choose_tokenizer(config: Config) -> Tokenizer:
    """Return the tokenizer that the config of a contrastive method names, of the network's length.

    Raises:
        InputError: if it cannot be read, or the network's vocabulary or length is too small for the prompts.
    """
    options, sizes = text_options(config), text_sizes(config)
    if options.tokenizer == DEFAULT:
        return default_tokenizer(length=sizes.length)
    if options.tokenizer:
        return read_tokenizer(Path(options.tokenizer), length=sizes.length)
    return learn_tokenizer(training_prompts(config), size=sizes.vocab_size, length=sizes.length)


def training_prompts(config: Config) -> list[str]:
    """Return the text of every training sample.

    Raises:
        InputError: if a source has none, or cannot be read.
    """
    prompts: list[str] = []
    for source in config.data.train:
        pairs = cast("SarOptical", read_source(source, config))
        prompts += (pairs.prompts[at] for at in Selected(pairs, without=config.data.hold_out).indices)
    return prompts
