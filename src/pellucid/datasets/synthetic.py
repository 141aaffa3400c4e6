"""Simulated training data: made-up landscapes, or a user's clear scenes, laid under simulated clouds."""

from typing import Literal

import torch
from pydantic import Field
from torch.utils.data import Dataset

from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.schema import Strict


class SyntheticSource(Strict):
    """Made-up landscapes with radar, over which clouds are simulated."""

    name: Literal["synthetic"]
    num_scenes: int = Field(64, gt=0)
    size: int = Field(256, gt=0)
    seed: int = 0
    weight: float = Field(1.0, gt=0)


class SyntheticScenes(Dataset[Batch]):
    """Made-up clear scenes with radar, each a `Batch` with B = 1 whose `degraded` is its `target`.

    Args:
        source: how many scenes, how large, from which seed.
        bands: optical bands of the images.
        radar: polarisations of `sar`.

    Attributes:
        keys: name of each scene.
        groups: place of each scene: every scene is its own.
    """

    def __init__(
        self,
        source: SyntheticSource,
        *,
        bands: tuple[str, ...] = SENTINEL2.bands,
        radar: tuple[str, ...] = SENTINEL1.bands,
    ) -> None:
        self.source = source
        self.optical = [SENTINEL2.bands.index(band) for band in bands]
        self.radar = [SENTINEL1.bands.index(band) for band in radar]
        self.keys = tuple(f"synthetic_{source.seed + index}" for index in range(source.num_scenes))
        self.groups = self.keys

    def __len__(self) -> int:
        return self.source.num_scenes

    def __getitem__(self, index: int) -> Batch:
        """Return scene `index`, always the same."""
        from pellucid.simulate.landscape import make_scene

        scene = make_scene(self.source.size, self.source.seed + range(len(self))[index])
        clear = scene.optical[None, self.optical]
        return Batch(
            degraded=clear,
            target=clear,
            sar=SENTINEL1.to_unit(scene.radar_db)[None, self.radar],
            cloud=torch.zeros_like(clear[:, :1]),
            valid=torch.ones_like(clear[:, :1], dtype=torch.bool),
            key=(self.keys[index],),
        )
