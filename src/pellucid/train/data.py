"""Config -> data: the samples of a training, its validation images and its baseline."""

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

from pellucid.build.datasets import join, read_source
from pellucid.build.method import text_options, text_sizes
from pellucid.config import Config, Source
from pellucid.data.batch import ANY_PROMPT, Batch, Encoded, Images
from pellucid.data.tokenizer import Tokenizer, default_tokenizer, learn_tokenizer, read_tokenizer
from pellucid.datasets._fixed import fix
from pellucid.datasets._listing import Patches, Selected
from pellucid.errors import InputError
from pellucid.methods.contrastive import ContrastiveConfig
from pellucid.methods.generative import Generative
from pellucid.methods.inference import choose_device, digest_weights
from pellucid.methods.method import Method
from pellucid.methods.space import Latents
from pellucid.methods.tones import Tones
from pellucid.train.encoded_samples import EncodedSamples
from pellucid.train.stream import Centres, TrainingStream

# Shared places that a message names before it counts the rest.
NAMED = 5
# What `method.tokenizer` names beside files and folders.
DEFAULT = "default"


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on and is validated with."""

    stream: TrainingStream
    val: Dataset[Batch] | None  # whole patches; None where the config names none
    # Mean per band of the clear images of the training places, a baseline; None for slices and autoencoders.
    mean_spectrum: tuple[float, ...] | None
    # The same per prompt, and under "" of all, where radar is coloured; else None.
    mean_colors: Mapping[str, tuple[float, ...]] | None = None
    # Which mean colour a picture has, by its radar; None where the method does not ask for it.
    tones: Tones | None = None
    # A line about each patch that was left out because a file of it is missing.
    left_out: tuple[str, ...] = ()

    @property
    def means(self) -> tuple[tuple[float, ...] | None, Mapping[str, tuple[float, ...]] | None]:
        """Return the mean spectrum and the mean colours."""
        return self.mean_spectrum, self.mean_colors


def build_training_data(config: Config) -> TrainingData:
    """Return the training samples and the validation patches that `config.data` names."""
    data, run = config.data, config.train
    sources = [(read_source(source, config), source.weight) for source in data.train]
    try:
        stream = TrainingStream(
            [(patches, weight, partial(patches.change, augment=data.augment)) for patches, weight in sources],
            length=run.num_steps * run.samples_per_step,
            tile=data.tile,
            augment=data.augment,
            seed=run.seed,
            hold_out=data.hold_out,
        )
    except ValueError as error:
        raise InputError(f"data: {error}") from error
    val = [_read_validation(source, config) for source in data.val]
    _check_apart(stream.places, {group for patches in val for group in patches.groups})
    means = _baseline([patches for patches, _ in sources], config)
    left_out = [line for part in (*(each for each, _ in sources), *val) for line in _left_out(part)]
    tones = _learn_tones([patches for patches, _ in sources], config)
    return TrainingData(stream, join(val) if val else None, *means, tones, tuple(left_out))


def _left_out(patches: Patches) -> tuple[str, ...]:
    """Return what a dataset, or the one that it is made of, has left out."""
    inner = getattr(patches, "patches", None)
    return patches.left_out or (_left_out(inner) if isinstance(inner, Patches) else ())


def _baseline(
    sources: list[Patches], config: Config
) -> tuple[tuple[float, ...] | None, Mapping[str, tuple[float, ...]] | None]:
    """Return the mean spectrum and, of sources with prompts, the mean colours; None where there is none."""
    baselines = {patches.baseline for patches in sources}
    if None in baselines or isinstance(config.method, ContrastiveConfig):
        return None, None
    real = [patches for patches in sources if not patches.is_clear] or sources
    means = mean_colors(join([Selected(patches, without=config.data.hold_out) for patches in real]))
    return means[ANY_PROMPT], means if baselines == {"prompt"} else None


def _learn_tones(sources: list[Patches], config: Config) -> Tones | None:
    """Return what the training pictures say of mean colours by radar, if the method asks for it."""
    if not getattr(config.method, "tone_by_radar", False):
        return None
    data = join([Selected(patches, without=config.data.hold_out) for patches in sources])
    batches = (data[i] for i in range(len(data)))
    pairs = ((batch.sar, batch.reference()) for batch in batches)
    return Tones.of((sar, picture) for sar, picture in pairs if sar is not None)


def keep_encoded(config: Config, method: Method, samples: TrainingStream) -> Dataset[Batch]:
    """Return the first `data.num_cached` samples, encoded once, kept on disk and repeated."""
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


def _check_apart(training: set[str], validation: set[str]) -> None:
    shared = sorted(training & validation)
    if shared:
        more = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise InputError(
            f"training and validation share {', '.join(shared[:NAMED])}{more}; add them to data.hold_out, or"
            " let the sources exclude them"
        )


def _read_validation(source: Source, config: Config) -> Patches:
    """Return the dataset: clear scenes under clouds, images to compare with one another of one size."""
    patches = read_source(source, config)
    if isinstance(config.method, ContrastiveConfig):
        return Centres(patches, config.data.tile)
    return fix(patches, config.method.optical, config.train.seed)


def mean_colors(data: Images) -> dict[str, tuple[float, ...]]:
    """Return the mean of each band over the valid pixels of the targets, in [0, 1], by prompt.

    A band that no target has is NaN. That of all images is under `ANY_PROMPT`.
    """
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for i in range(len(data)):
        batch = data[i]
        target, (prompt,) = batch.reference(), batch.prompt or (ANY_PROMPT,)
        known = batch.valid & target.isfinite()
        total, number = target.double().where(known, 0).sum((0, 2, 3)), known.sum((0, 2, 3))
        for text in {prompt, ANY_PROMPT}:
            before, count = sums.get(text, (torch.zeros_like(total), torch.zeros_like(number)))
            sums[text] = before + total, count + number
    means = {text: tuple((total / count).tolist()) for text, (total, count) in sums.items() if count.any()}
    if not means:
        raise InputError("there is no valid pixel to take the mean spectrum of, give other training data")
    return means


def in_steps(config: Config) -> Config:
    """Return the config with the steps that its epochs stand for: length, validations and checkpoints.

    An epoch is as many samples as the training sources hold, rounded up to a whole optimiser step. A config
    without epochs comes back as it is, and no source is read.
    """
    options = config.train
    wanted = {
        "num_steps": options.epochs,
        "validate_every": options.validate_every_epochs,
        "checkpoint_every": options.checkpoint_every_epochs,
    }
    if not any(wanted.values()):
        return config
    steps = math.ceil(_count_samples(config) / options.samples_per_step)
    found = {key: epochs * steps for key, epochs in wanted.items() if epochs}
    return config.model_copy(update={"train": options.model_copy(update=found)})


def _count_samples(config: Config) -> int:
    sources = [read_source(source, config) for source in config.data.train]
    return max(1, sum(len(Selected(patches, without=config.data.hold_out)) for patches in sources))


def choose_tokenizer(config: Config) -> Tokenizer:
    """Return the tokenizer that the config of a contrastive method names, of the network's length."""
    options, sizes = text_options(config), text_sizes(config)
    if options.tokenizer == DEFAULT:
        return default_tokenizer(length=sizes.length)
    if options.tokenizer:
        return read_tokenizer(Path(options.tokenizer), length=sizes.length)
    return learn_tokenizer(training_prompts(config), size=sizes.vocab_size, length=sizes.length)


def training_prompts(config: Config) -> list[str]:
    """Return the text of every training sample."""
    sources = [read_source(source, config) for source in config.data.train]
    return [text for patches in sources for text in Selected(patches, without=config.data.hold_out).prompts]
