"""What `ground` is trained by: samples that lack bands, those of which parts are hidden, and errors."""

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.ranges import Bands
from pellucid.methods.seen_bands import SETS

# A squared error of this size, 53 dB, is good enough: better ones gain little.
GOOD = 5e-6


def lack_bands(target: Tensor, bands: Bands, share: float, generator: torch.Generator | None) -> Tensor:
    """Return targets, (B, C, H, W), of which a share lacks bands (NaN), as images of other products do."""
    target, device = target.clone(), generator.device if generator else None
    for image in target:
        if float(torch.rand((), generator=generator, device=device)) < share:
            kept = SETS[1 + int(torch.randint(len(SETS) - 1, (), generator=generator, device=device))]
            image[[i for i, band in enumerate(bands) if band not in kept]] = torch.nan
    return target


def cross_entropy(judged: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    """Return the mean cross entropy of a judgement of what is clear, over the pixels of a mask."""
    each = -(judged * truth + (1 - judged) * (1 - truth)).clamp(min=1e-4).log()
    return mean_over(each, where)


def mean_over(x: Tensor, where: Tensor) -> Tensor:
    """Return the mean over the pixels of a mask or by weights, 0 if there are none."""
    return (x * where).sum() / where.sum().clamp(min=1)


def is_hidden(batch: Batch) -> Tensor:
    """Return (B,) bool: whether an image has parts hidden, which are 0, instead of clouds."""
    if batch.cloud is None:
        return torch.zeros(len(batch), dtype=torch.bool, device=batch.degraded.device)
    is_binary = ((batch.cloud == 0) | (batch.cloud == 1)).flatten(1).all(1)
    is_gone = ((batch.degraded.nan_to_num() == 0).all(1, keepdim=True) | (batch.cloud == 0)).flatten(1).all(1)
    return is_binary & is_gone & (batch.cloud == 1).flatten(1).any(1)


def log_error(image: Tensor, truth: Tensor, where: Tensor, samples: Tensor | None = None) -> Tensor:
    """Return the mean over images of the logarithm of the mean squared error, 0 if no image has pixels."""
    has = where.flatten(1).any(1).float()
    counts = has if samples is None else has * samples
    logs = (mean_error(image, truth, where) + GOOD).log()
    return (logs * counts).sum() / counts.sum().clamp(min=1)


def mean_error(image: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    """Return each image's mean squared error over a mask, (B,); 0 where it is empty."""
    return ((image - truth).square() * where).flatten(1).sum(1) / where.flatten(1).sum(1).clamp(min=1)
