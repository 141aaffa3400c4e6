"""What the datasets of the shelf have in common."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pellucid.data.batch import Batch
from pellucid.errors import InputError

Kind: TypeAlias = Literal["optical", "radar"]


class Patches(Protocol):
    """A dataset of whole patches, whose places are known."""

    keys: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Batch: ...


class Selected(Dataset[Batch]):
    """The patches of some places.

    Args:
        patches: to choose from.
        only: the places to keep; None keeps all.
        without: places to leave out.
    """

    def __init__(
        self, patches: Patches, *, only: Sequence[str] | None = None, without: Sequence[str] = ()
    ) -> None:
        self.patches = patches
        self.indices = [
            i
            for i, group in enumerate(patches.groups)
            if group not in without and (only is None or group in only)
        ]
        self.keys = tuple(patches.keys[i] for i in self.indices)
        self.groups = tuple(patches.groups[i] for i in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index` of those that are kept."""
        return self.patches[self.indices[index]]


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


def _has_data(sar: Tensor | None, like: Tensor) -> Tensor:
    """Return where all polarisations are known, (B, 1, H, W)."""
    return torch.zeros_like(like) if sar is None else sar.isfinite().all(1, keepdim=True)
