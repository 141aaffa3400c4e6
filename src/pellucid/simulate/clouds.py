"""Clouds, haze and their shadows laid over clear Sentinel-2 Level-1C images.

A layer of optical thickness tau reflects r = g tau / (1 + g tau) of the light (two streams of light,
no absorption), lets the detail of the ground through as exp(-tau) and the rest of the ground's light as a
blur. Spectra, contrast and shadows follow real pairs of cloudy and clear images of SEN12MS-CR; each table
below says how.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


class BandOptics(NamedTuple):
    """What clouds and shadows do to one band; patches are of SEN12MS-CR."""

    wavelength_um: float  # centre of the band (Sentinel-2 product specification)
    # Reflectance of a thick cloud per reflectance in B02, where the sun is high. Fits over pixels that are
    # more than 0.2 brighter in B02 than the clear image, patches ROIs1970_fall_139_p839, ROIs1158_spring_39
    # and three more; B09, B10: of clouds above all water vapour.
    slope: float
    offset: float  # reflectance where that line meets B02 = 0: what the air above the cloud adds or takes
    slope_low: float  # where the sun is low; medians over 13 patches of ROIs1970_fall_136
    offset_low: float
    path: float  # reflectance of the air itself, the darkest water of the patches (ROIs1868_summer_135)
    # Share of the ground's light left in the core of a shadow; medians over the pixels of six patches that
    # are at least 0.015 darker in B02 than the clear image, less `path`.
    skylight: float
    delay_s: float  # time after B02 at which the band looks (Sentinel-2 mission guide): clouds shift by it


OPTICS = {
    "B01": BandOptics(0.443, 0.88, 0.06, 0.79, 0.15, 0.110, 0.70, 2.31),
    "B02": BandOptics(0.492, 1.00, 0.00, 1.00, 0.00, 0.075, 0.60, 0.00),
    "B03": BandOptics(0.560, 1.02, -0.03, 1.07, -0.09, 0.042, 0.52, 0.53),
    "B04": BandOptics(0.665, 1.15, -0.05, 1.33, -0.16, 0.022, 0.48, 1.00),
    "B05": BandOptics(0.704, 1.14, -0.03, 1.39, -0.17, 0.018, 0.46, 1.27),
    "B06": BandOptics(0.741, 1.16, 0.00, 1.42, -0.16, 0.015, 0.45, 1.52),
    "B07": BandOptics(0.783, 1.20, 0.00, 1.45, -0.16, 0.012, 0.44, 1.79),
    "B08": BandOptics(0.833, 1.14, 0.00, 1.49, -0.19, 0.010, 0.43, 0.26),
    "B8A": BandOptics(0.865, 1.24, 0.00, 1.50, -0.17, 0.008, 0.42, 2.06),
    "B09": BandOptics(0.945, 1.15, 0.00, 1.35, -0.12, 0.004, 0.42, 2.59),
    "B10": BandOptics(1.374, 0.80, 0.00, 0.80, 0.00, 0.001, 1.00, 0.85),
    "B11": BandOptics(1.610, 1.20, 0.01, 1.28, -0.14, 0.002, 0.36, 1.47),
    "B12": BandOptics(2.190, 0.99, 0.00, 1.05, -0.10, 0.001, 0.34, 2.09),
}

# Share reflected per optical thickness: (1 - g) / 2 for water droplets, g = 0.85 (Bohren and Clothiaux 2006).
# The same relation fits the patches: the contrast of the ground halves where B02 rises by 0.05.
BACKSCATTER = 0.075
# A cloud's light passes the water vapour above it: B09 and B10 relative to their value above all vapour, at
# height 0, and the exponent per height. B09 / B8A is 0.16 over low clouds and 0.6 over higher ones,
# B10 / B8A 0.002, 0.05 and, over cirrus, 0.5 (ROIs1158_spring_39, oriolac_5254, oriolac_6780 of SEN12MS-CR).
VAPOUR = {"B09": (0.14, 4.0), "B10": (0.0005, 7.4)}
# Ice absorbs more than water: B11 and B12 of cirrus and of ROIs1970_fall_85 relative to water clouds.
ICE = {"B11": 0.55, "B12": 0.45}
# Pixels by which a cloud moves per second of delay and unit of height: 6.7 km/s * 10 km / 786 km / 10 m.
PARALLAX_PX = 8.5
# Bands of 60 m pixels (Sentinel-2 product specification).
COARSE_BANDS = ("B01", "B09", "B10")


@dataclass(frozen=True)
class SkyOptions:
    """Ranges from which each image's sky is drawn, uniformly where not said otherwise.

    Args:
        cover: share of the image under the lower, thick clouds, thin edges included.
        overcast: probability that the whole image lies under one cloud, whatever `cover` says.
        thin: probability that there is nothing but haze or cirrus.
        haze: probability of haze or cirrus beside the thick clouds.
        thickness: optical thickness of the thick clouds, drawn uniformly in its logarithm.
        brightness: reflectance in B02 of an infinitely thick cloud.
        height: of the clouds, 0 at the ground, 1 at 10 km.
        shadow: darkness of the shadows; 1 is that of real clouds' cores.
        sun_azimuth_deg: where the sun stands, clockwise from the top of the image.

    Raises:
        ValueError: if a range is upside down, or a share or probability lies outside [0, 1].
    """

    cover: tuple[float, float] = (0.0, 1.0)
    overcast: float = 0.2
    thin: float = 0.2
    haze: float = 0.5
    thickness: tuple[float, float] = (5.0, 50.0)
    brightness: tuple[float, float] = (0.7, 1.4)
    height: tuple[float, float] = (0.03, 0.8)
    shadow: tuple[float, float] = (0.5, 1.2)
    sun_azimuth_deg: tuple[float, float] = (0.0, 360.0)

    def __post_init__(self) -> None:
        ranges = (self.cover, self.thickness, self.brightness, self.height, self.shadow, self.sun_azimuth_deg)
        if any(low > high or low < 0 for low, high in ranges):
            raise ValueError(f"every range must run from low to high and not below 0, got {ranges}")
        shares = (*self.cover, self.overcast, self.thin, self.haze)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"cover, overcast, thin and haze must lie in [0, 1], got {shares}")


class _Sky:
    """What all layers of one image share, and the source of everything random."""

    def __init__(
        self, bands: tuple[str, ...], size: tuple[int, int], generator: torch.Generator, options: SkyOptions
    ) -> None:
        self.bands, self.size, self.generator, self.options = bands, size, generator, options
        self.optics = torch.tensor([OPTICS[band] for band in bands])  # (C, 8)
        self.low_sun = self.uniform((0, 1))  # 0: the sun is high, 1: low
        self.azimuth = math.radians(self.uniform(options.sun_azimuth_deg))
        self.flight = 1 if self.chance(0.5) else -1  # neighbouring detectors see a place in opposite order
        self.shadow = self.uniform(options.shadow)

    def uniform(self, limits: tuple[float, float]) -> float:
        return limits[0] + (limits[1] - limits[0]) * float(torch.rand((), generator=self.generator))

    def log_uniform(self, limits: tuple[float, float]) -> float:
        return math.exp(self.uniform((math.log(limits[0]), math.log(limits[1]))))

    def chance(self, probability: float) -> bool:
        return self.uniform((0, 1)) < probability


@dataclass(frozen=True)
class _Layer:
    """One sheet of cloud: its thickness on a grid larger than the image, and what it is made of."""

    thickness: Tensor  # (N, M) optical thickness in B02
    colour: Tensor  # (C, 1, 1) reflectance if endlessly thick
    spread: Tensor  # (C, 1, 1) optical thickness relative to B02
    blur: float  # detail lost per thickness
    height: float
    relief: float  # how strongly its lumps are lit from one side


def add_clouds(
    clear: Tensor, bands: tuple[str, ...], generator: torch.Generator, options: SkyOptions | None = None
) -> tuple[Tensor, Tensor]:
    """Return the image under a random sky, and how much of it is lost.

    Args:
        clear: (C, H, W) reflectance in [0, 1], Level 1C. A missing band, all NaN, stays so.
        bands: C names; any subset of Sentinel-2's, in any order.
        generator: of everything random; the same state gives the same sky.
        options: the ranges the sky is drawn from.

    Returns:
        The degraded image, (C, H, W) in [0, 1], and the cloud map, (1, H, W) in [0, 1]: one minus the weight
        with which the clear pixel still enters the degraded one, mean over the bands. It is 1 under opaque
        cloud, between under haze, thin cloud and in shadow (all of it is to be restored), and 0 where the
        image is unchanged.

    Raises:
        ValueError: if the bands do not fit the image, or one is not Sentinel-2's.
    """
    unknown = [band for band in bands if band not in OPTICS]
    if unknown or len(bands) != clear.shape[0]:
        raise ValueError(f"{clear.shape[0]} bands are named {bands}, need as many of {', '.join(OPTICS)}")
    sky = _Sky(bands, (clear.shape[1], clear.shape[2]), generator, options or SkyOptions())
    layers = _draw_layers(sky)
    image, kept = clear.clone(), torch.ones_like(clear)
    for layer in layers:
        image, kept = _shade(image, kept, layer, sky)
    glow = _blur(image).clamp_(max=1)
    for layer in layers:
        image, kept = _cover(image, kept, glow, layer, sky)
    return image.clamp_(0, 1), (1 - kept.nanmean(0, keepdim=True)).nan_to_num_(0).clamp_(0, 1)


def _draw_layers(sky: _Sky) -> list[_Layer]:
    """Return the layers of one sky, the lowest first."""
    kind = sky.uniform((0, 1))
    is_thin, is_overcast = kind < sky.options.thin, kind > 1 - sky.options.overcast
    cover = 1.0 if is_overcast else sky.uniform(sky.options.cover)
    layers = []
    if not is_thin and cover > 0:
        layers.append(_thick_layer(sky, cover, is_overcast))
        if sky.chance(0.25):
            layers.append(_thick_layer(sky, cover * sky.uniform((0, 0.6)), is_overcast=False))
    if is_thin or sky.chance(sky.options.haze):
        layers.append(_thin_layer(sky))
    return sorted(layers, key=lambda layer: layer.height)


def _thick_layer(sky: _Sky, cover: float, is_overcast: bool) -> _Layer:
    """Return heaps of cloud over a share `cover` of the image, or a closed sheet."""
    stretch = math.exp(sky.uniform((0, 0.7)))
    size_px, slope = sky.log_uniform((60, 600)), sky.uniform((3.2, 4.3))
    lumps, texture = _noise(sky, size_px, stretch, slope)
    peak = sky.log_uniform(sky.options.thickness)
    if is_overcast:
        shape = torch.exp(sky.uniform((0.1, 0.7)) * lumps)
    else:
        # The edge thins out as in a log-normal field, as real clouds do; two deviations in is `peak`.
        rise = sky.uniform((0.3, 2.2))
        above = (lumps - _threshold(lumps, cover, sky.size)).clamp_(0, 3)
        shape = torch.expm1(rise * above) / math.expm1(rise * 2)
    thickness = peak * shape * torch.exp(sky.uniform((0.0, 0.3)) * texture)
    low, high = sky.options.height
    height = low + (high - low) * sky.uniform((0, 1)) ** 4
    colour = _colour(sky, height, sky.uniform(sky.options.brightness))
    blur = math.exp(sky.uniform((-0.7, 0.2)))
    return _Layer(thickness, colour, torch.ones_like(colour), blur, height, sky.uniform((0, 0.35)))


def _thin_layer(sky: _Sky) -> _Layer:
    """Return cirrus or haze: smooth, often stretched, bluer the lower it lies."""
    is_cirrus = sky.chance(0.4)
    stretch = math.exp(sky.uniform((0.3, 1.8) if is_cirrus else (0, 0.5)))
    size_px, slope = sky.log_uniform((60, 600)), sky.uniform((3.2, 4.6))
    smooth, texture = _noise(sky, size_px, stretch, slope)
    thickness = sky.log_uniform((0.15, 6.0)) * torch.exp(sky.uniform((0.1, 1.2)) * smooth)
    if sky.chance(0.5):
        edge = _threshold(smooth, sky.uniform((0.1, 0.9)), sky.size)
        thickness = thickness * ((smooth - edge) / sky.uniform((0.5, 2))).clamp_(0, 1)
    thickness = thickness * torch.exp(sky.uniform((0, 0.3)) * texture)
    height = sky.uniform((0.6, 1.0)) if is_cirrus else 0.1
    # Exponent of aerosol extinction over wavelength (Angstrom 1929): 0 for cirrus, up to 2 for fine smoke.
    exponent = sky.uniform((0, 0.2) if is_cirrus else (0, 1.8))
    spread = torch.tensor([(OPTICS[band].wavelength_um / 0.492) ** -exponent for band in sky.bands])
    colour = _colour(sky, height, sky.uniform((0.6, 1.2)))
    blur = math.exp(sky.uniform((-2.5, -0.5)))
    return _Layer(thickness, colour, spread.view(-1, 1, 1), blur, height, relief=0.0)


def _colour(sky: _Sky, height: float, brightness: float) -> Tensor:
    """Return the reflectance of an endlessly thick cloud, (C, 1, 1)."""
    slope = torch.lerp(sky.optics[:, 1], sky.optics[:, 3], sky.low_sun)
    offset = torch.lerp(sky.optics[:, 2], sky.optics[:, 4], sky.low_sun)
    ice = min(1.0, max(0.0, height + sky.uniform((-0.4, 0.3))))
    moist = {"B09": sky.uniform((0.5, 1.1))}  # air holds more vapour in the tropics than in winter
    factor = [1.0] * len(sky.bands)
    for index, band in enumerate(sky.bands):
        if band in VAPOUR:
            lowest, exponent = VAPOUR[band]
            factor[index] = min(1.0, lowest * math.exp(exponent * height)) ** moist.get(band, 1.0)
        if band in ICE:
            factor[index] = 1 - (1 - ICE[band]) * ice
    tint = 1 + 0.03 * torch.randn(len(factor), generator=sky.generator)
    return ((offset + slope * brightness).clamp(min=0) * torch.tensor(factor) * tint).view(-1, 1, 1)


def _shade(image: Tensor, kept: Tensor, layer: _Layer, sky: _Sky) -> tuple[Tensor, Tensor]:
    """Return the image and its kept share with the layer's shadow on the ground."""
    distance = layer.height * 1000 * math.tan(math.radians(25 + 40 * sky.low_sun))  # 10 m pixels per 10 km
    shift = (round(distance * math.cos(sky.azimuth)), round(-distance * math.sin(sky.azimuth)))
    thickness = _window(torch.roll(layer.thickness, shift, (0, 1)), image)
    dark = (sky.shadow * (1 - torch.exp(-0.4 * thickness))).clamp_(0, 1.25)
    air, skylight = sky.optics[:, 5:7].mT[..., None, None]
    light = 1 - dark * (1 - skylight)  # share of the ground's light that is left
    path = torch.minimum(image, air)
    return torch.where(dark > 0, path + (image - path) * light, image), kept * light


def _cover(image: Tensor, kept: Tensor, glow: Tensor, layer: _Layer, sky: _Sky) -> tuple[Tensor, Tensor]:
    """Return the image and its kept share under the layer itself."""
    seen = torch.stack([_seen(layer, band, sky, image) for band in sky.bands]).mul_(layer.spread)
    detail = (seen * -layer.blur).clamp_(min=-30).exp_()  # smaller numbers would be slow, and are nothing
    reflected = seen.mul_(BACKSCATTER)
    reflected = reflected.div_(1 + reflected)
    # Light passes down and up and bounces between cloud and ground; exponents fit NIR over forest, and for a
    # white ground no light is lost.
    through = 1 - reflected
    passed = through.div(1 - reflected * glow).sqrt_().mul_(through)
    lit = layer.colour * _relief(layer, sky, image) if layer.relief else layer.colour
    image = torch.lerp(glow, image, detail).mul_(passed).addcmul_(reflected, lit)
    return image, kept.mul(passed).mul_(detail)


def _seen(layer: _Layer, band: str, sky: _Sky, image: Tensor) -> Tensor:
    """Return the layer's thickness as one band sees it, (H, W): high clouds move between the bands."""
    shift = round(PARALLAX_PX * layer.height * OPTICS[band].delay_s) * sky.flight
    seen = _window(layer.thickness, image, shift)
    if band in COARSE_BANDS and min(seen.shape) > 5:
        return avg_pool2d(seen[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    return seen


def _relief(layer: _Layer, sky: _Sky, image: Tensor) -> Tensor:
    """Return the brightness of the cloud's lumps, (H, W) about 1: bright on the side of the sun."""
    towards = (round(-4 * math.cos(sky.azimuth)), round(4 * math.sin(sky.azimuth)))
    top = torch.log1p(layer.thickness)
    slope = top - torch.roll(top, towards, (0, 1))
    return (1 - layer.relief * _window(slope, image)).clamp_(0.6, 1.3)


def _window(field: Tensor, image: Tensor, shift: int = 0) -> Tensor:
    """Return the part of a field that lies over the image, (H, W), `shift` rows down."""
    (rows, columns), (height, width) = field.shape, image.shape[1:]
    top, left = (rows - height) // 2, (columns - width) // 2
    start = min(max(top + shift, 0), rows - height)
    return field[start : start + height, left : left + width]


def _noise(sky: _Sky, scale_px: float, stretch: float, slope: float) -> tuple[Tensor, Tensor]:
    """Return two fractal fields of mean 0 and deviation 1 on a periodic grid larger than the image.

    Args:
        sky: gives size and randomness.
        scale_px: size of the largest structures.
        stretch: their length by their width, in a random direction.
        slope: fall of the power with frequency; 8/3 is that of turbulence (Kolmogorov), in two dimensions.
    """
    shape = tuple(32 * math.ceil(1.5 * side / 32) for side in sky.size)
    fy, fx = _frequencies(shape)
    angle = sky.uniform((0, math.pi))
    along = math.cos(angle) * fx + math.sin(angle) * fy
    across = math.cos(angle) * fy - math.sin(angle) * fx
    power = (along * stretch).square_().add_(across.square_()).add_(scale_px**-2).pow_(-slope / 4)
    power[0, 0] = 0
    white = torch.view_as_complex(torch.randn(*shape, 2, generator=sky.generator))
    field = torch.fft.ifft2(white * power)
    parts = (field.real, field.imag)
    first, second = ((part - part.mean()) / part.std().clamp(min=1e-12) for part in parts)
    return first, second


@lru_cache(maxsize=8)
def _frequencies(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return torch.fft.fftfreq(shape[0]).view(-1, 1), torch.fft.fftfreq(shape[1]).view(1, -1)


def _threshold(field: Tensor, cover: float, size: tuple[int, int]) -> Tensor:
    """Return the value above which a share `cover` of the image lies."""
    step = max(1, min(size) // 48)
    top, left = ((grid - side) // 2 for grid, side in zip(field.shape, size, strict=True))
    part = field[top : top + size[0] : step, left : left + size[1] : step]
    return torch.quantile(part.flatten(), 1 - cover)


def _blur(image: Tensor) -> Tensor:
    """Return the image as light scattered below a cloud shows it: without detail under about 160 m."""
    kernel = min(16, image.shape[1], image.shape[2])
    small = avg_pool2d(image[None], kernel, ceil_mode=True, count_include_pad=False)
    return interpolate(small, image.shape[1:], mode="bilinear")[0]
