"""What `ground` knows of each pixel before its last network refines it, and how sure it is of two colours."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pellucid.networks._clearness import BANDS

# Largest logit of the share of colours without haze, as far as the standard deviation goes.
SUREST = 7.0


class Squeezing(NamedTuple):
    """The layer before the network that refines."""

    of_phi: Tensor  # (B, D', refine), weights of the features
    of_cells: Tensor  # (B, refine, h, w), what the cells give
    of_rest: Tensor  # (3 * 13 + 2, refine), weights of what is compared


class About(NamedTuple):
    """What holds for all pixels of an image: noise, (B, 13 + E, 1, 1), and 1 where it has the band."""

    noise: Tensor
    known: Tensor


class Looks(NamedTuple):
    """What is known of each pixel before it is refined: see `Painted`, `Seen` and `Clear`."""

    solved: Tensor
    carried: Tensor
    leverage: Tensor
    values: Tensor
    colours: Tensor
    log_variance: Tensor
    confidence: Tensor
    given: Tensor | None

    def surer(self, about: About) -> Tensor:
        """Return the logarithm of how much surer colours without haze are than the regression."""
        return about.noise.log() + self.leverage.log1p() - self.log_variance

    def trust(self, changes: Tensor, about: About) -> Tensor:
        """Return the same after the network that refines, -inf where nothing is known of these colours."""
        learned = _for_all_bands(changes[:, 2 * len(BANDS) : 3 * len(BANDS)].float(), self.colours)
        return (self.surer(about) + learned).where(self.log_variance < 0, -torch.inf)


def log_variance_of(changes: Tensor, *looks: Any, about: About) -> tuple[Tensor]:
    """Return the logarithm of the variance of the image that is refined."""
    x, num, changes = Looks(*looks), len(BANDS), changes.float()
    doubt = _for_all_bands(changes[:, num : 2 * num], x.colours)
    sure = logsigmoid(-x.trust(changes, about).clamp(max=SUREST))
    return (about.noise.log() + x.leverage.log1p() + sure + doubt,)


def _for_all_bands(values: Tensor, like: Tensor) -> Tensor:
    """Return values of 13 bands, and their mean for each band of another sensor."""
    if extra := like.shape[1] - len(BANDS):
        return torch.cat([values, values.mean(1, keepdim=True).expand(-1, extra, -1, -1)], 1)
    return values
