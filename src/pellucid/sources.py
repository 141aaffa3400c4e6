"""Config -> data: the datasets that a config's sources describe, for training and for judging."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast

from torch.utils.data import ConcatDataset, Dataset

from pellucid.baselines import ANY_PROMPT, mean_colors
from pellucid.config import AutoencodingConfig, Config, ContrastiveConfig, GenerativeConfig, MethodConfig
from pellucid.data.augment import (
    Centres,
    Change,
    Clouded,
    Patches,
    Selected,
    TrainingStream,
    change_clouds,
    change_low_resolution,
)
from pellucid.data.batch import Batch, Encoded
from pellucid.data.clear_scenes import ClearScenes
from pellucid.data.encoded_samples import EncodedSamples
from pellucid.data.picture_jitter import change_pair
from pellucid.data.ranges import PICTURE, SLICE
from pellucid.data.sar_optical import SarOptical
from pellucid.data.sen12ms_cr import Sen12MsCr
from pellucid.data.single_images import Kind, SingleImages, change_image
from pellucid.data.slices import Slices
from pellucid.data.synthetic import SyntheticScenes
from pellucid.data_config import (
    ClearScenesSource,
    SarOpticalSource,
    Sen12MsCrSource,
    SlicesSource,
    Source,
    SyntheticSource,
)
from pellucid.errors import InputError
from pellucid.inference import digest_weights
from pellucid.methods.generative import Generative
from pellucid.methods.method import Method
from pellucid.methods.space import Latents
from pellucid.trainer import choose_device

# Shared places that a message names before it counts the rest.
NAMED = 5
# Read beside radar that is wanted alone: the datasets pair it with optical images.
COMPANION = ("B02",)


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


def join(parts: Sequence[Patches]) -> ConcatDataset[Batch]:
    """Return datasets as one, in their order."""
    return ConcatDataset(cast("Sequence[Dataset[Batch]]", parts))


def read_source(source: Source, config: Config) -> Patches:
    """Return the dataset that a source of the config describes, with the bands of its method.

    Raises:
        InputError: if it cannot be read, or is not for such a method.
    """
    if isinstance(config.method, ContrastiveConfig) and not isinstance(source, SarOpticalSource):
        raise InputError(f"data: {source.name} has no prompts to learn texts from; use sar_optical")
    if isinstance(config.method, AutoencodingConfig):
        return SingleImages(_read_patches(source, config.method), _kind(config.method))
    return _read_patches(source, config.method)


def _kind(method: AutoencodingConfig) -> Kind:
    return "optical" if method.optical else "radar"


def _read_patches(source: Source, method: MethodConfig) -> Patches:
    bands, radar = method.optical or COMPANION, method.radar
    match source:
        case Sen12MsCrSource():
            return Sen12MsCr(source, bands=bands, radar=radar)
        case ClearScenesSource():
            return ClearScenes(source, bands=bands, radar=radar)
        case SyntheticSource():
            return SyntheticScenes(source, bands=bands, radar=radar)
        case SlicesSource():
            return _read_slices(source, method)
        case SarOpticalSource():
            return _read_pictures(source, method)


def _read_slices(source: SlicesSource, method: MethodConfig) -> Slices:
    if not isinstance(method, GenerativeConfig):
        raise InputError(
            f"data: slices are for a method that enlarges, found {method.name}; use generative, with a scale"
        )
    if method.optical != SLICE.bands or method.radar:
        names = ", ".join((*method.optical, *method.radar))
        raise InputError(f"data: slices have one band, {SLICE.bands[0]}, the method names {names}; change it")
    return Slices(source, scale=method.scale)


def _read_pictures(source: SarOpticalSource, method: MethodConfig) -> SarOptical:
    check_pictures(method.optical, method.radar, "data: ")
    return SarOptical(source)


def check_pictures(optical: tuple[str, ...], radar: tuple[str, ...], where: str = "") -> None:
    """Refuse bands that pictures do not have; `where` begins the sentence.

    Raises:
        InputError: naming them.
    """
    if optical not in ((), PICTURE.bands) or len(radar) > 1:
        raise InputError(
            f"{where}pictures have the bands {', '.join(PICTURE.bands)} and one polarisation, the method "
            f"names {', '.join((*optical, *radar))}; change the bands, or choose other data"
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
