"""The interface of a model to the rest of the package."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.data.ranges import ValueRange
from pellucid.data.tokenizer import Tokenizer
from pellucid.generative.noise import Noise
from pellucid.generative.times import TrainingTimes
from pellucid.methods.tones import Tones

if TYPE_CHECKING:
    from pellucid.methods.sampling import Sampling

Task: TypeAlias = Literal["restore", "reconstruct", "embed"]
_NONE: Mapping[str, Any] = MappingProxyType({})


class Estimate(NamedTuple):
    """What a method says of B images.

    Attributes:
        image: (B, C, H, W) in [0, 1], restored.
        deviation: (B, C, H, W), standard deviation of its error; 0 where a pixel passes through.
        cloud: (B, 1, H, W) in [0, 1], how much of each pixel is replaced; 0 where it passes through.
    """

    image: Tensor
    deviation: Tensor | None = None
    cloud: Tensor | None = None


class Method(ABC):
    """A network together with how it is trained and how it restores.

    Of its tasks, "restore" makes better images of degraded ones, "reconstruct" encodes images and decodes
    them again, "embed" makes features of images and texts, but no images.
    """

    task: ClassVar[Task] = "restore"
    network: nn.Module  # the plain module, whose parameters are trained
    optical: ValueRange  # of `degraded` and of the result; without bands where these are radar
    radar: ValueRange  # of `sar`; without bands where radar plays no part
    radar_optional: bool = True  # whether `sar` may be NaN or missing
    stride: int = 1  # sides of the result must divide by it, in pixels
    tile: int = 256  # side of the tiles that suit it, in pixels
    overlap: int = 64  # pixels that neighbouring tiles share
    any_tile: bool = False  # whether somewhat larger or smaller ones suit it as well
    prefers_bf16: bool = False  # whether its results in bf16 are as good as in fp32
    scale: int = 1  # how many times larger the result is than the degraded image
    is_random: bool = False  # whether the result depends on noise
    any_bands: bool = False  # whether `with_bands` gives one for whatever bands a scene has
    takes_older: bool = False  # whether `Batch.older` guides it
    finds_clouds: bool = False  # whether it judges itself which pixels are clear, and passes them through
    gives_deviation: bool = False  # whether it says how sure it is, without samples
    takes_text: bool = False  # whether the result is conditioned on the prompts of a batch
    # Name of the run that it was loaded from, and SHA-256 of the weights there; None: it was not.
    origin: tuple[str, str] | None = None
    # The training set's mean per optical band in [0, 1], where known: a baseline.
    mean_spectrum: tuple[float, ...] | None = None
    # The same per prompt, and under "" of all images, where radar is given colours.
    mean_colors: Mapping[str, tuple[float, ...]] | None = None
    # What says which mean colour a picture gets, by its radar; None: the one that the network gives it.
    tones: Tones | None = None
    losses: Mapping[str, tuple[float, Any]] = _NONE  # weight and function of each loss term
    times: TrainingTimes | None = None  # of a generative network; saved with the state of a run
    sampling: "Sampling | None" = None  # None where one call of the network restores
    start_noise: float | None = None  # standard deviation on a degraded start; None where there is none
    # Frozen networks that are saved with the network, by what they encode, and that of the prompts.
    autoencoders: Mapping[str, nn.Module] = _NONE
    text_encoder: nn.Module | None = None
    prior: nn.Module | None = None  # predicts the broad colours of pictures from radar; frozen, saved too
    tokenizer: Tokenizer | None = None  # of the prompts, saved too

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Return all networks on which a result depends."""
        others = (each for each in (self.text_encoder, self.prior) if each is not None)
        return (self.network, *self.autoencoders.values(), *others)

    @abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the weighted loss terms by name; their sum, `total`, is what is minimised."""

    @abstractmethod
    def restore(
        self, batch: Batch, noise: Noise | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """Return the restored images, (B, C, H, W) in [0, 1]; sides must divide by `stride`.

        The same noise gives the same images; without it, that of each image follows from its key. A method
        that samples calls `progress` after each step with how many are done, and all.
        """

    def estimate(
        self,
        batch: Batch,
        noise: Noise | None = None,
        progress: Callable[[int, int], None] | None = None,
        *,
        with_deviation: bool = True,  # noqa: ARG002
    ) -> Estimate:
        """Return the restored images and whatever else the method says of them; see `restore`.

        Without `with_deviation` the standard deviation may be left out.
        """
        return Estimate(self.restore(batch, noise, progress))

    def with_bands(self, optical: ValueRange) -> Self:
        """Return the method for images of other bands, with the same weights."""
        if optical == self.optical:
            return self
        raise ValueError(f"this method is for {', '.join(self.optical.bands)} alone")

    def collect(self, batch: Batch, share: Tensor, *, least: float = 0.0) -> Any:  # noqa: ARG002
        """Return what parts of a scene say about all of it: such results add, and have the `count` of pixels.

        Args:
            batch: with `at`.
            share: (B, 1, H, W), how much each pixel counts, so that no pixel counts twice.
            least: share of the pixels that must count, or else nothing is found: None.
        """
        return None

    def with_scene(self, collected: Any) -> Self:  # noqa: ARG002
        """Return the method for the tiles of a scene, of which `collected` is the sum over its parts."""
        return self

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms, `loss_NAME`, and whatever else is measured of a validation batch."""
        return {f"loss_{name}": value for name, value in self.loss(batch).items()}

    def measure(self, samples: Iterable[Batch]) -> None:  # noqa: B027
        """Set what a trained network keeps of its training samples: nothing, by default."""


def result_range(method: Method) -> ValueRange:
    """Return bands and value range of what the method restores: optical images, or else radar."""
    return method.optical if method.optical.bands else method.radar
