"""Config -> datasets."""

from collections.abc import Sequence

from torch.utils.data import ConcatDataset

from pellucid.config import Config, Source
from pellucid.data.batch import Batch
from pellucid.datasets._listing import Described, Patches, SingleImages, Wanted
from pellucid.datasets._shelf import find_layout
from pellucid.errors import InputError
from pellucid.methods.autoencoding import AutoencodingConfig
from pellucid.methods.contrastive import ContrastiveConfig
from pellucid.methods.generative import GenerativeConfig


def join(parts: Sequence[Patches]) -> ConcatDataset[Batch]:
    """Return datasets as one, in their order."""
    return ConcatDataset(parts)


def read_source(source: Source, config: Config) -> Patches:
    """Return the dataset that a source of the config describes, with the bands of its method."""
    method = config.method
    scale = method.scale if isinstance(method, GenerativeConfig) else None
    patches = find_layout(source.name).build(source, Wanted(method.optical, method.radar, scale))
    if isinstance(method, ContrastiveConfig) and not patches.prompts:
        if not method.prompt:
            raise InputError(
                f"data: {source.name} has no prompts to learn texts from; use sar_optical, or, of scenes, "
                'set method.prompt to a template such as "{season}, {place}"'
            )
        return Described(patches, method.prompt)
    return SingleImages(patches, method.optical) if isinstance(method, AutoencodingConfig) else patches
