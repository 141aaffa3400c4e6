"""What is clear of an image, and its colours without haze and shadow: the first part of `ground`."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, softplus

from pellucid.data.cloud_score import rise
from pellucid.data.ranges import SENTINEL2
from pellucid.networks._small_unet import SmallUNet, enlarge

BANDS = SENTINEL2.bands
AT = {name: i for i, name in enumerate(BANDS)}
# Centres of the bands (Sentinel-2 product specification).
WAVELENGTHS_UM = (0.443, 0.492, 0.560, 0.665, 0.704, 0.741, 0.783, 0.833, 0.865, 0.945, 1.374, 1.610, 2.190)
# Share of the ground's light that haze may hide and be taken off again.
MOST_HIDDEN = 0.8
# Logarithms of spectra and of variances are kept divided by these, so that they are learned as much faster.
STEEP, FAST = 3.0, 6.0
# Limits of the logarithmic variance of colours without haze, and of what their detail is multiplied by.
LOG_VARIANCES, SHARPEST = (-12.0, 0.0), 2.0
# Confidence between which pixels come to pass through unchanged.
SURE = (0.85, 0.97)


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
        log_variance: (B, 13 + E, H, W), of these colours; 0 where nothing is known of them.
    """

    confidence: Tensor
    worth: Tensor
    colours: Tensor
    log_variance: Tensor

    def where(self, told: Tensor, found: "Clear") -> "Clear":
        """Return this in images that are told, (B, 1, H, W) bool, and what was found in the others."""
        return Clear(*(torch.where(told, *each) for each in zip(self, found, strict=True)))


class Clearness(nn.Module):
    """How clear each pixel is, and its colour without haze and shadow.

    Haze adds light and hides the ground, its detail more than its mean colour. The spectra of what it adds,
    hides and blurs are each mixed of a few that are learned; how much of each lies over a pixel is found by a
    U-Net, which says how sure it is too.
    """

    SPECTRA = 4

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        num, spectra = len(BANDS), self.SPECTRA
        self.unet = SmallUNet(num + 1, 2 + 4 * spectra, widths)
        self.stride = self.unet.stride
        self.of_bands = nn.Linear(num, widths[0])
        usual, random = _usual_spectra(), torch.Generator().manual_seed(0)
        self.log_added = nn.Parameter(usual.log() / STEEP)
        self.log_hidden = nn.Parameter(usual.log() / STEEP)
        self.log_sharpened = nn.Parameter(usual.log() / STEEP)
        self.of_doubt = nn.Parameter(0.1 * torch.randn(spectra, num, generator=random))
        self.doubt = nn.Parameter(torch.full((num,), -4.0 / FAST))
        with torch.no_grad():
            self.unet.widen.weight.mul_(0.1)
            bias = torch.tensor([0.0, -1.0] + 3 * spectra * [-4.0] + spectra * [0.0])
            self.unet.widen.bias = nn.Parameter(bias.repeat_interleave(4))

    def forward(self, seen: Seen) -> Clear:
        """Return what is clear; colours of other sensors' bands stay as they are."""
        num, spectra = len(BANDS), self.SPECTRA
        y = seen.values[:, :num]
        score = _haze_score(y, seen.known)
        known = seen.known[:, :num]
        output = self.unet(torch.cat([y.clamp(max=1.2), score / 8], 1), self.of_bands(known)).float()
        judged, haze, doubt = output.split([2, 3 * spectra, spectra], 1)
        confidence, worth = (judged - score).sigmoid().split(1, 1)
        clear = rise(confidence, SURE)
        with torch.autocast(y.device.type, enabled=False):
            colours = torch.lerp(self._clean(y, haze), y, clear)
            log_variance = FAST * (_mix(doubt, self.of_doubt) + self.doubt[:, None, None])
        log_variance = log_variance.clamp(*LOG_VARIANCES) * known[..., None, None]
        if others := seen.values[:, num:].shape[1]:
            log_variance = torch.cat([log_variance, y.new_zeros(len(y), others, *y.shape[-2:])], 1)
        return Clear(confidence, worth, torch.cat([colours, seen.values[:, num:]], 1), log_variance)

    def _clean(self, y: Tensor, haze: Tensor) -> Tensor:
        """Return (B, 13, H, W) without haze, of which (B, 3 K, H, W) tells the amounts."""
        # Haze is smooth: it is taken off at half the resolution.
        added, hidden, sharpened = softplus(avg_pool2d(haze, 2)).chunk(3, 1)
        added = _mix(added, (STEEP * self.log_added).exp())
        left = (-_mix(hidden, (STEEP * self.log_hidden).exp())).exp().clamp(min=1 - MOST_HIDDEN)
        sharper = _mix(sharpened, (STEEP * self.log_sharpened).exp()).clamp(max=SHARPEST).exp()
        smooth = _smooth(y)
        mean, smooth, sharper = enlarge(torch.cat([(smooth - added) / left, smooth, sharper], 1)).chunk(3, 1)
        return ((y - smooth) * sharper + mean).clamp(0, 1)


def _mix(amounts: Tensor, spectra: Tensor) -> Tensor:
    """Return spectra, (K, 13), in amounts of (B, K, h, w): (B, 13, h, w)."""
    return torch.einsum("bkhw,kc->bchw", amounts, spectra)


def _smooth(y: Tensor) -> Tensor:
    """Return an image without what is smaller than about 12 pixels, at half its resolution."""
    cells = avg_pool2d(y, 4)
    return enlarge(avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False))


def _usual_spectra() -> Tensor:
    """Return rough spectra of haze, water cloud, cirrus and air, (4, 13): where learning starts."""
    wave, ones = torch.tensor(WAVELENGTHS_UM), torch.ones(len(BANDS))
    ice, vapour = ones.clone(), ones.clone()
    ice[AT["B11"]], ice[AT["B12"]] = 0.55, 0.45  # ice absorbs more there than water
    vapour[AT["B09"]], vapour[AT["B10"]] = 0.2, 0.01  # the light of low clouds passes the vapour above them
    air = 0.5 * (wave / 0.492) ** -3.5  # scattered by the air itself
    return torch.stack([(wave / 0.492) ** -1.3 * vapour, vapour, ice, air])


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
