"""Images that are each their own target: what an autoencoder learns and is judged by."""

from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pellucid.data.augment import Patches, cloud_over, random_gain
from pellucid.data.batch import Batch
from pellucid.data.clouds import CloudOptions
from pellucid.data_config import AugmentConfig
from pellucid.errors import InputError

Kind: TypeAlias = Literal["optical", "radar"]


class SingleImages(Dataset[Batch]):
    """The clear image, or the radar, of each patch, as `degraded` and `target` alike; pixels without are 0.

    Args:
        patches: with targets, and with radar where that is wanted.
        kind: which image is taken.
    """

    def __init__(self, patches: Patches, kind: Kind) -> None:
        self.patches, self.kind = patches, kind
        self.keys, self.groups = patches.keys, patches.groups

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> Batch:
        """Return the image of patch `index`.

        Raises:
            InputError: if it has no such image.
        """
        batch = self.patches[index]
        image = batch.target if self.kind == "optical" else batch.sar
        valid = batch.valid if self.kind == "optical" else _has_data(batch.sar, batch.valid)
        if image is None or not valid.any():
            raise InputError(
                f"{batch.key[0]} has no {self.kind} image, which this autoencoder is for; exclude it, or "
                "leave its source out"
            )
        image = image.where(valid, 0)
        return Batch(degraded=image, target=image, valid=valid, key=batch.key)


def change_image(
    batch: Batch,
    generator: torch.Generator,
    *,
    augment: AugmentConfig,
    bands: tuple[str, ...],
    kind: Kind,
) -> Batch:
    """Return the batch with another brightness and, at times, simulated clouds, then part of the image.

    Args:
        batch: of `SingleImages`.
        generator: of everything random.
        augment: `gain` and `simulate` change optical images, `radar_shift` radar.
        bands: optical band names, for the spectra of simulated clouds.
        kind: of the images.
    """
    if kind == "radar":
        return _alone(batch, _shift(batch.degraded, augment.radar_shift, generator) * batch.valid)
    batch = random_gain(batch, augment.gain, generator)
    if torch.rand((), generator=generator) < augment.simulate:
        batch = cloud_over(batch, bands, generator, CloudOptions())
    return _alone(batch, batch.degraded)


def _alone(batch: Batch, image: Tensor) -> Batch:
    return replace(batch, degraded=image, target=image, cloud=None)


def _shift(image: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Return the image with a constant added to each band."""
    return (image + deviation * torch.randn(image.shape[1], 1, 1, generator=generator)).clamp(0, 1)


def _has_data(sar: Tensor | None, like: Tensor) -> Tensor:
    """Return where all polarisations are known, (B, 1, H, W)."""
    return torch.zeros_like(like) if sar is None else sar.isfinite().all(1, keepdim=True)
