"""Ground under the cloud: each scene's own regression of its bands on what sees through clouds.

A small network judges what is clear and takes haze off; another turns radar and older dates into features;
the bands are regressed on them over the clear pixels of the scene, in closed form; what the regression misses
there is carried on smoothly; a last network adds detail and says how sure it is. All of it is differentiable.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, logsigmoid, pad, softsign

from pellucid.data.cloud_score import rise
from pellucid.data.sums import Sums
from pellucid.networks._clearness import AT, BANDS, Clear, Clearness, Seen, enlarge
from pellucid.networks._small_unet import SmallUNet

# Logarithms of variances and precisions are kept divided by this, so that they are learned as much faster.
FAST = 10.0
# Least precision of the prior, as a share of the mean of the sums: float32 sums are off by less.
ROUNDING = 1e-6
# How clear a pixel must be said to be so that it counts in the regression: not at all, and wholly.
GIVEN = (0.8, 1.0)
# Older dates are features of this size, so that one prior fits them all.
OLDER_SCALE = 4.0
# Side in pixels of the cells that carry the residual; radius in cells of the two blurs, each of which is done
# twice, and how far they reach; largest refinement.
RESIDUAL_CELL, BLURS, REACH, REFINEMENT = 8, (8, 2), 20, 0.1
# Largest logit of the share of colours without haze, as far as the standard deviation goes.
SUREST = 7.0
# Bands of an older date that the feature network sees: those that most sensors have.
SEEN = ("B02", "B03", "B04", "B08", "B11", "B12")


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        features: D, of the guides.
        widths: channels of the network of the guides at 1/2, 1/4 ... of the resolution.
        clear_widths: of the network that judges what is clear.
        detail: channels of the guides at full resolution.
        refine: channels that the network that refines sees; 0: there is none.
        refine_widths: of that network.
    """

    features: int = 40
    widths: tuple[int, ...] = (64, 96, 128, 160)
    clear_widths: tuple[int, ...] = (32, 48, 64, 96)
    detail: int = 24
    refine: int = 32
    refine_widths: tuple[int, ...] = (48, 64, 96)


class Painted(NamedTuple):
    """The ground.

    Attributes:
        image: (B, 13 + E, H, W), with residual and refinement.
        deviation: (B, 13 + E, H, W), its standard deviation.
        solved: (B, 13 + E, H, W), of the regression alone.
        confidence: (B, 1, H, W), that the ground is seen, judged by what it should look like too.
        unexplained: (B, 1, H, W), share of the variance that is the regression's own: 1 if nothing is clear.
    """

    image: Tensor
    deviation: Tensor
    solved: Tensor
    confidence: Tensor
    unexplained: Tensor


class GroundNet(nn.Module):
    """The whole network; sides must divide by `stride`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        num = len(BANDS)
        self.config = config
        self.clearness = Clearness(config.clear_widths)
        self.guides = SmallUNet(2 + 2 + len(SEEN) + 1, config.features, config.widths, detail=config.detail)
        self.stride = max(self.guides.stride, self.clearness.stride)
        # The prior: where nothing is clear, an older date stays as it is, and else the ground is of mean
        # colour but for what the features say.
        self.mean_colour = nn.Parameter(torch.full((num,), 0.15))
        self.mean_features = nn.Parameter(torch.zeros(config.features, num))
        # Of the constant without and with a date, of dates, of features.
        self.log_precision = nn.Parameter(torch.full((4,), -2.0 / FAST))
        self.log_feature_precision = nn.Parameter(torch.full((config.features,), -1.0 / FAST))
        self.log_noise = nn.Parameter(torch.full((num,), -7.0 / FAST))  # variance about the regression
        self.log_trust = nn.Parameter(torch.tensor(3.0 / FAST))  # pixels' worth of that prior of the noise
        self.log_alike = nn.Parameter(torch.tensor(3.0 / FAST))  # pixels that count as one
        self.log_spread = nn.Parameter(torch.full((2,), -3.0 / FAST))  # prior of the residual, in pixels
        width = config.refine
        if width:
            inputs = 5 * num + config.features + 4
            self.squeeze = nn.Conv2d(inputs, width, 1)
            self.refine = SmallUNet(width, 3 * num + 1, config.refine_widths)
            self.stride = max(self.stride, self.refine.stride)
            with torch.no_grad():
                for values in self.refine.widen.parameters():
                    values.zero_()

    def forward(self, seen: Seen) -> tuple[Clear, Painted]:
        """Return what is clear, and the ground as this image alone explains it."""
        clear, phi = self.look(seen)
        return clear, self.paint(seen, clear, phi, self.solve(self.sums(seen, clear, phi)))

    def look(self, seen: Seen) -> tuple[Clear, Tensor]:
        """Return what is clear, and the features phi, (B, D', H, W)."""
        return self.judge(seen), self.features(seen)[0]

    def judge(self, seen: Seen) -> Clear:
        """Return what is clear: what is said to be, and else what looks so."""
        if seen.given is None:
            return self.clearness(seen)
        given = seen.given.float()
        unknown = torch.zeros_like(seen.values)
        said, told = Clear(given, rise(given, GIVEN), seen.values, unknown), given.isfinite()
        if told.all():
            return said
        return Clear(*(torch.where(told, a, b) for a, b in zip(said, self.clearness(seen), strict=True)))

    def features(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return constants, the older date's bands and the features of the guides, (B, D', H, W).

        Without older dates there is one constant and there are none of their bands: they would be 0.
        The second tensor is a number: how far features are into saturation, 0 if none is; 0 in inference.
        """
        values = seen.values
        size = (len(values), 1, *values.shape[-2:])
        sar = values.new_full((len(values), 2, *size[2:]), torch.nan) if seen.sar is None else seen.sar
        if seen.older is None:
            dated, older = values.new_zeros(size), values.new_zeros(len(values), len(SEEN), *size[2:])
        else:
            dated = seen.older.isfinite().any(1, keepdim=True).to(values.dtype)
            older = seen.older[:, [AT[b] for b in SEEN]].nan_to_num()
        has_sar = sar.isfinite().to(values.dtype)
        inputs = [2 * sar.nan_to_num() - has_sar, has_sar, 3 * older, dated]
        raw = self.guides(torch.cat(inputs, 1)).float().mul_(4)
        excess = (raw.abs() - 1.5).clamp(min=0).square().mean() if self.training else raw.new_zeros(())
        own = raw.tanh() if self.training else raw.tanh_()
        if seen.older is None:
            return pad(own, (0, 0, 0, 0, 1, 0), value=1.0), excess  # in the layout of the features
        return torch.cat([1 - dated, dated, OLDER_SCALE * seen.older.nan_to_num(), own], 1), excess

    def sums(self, seen: Seen, clear: Clear, phi: Tensor, share: Tensor | None = None) -> tuple[Sums, Tensor]:
        """Return the sums of the regression, and each band's count, (B, C)."""
        weight = clear.worth * seen.valid
        if share is not None:
            weight = weight * share
        return Sums.over(phi, clear.colours, weight), seen.known

    def solve(self, collected: tuple[Sums, Tensor]) -> "Solution":
        """Return the ground's regression: weights, their covariance, and the noise about it."""
        sums, known = collected
        sums = sums * (-FAST * self.log_alike).exp()
        extra = sums.cross.shape[-1] - len(BANDS)
        mean, precision = self.prior(extra)
        if sums.gram.shape[-1] < len(mean):  # without older dates
            own = [0, *range(len(mean) - self.config.features, len(mean))]
            mean, precision = mean[own], precision[own]
        with torch.autocast(sums.gram.device.type, enabled=False):
            gram = sums.gram.double()
            least = ROUNDING * gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
            factor = torch.linalg.cholesky(torch.diag_embed(precision + least) + gram)
            right = (precision[:, None] * mean + sums.cross).double()
            weights = torch.cholesky_solve(right, factor).float()  # (B, D', C)
            weights = torch.where(known[:, None] > 0, weights, mean)  # a band without sums has its prior
            residual = sums.residual(weights)
            prior = self.noise(extra)
            trust = (FAST * self.log_trust).exp()
            noise = (prior * trust + residual * known) / (trust + sums.count * known)
            return Solution(weights, torch.cholesky_inverse(factor).float(), noise)

    def prior(self, extra: int) -> tuple[Tensor, Tensor]:
        """Return mean (D', C) and precision (D',) of the weights, in units of the noise."""
        num, device = len(BANDS), self.mean_colour.device
        total = num + extra
        constant = torch.cat([self.mean_colour, self.mean_colour.mean().expand(extra)])
        older = torch.eye(total, device=device) / OLDER_SCALE
        features = torch.cat(
            [self.mean_features, self.mean_features.new_zeros(len(self.mean_features), extra)], 1
        )
        mean = torch.cat([constant[None], torch.zeros(1, total, device=device), older, features])
        p = (FAST * self.log_precision).clamp(-6, 8).exp()
        precision = torch.cat(
            [p[:2], p[2].expand(total), p[3] * (FAST * self.log_feature_precision).clamp(-5, 5).exp()]
        )
        return mean, precision + 1e-3

    def noise(self, extra: int) -> Tensor:
        """Return the prior variance about the regression, (C,)."""
        log = (FAST * self.log_noise).clamp(-12, -2)
        return torch.cat([log, log.mean().expand(extra)]).exp()

    def paint(
        self,
        seen: Seen,
        clear: Clear,
        phi: Tensor,
        solution: "Solution",
        around: "Means | None" = None,
    ) -> Painted:
        """Return the ground everywhere, and where it is seen; `around` is what lies about the images."""
        with torch.autocast(phi.device.type, enabled=False):
            solved = (solution.weights.mT @ phi.flatten(2)).unflatten(2, phi.shape[-2:])
            half = avg_pool2d(phi, 2)
            spread = (solution.covariance @ half.flatten(2)).unflatten(2, half.shape[-2:])
            leverage = enlarge((spread * half).sum(1, True))
        missing = None if around is None else around.residual(solution.weights)
        cells = self.carry(clear.colours - solved, clear.worth * seen.valid, missing)
        image, confidence = solved + cells.enlarge(cells.residual, phi), clear.confidence
        noise, unexplained = solution.noise[..., None, None], leverage / (1 + leverage)
        log_variance = noise.log() + leverage.log1p()
        if not self.config.refine:
            deviation = (0.5 * log_variance).clamp(-8, 0).exp()
            return Painted(image.clamp(0, 1), deviation, solved, confidence, unexplained)
        scale = (noise.rsqrt() * seen.known[..., None, None]) * (1 + leverage).rsqrt()
        missed, gap = (seen.values - image) * scale, (clear.colours - image) * scale
        told = (torch.full_like(seen.valid, torch.nan) if seen.given is None else seen.given).isfinite()
        missed = missed.detach().masked_fill(told, 0)  # what is hidden may be anything
        gap = gap.masked_fill(told, 0)
        surer = log_variance - clear.log_variance
        judged = torch.cat([(leverage + 1e-4).log() / 4, confidence], 1)
        change, doubt, trust, sees = self._refine(
            self._squeeze(solution.weights, cells, phi, [missed, gap, surer], judged)
        )
        if extra := image.shape[1] - len(BANDS):  # bands of other sensors have no detail of their own
            change = pad(change, (0, 0, 0, 0, 0, extra))
            doubt, trust = (
                torch.cat([x, x.mean(1, keepdim=True).expand(-1, extra, -1, -1)], 1) for x in (doubt, trust)
            )
        # Two estimates of one colour, the scene's and that without haze, by their precisions.
        trust = (surer + trust).where(clear.log_variance < 0, -torch.inf)
        image = torch.lerp(image, clear.colours, trust.sigmoid()) + change * seen.known[..., None, None]
        log_variance = log_variance + logsigmoid(-trust.clamp(max=SUREST)) + doubt
        found = (confidence.clamp(1e-4, 1 - 1e-4).logit() + sees).sigmoid()
        confidence = torch.where(told, confidence, found)
        deviation = (0.5 * log_variance).clamp(-8, 0).exp()
        return Painted(image.clamp(0, 1), deviation, solved, confidence, unexplained)

    def _squeeze(
        self, weights: Tensor, cells: "Cells", phi: Tensor, compared: list[Tensor], judged: Tensor
    ) -> Tensor:
        """Return what is refined from, (B, refine, H, W).

        The layer is linear, and so is the image, 3 (W' phi + residual), in the features and in the cells:
        the layer's weights for it are multiplied with W, and the image never stands beside the features.

        Args:
            weights: W, (B, D', 13 + E), of the regression.
            cells: its residual, and how near clear pixels are.
            phi: (B, D', H, W).
            compared: three of (B, 13 + E, H, W): what is seen, and the colours without haze, less the image,
                in standard deviations; the logarithm of how much surer these colours are.
            judged: (B, 2, H, W), leverage and confidence.
        """
        num, width = len(BANDS), self.config.features
        sizes = [num, num, 3 * num, width, len(BLURS), 2]
        image, carried, seen, features, near, last = self.squeeze.weight.flatten(1).split(sizes, 1)
        with torch.autocast(phi.device.type, enabled=False):
            of_phi = 3 * image @ weights[..., :num].mT + pad(features, (phi.shape[1] - width, 0))
            told = torch.cat([cells.residual[:, :num], cells.near], 1)
            of_cells = torch.cat([3 * (image + carried), near], 1)
            told = conv2d(told, of_cells[..., None, None], self.squeeze.bias)
            told = cells.enlarge(told.contiguous(memory_format=torch.channels_last), phi)
            rest = torch.cat([*(softsign(x[:, :num] / 2) for x in compared), judged], 1)
            of_rest = torch.cat([seen, last], 1).mT.expand(len(rest), -1, -1)
            x = (phi.flatten(2).mT @ of_phi.mT).baddbmm_(rest.flatten(2).mT, of_rest)
            return x.mT.unflatten(2, phi.shape[-2:]).add_(told)  # channels last

    def _refine(self, x: Tensor) -> list[Tensor]:
        """Return changes of image, log variance, trust in the colours without haze and confidence's logit."""
        num = len(BANDS)
        change, doubt, trust, sees = self.refine(x).float().split([num, num, num, 1], 1)
        return [REFINEMENT * change.tanh(), doubt, trust, sees]

    def carry(self, residual: Tensor, weight: Tensor, around: tuple[Tensor, Tensor] | None = None) -> "Cells":
        """Return what the regression misses at clear pixels, carried under the cloud.

        Two scales, each a weighted mean with a prior of 0: 8-pixel cells blurred over about 24, then 96 px.

        Args:
            residual: (B, 13 + E, H, W).
            weight: (B, 1, H, W).
            around: mean weight, and mean residual times weight, of the cells within `REACH` of the images,
                which are 0 inside them; None: nothing is known there.
        """
        with torch.autocast(residual.device.type, enabled=False):
            parts = [_pool(weight, RESIDUAL_CELL), _pool(weight * residual, RESIDUAL_CELL)]
            if around is not None:
                parts = [
                    pad(part, 4 * (REACH,)) + outside for part, outside in zip(parts, around, strict=True)
                ]
            w, r = parts
            total, nears = torch.zeros_like(r), []
            for steps, log in zip(BLURS, FAST * self.log_spread, strict=True):
                ws, rs = _blur(w, steps), _blur(r - w * total, steps)
                total = total + rs / (ws + log.exp())
                nears.append(ws / (ws + log.exp()))
            cells = Cells(total, torch.cat(nears, 1))
            return cells if around is None else Cells(*(x[..., REACH:-REACH, REACH:-REACH] for x in cells))


class Cells(NamedTuple):
    """The residual that is carried to each cell of `RESIDUAL_CELL` pixels, and how near clear pixels are."""

    residual: Tensor  # (B, 13 + E, h, w)
    near: Tensor  # (B, 2, h, w), of both scales

    @staticmethod
    def enlarge(values: Tensor, like: Tensor) -> Tensor:
        """Return values of cells pixel by pixel, (B, K, H, W)."""
        grown = interpolate(values, scale_factor=RESIDUAL_CELL, mode="bilinear")
        return grown[..., : like.shape[-2], : like.shape[-1]]


class Means(NamedTuple):
    """Means over cells: of the weight, and of features and values times the weight."""

    weight: Tensor  # (B, 1, h, w)
    features: Tensor  # (B, D', h, w)
    values: Tensor  # (B, 13 + E, h, w)

    def residual(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight, and what a regression with weights of (B, D', 13 + E) misses, times it."""
        with torch.autocast(weights.device.type, enabled=False):
            return self.weight, self.values - torch.einsum("bdc,bdhw->bchw", weights, self.features)


class Solution(NamedTuple):
    """A scene's regression: weights (B, D', C), covariance (B, D', D') in units of `noise`, (B, C)."""

    weights: Tensor
    covariance: Tensor
    noise: Tensor


def _pool(x: Tensor, cell: int) -> Tensor:
    below, right = -x.shape[-2] % cell, -x.shape[-1] % cell
    return avg_pool2d(pad(x, (0, right, 0, below)), cell)


def _blur(x: Tensor, radius: int) -> Tensor:
    """Return the mean over a square of 2 radius + 1 cells, twice; outside is 0."""
    for _ in range(2):
        for size, padding in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
            x = avg_pool2d(x, size, stride=1, padding=padding)
    return x


def build(config: Config) -> GroundNet:
    """Return the network, in channels-last layout."""
    return GroundNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
