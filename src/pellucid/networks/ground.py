"""Ground under the cloud: each scene's own regression of its bands on what sees through clouds.

A small network judges what is clear and takes haze off; another turns radar and older dates into features;
the bands are regressed on them over the clear pixels of the scene, in closed form; what the regression misses
there is carried on smoothly; a last network adds detail and says how sure it is. All of it is differentiable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, pad

from pellucid.data.cloud_score import rise
from pellucid.data.sums import Sums
from pellucid.networks._cells import BLURS, REACH, Cells, Means, blur_cells, pool_residual
from pellucid.networks._clearness import AT, BANDS, Clear, Clearness, Seen
from pellucid.networks._looks import About, Looks, Squeezing, log_variance_of
from pellucid.networks._small_unet import SmallUNet, as_multiplied, enlarge
from pellucid.networks._strips import by_strips

# Logarithms of variances and precisions are kept divided by this, so that they are learned as much faster.
LOG_STEP = 10.0
# Least precision of the prior, as a share of the mean of the sums: float32 sums are off by less.
ROUNDING = 1e-6
# How clear a pixel must be said to be so that it counts in the regression: not at all, and wholly.
GIVEN = (0.8, 1.0)
# Older dates are features of this size, so that one prior fits them all.
OLDER_SCALE = 4.0
# Least leverage that the network that refines is told: half of the crops of its training had more. An image
# that is larger, or clearer, has less, of which it makes that all is to be painted.
LEAST_LEVERAGE = 0.3
# Largest refinement.
REFINEMENT = 0.1
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
        solved: (B, 13 + E, H, W), of the regression alone.
        confidence: (B, 1, H, W), that the ground is seen, judged by what it should look like too.
        unexplained: (B, 1, H, W), share of the variance that is the regression's own: 1 if nothing is clear.
        log_variance: returns that of the image, (B, 13 + E, H, W): many want the image alone.
    """

    image: Tensor
    solved: Tensor
    confidence: Tensor
    unexplained: Tensor
    log_variance: Callable[[], Tensor]

    @property
    def deviation(self) -> Tensor:
        """Return the standard deviation of the image, (B, 13 + E, H, W)."""
        return (0.5 * self.log_variance()).clamp(-8, 0).exp()


class GroundNet(nn.Module):
    """The whole network; sides must divide by `stride`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        num = len(BANDS)
        self.config = config
        self.clearness = Clearness(config.clear_widths)
        self.guides = SmallUNet(
            2 + 2 + len(SEEN) + 1, config.features, config.widths, detail=config.detail, beyond="replicate"
        )
        self.stride = max(self.guides.stride, self.clearness.stride)
        # The prior: where nothing is clear, an older date stays as it is, and else the ground is of mean
        # colour but for what the features say.
        self.mean_colour = nn.Parameter(torch.full((num,), 0.15))
        self.mean_features = nn.Parameter(torch.zeros(config.features, num))
        # Of the constant without and with a date, of dates, of features.
        self.log_precision = nn.Parameter(torch.full((4,), -2.0 / LOG_STEP))
        self.log_feature_precision = nn.Parameter(torch.full((config.features,), -1.0 / LOG_STEP))
        self.log_noise = nn.Parameter(torch.full((num,), -7.0 / LOG_STEP))  # variance about the regression
        # Pixels' worth of that prior of the noise.
        self.log_trust = nn.Parameter(torch.tensor(3.0 / LOG_STEP))
        self.log_alike = nn.Parameter(torch.tensor(3.0 / LOG_STEP))  # pixels that count as one
        self.log_spread = nn.Parameter(torch.full((2,), -3.0 / LOG_STEP))  # prior of the residual, in pixels
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
        return said.where(told, self.clearness(seen))

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
            older = torch.stack([seen.older[:, AT[band]] for band in SEEN], 1).nan_to_num()
        has_sar = sar.isfinite().to(values.dtype)
        inputs = [2 * sar.nan_to_num() - has_sar, has_sar, 3 * older, dated]
        raw = self.guides(as_multiplied(torch.cat(inputs, 1)))
        excess = values.new_zeros(())
        if self.training:
            excess = (4 * raw.float().abs() - 1.5).clamp(min=0).square().mean()
        if seen.older is None:
            return by_strips(_with_constant, raw)[0], excess
        return torch.cat([1 - dated, dated, OLDER_SCALE * seen.older.nan_to_num(), _bounded(raw)], 1), excess

    def sums(self, seen: Seen, clear: Clear, phi: Tensor) -> tuple[Sums, Tensor]:
        """Return the sums of the regression, and each band's count, (B, C)."""
        return Sums.over(phi, clear.colours, clear.worth * seen.valid), seen.known

    def solve(self, collected: tuple[Sums, Tensor], twins: Sequence[int] = ()) -> "Solution":
        """Return the ground's regression: weights, their covariance, and the noise about it.

        `twins` are the channels whose priors those beyond the 13 have; -1, or none: the mean of all.
        """
        sums, known = collected
        sums = sums * (-LOG_STEP * self.log_alike).exp()
        extra = sums.cross.shape[-1] - len(BANDS)
        twins = tuple(twins) or extra * (-1,)
        mean, precision = self.prior(twins)
        if sums.gram.shape[-1] < len(mean):  # without older dates
            own = self.config.features  # no list of indices, which would have to come to a GPU
            mean, precision = (torch.cat([values[:1], values[-own:]]) for values in (mean, precision))
        with torch.autocast(sums.gram.device.type, enabled=False):
            gram = sums.gram.double()
            least = ROUNDING * gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
            factor = torch.linalg.cholesky(torch.diag_embed(precision + least) + gram)
            right = (precision[:, None] * mean + sums.cross).double()
            weights = torch.cholesky_solve(right, factor).float()  # (B, D', C)
            weights = torch.where(known[:, None] > 0, weights, mean)  # a band without sums has its prior
            residual = sums.residual(weights)
            prior = self.noise(twins)
            trust = (LOG_STEP * self.log_trust).exp()
            noise = (prior * trust + residual * known) / (trust + sums.count * known)
            return Solution(weights, torch.cholesky_inverse(factor).float(), noise)

    def prior(self, twins: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return mean (D', C) and precision (D',) of the weights, in units of the noise."""
        total, device = len(BANDS) + len(twins), self.mean_colour.device
        constant = _with_twins(self.mean_colour, twins, self.mean_colour.mean())
        older = torch.eye(total, device=device) / OLDER_SCALE
        features = _with_twins(self.mean_features, twins, self.mean_features.new_zeros(()))
        mean = torch.cat([constant[None], torch.zeros(1, total, device=device), older, features])
        p = (LOG_STEP * self.log_precision).clamp(-6, 8).exp()
        precision = torch.cat(
            [p[:2], p[2].expand(total), p[3] * (LOG_STEP * self.log_feature_precision).clamp(-5, 5).exp()]
        )
        return mean, precision + 1e-3

    def noise(self, twins: Sequence[int]) -> Tensor:
        """Return the prior variance about the regression, (C,)."""
        log = (LOG_STEP * self.log_noise).clamp(-12, -2)
        return _with_twins(log, twins, log.mean()).exp()

    def paint(
        self,
        seen: Seen,
        clear: Clear,
        phi: Tensor,
        solution: "Solution",
        around: Means | None = None,
    ) -> Painted:
        """Return the ground everywhere, and where it is seen; `around` is what lies about the images."""
        with torch.autocast(phi.device.type, enabled=False):
            solved = (solution.weights.mT @ phi.flatten(2)).unflatten(2, phi.shape[-2:])
            half = avg_pool2d(phi, 2)
            flat = half.flatten(2).mT  # (B, H W / 4, D')
            leverage = ((flat @ solution.covariance) * flat).sum(2).unflatten(1, half.shape[-2:])
            leverage = enlarge(leverage[:, None])
            pooled = by_strips(pool_residual, clear.colours, solved, clear.worth * seen.valid)
        missing = None if around is None else around.residual(solution.weights)
        cells = self._carry(pooled, missing)
        carried, unexplained = cells.enlarge(cells.residual, phi), leverage / (1 + leverage)
        noise = solution.noise[..., None, None]
        if not self.config.refine:
            image = (solved + carried).clamp(0, 1)
            return Painted(
                image, solved, clear.confidence, unexplained, lambda: noise.log() + leverage.log1p()
            )
        hazeless = (clear.colours, clear.log_variance, clear.confidence)
        looks = Looks(solved, carried, leverage, seen.values, *hazeless, seen.given)
        about = About(noise, seen.known[..., None, None])
        squeeze = self._squeeze(solution.weights, cells, phi)
        compare = partial(self._compare, squeeze=squeeze, about=about)
        changes = self.refine(by_strips(compare, phi, cells.enlarge(squeeze.of_cells, phi), *looks)[0])
        image, confidence = by_strips(partial(self._finish, about=about), changes, *looks)
        judge = partial(log_variance_of, about=about)
        return Painted(image, solved, confidence, unexplained, lambda: by_strips(judge, changes, *looks)[0])

    def _squeeze(self, weights: Tensor, cells: Cells, phi: Tensor) -> Squeezing:
        """Return the layer before the network that refines, for a regression with weights (B, D', 13 + E).

        The layer is linear, and so is the image, 3 (W' phi + residual), in the features and in the cells:
        the layer's weights for it are multiplied with W, and the image never stands beside the features.
        """
        num, width = len(BANDS), self.config.features
        sizes = [num, num, 3 * num, width, len(BLURS), 2]
        image, carried, seen, features, near, last = self.squeeze.weight.flatten(1).split(sizes, 1)
        with torch.autocast(phi.device.type, enabled=False):
            of_phi = 3 * image @ weights[..., :num].mT + pad(features, (phi.shape[1] - width, 0))
            told = torch.cat([cells.residual[:, :num], cells.near], 1)
            of_cells = torch.cat([3 * (image + carried), near], 1)
            told = conv2d(told, of_cells[..., None, None], self.squeeze.bias)
            told = told.contiguous(memory_format=torch.channels_last)
            return Squeezing(of_phi.mT, told, torch.cat([seen, last], 1).mT)

    def _compare(
        self, phi: Tensor, told: Tensor, *looks: Any, squeeze: Squeezing, about: About
    ) -> tuple[Tensor]:
        """Return what is refined from, (B, refine, H, W), channels last; `looks` are fields of `Looks`.

        Beside features and cells it is what is seen, and the colours without haze, less the image, in
        standard deviations; the logarithm of how much surer these colours are; leverage and confidence.
        """
        num, x = len(BANDS), Looks(*looks)
        with torch.autocast(phi.device.type, enabled=False):
            image = x.solved + x.carried
            scale = (about.noise.rsqrt() * about.known) * (1 + x.leverage).rsqrt()
            missed, gap = ((x.values - image) * scale).detach(), (x.colours - image) * scale
            if x.given is not None:  # what is hidden may be anything
                missed, gap = (each.masked_fill(x.given.isfinite(), 0) for each in (missed, gap))
            parts = (each[:, :num] for each in (missed, gap, x.surer(about)))
            compared = [each / (2 + each.abs()) for each in parts]
            judged = [x.leverage.clamp(min=LEAST_LEVERAGE).log() / 4, x.confidence]
            rest = torch.cat([*compared, *judged], 1).flatten(2).mT
            mixed = (phi.flatten(2).mT @ squeeze.of_phi).baddbmm_(
                rest, squeeze.of_rest.expand(len(rest), -1, -1)
            )
            mixed = mixed.mT.unflatten(2, phi.shape[-2:]).add_(told)
        return (as_multiplied(mixed),)

    def _finish(self, changes: Tensor, *looks: Any, about: About) -> tuple[Tensor, Tensor]:
        """Return image and confidence, of which the network that refines has given the `changes`."""
        num, x = len(BANDS), Looks(*looks)
        image = x.solved + x.carried
        change = REFINEMENT * _tanh(changes[:, :num].float().contiguous())
        if extra := image.shape[1] - num:  # bands of other sensors have no detail of their own
            change = pad(change, (0, 0, 0, 0, 0, extra))
        # Two estimates of one colour, the scene's and that without haze, by their precisions.
        trust = x.trust(changes, about).sigmoid()
        image = torch.lerp(image, x.colours, trust) + change * about.known
        found = (x.confidence.clamp(1e-4, 1 - 1e-4).logit() + changes[:, 3 * num :]).sigmoid()
        if x.given is not None:
            found = torch.where(x.given.isfinite(), x.confidence, found)
        return image.clamp(0, 1), found

    def carry(self, residual: Tensor, weight: Tensor, around: tuple[Tensor, Tensor] | None = None) -> Cells:
        """Return what the regression misses at clear pixels, carried under the cloud.

        Two scales, each a weighted mean with a prior of 0: 8-pixel cells blurred over about 24, then 96 px.

        Args:
            residual: (B, 13 + E, H, W).
            weight: (B, 1, H, W).
            around: mean weight, and mean residual times weight, of the cells within `REACH` of the images,
                which are 0 inside them; None: nothing is known there.
        """
        with torch.autocast(residual.device.type, enabled=False):
            return self._carry(pool_residual(residual, torch.zeros_like(residual), weight), around)

    def _carry(self, parts: tuple[Tensor, ...], around: tuple[Tensor, Tensor] | None) -> Cells:
        """Do the same for means over the cells of the weight, and of the residual times it."""
        with torch.autocast(parts[0].device.type, enabled=False):
            if around is not None:
                pairs = zip(parts, around, strict=True)
                parts = tuple(pad(part, 4 * (REACH,)) + outside for part, outside in pairs)
            w, r = parts
            total, nears = torch.zeros_like(r), []
            for steps, log in zip(BLURS, LOG_STEP * self.log_spread, strict=True):
                ws, rs = blur_cells(w, steps), blur_cells(r - w * total, steps)
                total = total + rs / (ws + log.exp())
                nears.append(ws / (ws + log.exp()))
            cells = Cells(total, torch.cat(nears, 1))
            return cells if around is None else Cells(*(x[..., REACH:-REACH, REACH:-REACH] for x in cells))


class Solution(NamedTuple):
    """A scene's regression: weights (B, D', C), covariance (B, D', D') in units of `noise`, (B, C)."""

    weights: Tensor
    covariance: Tensor
    noise: Tensor


def _with_twins(values: Tensor, twins: Sequence[int], other: Tensor) -> Tensor:
    """Return values of the 13 bands, (..., 13), and those of twins, or another where there is none."""
    more = [values[..., i] if i >= 0 else other.expand(values.shape[:-1]) for i in twins]
    return torch.cat([values, torch.stack(more, -1)], -1) if more else values


def _with_constant(raw: Tensor) -> tuple[Tensor]:
    """Return features, (B, D, H, W), in their layout, from what the network gives of them, behind a 1."""
    return (pad(_bounded(raw), (0, 0, 0, 0, 1, 0), value=1.0),)


def _bounded(raw: Tensor) -> Tensor:
    """Return tanh(4 x) of what the network gives."""
    return _tanh(4 * raw)


def _tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent in float32, as its logistic twin: a third of the time on a CPU."""
    made = (2 * x).float().sigmoid()
    return torch.add(made.new_full((), -1.0), made, alpha=2)


def build(config: Config) -> GroundNet:
    """Return the network, in channels-last layout."""
    return GroundNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
