"""What a model has to beat: the mean spectrum of the training images, or their mean colour per prompt."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.image_score import get_target

# The text that stands for all images, whatever theirs is.
ANY_PROMPT = ""


class Images(Protocol):
    """A dataset of whole patches."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Batch: ...


def mean_spectrum(data: Images) -> tuple[float, ...]:
    """Return the mean of each band over the valid pixels of the targets, in [0, 1].

    Raises:
        InputError: if there is no valid pixel, or no target.
    """
    return mean_colors(data)[ANY_PROMPT]


def mean_colors(data: Images) -> dict[str, tuple[float, ...]]:
    """Return the mean spectrum of the images of each prompt, and of all of them under `ANY_PROMPT`.

    Raises:
        InputError: if there is no valid pixel, or no target.
    """
    sums: dict[str, tuple[Tensor, int]] = {}
    for i in range(len(data)):
        batch = data[i]
        target, (prompt,) = get_target(batch), batch.prompt or (ANY_PROMPT,)
        total = target.double().where(batch.valid, 0).sum((0, 2, 3))
        for text in {prompt, ANY_PROMPT}:
            before, count = sums.get(text, (torch.zeros_like(total), 0))
            sums[text] = before + total, count + int(batch.valid.sum())
    means = {text: tuple((total / count).tolist()) for text, (total, count) in sums.items() if count}
    if not means:
        raise InputError("there is no valid pixel to take the mean spectrum of, give other training data")
    return means


def pick_color(
    colors: Mapping[str, tuple[float, ...]] | None, batch: Batch, otherwise: tuple[float, ...] | None
) -> tuple[float, ...] | None:
    """Return the mean colour of a batch's prompt, or of all images if that prompt has none.

    Args:
        colors: by prompt; None: not known.
        batch: with B = 1.
        otherwise: what to return where the colours are not known.
    """
    if colors is None:
        return otherwise
    (prompt,) = batch.prompt or (ANY_PROMPT,)
    return colors.get(prompt, colors[ANY_PROMPT])
