"""What is clear of an image, and its colours without haze and shadow: the first part of `ground`."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, softplus

from pellucid.data.cloud_score import rise
from pellucid.data.ranges import SENTINEL2
from pellucid.networks._small_unet import SmallUNet

BANDS = SENTINEL2.bands
AT = {name: i for i, name in enumerate(BANDS)}
# Centres of the bands (Sentinel-2 product specification).
WAVELENGTHS_UM = (0.443, 0.492, 0.560, 0.665, 0.704, 0.741, 0.783, 0.833, 0.865, 0.945, 1.374, 1.610, 2.190)
# Share of the ground's light that haze may hide and be taken off again.
MOST_HIDDEN = 0.8
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
    """

    confidence: Tensor
    worth: Tensor
    colours: Tensor


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
        light, left = enlarge(torch.cat([light * scale, 1 - total * scale], 1)).chunk(2, 1)
        colours = ((y - light) / left).clamp(0, 1)
        colours = torch.lerp(colours, y, rise(confidence, SURE))
        return Clear(confidence, worth, torch.cat([colours, seen.values[:, num:]], 1))


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


def enlarge(x: Tensor) -> Tensor:
    """Return an image at twice its resolution, bilinear."""
    return interpolate(x, scale_factor=2, mode="bilinear")
