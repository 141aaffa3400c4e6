"""Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598)."""

from collections.abc import Callable

import torch
from torch import Tensor

from pellucid.data.batch import Condition
from pellucid.generative.sampler import Denoiser


def guided(
    denoise: Callable[[Tensor, Tensor, Condition], Tensor],
    condition: Condition,
    scale: float,
    null: Condition | None = None,
) -> Denoiser:
    """Return the denoiser with a guidance scale, Eq. 6 of arXiv:2207.12598.

    Its output is null + scale (conditioned - null), where null is that under the condition `null`; the
    paper's weight w is scale - 1.

    Args:
        denoise: takes x_t, t and a condition.
        condition: what the images are made for.
        scale: 1 is the condition alone, without a second call; 0 ignores it.
        null: the condition that guidance leads away from; None: `condition.null()`.
    """

    def plain(x_t: Tensor, t: Tensor) -> Tensor:
        return denoise(x_t, t, condition)

    without = null or condition.null()

    def apart(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(denoise(x_t, t, without), denoise(x_t, t, condition), scale)

    return plain if scale == 1 else apart
