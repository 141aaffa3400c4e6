"""Scenes for tests, and methods that restore them by a plain function."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.transform import Affine
from torch import Tensor, nn

from pellucid.apply.options import SceneOptions
from pellucid.data.batch import Batch
from pellucid.data.gdal_open import open_raster
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.generative.noise import Noise
from pellucid.methods.method import Method
from pellucid.networks._clearness import Clear, Seen
from pellucid.networks.ground import GroundNet

BANDS = SENTINEL2.bands
BARE = {"preview": False, "html": False, "painted": False, "sidecars": False}
OPTIONS = SceneOptions(tile=32, overlap=8, device="cpu", **BARE)
EVERYTHING = replace(OPTIONS, keep_clear=False)


def sure_of_what_is_clear(network: GroundNet) -> GroundNet:
    """Return an untrained network that is sure of colours where it is confident, and of none elsewhere."""
    judge = network.clearness.forward

    def forward(seen: Seen) -> Clear:
        clear = judge(seen)
        sure = -12 * (clear.confidence > 0.5).expand_as(clear.log_variance).float()
        return clear._replace(log_variance=sure)

    network.clearness.forward = forward  # type: ignore[method-assign]
    return network


class FakeMethod(Method):
    """Restores with a plain function of the batch."""

    def __init__(
        self, restore: Callable[[Batch], Tensor], *, stride: int = 4, radar_optional: bool = True
    ) -> None:
        self.network = nn.Identity()
        self.stride, self.scale = stride, 1
        self.optical, self.radar = SENTINEL2, SENTINEL1
        self.radar_optional = radar_optional
        self.is_random, self.takes_text = False, False
        self.mean_spectrum = None
        self.function = restore
        self.num_calls = 0

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        raise NotImplementedError

    def restore(
        self,
        batch: Batch,
        noise: Noise | None = None,
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
    ) -> Tensor:
        self.num_calls += 1
        assert batch.degraded.shape[-1] % self.stride == batch.degraded.shape[-2] % self.stride == 0
        return self.answer(batch, noise)

    def answer(self, batch: Batch, noise: Noise | None) -> Tensor:  # noqa: ARG002
        return self.function(batch)


class RandomMethod(FakeMethod):
    """Draws what it returns around 0.5, with the standard deviation `spread`."""

    def __init__(self, spread: float) -> None:
        super().__init__(lambda batch: torch.full_like(batch.degraded, 0.5))
        self.is_random = True
        self.spread = spread

    def answer(self, batch: Batch, noise: Noise | None) -> Tensor:
        assert noise is not None
        return self.function(batch) + self.spread * noise(0, batch.degraded.shape[1])


def identity() -> FakeMethod:
    return FakeMethod(lambda batch: batch.degraded)


def constant(value: float) -> FakeMethod:
    return FakeMethod(lambda batch: torch.full_like(batch.degraded, value))


def write(path: Path, values: np.ndarray, names: tuple[str, ...] = (), **profile: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    with rasterio.open(path, "w", driver="GTiff", **(place | size | profile)) as file:
        file.write(values)
        if names:
            file.descriptions = names
    return path


def ground(height: int = 75, width: int = 101, seed: int = 0) -> np.ndarray:
    """Digital numbers of dark, clear ground."""
    values = np.random.default_rng(seed).integers(300, 900, (13, height, width)).astype(np.uint16)
    values[10] = 15
    return values


def read(path: Path) -> np.ndarray:
    with open_raster(path) as file:
        return file.read()


def left_cloud(folder: Path, height: int = 75, width: int = 101, *, columns: int = 40) -> Path:
    """A cloud map with cloud in the first columns."""
    cloud = np.zeros((1, height, width), np.uint8)
    cloud[:, :, :columns] = 1
    return write(folder / "cloud.tif", cloud)


def nothing_left(folder: Path, inputs: set[str]) -> bool:
    return {path.name for path in folder.iterdir()} == inputs
