"""How far restored images are, as a set, from the references: the Fréchet distance of a network's features.

Heusel et al. 2017, arXiv:1706.08500. Which network sees the images is the user's choice: figures of different
networks, or of different numbers of images, cannot be compared.
"""

import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from pellucid.build.weights_file import load_vgg19
from pellucid.errors import InputError

if TYPE_CHECKING:
    from torchmetrics.image.fid import FrechetInceptionDistance

# (B, 1 or 3, H, W) in [0, 1] -> (B, D).
Features: TypeAlias = Callable[[Tensor], Tensor]
# An argument by which some published modules are asked for features instead of classes.
WANTS_FEATURES = "return_features"


class FeatureDistances:
    """The Fréchet distance of the images of several sources from the references, of `num_images` each."""

    def __init__(self, features: Features, num_images: int) -> None:
        if num_images < 2:
            raise InputError(
                f"FID compares sets of images, found {num_images}; give more, or leave out --fid"
            )
        self.features, self.num_images, self.num_features = features, num_images, 0
        self.metrics: dict[str, FrechetInceptionDistance] = {}

    @torch.no_grad()
    def add(self, target: Tensor, images: Mapping[str, Tensor]) -> None:
        """Take in a reference, (1, C, H, W) in [0, 1], and the images of the same place by source."""
        from torchmetrics.image.fid import FrechetInceptionDistance

        real = self.features(target)
        self.num_features = real.shape[1]
        for source, image in images.items():
            if source not in self.metrics:
                self.metrics[source] = FrechetInceptionDistance(_Found(self.num_features))
            self.metrics[source].update(real, real=True)
            self.metrics[source].update(self.features(image), real=False)

    def compute(self) -> dict[str, float]:
        """Return the distance of each source; it warns where there are fewer images than features."""
        if self.num_images < self.num_features:
            warnings.warn(
                f"FID of {self.num_images} images in {self.num_features} features is a rough figure, far "
                "above that of many; compare it with none but those of the same images and network",
                stacklevel=2,
            )
        return {source: float(metric.compute()) for source, metric in self.metrics.items()}


class _Found(nn.Module):
    """The identity, as feature network of features that were found already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features.double()


def load_features(source: Path | str) -> Features:
    """Return a feature network for FID.

    Args:
        source: VGG19 in torchvision's layout, .pth, .pt or .safetensors, as path or URL: the means over the
            image of the 512 channels of conv5_1. Or the file of a TorchScript module of (B, 3, H, W) uint8,
            as torchmetrics has it, to (B, D), which looks at images of any size; such a file is code, which
            is run.
    """
    if not _is_script(source):
        vgg = load_vgg19(source)
        return lambda image: vgg(image)[-1].mean((2, 3))
    try:
        module = torch.jit.load(str(source), map_location="cpu").eval()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{source} is a TorchScript module that cannot be loaded: {reason}") from error
    return partial(_run_script, module, source)


def _run_script(module: Any, source: Path | str, image: Tensor) -> Tensor:
    """Return the (B, D) features that a TorchScript module gives of images."""
    names = [argument.name for argument in module.forward.schema.arguments]
    options = {WANTS_FEATURES: True} if WANTS_FEATURES in names else {}
    picture = (image.expand(-1, 3, -1, -1).clamp(0, 1) * 255).round().to(torch.uint8)
    try:
        found = module(picture, **options)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{source} does not take (B, 3, H, W) of 8 bits: {reason}") from error
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(image):
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{source} returns {what}, FID needs (B, D) features of (B, 3, H, W) images")
    return found.float()


def _is_script(source: Path | str) -> bool:
    if not Path(source).is_file() or not zipfile.is_zipfile(source):
        return False
    with zipfile.ZipFile(source) as archive:
        return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())
