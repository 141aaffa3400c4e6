"""The containers of images that every layer shares."""

import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from pellucid.data.resample import enlarge
from pellucid.errors import InputError

# The text that stands for all images, whatever theirs is.
ANY_PROMPT = ""


class Samples:
    """What dataclasses of tensors and texts about B places have in common; a missing field is None."""

    if TYPE_CHECKING:
        key: tuple[str, ...]
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def cat(cls, items: Sequence[Self]) -> Self:
        """Return the items as one batch, in their order.

        Raises:
            ValueError: if a field is given in some items and missing in others.
        """
        joined: dict[str, Tensor | tuple[str, ...] | None] = {}
        for field in fields(cls):
            values = [getattr(item, field.name) for item in items]
            if all(value is None for value in values):
                joined[field.name] = None
            elif any(value is None for value in values):
                raise ValueError(f"{field.name} is given for some items of the batch and missing for others")
            elif isinstance(values[0], tuple):
                joined[field.name] = tuple(text for value in values for text in value)
            else:
                joined[field.name] = torch.cat(values)
        return cls(**joined)

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on `device`."""
        moved = {name: value.to(device) for name, value in self.images().items()}
        return replace(self, **moved)

    def images(self) -> dict[str, Tensor]:
        """Return every tensor of the batch by field name, without the missing ones."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def pick(self, index: int) -> Self:
        """Return one of the B places."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        picked = {name: value[index : index + 1] for name, value in values.items() if value is not None}
        return replace(self, **picked)


@dataclass(frozen=True)
class Batch(Samples):
    """Co-registered images of B places, every image in [0, 1]; a dataset item has B = 1.

    Attributes:
        degraded: (B, C, H, W) cloudy input, or (B, C, H / K, W / K) of low resolution.
        sar: (B, P, H, W) backscatter scaled from dB; NaN where there is no radar.
        cloud: (B, 1, H, W) cloud probability.
        target: (B, C, H, W) reference image.
        valid: (B, 1, H, W) bool, pixels that hold data in `degraded` (and in `target`, where given); its size
            is that of the result.
        key: B names, for instance `ROIs1970_fall_139_p839`.
        prompt: B texts that say what is to be seen.
    """

    degraded: Tensor
    valid: Tensor
    key: tuple[str, ...]
    sar: Tensor | None = None
    cloud: Tensor | None = None
    target: Tensor | None = None
    prompt: tuple[str, ...] | None = None

    @property
    def scale(self) -> int:
        """Return K, how many times larger the result is than the degraded image."""
        return self.valid.shape[-1] // self.degraded.shape[-1]

    def enlarged(self) -> Tensor:
        """Return the degraded image at the size of the result, (B, C, H, W): bicubic where it is smaller."""
        return self.degraded if self.scale == 1 else enlarge(self.degraded, self.scale).clamp(0, 1)

    def reference(self) -> Tensor:
        """Return the reference images, (B, C, H, W).

        Raises:
            InputError: if there are none.
        """
        if self.target is None:
            raise InputError(f"{self.key[0]} has no reference image, an evaluation needs one")
        return self.target

    def pad(self, stride: int) -> Self:
        """Return the batch padded by reflection, right and below, to sides that divide by `stride`.

        What is added is not `valid`. A degraded image K times smaller is padded by K times less, to sides
        of the result that divide by K too.
        """
        height, width = self.valid.shape[-2:]
        scale = self.scale
        stride = math.lcm(stride, scale)
        right, below = -width % stride, -height % stride
        if not right and not below:
            return self
        images = {}
        for name, image in self.images().items():
            factor = scale if name == "degraded" else 1
            size = (0, right // factor, 0, below // factor)
            images[name] = pad(image, size) if name == "valid" else pad(image, size, "reflect")
        return replace(self, **images)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Condition:
    """What a generative network is given beside the noised image, in model space.

    Attributes:
        degraded: (B, C, h, w).
        sar: (B, P, h, w).
        cloud: (B, 1, H, W), at the resolution of the images.
        tokens: (B, L, D) of a text.
        guidance: (B,), how far all that is to be followed; for networks that were taught by being told.
    """

    degraded: Tensor | None = None
    sar: Tensor | None = None
    cloud: Tensor | None = None
    tokens: Tensor | None = None
    guidance: Tensor | None = None

    def null(self) -> Self:
        """Return the condition that says nothing: zeros in place of every tensor, for guidance."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(
            self, **{name: torch.zeros_like(x) for name, x in values.items() if isinstance(x, Tensor)}
        )

    def where(self, kept: Tensor, other: Self) -> Self:
        """Return the condition, with the `other` for the images where `kept`, (B,) bool, is False."""
        values = {
            field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        }
        return replace(
            self,
            **{
                name: x.where(kept.view(-1, *[1] * (x.ndim - 1)), y)
                for name, (x, y) in values.items()
                if isinstance(x, Tensor)
            },
        )


@dataclass(frozen=True)
class Encoded(Samples):
    """A `Batch` as a generative network learns from it, in model space.

    Attributes:
        x0: (B, Z, h, w), what is to be generated.
        degraded: (B, Z, h, w).
        valid: (B, 1, h, w), 1 where all pixels hold data, else 0.
        key: B names.
        sar: (B, P, h, w).
        cloud: (B, 1, H, W), at the resolution of the images.
        prompt: B texts.
    """

    x0: Tensor
    degraded: Tensor
    valid: Tensor
    key: tuple[str, ...]
    sar: Tensor | None = None
    cloud: Tensor | None = None
    prompt: tuple[str, ...] | None = None

    @property
    def condition(self) -> Condition:
        """Return what the network is given beside the noised image, but for the text."""
        return Condition(degraded=self.degraded, sar=self.sar, cloud=self.cloud)


class Images(Protocol):
    """A dataset of whole patches."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Batch: ...
