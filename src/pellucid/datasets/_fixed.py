"""Patches to validate and evaluate on: always under the same clouds, with guides as a model gets them."""

import torch

from pellucid.data.batch import Batch
from pellucid.data.ranges import Bands
from pellucid.datasets._augment import cloud_over
from pellucid.datasets._augment_guides import finish_older
from pellucid.datasets._listing import Patches
from pellucid.simulate.clouds import SkyOptions


class Finished(Patches):
    """Pairs whose other dates are brought to the colours of the cloudy image; others stay as they are."""

    def __init__(self, patches: Patches, bands: Bands) -> None:
        self.patches, self.bands = patches, bands
        self.keys, self.groups, self.words = patches.keys, patches.groups, patches.words
        self.prompts, self.baseline = patches.prompts, patches.baseline
        self.has_older, self.is_clear = patches.has_older, patches.is_clear

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index`."""
        return finish_older(self.patches[index], self.bands)


class Clouded(Patches):
    """Clear patches with the optical `bands`, each always under the same simulated clouds."""

    def __init__(self, patches: Patches, bands: Bands, seed: int) -> None:
        self.patches, self.bands, self.seed = patches, bands, seed
        self.keys, self.groups, self.has_older = patches.keys, patches.groups, patches.has_older

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index` under its clouds."""
        generator = torch.Generator().manual_seed(self.seed * 2_147_483_647 + index)
        batch = cloud_over(self.patches[index], self.bands, generator, SkyOptions())
        return finish_older(batch, self.bands)


def fix(patches: Patches, bands: Bands, seed: int) -> Patches:
    """Return clear patches under clouds that follow from the seed, and pairs with finished guides."""
    if patches.is_clear:
        return Clouded(patches, bands, seed)
    return Finished(patches, bands) if patches.has_older else patches
