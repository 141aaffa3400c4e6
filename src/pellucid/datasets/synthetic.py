"""Simulated training data: made-up landscapes with radar, over which clouds are simulated."""

from typing import Literal

import torch
from pydantic import Field

from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2, Bands
from pellucid.data.schema import Strict
from pellucid.datasets._listing import ScenePatches, Wanted


class Config(Strict):
    """Made-up landscapes with radar, over which clouds are simulated."""

    name: Literal["synthetic"] = "synthetic"
    num_scenes: int = Field(64, gt=0)
    """Landscapes that are made."""
    size: int = Field(256, gt=0)
    """Side of a landscape in pixels."""
    seed: int = 0
    """The same seed makes the same landscapes."""
    weight: float = Field(1.0, gt=0)
    """Share of these data in the training samples, relative to the others."""


class SyntheticScenes(ScenePatches):
    """Made-up clear scenes with radar, each a `Batch` with B = 1 whose `degraded` is its `target`.

    Each is a place of its own.
    """

    is_clear = True

    def __init__(
        self, config: Config, *, bands: Bands = SENTINEL2.bands, radar: Bands = SENTINEL1.bands
    ) -> None:
        self.config, self.bands = config, bands
        self.optical = [SENTINEL2.bands.index(band) for band in bands]
        self.radar = [SENTINEL1.bands.index(band) for band in radar]
        self.keys = tuple(f"synthetic_{config.seed + index}" for index in range(config.num_scenes))
        self.groups = self.keys

    def __getitem__(self, index: int) -> Batch:
        """Return scene `index`, always the same."""
        from pellucid.simulate.landscape import make_scene

        scene = make_scene(self.config.size, self.config.seed + range(len(self))[index])
        clear = scene.optical[None, self.optical]
        sar, cloud = SENTINEL1.to_unit(scene.radar_db)[None, self.radar], torch.zeros_like(clear[:, :1])
        valid, key = torch.ones_like(cloud, dtype=torch.bool), (self.keys[index],)
        return Batch(degraded=clear, target=clear, sar=sar, cloud=cloud, valid=valid, key=key)


def build(config: Config, wanted: Wanted) -> SyntheticScenes:
    """Return the scenes, with the bands and polarisations of a method."""
    return SyntheticScenes(config, **wanted.of_scenes())
