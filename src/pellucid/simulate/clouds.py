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
    """What clouds and shadows do to one band.

    Attributes:
        wavelength_um: centre of the band (Sentinel-2 product specification).
        slope: reflectance of a thick cloud per reflectance in B02, where the sun is high. Fits over pixels
            more than 0.2 brighter in B02 than the clear image, SEN12MS-CR patches ROIs1970_fall_139_p839,
            ROIs1158_spring_39 and three more; B09, B10: of clouds above all water vapour.
        offset: reflectance where that line meets B02 = 0: what the air above the cloud adds or takes.
        slope_low: as `slope`, where the sun is low; medians over 13 patches of ROIs1970_fall_136.
        offset_low: as `offset`, where the sun is low.
        path: reflectance of the air itself, the darkest water of the patches (ROIs1868_summer_135).
        skylight: share of the ground's light left in the core of a shadow; medians over the pixels of six
            patches that are at least 0.015 darker in B02 than the clear image, less `path`.
        delay_s: time after B02 at which the band looks (Sentinel-2 mission guide): clouds shift by it.
    """

    wavelength_um: float
    slope: float
    offset: float
    slope_low: float
    offset_low: float
    path: float
    skylight: float
    delay_s: float


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


@dataclass(frozen=True)
class _Sky:
    """What all layers of one image share."""

    low_sun: float  # 0: the sun is high, 1: low
    azimuth: float  # radians
    flight: int  # +1 or -1: neighbouring detectors see a place in opposite order
    shadow: float


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
        clear: (C, H, W) reflectance in [0, 1], Level 1C.
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
    options = options or SkyOptions()
    sky = _Sky(
        low_sun=_uniform((0, 1), generator),
        azimuth=math.radians(_uniform(options.sun_azimuth_deg, generator)),
        flight=1 if _chance(0.5, generator) else -1,
        shadow=_uniform(options.shadow, generator),
    )
    size = (clear.shape[1], clear.shape[2])
    layers = _draw_layers(size, bands, sky, generator, options)
    image, kept = clear.clone(), torch.ones_like(clear)
    for layer in layers:
        image, kept = _shade(image, kept, layer, bands, sky)
    glow = _blur(image).clamp_(max=1)
    for layer in layers:
        image, kept = _cover(image, kept, glow, layer, bands, sky)
    return image.clamp_(0, 1), (1 - kept.mean(0, keepdim=True)).clamp_(0, 1)


def _draw_layers(
    size: tuple[int, int],
    bands: tuple[str, ...],
    sky: _Sky,
    generator: torch.Generator,
    options: SkyOptions,
) -> list[_Layer]:
    """Return the layers of one sky, the lowest first."""
    kind = _uniform((0, 1), generator)
    is_thin, is_overcast = kind < options.thin, kind > 1 - options.overcast
    cover = 1.0 if is_overcast else _uniform(options.cover, generator)
    layers = []
    if not is_thin and cover > 0:
        layers.append(_thick_layer(size, bands, sky, cover, is_overcast, generator, options))
        if _chance(0.25, generator):
            cover *= _uniform((0, 0.6), generator)
            layers.append(_thick_layer(size, bands, sky, cover, False, generator, options))
    if is_thin or _chance(options.haze, generator):
        layers.append(_thin_layer(size, bands, sky, generator))
    return sorted(layers, key=lambda layer: layer.height)


def _thick_layer(
    size: tuple[int, int],
    bands: tuple[str, ...],
    sky: _Sky,
    cover: float,
    is_overcast: bool,
    generator: torch.Generator,
    options: SkyOptions,
) -> _Layer:
    """Return heaps of cloud over a share `cover` of the image, or a closed sheet."""
    stretch = math.exp(_uniform((0, 0.7), generator))
    size_px, slope = _log_uniform((60, 600), generator), _uniform((3.2, 4.3), generator)
    lumps, texture = _noise(size, size_px, stretch, slope, generator)
    peak = _log_uniform(options.thickness, generator)
    if is_overcast:
        shape = torch.exp(_uniform((0.1, 0.7), generator) * lumps)
    else:
        # The edge thins out as in a log-normal field, as real clouds do; two deviations in is `peak`.
        rise = _uniform((0.3, 2.2), generator)
        above = (lumps - _threshold(lumps, cover, size)).clamp_(0, 3)
        shape = torch.expm1(rise * above) / math.expm1(rise * 2)
    thickness = peak * shape * torch.exp(_uniform((0.0, 0.3), generator) * texture)
    height = options.height[0] + (options.height[1] - options.height[0]) * _uniform((0, 1), generator) ** 4
    colour = _colour(bands, sky, height, _uniform(options.brightness, generator), generator)
    blur = math.exp(_uniform((-0.7, 0.2), generator))
    return _Layer(thickness, colour, torch.ones_like(colour), blur, height, _uniform((0, 0.35), generator))


def _thin_layer(
    size: tuple[int, int], bands: tuple[str, ...], sky: _Sky, generator: torch.Generator
) -> _Layer:
    """Return cirrus or haze: smooth, often stretched, bluer the lower it lies."""
    is_cirrus = _chance(0.4, generator)
    stretch = math.exp(_uniform((0.3, 1.8) if is_cirrus else (0, 0.5), generator))
    size_px, slope = _log_uniform((60, 600), generator), _uniform((3.2, 4.6), generator)
    smooth, texture = _noise(size, size_px, stretch, slope, generator)
    thickness = _log_uniform((0.15, 6.0), generator) * torch.exp(_uniform((0.1, 1.2), generator) * smooth)
    if _chance(0.5, generator):
        edge = _threshold(smooth, _uniform((0.1, 0.9), generator), size)
        thickness = thickness * ((smooth - edge) / _uniform((0.5, 2), generator)).clamp_(0, 1)
    thickness = thickness * torch.exp(_uniform((0, 0.3), generator) * texture)
    height = _uniform((0.6, 1.0), generator) if is_cirrus else 0.1
    # Exponent of aerosol extinction over wavelength (Angstrom 1929): 0 for cirrus, up to 2 for fine smoke.
    exponent = _uniform((0, 0.2) if is_cirrus else (0, 1.8), generator)
    spread = torch.tensor([(OPTICS[band].wavelength_um / 0.492) ** -exponent for band in bands])
    colour = _colour(bands, sky, height, _uniform((0.6, 1.2), generator), generator)
    blur = math.exp(_uniform((-2.5, -0.5), generator))
    return _Layer(thickness, colour, spread.view(-1, 1, 1), blur, height, relief=0.0)


def _colour(
    bands: tuple[str, ...], sky: _Sky, height: float, brightness: float, generator: torch.Generator
) -> Tensor:
    """Return the reflectance of an endlessly thick cloud, (C, 1, 1)."""
    optics = torch.tensor([OPTICS[band] for band in bands])
    slope = torch.lerp(optics[:, 1], optics[:, 3], sky.low_sun)
    offset = torch.lerp(optics[:, 2], optics[:, 4], sky.low_sun)
    ice = min(1.0, max(0.0, height + _uniform((-0.4, 0.3), generator)))
    moist = {"B09": _uniform((0.5, 1.1), generator)}  # air holds more vapour in the tropics than in winter
    factor = [1.0] * len(bands)
    for index, band in enumerate(bands):
        if band in VAPOUR:
            lowest, exponent = VAPOUR[band]
            factor[index] = min(1.0, lowest * math.exp(exponent * height)) ** moist.get(band, 1.0)
        if band in ICE:
            factor[index] = 1 - (1 - ICE[band]) * ice
    tint = 1 + 0.03 * torch.randn(len(bands), generator=generator)
    return ((offset + slope * brightness).clamp(min=0) * torch.tensor(factor) * tint).view(-1, 1, 1)


def _shade(
    image: Tensor, kept: Tensor, layer: _Layer, bands: tuple[str, ...], sky: _Sky
) -> tuple[Tensor, Tensor]:
    """Return the image and its kept share with the layer's shadow on the ground."""
    distance = layer.height * 1000 * math.tan(math.radians(25 + 40 * sky.low_sun))  # 10 m pixels per 10 km
    shift = (round(distance * math.cos(sky.azimuth)), round(-distance * math.sin(sky.azimuth)))
    thickness = _window(torch.roll(layer.thickness, shift, (0, 1)), image)
    dark = (sky.shadow * (1 - torch.exp(-0.4 * thickness))).clamp_(0, 1.25)
    optics = torch.tensor([OPTICS[band] for band in bands])
    light = 1 - dark * (1 - optics[:, 6].view(-1, 1, 1))  # share of the ground's light that is left
    path = torch.minimum(image, optics[:, 5].view(-1, 1, 1))
    return torch.where(dark > 0, path + (image - path) * light, image), kept * light


def _cover(
    image: Tensor, kept: Tensor, glow: Tensor, layer: _Layer, bands: tuple[str, ...], sky: _Sky
) -> tuple[Tensor, Tensor]:
    """Return the image and its kept share under the layer itself."""
    seen = torch.stack([_seen(layer, band, sky, image) for band in bands]).mul_(layer.spread)
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
    back = (round(4 * math.cos(sky.azimuth)), round(-4 * math.sin(sky.azimuth)))
    top = torch.log1p(layer.thickness)
    slope = top - torch.roll(top, (-back[0], -back[1]), (0, 1))
    return (1 - layer.relief * _window(slope, image)).clamp_(0.6, 1.3)


def _window(field: Tensor, image: Tensor, shift: int = 0) -> Tensor:
    """Return the part of a larger field that lies over the image, (H, W), `shift` rows down."""
    (rows, columns), (height, width) = field.shape, image.shape[1:]
    top, left = (rows - height) // 2, (columns - width) // 2
    start = min(max(top + shift, 0), rows - height)
    return field[start : start + height, left : left + width]


def _noise(
    size: tuple[int, int], scale_px: float, stretch: float, slope: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return two fractal fields of mean 0 and deviation 1 on a periodic grid larger than the image.

    Args:
        size: of the image in pixels.
        scale_px: size of the largest structures.
        stretch: their length by their width, in a random direction.
        slope: fall of the power with frequency; 8/3 is that of turbulence (Kolmogorov), in two dimensions.
        generator: of the white noise.
    """
    shape = tuple(32 * math.ceil(1.5 * side / 32) for side in size)
    fy, fx = _frequencies(shape)
    angle = _uniform((0, math.pi), generator)
    along = math.cos(angle) * fx + math.sin(angle) * fy
    across = math.cos(angle) * fy - math.sin(angle) * fx
    power = (along * stretch).square_().add_(across.square_()).add_(scale_px**-2).pow_(-slope / 4)
    power[0, 0] = 0
    white = torch.view_as_complex(torch.randn(*shape, 2, generator=generator))
    field = torch.fft.ifft2(white * power)
    both = field.real, field.imag
    first, second = ((part - part.mean()) / part.std().clamp(min=1e-12) for part in both)
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


def _uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    return limits[0] + (limits[1] - limits[0]) * float(torch.rand((), generator=generator))


def _log_uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    return math.exp(_uniform((math.log(limits[0]), math.log(limits[1])), generator))


def _chance(probability: float, generator: torch.Generator) -> bool:
    return _uniform((0, 1), generator) < probability
