"""The one container of images that every layer shares."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Batch:
    """Co-registered images of B places, every image in [0, 1]; a dataset item has B = 1.

    Attributes:
        degraded: (B, C, H, W) cloudy input.
        sar: (B, P, H, W) backscatter scaled from dB; NaN where there is no radar.
        cloud: (B, 1, H, W) cloud probability.
        target: (B, C, H, W) reference image.
        valid: (B, 1, H, W) bool, pixels that hold data in `degraded` (and in `target`, where given).
        key: B names, for instance `ROIs1970_fall_139_p839`.
    """

    degraded: Tensor
    valid: Tensor
    key: tuple[str, ...]
    sar: Tensor | None = None
    cloud: Tensor | None = None
    target: Tensor | None = None

    def __len__(self) -> int:
        return self.degraded.shape[0]

    @classmethod
    def cat(cls, items: Sequence[Self]) -> Self:
        """Return the items as one batch, in their order.

        Raises:
            ValueError: if a field is given in some items and missing in others.
        """
        joined: dict[str, Tensor | tuple[str, ...] | None] = {}
        for field in fields(cls):
            values = [getattr(item, field.name) for item in items]
            if field.name == "key":
                joined["key"] = tuple(name for value in values for name in value)
            elif all(value is None for value in values):
                joined[field.name] = None
            elif any(value is None for value in values):
                raise ValueError(f"{field.name} is given for some items of the batch and missing for others")
            else:
                joined[field.name] = torch.cat(values)
        return cls(**joined)  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on `device`."""
        moved = {name: value.to(device) for name, value in self.images().items()}
        return replace(self, **moved)  # type: ignore[arg-type]

    def pad(self, stride: int) -> Self:
        """Return the batch padded by reflection, right and below, to sides that divide by `stride`.

        What is added is not `valid`.
        """
        height, width = self.degraded.shape[-2:]
        size = (0, -width % stride, 0, -height % stride)
        if not any(size):
            return self
        images = {
            name: pad(image, size, "reflect") for name, image in self.images().items() if name != "valid"
        }
        return replace(self, valid=pad(self.valid, size), **images)  # type: ignore[arg-type]

    def images(self) -> dict[str, Tensor]:
        """Return every tensor of the batch by field name, without the missing ones."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}
