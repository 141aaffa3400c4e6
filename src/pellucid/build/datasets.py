"""Config -> datasets."""

from collections.abc import Sequence
from typing import cast

from torch.utils.data import ConcatDataset, Dataset

from pellucid.config import Config, MethodConfig, Source
from pellucid.data.batch import Batch
from pellucid.data.ranges import PICTURE, SLICE
from pellucid.datasets._listing import Kind, Patches, SingleImages
from pellucid.datasets.clear_scenes import ClearScenes, ClearScenesSource
from pellucid.datasets.sar_optical import SarOptical, SarOpticalSource
from pellucid.datasets.sen12ms_cr import Sen12MsCr, Sen12MsCrSource
from pellucid.datasets.slices import Slices, SlicesSource
from pellucid.datasets.synthetic import SyntheticScenes, SyntheticSource
from pellucid.errors import InputError
from pellucid.methods.autoencoding import AutoencodingConfig
from pellucid.methods.contrastive import ContrastiveConfig
from pellucid.methods.generative import GenerativeConfig

# Read beside radar that is wanted alone: the datasets pair it with optical images.
COMPANION = ("B02",)


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
