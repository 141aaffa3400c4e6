"""What trainer, evaluator and predictor know of a model."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.data.ranges import ValueRange
from pellucid.generative.noise import Noise


class Method(Protocol):
    """A network together with how it is trained and how it restores.

    Attributes:
        stride: sides of the result must divide by it, in pixels.
        scale: how many times larger the result is than the degraded image.
        is_random: whether the result depends on noise.
        optical: bands and value range of `degraded` and of the result; without bands where these are radar.
        radar: polarisations and value range of `sar`; without bands where radar plays no part.
        radar_optional: whether `sar` may be NaN or missing.
        mean_spectrum: the training set's mean per optical band in [0, 1], where known: a baseline.
        mean_colors: the same per prompt, and under "" of all images, where radar is given colours.
    """

    stride: int
    scale: int
    is_random: bool
    optical: ValueRange
    radar: ValueRange
    radar_optional: bool
    mean_spectrum: tuple[float, ...] | None
    mean_colors: Mapping[str, tuple[float, ...]] | None

    @property
    def network(self) -> nn.Module:
        """Return the plain module, whose parameters are trained."""

    @property
    def takes_text(self) -> bool:
        """Return whether the prompts of a batch are heeded."""

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the weighted loss terms by name; their sum, `total`, is what is minimised."""
        ...

    def restore(
        self,
        batch: Batch,
        noise: Noise | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Return the restored images, (B, C, H, W) in [0, 1]; sides must divide by `stride`.

        The same noise gives the same images; without it, that of each image follows from its key. A method
        that samples calls `progress` after each step with how many are done, and all.
        """
        ...


def result_range(method: Method) -> ValueRange:
    """Return bands and value range of what the method restores: optical images, or else radar."""
    return method.optical if method.optical.bands else method.radar
