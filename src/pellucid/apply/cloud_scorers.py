"""Cloud probability from reflectance, by a model, s2cloudless or a score; and masks from probabilities."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, convolve
from torch import Tensor
from torch.nn.functional import pad

from pellucid.apply.options import ScorerName
from pellucid.data.batch import Batch
from pellucid.data.cloud_score import NEEDED, REACH_PX, cloud_score
from pellucid.data.ranges import SENTINEL2
from pellucid.errors import InputError, is_out_of_memory
from pellucid.methods.ground import Ground
from pellucid.methods.method import Method

# The bands on which s2cloudless was trained (its MODEL_BAND_IDS). Level 1C.
MODEL_BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")
# In a mask: no data.
NO_DATA = 255


@dataclass(frozen=True)
class BuiltIn:
    """`cloud_score`: clouds, haze, cirrus and their shadows, from the bands that there are."""

    # Bands that a scene may lack; pixels around a place on which its probability depends.
    optional: tuple[str, ...] = tuple(band for band in SENTINEL2.bands if band not in NEEDED)
    reach_px: int = REACH_PX

    def __call__(self, reflectance: Tensor, valid: Tensor, bands: tuple[str, ...]) -> NDArray[np.float32]:
        """Return (H, W) in [0, 1] of (C, H, W), not clipped, and (1, H, W) bool; 0 where there is no data."""
        return (cloud_score(reflectance.clamp(0, 1), bands) * valid)[0].numpy()


@dataclass(frozen=True)
class Learned:
    """What `ground` judges by looks alone: clouds, haze and shadows, from the bands that there are."""

    method: Ground
    optional: tuple[str, ...] = tuple(band for band in SENTINEL2.bands if band not in NEEDED)
    reach_px: int = 64  # beyond it, little matters

    def __call__(self, reflectance: Tensor, valid: Tensor, bands: tuple[str, ...]) -> NDArray[np.float32]:
        """Return (H, W) in [0, 1] of (C, H, W), not clipped, and (1, H, W) bool; 0 where there is no data."""
        height, width = valid.shape[-2:]
        below, right = -height % self.method.stride, -width % self.method.stride
        image, known = (pad(x[None], (0, right, 0, below)) for x in (reflectance.clamp(0, 1), valid))
        method = self.method.with_bands(SENTINEL2.select(bands))
        found = method.cloud_probability(Batch(degraded=image * known, valid=known, key=("scene",)))
        return found[0, 0, :height, :width].numpy()


@dataclass(frozen=True)
class S2Cloudless:
    """The gradient-boosted trees of s2cloudless, pixel by pixel; they do not detect shadows.

    Zupanc, Improving cloud detection with machine learning, 2017; the model is under CC BY-SA 4.0.
    """

    threads: int = 0  # as many as OpenMP likes
    optional: tuple[str, ...] = ()
    reach_px: int = 0

    def __post_init__(self) -> None:
        _ = self.detectors

    def __call__(self, reflectance: Tensor, valid: Tensor, bands: tuple[str, ...]) -> NDArray[np.float32]:
        """Return (H, W) in [0, 1] from the 13 bands or the 10 of `MODEL_BANDS`, in this order."""
        inside = valid[0].numpy()
        found = np.zeros(inside.shape, np.float32)
        if inside.any():
            pixels = reflectance.numpy()[:, inside].T[None, None]  # (1, 1, pixels, C)
            detector = self.detectors[len(bands)]
            options = {"num_threads": self.threads} if self.threads else {}
            found[inside] = detector.get_cloud_probability_maps(pixels, **options)[0, 0].clip(0, 1)
        return found

    @cached_property
    def detectors(self) -> dict[int, Any]:
        """The detector for scenes of 13 and the one for scenes of 10 bands."""
        try:
            from s2cloudless.cloud_detector import S2PixelCloudDetector
        except ImportError as error:
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"s2cloudless is not installed ({error}), pip install 'pellucid[clouds]' or use the model "
                "that ships, --scorer ground"
            ) from error
        return {13: S2PixelCloudDetector(all_bands=True), 10: S2PixelCloudDetector(all_bands=False)}


Scorer = BuiltIn | Learned | S2Cloudless


def find_scorer(name: ScorerName, *, threads: int = 0, method: Method | None = None) -> Scorer:
    """Return the scorer of that name, if it is installed.

    Args:
        name: of the scorer.
        threads: that s2cloudless may use, 0 for all.
        method: of the scorer "ground".
    """
    if name == "s2cloudless":
        return S2Cloudless(threads)
    if name == "built-in":
        return BuiltIn()
    if not isinstance(method, Ground):
        raise InputError(
            "the scorer ground needs a model of ground, such as pellucid.load('ground'); give one, or choose "
            "another scorer"
        )
    return Learned(method)


def find_origin(name: ScorerName, method: Method | None = None) -> tuple[str, str | None]:
    """Return name and version of a scorer, and the digest of its weights if it has some of ours."""
    if name == "s2cloudless":
        with suppress(PackageNotFoundError):
            return f"{name} {version(name)}", None
        return name, None
    if name == "built-in":
        return "pellucid cloud_score", None
    return "pellucid ground", method.origin[1] if method and method.origin else None


def disk(radius: int) -> NDArray[np.uint8]:
    """Return (2 radius + 1, 2 radius + 1): 1 at and within the radius, in pixels, else 0."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x**2 + y**2 <= radius**2).astype(np.uint8)


def to_mask(
    probability: NDArray[np.float32], *, threshold: float = 0.4, average_over: int = 4, dilation_size: int = 2
) -> NDArray[np.uint8]:
    """Return (H, W): 1 where the probability, averaged over a disk, exceeds the threshold, and near it; or 0.

    As `S2PixelCloudDetector.get_mask_from_prob`; where the probability is NaN there is `NO_DATA`, which no
    mean counts. It is mirrored at the edges. Radii of averaging and of growth are in pixels; 0 for neither.
    """
    known = np.isfinite(probability)
    mean = np.where(known, probability, 0).astype(np.float64)
    if average_over:
        weights = disk(average_over).astype(np.float64)
        count = weights.sum() if known.all() else convolve(known.astype(np.float64), weights)
        mean = convolve(mean, weights) / np.maximum(count, 1)
    cloudy = (mean > threshold) & known
    if dilation_size:
        cloudy = binary_dilation(cloudy, disk(dilation_size))
    return np.where(known, cloudy, NO_DATA).astype(np.uint8)
