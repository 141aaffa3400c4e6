"""Ground under the cloud: each scene's own regression of its bands on what sees through clouds.

A small network judges what is clear and takes haze off; another turns radar and older dates into features;
the bands are regressed on them over the clear pixels of the scene, in closed form; what the regression misses
there is carried on smoothly; a last network adds detail and says how sure it is. All of it is differentiable.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, silu, softplus, softsign

from pellucid.data.cloud_score import rise
from pellucid.data.ranges import SENTINEL2
from pellucid.data.sums import Sums
from pellucid.networks._small_unet import SmallUNet

BANDS = SENTINEL2.bands
AT = {name: i for i, name in enumerate(BANDS)}
# Centres of the bands (Sentinel-2 product specification).
WAVELENGTHS_UM = (0.443, 0.492, 0.560, 0.665, 0.704, 0.741, 0.783, 0.833, 0.865, 0.945, 1.374, 1.610, 2.190)
# Share of the ground's light that haze may hide and be taken off again.
MOST_HIDDEN = 0.8
# Confidence between which pixels come to pass through unchanged.
SURE = (0.85, 0.97)
# Logarithms of variances and precisions are kept divided by this, so that they are learned as much faster.
FAST = 10.0
# Least precision of the prior, as a share of the mean of the sums: float32 sums are off by less.
ROUNDING = 1e-6
# How clear a pixel must be said to be so that it counts in the regression: not at all, and wholly.
GIVEN = (0.8, 1.0)
# Older dates are features of this size, so that one prior fits them all.
OLDER_SCALE = 4.0
# Side in pixels of the cells that carry the residual; radius in cells of the two blurs; largest refinement.
RESIDUAL_CELL, BLURS, REFINEMENT = 8, (8, 2), 0.1
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
        refine: channels of the network that refines; 0: none.
    """

    features: int = 40
    widths: tuple[int, ...] = (64, 96, 128, 160)
    clear_widths: tuple[int, ...] = (32, 48, 64, 96)
    detail: int = 24
    refine: int = 32


class Seen(NamedTuple):
    """What is seen of B images: Sentinel-2 channels first, in its order, then E of other sensors.

    Attributes:
        values: (B, 13 + E, H, W) in [0, 1]; 0 where a band is missing.
        known: (B, 13 + E), 1 where the image has the band, 0 where not.
        valid: (B, 1, H, W), 1 where the image holds data.
        sar: (B, 2, H, W), NaN where there is none; or None.
        older: (B, 13 + E, H, W), NaN where there is none; or None.
        given: (B, 1, H, W), how clear each pixel is said to be, NaN in an image of which nothing is said; or
            None.
    """

    values: Tensor
    known: Tensor
    valid: Tensor
    sar: Tensor | None = None
    older: Tensor | None = None
    given: Tensor | None = None


class Clear(NamedTuple):
    """What is clear, judged by the looks of the image alone.

    Attributes:
        confidence: (B, 1, H, W), that the ground is seen.
        worth: (B, 1, H, W), what a pixel counts for in the regression.
        colours: (B, 13 + E, H, W), without haze and shadow.
    """

    confidence: Tensor
    worth: Tensor
    colours: Tensor


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


class Clearness(nn.Module):
    """How clear each pixel is, and its colour without haze and shadow.

    A sheet k of thickness tau_k hides r_k = 1 - exp(-tau_k rho_k) of the ground, and shows its own colour
    instead; rho_k and the colour depend on the band and are learned, tau_k on the pixel.
    """

    SHEETS = 4  # haze, water cloud, cirrus, shadow

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.unet = SmallUNet(len(BANDS) + 1, 2 + self.SHEETS, widths)
        self.stride = self.unet.stride
        self.of_bands = nn.Linear(len(BANDS), widths[0])
        rho, colour = _usual_sheets()
        self.log_rho = nn.Parameter(rho.log())
        self.colour = nn.Parameter(colour)
        with torch.no_grad():
            self.unet.widen.weight.mul_(0.1)
            bias = torch.tensor([0.0, -1.0] + self.SHEETS * [-3.0]).repeat_interleave(4)
            self.unet.widen.bias = nn.Parameter(bias)

    def forward(self, seen: Seen) -> Clear:
        """Return what is clear; colours of other sensors' bands stay as they are."""
        num = len(BANDS)
        y = seen.values[:, :num]
        score = _haze_score(y, seen.known)
        known = seen.known[:, :num]
        output = self.unet(torch.cat([y.clamp(max=1.2), score / 8], 1), self.of_bands(known)).float()
        confidence, worth = (output[:, :2] - score).sigmoid().split(1, 1)
        # Haze is smooth: its sheets are computed at half the resolution.
        thickness = softplus(avg_pool2d(output[:, 2:], 2))[:, :, None]  # (B, K, 1, H / 2, W / 2)
        hidden = 1 - (-thickness * self.log_rho.exp()[:, :, None, None]).exp()  # (B, K, 13, H / 2, W / 2)
        total, light = hidden.sum(1), (hidden * self.colour[:, :, None, None]).sum(1)
        scale = (MOST_HIDDEN / total.clamp(min=1e-6)).clamp(max=1)
        light, left = _enlarge(torch.cat([light * scale, 1 - total * scale], 1)).chunk(2, 1)
        colours = ((y - light) / left).clamp(0, 1)
        colours = torch.lerp(colours, y, rise(confidence, SURE))
        return Clear(confidence, worth, torch.cat([colours, seen.values[:, num:]], 1))


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
            inputs = 3 * num + config.features + 4
            self.squeeze = nn.Conv2d(inputs, width, 1)
            self.mix = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
            self.detail = nn.Conv2d(width, 2 * num + 1, 1)
            with torch.no_grad():
                for values in (*self.detail.parameters(), self.squeeze.weight[:, 2 * num : 3 * num]):
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
        said, told = Clear(given, rise(given, GIVEN), seen.values), given.isfinite()
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
        raw = 4 * self.guides(torch.cat(inputs, 1)).float()
        if seen.older is None:
            phi = torch.cat([1 - dated, raw.tanh()], 1)
        else:
            phi = torch.cat([1 - dated, dated, OLDER_SCALE * seen.older.nan_to_num(), raw.tanh()], 1)
        return phi, (raw.abs() - 1.5).clamp(min=0).square().mean() if self.training else raw.new_zeros(())

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

    def paint(self, seen: Seen, clear: Clear, phi: Tensor, solution: "Solution") -> Painted:
        """Return the ground everywhere, and where it is seen."""
        with torch.autocast(phi.device.type, enabled=False):
            solved = (solution.weights.mT @ phi.flatten(2)).unflatten(2, phi.shape[-2:])
            half = avg_pool2d(phi, 2)
            spread = (solution.covariance @ half.flatten(2)).unflatten(2, half.shape[-2:])
            leverage = _enlarge((spread * half).sum(1, True))
        weight = clear.worth * seen.valid
        carried, near = self.carry(clear.colours - solved, weight)
        image, confidence = solved + carried, clear.confidence
        log_variance = (solution.noise[..., None, None] * (1 + leverage)).log()
        if self.config.refine:
            missed = (seen.values - image) * (-0.5 * log_variance).exp() * seen.known[..., None, None]
            judged = torch.cat([near, (leverage + 1e-4).log() / 4, confidence], 1)
            told = (torch.full_like(seen.valid, torch.nan) if seen.given is None else seen.given).isfinite()
            missed = missed.detach().masked_fill(told, 0)  # what is hidden may be anything
            change, doubt, sees = self._refine(image, carried, phi, missed, judged)
            image = image + change * seen.known[..., None, None]
            log_variance = log_variance + doubt
            found = (confidence.clamp(1e-4, 1 - 1e-4).logit() + sees).sigmoid()
            confidence = torch.where(told, confidence, found)
        deviation = (0.5 * log_variance).clamp(-8, 0).exp()
        return Painted(image.clamp(0, 1), deviation, solved, confidence, leverage / (1 + leverage))

    def _refine(
        self, image: Tensor, carried: Tensor, phi: Tensor, missed: Tensor, judged: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return changes of the image, of its logarithmic variance, and of the logit of the confidence.

        Args:
            image: (B, 13 + E, H, W).
            carried: (B, 13 + E, H, W), the residual in it.
            phi: (B, D', H, W).
            missed: (B, 13 + E, H, W), what is seen less `image`, in standard deviations.
            judged: (B, 4, H, W), how near clear pixels are, leverage and confidence.
        """
        num, extra = len(BANDS), image.shape[1] - len(BANDS)
        parts = [3 * image[:, :num], 3 * carried[:, :num], softsign(missed[:, :num] / 2)]
        parts += [phi[:, -self.config.features :], judged]
        kind = image.device.type
        if torch.is_autocast_enabled(kind):  # each part alone: less memory is moved
            parts = [part.to(torch.get_autocast_dtype(kind)) for part in parts]
        x = self.squeeze(torch.cat(parts, 1))
        for layer in self.mix:
            x = x + layer(silu(x))
        change, doubt, sees = self.detail(silu(x)).float().split([num, num, 1], 1)
        change = pad(REFINEMENT * change.tanh(), (0, 0, 0, 0, 0, extra))
        return change, torch.cat([doubt, doubt.mean(1, keepdim=True).expand(-1, extra, -1, -1)], 1), sees

    def carry(self, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the regression misses at clear pixels, carried under the cloud; and how near those are.

        Two scales, each a weighted mean with a prior of 0: 8-pixel cells blurred over about 24, then 96 px.
        """
        with torch.autocast(residual.device.type, enabled=False):
            cell, (height, width) = RESIDUAL_CELL, residual.shape[-2:]
            w, r = _pool(weight, cell), _pool(weight * residual, cell)
            total, nears = torch.zeros_like(r), []
            for steps, log in zip(BLURS, FAST * self.log_spread, strict=True):
                ws, rs = _blur(w, steps), _blur(r - w * total, steps)
                total = total + rs / (ws + log.exp())
                nears.append(ws / (ws + log.exp()))
            grown = interpolate(torch.cat([total, *nears], 1), scale_factor=cell, mode="bilinear")
            carried, near = grown[..., :height, :width].split([total.shape[1], len(nears)], 1)
            return carried, near


class Solution(NamedTuple):
    """A scene's regression: weights (B, D', C), covariance (B, D', D') in units of `noise`, (B, C)."""

    weights: Tensor
    covariance: Tensor
    noise: Tensor


def _usual_sheets() -> tuple[Tensor, Tensor]:
    """Return rough thickness, relative to blue, and colour of each sheet, (4, 13): where learning starts."""
    wave, ones = torch.tensor(WAVELENGTHS_UM), torch.ones(len(BANDS))
    ice, vapour = ones.clone(), ones.clone()
    ice[AT["B11"]], ice[AT["B12"]] = 0.55, 0.45  # ice absorbs more there than water
    vapour[AT["B09"]], vapour[AT["B10"]] = 0.2, 0.01  # the light of low clouds passes the vapour above them
    air = 0.075 * (wave / 0.492) ** -3.5  # scattered by the air itself
    skylight = 0.36 + 0.34 * (-(wave - 0.443) / 0.2).exp()  # share of the light that a shadow leaves
    skylight[AT["B10"]] = 0.98
    rho = torch.stack([(wave / 0.492) ** -1.3, ones, ones, -skylight.log()])
    return rho, torch.stack([0.5 * vapour, 0.8 * vapour, 0.6 * ice, air])


def _enlarge(x: Tensor) -> Tensor:
    """Return an image at twice its resolution, bilinear."""
    return interpolate(x, scale_factor=2, mode="bilinear")


def _pool(x: Tensor, cell: int) -> Tensor:
    below, right = -x.shape[-2] % cell, -x.shape[-1] % cell
    return avg_pool2d(pad(x, (0, right, 0, below)), cell)


def _blur(x: Tensor, radius: int) -> Tensor:
    """Return the mean over a square of 2 radius + 1 cells, twice; outside is 0."""
    for _ in range(2):
        for size, padding in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
            x = avg_pool2d(x, size, stride=1, padding=padding)
    return x


def _haze_score(y: Tensor, known: Tensor) -> Tensor:
    """Return the logit of cloud or haze by simple rules, (B, 1, H, W); see data/cloud_score.py."""
    blue, red = y[:, AT["B02"], None], y[:, AT["B04"], None]
    green, swir = y[:, AT["B03"], None], y[:, AT["B11"], None]
    has_swir = known[:, AT["B11"], None, None, None]
    hot = blue - red / 2
    ratio = (green - swir) / (green + swir).clamp(min=1e-3)
    snow = rise(ratio, (0.5, 0.65)) * (blue > 0.25) * has_swir
    cirrus = y[:, AT["B10"], None] * known[:, AT["B10"], None, None, None]
    logit = (hot - 0.105) / 0.015 * (1 - snow) - 4 * snow
    logit = torch.maximum(logit, (cirrus - 0.025) / 0.005)
    return logit.clamp(-6, 12)


def build(config: Config) -> GroundNet:
    """Return the network, in channels-last layout."""
    return GroundNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
