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
    """Return the denoiser with a guidance scale, Eq. 6 of arXiv:2207.12598, whose weight w is scale - 1.

    Its output is null + scale (conditioned - null), where null is that under the condition `null` or, without
    one, `condition.null()`. Scale 1 is the condition alone, without a second call; 0 ignores it.
    """
    without = null or condition.null()

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        if scale == 1:
            return denoise(x_t, t, condition)
        return torch.lerp(denoise(x_t, t, without), denoise(x_t, t, condition), scale)

    return denoiser
