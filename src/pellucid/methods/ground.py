"""Ground under the cloud: each scene explains itself, through radar and older dates.

See networks/ground.py for the model. It is trained end to end: parts of clear scenes are hidden, which needs
no picture of a cloud, then simulated and real clouds are to be found and taken off as well.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Self

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.cloud_score import NEEDED, cloud_score, rise, widen
from pellucid.data.ranges import SENTINEL1, SENTINEL2, ValueRange
from pellucid.data.schema import Strict
from pellucid.errors import InputError
from pellucid.generative.noise import Noise
from pellucid.losses._reduce import gaussian_likelihood
from pellucid.methods.ground_loss import (
    cross_entropy,
    is_hidden,
    lack_bands,
    log_error,
    mean_error,
    mean_over,
)
from pellucid.methods.method import Estimate, Method
from pellucid.methods.scene_sums import SceneSums, cells_of, sum_cell
from pellucid.methods.seen_bands import place
from pellucid.networks._clearness import BANDS, SURE, Clear, Seen
from pellucid.networks._detail import add_detail
from pellucid.networks.ground import GroundNet, Painted, Solution

# Confidence between which pixels come to pass through unchanged. Chosen on places kept from training, under
# simulated and real clouds and with none: (0.2, 0.6) changes 4 % in place of 5 % of the pixels of clear
# scenes and has 0.02 dB less under clouds, (0.3, 0.8) changes 8 % and has 0.02 dB more.
KEPT = (0.25, 0.7)
# Standard deviation of a colour without haze that counts half, in the regression and in the detail that
# shines through. Chosen on the same places, by eye too: a larger one keeps more of villages under thin cloud,
# and more of the thin cloud.
KNOWN_COLOUR = 0.015
# Confidence between which a pixel comes to count wholly in the regression, with the colour that is seen, and
# what one of unknown colour counts at least. Chosen on the same places, two real validation patches and real
# pairs of the training: without it few bright pixels counted.
COUNTS, LEAST_SURE = (0.6, 0.95), 0.3
# Mean worth of an image below which it is doubted in proportion. Chosen on the same places and patches:
# without it simulated overcast gains 0.3 dB and real overcast loses 0.7.
ENOUGH = 0.03
# Pixels around what the built-in score calls cloud or shadow that are doubted too.
DOUBT_PX = 4
# What is taken off the logit of what hides the ground, so that 0.5 is half hidden: chosen on training places.
HALF_HIDDEN = 2.6
# Mean squared error of clear pixels below which both images of a sample are of one day.
SAME_DAY = 1e-3
# Cloud probability from which a pixel of a training image counts as cloudy, and below which as clear.
CLOUDY, SURELY_CLEAR = 0.5, 0.05


class GroundConfig(Strict):
    """Every scene solves for its own ground; `losses` stays empty, the weights of the terms are here."""

    name: Literal["ground"] = "ground"
    optical: tuple[str, ...] = SENTINEL2.bands
    """Bands of Sentinel-2 for which priors are learned."""
    radar: tuple[str, ...] = SENTINEL1.bands
    """Polarisations, in the order of the channels."""
    drop_bands: float = Field(0.35, ge=0, le=1)
    """Probability of training a sample with fewer bands."""
    painted: float = Field(1.0, ge=0)
    """Weight of the logarithm of the squared error of what is painted, over cloudy pixels."""
    solved: float = Field(0.2, ge=0)
    """Weight of the same of the regression alone, before residual and refinement."""
    restored: float = Field(1.0, ge=0)
    """Weight of the same of the result, over all pixels."""
    cloudy: float = Field(0.5, ge=0)
    """Weight of the same of the result, over cloudy pixels."""
    clear: float = Field(0.25, ge=0)
    """Weight of the same of the result, over pixels that surely are clear: they are to stay as they are."""
    clearness: float = Field(0.5, ge=0)
    """Weight of the cross entropy of what counts as clear, over pixels that surely are, or surely are not."""
    haze: float = Field(0.5, ge=0)
    """Weight of the Gaussian likelihood of the colours without haze."""
    deviation: float = Field(0.1, ge=0)
    """Weight of the Gaussian likelihood of the error, which trains the standard deviation alone."""
    bounded: float = Field(0.05, ge=0)
    """Weight that keeps the features from saturating."""
    deviation_factors: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    """What the standard deviation is multiplied by, so that it holds on places kept from training: where the
    scene explains the ground, and where the prior alone does; between, by the square of the prior's share."""


class Ground(Method):
    """The method of ground under the cloud.

    Args:
        network: `GroundNet`.
        config: of the method.
        optical: bands and value range of the images.
        radar: polarisations and value range of the backscatter.
    """

    any_bands = takes_older = finds_clouds = gives_deviation = any_tile = prefers_bf16 = True
    tile = 384
    # Tiles agree without more: 64 px and 16 have the same PSNR within 0.003 dB.
    overlap = 32

    def __init__(
        self, network: GroundNet, config: GroundConfig, *, optical: ValueRange, radar: ValueRange
    ) -> None:
        self.network: GroundNet = network
        self.config, self.optical, self.radar = config, optical, radar
        self.stride = network.stride
        self.scene: SceneSums | None = None

    def with_bands(self, optical: ValueRange) -> Self:
        """Return the method for images of other bands, of whatever sensor, with the same weights."""
        other = copy.copy(self)
        other.optical, other.mean_spectrum = optical, None
        if self.mean_spectrum is not None and set(optical.bands) <= set(self.optical.bands):
            known = dict(zip(self.optical.bands, self.mean_spectrum, strict=True))
            other.mean_spectrum = tuple(known[band] for band in optical.bands)
        return other

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return each term times its weight, and their sum as `total`.

        A sample whose hidden pixels are 0 is told what is clear; of others the network finds out.
        """
        is_told = is_hidden(batch)
        target = self._spread(
            lack_bands(batch.reference(), self.optical.bands, self.config.drop_bands, generator)
        )
        known = target.isfinite().flatten(2).any(2)
        seen = self._see(batch, known)
        if batch.cloud is not None:
            seen = seen._replace(given=(1 - batch.cloud).where(is_told[:, None, None, None], torch.nan))
        shown = batch.degraded.where(known[:, self.channels(), None, None], torch.nan)
        clear = self._judge(replace(batch, degraded=shown), seen)
        features, size = self.network.features(seen)
        solution = self.network.solve(self.network.sums(seen, clear, features))
        painted = self.network.paint(seen, clear, features, solution)
        terms = self._terms(batch, target, seen, clear, painted, is_told)
        terms["bounded"] = self.config.bounded * size
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def _terms(
        self, batch: Batch, target: Tensor, seen: Seen, clear: Clear, painted: Painted, is_told: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms that compare images, each times its weight."""
        config, known = self.config, target.isfinite() & batch.valid
        cloud = batch.valid.float() if batch.cloud is None else batch.cloud.nan_to_num(nan=1.0)
        cloudy, is_clear = (cloud > CLOUDY) & batch.valid, cloud < SURELY_CLEAR
        truth = target.nan_to_num()
        detailed = add_detail(clear.colours, painted.image, _sureness(seen, clear) * seen.valid)
        restored = torch.lerp(detailed, seen.values, rise(painted.confidence, KEPT))
        found = (~is_told).float()
        same_day = found * (mean_error(seen.values, truth, known & is_clear) < SAME_DAY)
        terms = {
            "painted": config.painted * log_error(painted.image, truth, known & cloudy),
            "solved": config.solved * log_error(painted.solved, truth, known & cloudy),
            "restored": config.restored * log_error(restored, truth, known, found),
            "cloudy": config.cloudy * log_error(restored, truth, known & cloudy, found),
            "clear": config.clear * log_error(restored, truth, known & is_clear, same_day),
        }
        told = is_told[:, None, None, None]
        sure = (is_clear | cloudy) & batch.valid & ~told
        terms["clearness"] = config.clearness * cross_entropy(painted.confidence, is_clear.float(), sure)
        error = (clear.colours - truth).square()
        terms["haze"] = config.haze * mean_over(gaussian_likelihood(error, clear.log_variance), known & ~told)
        weight = known * (1 - rise(painted.confidence.detach(), SURE))
        likelihood = gaussian_likelihood((detailed.detach() - truth).square(), 2 * painted.deviation.log())
        terms["deviation"] = config.deviation * mean_over(likelihood, weight)
        return terms

    @torch.no_grad()
    def restore(
        self,
        batch: Batch,
        noise: Noise | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Return the restored images, (B, C, H, W) in [0, 1]; sides must divide by `stride`."""
        return self.estimate(batch, noise, progress, with_deviation=False).image

    @torch.no_grad()
    def estimate(
        self,
        batch: Batch,
        noise: Noise | None = None,  # noqa: ARG002
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
        *,
        with_deviation: bool = True,
    ) -> Estimate:
        """Return the restored images, their standard deviation, and how much of each pixel is replaced.

        A cloud map of the batch, where there is one, says what is clear.
        """
        seen, clear, _, _, painted = self.inside(batch)
        keep = rise(painted.confidence, KEPT)
        looks, values = (clear.colours, painted.image, _sureness(seen, clear) * seen.valid), seen.values
        if not with_deviation:
            return Estimate(self._own(add_detail(*looks, keep, values)), None, 1 - keep)
        detailed = add_detail(*looks)
        image = self._own(detailed.lerp(values, keep))
        seen_alike, unseen = self.config.deviation_factors
        factor = seen_alike + (unseen - seen_alike) * painted.unexplained**2
        # The ground is what is seen as likely as that is clear, or else what is painted, give or take.
        missing, likely = values - detailed, rise(painted.confidence, (0, SURE[1]))
        lost = (1 - likely) * ((keep * missing).square() + (factor * painted.deviation).square())
        deviation = (lost + likely * ((1 - keep) * missing).square()).sqrt()
        return Estimate(image, self._own(deviation), 1 - keep)

    @torch.no_grad()
    def cloud_probability(self, batch: Batch) -> Tensor:
        """Return how likely cloud, haze or shadow hides the ground, by its looks alone, (B, 1, H, W)."""
        hidden = 1 - self.network.judge(self._seen(replace(batch, cloud=None))).confidence
        return (hidden.clamp(1e-4, 1 - 1e-4).logit() - HALF_HIDDEN).sigmoid() * batch.valid

    @torch.no_grad()
    def inside(self, batch: Batch) -> tuple[Seen, Clear, Tensor, Solution, Painted]:
        """Return what the network sees, what is clear, the features, the regression and the ground."""
        seen = self._seen(batch)
        clear, features = self._judge(batch, seen), self.network.features(seen)[0]
        solution = self._solution(batch, seen, clear, features)
        around = self.scene.around_tiles(batch, features.shape[1]) if self.scene else None
        return seen, clear, features, solution, self.network.paint(seen, clear, features, solution, around)

    @torch.no_grad()
    def collect(self, batch: Batch, share: Tensor, *, least: float = 0.0) -> SceneSums | None:
        """Return the sums of the cells in which the tiles lie; see `Method.collect`."""
        seen = self._seen(batch)
        clear = self._judge(batch, seen)
        weight = clear.worth * seen.valid * share
        if least and float(weight.sum()) < least * float(share.sum()):
            return None
        collected, features = SceneSums({}), self.network.features(seen)[0]
        for i, (top, left) in enumerate(batch.at or ((0, 0),) * len(batch)):
            for at, (rows, columns) in cells_of(top, left, *share.shape[-2:]):

                def cut(x: Tensor, i: int = i, ys: slice = rows, xs: slice = columns) -> Tensor:
                    return x[i : i + 1, :, ys, xs]

                if not cut(share).any():
                    continue
                sums, means = sum_cell(
                    *(cut(x) for x in (features, clear.colours, weight)),
                    top=top + rows.start,
                    left=left + columns.start,
                )
                collected = collected + SceneSums({at: (sums, seen.known[i : i + 1])}, {at: means})
        return collected

    def with_scene(self, collected: SceneSums) -> Self:
        """Return the method for the tiles of a scene."""
        if collected.count < 1 and not set(self.optical.bands) <= set(BANDS):
            unknown = ", ".join(band for band in self.optical.bands if band not in BANDS)
            raise InputError(
                f"the scene shows no clear ground, and the model knows no usual colours of {unknown}; give a "
                "scene that is clear in part, or a larger one"
            )
        other = copy.copy(self)
        other.scene = collected
        return other

    def _judge(self, batch: Batch, seen: Seen) -> Clear:
        """Return what is clear; what the built-in score calls cloud is not trusted either.

        The network has seen few real clouds. What counts in the regression is worth much, confidently clear
        (what is worth much alone leaves out dark water), and of known colour; what surely is clear counts
        wholly. Where next to nothing seems clear, what does is mostly thin cloud, and the prior is trusted
        more.
        """
        clear = self.network.judge(seen)
        if seen.given is not None and seen.given.isfinite().all():
            return clear
        trust = 1 - widen(cloud_score(batch.degraded, self.optical.bands), DOUBT_PX)
        confidence = clear.confidence * trust
        known = LEAST_SURE + (1 - LEAST_SURE) * _sureness(seen, clear)
        worth = (clear.worth * trust + confidence) / 2 * known
        counts = rise(confidence, COUNTS)
        worth = torch.maximum(worth, counts)
        share = (worth * seen.valid).mean((1, 2, 3), keepdim=True) / ENOUGH
        doubted = clear._replace(
            confidence=confidence,
            worth=worth * share.clamp(max=1),
            colours=torch.lerp(clear.colours, seen.values, counts),
        )
        return doubted if seen.given is None else clear.where(seen.given.isfinite(), doubted)

    def _solution(self, batch: Batch, seen: Seen, clear: Clear, features: Tensor) -> Solution:
        """Return the regression of each image, or of where each tile lies in its scene."""
        net, twins = self.network, place(self.optical.bands).twins
        if self.scene is None or not self.scene.cells:
            return net.solve(net.sums(seen, clear, features), twins)
        height, width = features.shape[-2:]
        parts = [
            net.solve(self.scene.near(top + height / 2, left + width / 2), twins)
            for top, left in batch.at or ((0, 0),) * len(batch)
        ]
        return Solution(*(torch.cat(list(values)) for values in zip(*parts, strict=True)))

    def _seen(self, batch: Batch) -> Seen:
        known = self._known(batch.degraded)
        seen = self._see(batch, known)
        if batch.cloud is None or not batch.cloud.isfinite().all():
            if not NEEDED.issubset(self.optical.bands):
                raise InputError(
                    f"clouds cannot be found in {', '.join(self.optical.bands)} alone (B02 and B04 are "
                    "needed); give a cloud map with --cloud"
                )
            return seen
        return seen._replace(given=1 - batch.cloud)

    def _see(self, batch: Batch, known: Tensor) -> Seen:
        """Return what the network sees of images of which `known`, (B, C'), names the bands."""
        values = self._spread(batch.degraded)
        if not (known.all() and values.sum().isfinite()):
            values = values.nan_to_num() * known[..., None, None]
        older = None
        if batch.older is not None:
            older = self._spread(batch.older).where(known[..., None, None], torch.nan)
        return Seen(values, known.float(), batch.valid.float(), batch.sar, older)

    def _known(self, image: Tensor) -> Tensor:
        """Return which channels of the network (B, C, H, W) has in any pixel, (B, C') bool."""
        sums = image.sum((2, 3))  # faster than to look at each value, and most images have all
        known = sums.isfinite() if sums.isfinite().all() else image.isfinite().flatten(2).any(2)
        flags = torch.where(known, 1.0, torch.nan)  # a mean of bands is known where all of them are
        return self._spread(flags[..., None, None])[..., 0, 0].isfinite()

    def _own(self, values: Tensor) -> Tensor:
        """Return the bands of the images out of the channels of the network, (B, C, H, W)."""
        return values if self.optical.bands == BANDS else values[:, self.channels()]

    def _spread(self, image: Tensor) -> Tensor:
        """Return (B, C, H, W) as the channels of the network: NaN where a band is missing."""
        if self.optical.bands == BANDS:
            return image
        where = place(self.optical.bands)
        size = (len(image), len(BANDS) + len(where.twins), *image.shape[-2:])
        result = image.new_full(size, torch.nan)
        result[:, where.channels] = image
        for channel, shares in where.filled.items():
            result[:, channel] = torch.stack([share * result[:, i] for i, share in shares.items()]).sum(0)
        return result

    def channels(self) -> list[int]:
        """Return the network's channel of each band."""
        return list(place(self.optical.bands).channels)


def _sureness(seen: Seen, clear: Clear) -> Tensor:
    """Return how sure the colours without haze are, (B, 1, H, W): 0.5 at `KNOWN_COLOUR`, 0 if unknown."""
    count = seen.known.sum(1)[:, None, None, None]
    log_variance = clear.log_variance.sum(1, keepdim=True) / count  # that of an unknown band is 0
    return (2 * math.log(KNOWN_COLOUR) - log_variance).sigmoid() * (log_variance < 0)
