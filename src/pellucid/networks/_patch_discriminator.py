"""The discriminator of the adversarial loss: it rates each patch of an image as real or restored.

The PatchGAN of Isola et al. 2017, arXiv:1611.07004, narrower, and with norms that keep images independent.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

# Channels after each halving of the sides, in multiples of the width.
MULTIPLIERS = (1, 2, 4)
GROUPS = 8
# Slope below 0. arXiv:1611.07004, appendix A.1
SLOPE = 0.2


@dataclass(frozen=True)
class Config:
    """Size of the network; `width` is the channels after the first layer, and must divide by 8.

    A patch has 54 pixels a side, and patches lie 8 pixels apart.
    """

    bands: int = 3
    width: int = 32


class PatchDiscriminator(nn.Module):
    """The whole network, of sides of at least 8 pixels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.width % GROUPS:
            raise ValueError(f"width is {config.width}, must divide by {GROUPS}")
        channels = [config.width * multiplier for multiplier in MULTIPLIERS]
        # No norm after the first: absolute brightness helps to recognise restored images.
        layers: list[nn.Module] = [nn.Conv2d(config.bands, config.width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.GroupNorm(GROUPS, after), nn.LeakyReLU(SLOPE)]
        last = channels[-1]
        layers += [nn.Conv2d(last, last, 3, padding=1), nn.GroupNorm(GROUPS, last), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(last, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logit that each patch is real, (B, 1, H / 8, W / 8), of (B, C, H, W) in [0, 1]."""
        return self.layers(2 * image - 1)


def build(config: Config) -> PatchDiscriminator:
    """Return the network, with random weights."""
    return PatchDiscriminator(config)
