"""Images and texts of B places: the containers that every layer shares."""

import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from pellucid.data.resample import enlarge
from pellucid.errors import InputError

# The empty prompt: it fits every image.
ANY_PROMPT = ""


class Samples:
    """Base of dataclasses of tensors and texts about B places; a missing field is None."""

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
        joined: dict[str, Tensor | tuple[Any, ...] | None] = {}
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
        return replace(self, **{name: image.to(device) for name, image in self.images().items()})

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory; loaders call this by its name."""
        return replace(self, **{name: image.pin_memory() for name, image in self.images().items()})

    def images(self) -> dict[str, Tensor]:
        """Return every tensor of the batch by field name, without the missing ones."""
        return _tensors(self)

    def pick(self, index: int) -> Self:
        """Return one of the B places."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value[index : index + 1] for name, value in given.items()})


@dataclass(frozen=True)
class Batch(Samples):
    """Co-registered images of B places, every image in [0, 1]; a dataset item has B = 1.

    Attributes:
        degraded: (B, C, H, W) cloudy input, or (B, C, H / K, W / K) of low resolution.
        sar: (B, P, H, W) backscatter scaled from dB; NaN where there is no radar.
        cloud: (B, 1, H, W) cloud probability.
        older: (B, C, H, W) other dates of the place, brought to the colours of `degraded`; NaN where none of
            them is clear.
        target: (B, C, H, W) reference image.
        valid: (B, 1, H, W) bool, pixels that hold data in `degraded` and `target`; its size is that of the
            result.
        key: B names, for instance `ROIs1970_fall_139_p839`.
        at: B rows and columns of a larger scene at which the images begin; None: each is a scene of its own.
    """

    degraded: Tensor
    valid: Tensor
    key: tuple[str, ...]
    sar: Tensor | None = None
    cloud: Tensor | None = None
    older: Tensor | None = None
    target: Tensor | None = None
    prompt: tuple[str, ...] | None = None
    at: tuple[tuple[int, int], ...] | None = None

    @property
    def scale(self) -> int:
        """Return K, how many times larger the result is than the degraded image."""
        return self.valid.shape[-1] // self.degraded.shape[-1]

    def enlarged(self) -> Tensor:
        """Return the degraded image at the size of the result, (B, C, H, W): bicubic where it is smaller."""
        return self.degraded if self.scale == 1 else enlarge(self.degraded, self.scale).clamp(0, 1)

    def corner(self, side: int) -> Self:
        """Return the first rows and columns of the images, so many of the result."""
        parts: dict[str, Any] = {}
        for name, image in self.images().items():
            size = side // self.scale if name == "degraded" else side
            parts[name] = image[..., :size, :size]
        return replace(self, **parts)

    def reference(self) -> Tensor:
        """Return the reference images, (B, C, H, W)."""
        if self.target is None:
            raise InputError(f"{self.key[0]} has no reference image, which an evaluation needs")
        return self.target

    def pad(self, stride: int) -> Self:
        """Return the batch padded by reflection, right and below, to sides that divide by `stride` and by K.

        The added pixels are not `valid`. A degraded image K times smaller is padded by K times less.
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
    """What a generative network is conditioned on, in model space.

    Attributes:
        degraded: (B, C, h, w).
        sar: (B, P, h, w).
        cloud: (B, 1, H, W), at the resolution of the images.
        tokens: (B, L, D) of a text.
        guidance: (B,) guidance scale, for guidance-distilled networks.
    """

    degraded: Tensor | None = None
    sar: Tensor | None = None
    cloud: Tensor | None = None
    tokens: Tensor | None = None
    guidance: Tensor | None = None

    def null(self) -> Self:
        """Return zeros in place of every tensor: the null condition of classifier-free guidance."""
        return replace(self, **{name: torch.zeros_like(x) for name, x in _tensors(self).items()})

    def where(self, kept: Tensor, other: Self) -> Self:
        """Return the condition, or `other` for the images where `kept`, (B,) bool, is False."""
        chosen = {
            name: x.where(kept.view(-1, *[1] * (x.ndim - 1)), getattr(other, name))
            for name, x in _tensors(self).items()
        }
        return replace(self, **chosen)


@dataclass(frozen=True)
class Encoded(Samples):
    """A `Batch` in model space, as a generative network is trained on it.

    Attributes:
        x0: (B, Z, h, w), the clean image.
        degraded: (B, Z, h, w).
        valid: (B, 1, h, w), 1 where all pixels hold data, else 0.
        sar: (B, P, h, w).
        cloud: (B, 1, H, W), at the resolution of the images.
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
        """Return the condition, without the text."""
        return Condition(degraded=self.degraded, sar=self.sar, cloud=self.cloud)


def _tensors(values: Samples | Condition) -> dict[str, Tensor]:
    """Return the fields that are tensors, by name."""
    return {name: value for name, value in vars(values).items() if isinstance(value, Tensor)}


class Images(Protocol):
    """A dataset of whole patches."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Batch: ...
