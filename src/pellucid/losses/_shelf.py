"""The shelf of loss terms: which there are, and how one is built.

The file of a term has a function of its own name, or `build(needs)` if it needs more than the images.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

import pellucid.losses
from pellucid.data.batch import Batch
from pellucid.networks._vgg import Vgg

# (restored image, batch) -> scalar.
Loss: TypeAlias = Callable[[Tensor, Batch], Tensor]


@dataclass(frozen=True)
class Needs:
    """What a term may need beside the images."""

    bands: int  # number of bands of the images
    has_clouds: bool  # whether the batches may have a cloud map
    seed: int  # of random weights
    perceptual_weights: str  # file or URL of VGG19 weights; may be empty
    load_vgg: Callable[[str], Vgg]  # reads these weights


def known_terms() -> list[str]:
    """Return the names of the terms on the shelf."""
    found = pkgutil.iter_modules(pellucid.losses.__path__)
    return sorted(module.name for module in found if not module.name.startswith("_"))


def build_term(name: str, needs: Needs) -> Loss:
    """Return the term of this name."""
    module = importlib.import_module(f"pellucid.losses.{name}")
    return module.build(needs) if hasattr(module, "build") else getattr(module, name)
