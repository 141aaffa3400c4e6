"""VGG, whose features come from training on photographs, and a perceptual distance of its features (LPIPS).

Simonyan and Zisserman 2015, arXiv:1409.1556; Zhang et al. 2018, arXiv:1801.03924.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pellucid.data.resample import cells_inside

# Columns D and E of table 1 of arXiv:1409.1556: convolutions per block, and their channels.
VGG16, VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
VGG_CHANNELS = (64, 128, 256, 512, 512)
# In the numbering of torchvision's `features`: relu5_1, the end of `features[:30]`, as SR3 for CT has it.
VGG19_TAPS = (29,)
# relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, which LPIPS compares.
VGG16_TAPS = (3, 8, 15, 22, 29)
# Of RGB in [0, 1]; torchvision's. LPIPS has the same numbers, for images in [-1, 1].
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Added to the length of a feature vector by the published LPIPS.
LPIPS_EPSILON = 1e-10


class Vgg(nn.Module):
    """The convolutions of a VGG network, frozen; their parameters have torchvision's names.

    Args:
        blocks: number of 3 x 3 convolutions, each with a ReLU, in each block; a block ends in max pooling.
        taps: positions in `features` whose outputs are returned; layers after the last are omitted.
    """

    def __init__(self, blocks: Sequence[int], taps: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for count, channels in zip(blocks, VGG_CHANNELS, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)]
                before = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[: max(taps) + 1])
        self.taps = frozenset(taps)
        self.min_side = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in self.features)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features at each tap of a grey or RGB image, (B, 1 or 3, H, W) in [0, 1].

        Sides must have `min_side` pixels, so that a feature is left.
        """
        bands, height, width = image.shape[1:]
        if bands not in (1, 3):
            raise ValueError(f"the image has {bands} bands, VGG needs grey or RGB; choose 1 or 3 of them")
        if min(height, width) < self.min_side:
            raise ValueError(f"the image has {height} x {width} pixels, VGG needs sides of {self.min_side}")
        mean, std = (image.new_tensor(rgb).view(1, 3, 1, 1) for rgb in (IMAGENET_MEAN, IMAGENET_STD))
        features = (image.expand(-1, 3, -1, -1) - mean) / std
        found = []
        for position, layer in enumerate(self.features):
            features = layer(features)
            if position in self.taps:
                found.append(features)
        return found


class Lpips(nn.Module):
    """The learned perceptual distance, variant "vgg", with (1, C, 1, 1) weights of C channels per tap."""

    def __init__(self, network: Vgg, heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.network = network
        self.heads = nn.ParameterList([nn.Parameter(head, requires_grad=False) for head in heads])

    def forward(self, restored: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B,) distances of grey or RGB images, (B, 1 or 3, H, W) in [0, 1].

        The mask, (B, 1, H, W) bool, is where to compare; the rest is black in both images. A feature counts
        if its cell of the image holds a pixel of the mask; an image with an empty mask gives NaN.
        """
        mask = torch.ones_like(target[:, :1], dtype=torch.bool) if mask is None else mask
        first, second = (self.network(image.where(mask, 0)) for image in (restored, target))
        levels = [
            _mean_of_cells(weigh_channels(a, b, head), mask)
            for a, b, head in zip(first, second, self.heads, strict=True)
        ]
        return torch.stack(levels).sum(0)


def weigh_channels(first: Tensor, second: Tensor, head: Tensor) -> Tensor:
    """Return the distance of two (B, C, h, w) feature maps at each place, (B, 1, h, w), Eq. 1 of LPIPS.

    Each place's C features are scaled to length 1; their squared differences are weighted by `head`.
    """
    a, b = (normalize(features.float(), dim=1, eps=LPIPS_EPSILON) for features in (first, second))
    return ((a - b).square() * head).sum(1, keepdim=True)


def _mean_of_cells(values: Tensor, mask: Tensor) -> Tensor:
    """Return the (B,) means of (B, 1, h, w) over the cells that hold a pixel of the mask, NaN without one."""
    inside = cells_inside(mask, values)
    return (values * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)
