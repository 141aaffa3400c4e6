"""The shelf of loss terms: which there are, and how one is built.

The file of a term has a function of its own name, or `build(needs)` if it needs more than the images. Terms
of users lie anywhere that Python finds, the working folder included: `module:function`.
"""

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

import pellucid.losses
from pellucid.data.batch import Batch
from pellucid.errors import InputError, nearest
from pellucid.networks._vgg import Lpips, Vgg

# (restored image, batch) -> scalar.
Loss: TypeAlias = Callable[[Tensor, Batch], Tensor]
# What the term of a user is called: a module and a function in it.
_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Needs:
    """What a term may need beside the images."""

    bands: int  # number of bands of the images
    has_clouds: bool  # whether the batches may have a cloud map
    seed: int  # of random weights
    perceptual_weights: str  # file or URL of VGG19 weights; may be empty
    load_vgg: Callable[[str], Vgg]  # reads these weights
    lpips_weights: str = ""  # file or URL of VGG16 weights; may be empty
    load_lpips: Callable[[str], Lpips] | None = None  # reads these weights


def known_terms() -> list[str]:
    """Return the names of the terms on the shelf."""
    found = pkgutil.iter_modules(pellucid.losses.__path__)
    return sorted(module.name for module in found if not module.name.startswith("_"))


def check_name(name: str, others: tuple[str, ...]) -> None:
    """Refuse a name that is none of the shelf, of `others`, or of a user's term."""
    known = [*others, *known_terms()]
    if name not in known and not _OWN.fullmatch(name):
        own = "; a term of your own is written module:function" if ":" in name else ""
        raise InputError(f"losses.{name} is not a known term{own or nearest(name, known)}")


def build_term(name: str, needs: Needs) -> Loss:
    """Return the term of this name."""
    if _OWN.fullmatch(name):
        return _OwnTerm(name)
    module = importlib.import_module(f"pellucid.losses.{name}")
    return module.build(needs) if hasattr(module, "build") else getattr(module, name)


class _OwnTerm:
    """A term of a user, `module:function`, imported from the working folder or wherever Python finds it."""

    def __init__(self, name: str) -> None:
        self.name = name
        place, _, function = name.partition(":")
        self.term: Callable[[Tensor, Batch], Any] = getattr(_import(place, name), function, None)  # type: ignore[assignment]
        if not callable(self.term):
            raise InputError(f"losses.{name}: the module {place} has no function {function}; define it there")

    def __call__(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the term."""
        value = self.term(restored, batch)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"losses.{self.name} returned {found}, a loss is one number; take its mean")
        return value.reshape(())


def _import(place: str, name: str) -> Any:
    """Return the module, also if it lies in the working folder, where a script of its own would find it."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except ImportError as error:
        raise InputError(
            f"losses.{name}: cannot import {place} ({error}); put {place.partition('.')[0]}.py into the "
            "working folder, or install it"
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
