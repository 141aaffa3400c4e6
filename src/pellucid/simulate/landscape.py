"""Made-up landscapes: fields, forest, water, towns and roads as Sentinel-2 and Sentinel-1 would see them.

Both are views of one mixture of a few materials in each pixel, so that they agree as real images do.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pellucid.simulate.climates import (
    BARE,
    BUILT,
    CLIMATES,
    CROPS,
    GRASS,
    MATERIALS,
    NAMES,
    TREES,
    WATER,
    Climate,
    Recipe,
    mix,
)
from pellucid.simulate.shapes import (
    Array,
    Mask,
    Points,
    average,
    distance,
    fractal,
    meander,
    nearest,
    rim,
    road,
    table,
)

# Reflectance of the air per band: just below the darkest water of SEN12MS-CR (ROIs1868_summer_135).
AIR = (0.100, 0.066, 0.037, 0.018, 0.014, 0.011, 0.009, 0.007, 0.006, 0.002, 0.001, 0.001, 0.0)
# Looks of a Sentinel-1 ground-range product at 10 m (Sentinel-1 product definition: 4.4).
LOOKS = 4.4
# dB below which Sentinel-1 sees only its own noise (specified -22 dB; VH of calm water in the samples -29).
NOISE_FLOOR_DB = (-25.0, -31.0)


@dataclass(frozen=True)
class Landscape:
    """One place, seen by both satellites."""

    optical: Tensor  # (13, H, W) reflectance in [0, 1], clear, bands of `SENTINEL2`
    radar_db: Tensor  # (2, H, W) VV and VH in dB, with speckle
    land_cover: Tensor  # (H, W) uint8, classes of ESA WorldCover


@dataclass
class _Land:
    """The landscape while it is made."""

    rng: np.random.Generator
    climate: Climate
    shape: tuple[int, int]
    mixture: Array = field(init=False)  # (M, H, W) share of each material
    gain: Array = field(init=False)  # (H, W) brightness relative to the mixture's own
    echo_db: Array = field(init=False)  # (H, W) backscatter relative to the mixture's own
    roughness: Array = field(init=False)  # (H, W) deviation of backscatter from pixel to pixel, dB
    tilled: Mask = field(init=False)  # (H, W) fields, whatever grows there

    def __post_init__(self) -> None:
        self.mixture = np.zeros((len(NAMES), *self.shape), np.float32)
        self.gain = np.ones(self.shape, np.float32)
        self.echo_db = np.zeros(self.shape, np.float32)
        self.roughness = np.zeros(self.shape, np.float32)
        self.tilled = np.zeros(self.shape, np.bool_)

    def noise(self, scale_px: float, slope: float = 3.0) -> Array:
        return fractal(self.rng, self.shape, scale_px, slope)

    def paint(self, weight: Array | Mask, recipe: Recipe) -> None:
        """Cover the land with `recipe`, as densely as `weight` in [0, 1], (H, W), says."""
        where = np.flatnonzero(weight)
        share = weight.ravel()[where].astype(np.float32)
        flat = self.mixture.reshape(len(NAMES), -1)
        flat[:, where] = flat[:, where] * (1 - share) + mix(recipe)[:, None] * share

    def uniform(self, limits: tuple[float, float]) -> float:
        return float(self.rng.uniform(*limits))


def make_scene(size: int | tuple[int, int], seed: int) -> Landscape:
    """Return a landscape that `seed` alone decides, climate and season too, at 10 m per pixel.

    `size` is height and width in pixels, at least 16, or one number for both.
    """
    shape = (size, size) if isinstance(size, int) else size
    if min(shape) < 16:
        raise ValueError(f"a landscape of {shape[0]} x {shape[1]} pixels is too small, need at least 16 x 16")
    rng = np.random.default_rng(seed)
    climate = CLIMATES[str(rng.choice(list(CLIMATES), p=[each.frequency for each in CLIMATES.values()]))]
    land = _Land(rng, climate, shape)
    height = _hills(land)
    _grow_wild(land, height)
    _plough(land, height)
    _plant_forest(land, height)
    water = _flood(land, height)
    _build(land, water)
    snow = land.uniform(climate.snow)
    if snow > 0:
        _snow(land, snow, height)
    return Landscape(
        optical=torch.from_numpy(_look(land, height)),
        radar_db=torch.from_numpy(_listen(land, height)),
        land_cover=torch.from_numpy(_label(land)),
    )


def _hills(land: _Land) -> Array:
    """Return the height of the ground in pixels."""
    steep = land.uniform(land.climate.relief) ** 1.5
    ridges = 1 - np.abs(land.noise(land.uniform((60, 250)), 4.4))
    swell = land.noise(land.uniform((150, 600)), 4.6)
    share = land.uniform((0, 1))
    height = share * ridges + (1 - share) * swell + 0.08 * land.noise(60, 3.8)
    slope = np.hypot(*np.gradient(height)).mean()
    return (height * 0.3 * steep / max(float(slope), 1e-9)).astype(np.float32)


def _grow_wild(land: _Land, height: Array) -> None:
    """Cover everything with the climate's wild ground, in patches of its ingredients."""
    total = np.zeros(land.shape, np.float32)
    scale = land.uniform((40, 200))
    for name, share in land.climate.wild.items():
        weight = share * np.exp(0.8 * land.noise(scale, 2.6) + (0.1 * height if name == "rock" else 0))
        land.mixture[NAMES.index(name)] = weight
        total += weight
    land.mixture /= total
    land.gain *= 1 + 0.06 * land.noise(60, 2.2)
    land.roughness += 0.8


def _plough(land: _Land, height: Array) -> None:
    """Lay out fields: districts with a direction each, in them rows of parcels, each with its crop."""
    rng, climate = land.rng, land.climate
    parcel, district, edge, stripes = _parcels(land, land.uniform(climate.parcel_px))
    flat = 1 - np.clip(np.hypot(*np.gradient(ndimage.gaussian_filter(height, 4))) * 3, 0, 1)
    suitability = (
        average(land.noise(250) + 1.5 * flat, parcel) + 0.7 * table(rng, parcel) + 0.9 * table(rng, district)
    )
    tilled = suitability > np.quantile(suitability, 1 - land.uniform(climate.field_share))
    frequency = np.array([weight for weight, _ in climate.crops])
    frequency = frequency * rng.uniform(0.2, 1.8, len(frequency))
    choice = np.searchsorted(np.cumsum(frequency / frequency.sum())[:-1], table(rng, parcel))
    recipes = np.stack([mix(recipe) for _, recipe in climate.crops])  # (kinds, M)
    patchy = land.noise(25, 2.4)
    thin = np.clip(0.25 * table(rng, parcel) + 0.06 * patchy * table(rng, parcel), 0, 0.8)
    for kind, recipe in enumerate(recipes):
        here = tilled & (choice == kind)
        land.mixture[:, here] = (
            recipe[:, None] * (1 - thin[here]) + mix({climate.soil: 1})[:, None] * thin[here]
        )
    land.gain[tilled] = (0.88 + 0.24 * table(rng, parcel) + 0.025 * patchy + 0.03 * stripes)[tilled]
    land.roughness[tilled] = 0.0
    land.echo_db[tilled] = (5 * table(rng, parcel) - 2.5)[tilled]
    land.tilled = tilled
    margin = edge & tilled
    hedges = margin & (table(rng, district) < 0.4) & (land.noise(12, 2) > 0)
    land.paint(margin * np.float32(0.45), climate.wild)
    land.paint(hedges * np.float32(0.7), climate.forest)
    tracks = rim(district) & (rng.random() < 0.8)
    land.paint(tracks * np.float32(0.5), {climate.soil: 0.6, "asphalt": 0.4})


def _parcels(land: _Land, width_px: float) -> tuple[NDArray[np.int64], NDArray[np.int64], Mask, Array]:
    """Return parcel number, district number, parcel edges and the stripes of machines, (H, W) each."""
    rng, (rows, columns) = land.rng, land.shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    bend = min(6.0, width_px / 3)
    y, x = y + bend * land.noise(300, 5), x + bend * land.noise(300, 5)
    aspect = land.uniform((1.2, 4.5))
    count = max(2, min(80, int(rows * columns / (width_px * aspect * land.uniform((2.5, 8))) ** 2)))
    district = nearest(y, x, rng.uniform((0, 0), (rows, columns), (count, 2)))
    turned = rng.normal(0, 0.08, count) + rng.choice([0, math.pi / 2], count) + land.uniform((0, math.pi))
    turned = np.where(rng.random(count) < land.uniform((0, 0.8)), rng.uniform(0, math.pi, count), turned)
    angle = turned.astype(np.float32)[district]
    across = np.cos(angle) * x + np.sin(angle) * y
    along = np.cos(angle) * y - np.sin(angle) * x
    wide = (width_px * np.exp(rng.normal(0, 0.35, count))).astype(np.float32)[district]
    borders = np.cumsum(np.exp(rng.normal(0, 0.45, 4000))) - 2000
    row = np.searchsorted(borders, across / wide + 17.3 * district % 400)
    lane = (row * 7919 + district * 104729) % 65536
    jitter = rng.random(65536).astype(np.float32)[lane]
    column = np.searchsorted(borders, along / (wide * aspect) + 900 * jitter - 450)
    parcel = (lane * 31 + column * 15731) % 65536
    stripes = np.sin(across * (2 * math.pi / land.uniform((2.5, 6)))).astype(np.float32)
    return parcel, district, rim(parcel), stripes


def _plant_forest(land: _Land, height: Array) -> None:
    """Plant forests: partly along parcels, of stands that differ in age and kind, with some clear-cuts."""
    rng, climate = land.rng, land.climate
    stand, _, _, _ = _parcels(land, land.uniform((15, 50)))
    slope = np.hypot(*np.gradient(ndimage.gaussian_filter(height, 4)))
    suitability = land.noise(land.uniform((60, 300)), land.uniform((2.8, 3.8))) + 2 * slope
    wild = land.uniform((0.1, 0.9))  # the rest of the edges follow the stands
    suitability = wild * suitability + (1 - wild) * (
        average(suitability, stand) + land.uniform((0, 1.2)) * table(rng, stand)
    )
    edge = np.quantile(suitability, 1 - land.uniform(climate.forest_share))
    dense = np.clip((suitability - edge) * land.uniform((3, 15)), 0, 1) * (0.9 + 0.1 * land.noise(6, 1.5))
    dense = np.clip(dense, 0, 1) * (table(rng, stand) > 0.06)
    land.paint(dense, climate.forest)
    other = dense * np.clip(2.5 * table(rng, stand) - 1.6 + 0.3 * land.noise(40), 0, 1)
    land.paint(other * np.float32(0.7), {"leaves": 1} if "needles" in climate.forest else {"meadow": 1})
    crowns = land.noise(5, 1.2)
    land.gain = land.gain * (1 - dense) + dense * (0.9 + 0.2 * table(rng, stand) + 0.09 * crowns)
    land.roughness = land.roughness * (1 - dense) + dense * 0.5
    land.echo_db *= 1 - dense


def _flood(land: _Land, height: Array) -> Mask:
    """Lay rivers, lakes and sometimes a sea; return where water is."""
    rng = land.rng
    mud = {"mud_water": land.uniform(land.climate.mud)}
    mud["clear_water"] = 1 - mud["mud_water"]
    low = land.noise(land.uniform((80, 250)), 4.0) - 0.04 * height
    lakes = np.clip((low - np.quantile(low, 1 - max(0.0, land.uniform((-0.04, 0.06))))) * 12, 0, 1)
    lakes = lakes if lakes.mean() < 0.5 else np.zeros_like(lakes)
    if rng.random() < 0.15:
        y, x = np.mgrid[: land.shape[0], : land.shape[1]] / max(land.shape)
        turn = land.uniform((0, 2 * math.pi))
        coast = (math.cos(turn) * y + math.sin(turn) * x) * 6 + land.noise(300, 3.4) * 0.6
        beach = coast - np.quantile(coast, 1 - land.uniform((0.15, 0.6)))
        strand = np.clip(1 - np.abs(beach + 0.05) * land.uniform((8, 40)), 0, 1)
        land.paint(strand, {"sand": 0.8, "wet_soil": 0.2})
        lakes = np.maximum(lakes, np.clip(beach * 60, 0, 1))
    land.paint(lakes, {"clear_water": 0.9, "mud_water": 0.1} if rng.random() < 0.7 else mud)
    deep = lakes
    for _ in range(rng.poisson(0.9 * max(0.7, max(land.shape) / 600))):
        width = math.exp(land.uniform((0.3, 3.2)))
        far = distance(land.shape, meander(rng, land.shape, width))
        bank = np.clip(1.5 - np.abs(far - width / 2) / (1 + 0.4 * width), 0, 1) * (land.noise(15, 2) > -0.3)
        shore = land.climate.forest if rng.random() < 0.6 else {"sand": 0.5, "wet_soil": 0.5}
        land.paint(bank * np.float32(0.6), shore)
        river = np.clip(width / 2 + 0.5 - far + 0.2 * width * land.noise(60), 0, 1)
        land.paint(river, mud)
        deep = np.maximum(deep, river)
    land.gain = land.gain * (1 - deep) + deep * (1 + 0.02 * land.noise(200) + 0.01 * land.noise(3, 1))
    land.roughness *= 1 - deep
    land.echo_db *= 1 - deep
    return deep > 0.5


def _build(land: _Land, water: Mask) -> None:
    """Build towns with streets and blocks, and the roads between them."""
    rng, climate = land.rng, land.climate
    area = land.shape[0] * land.shape[1] / 1e6
    count = rng.poisson(land.uniform(climate.towns) * area + 0.15)
    centres = rng.uniform((0, 0), land.shape, (count, 2))
    passing = rng.uniform(-0.3, 1.3, (2 + rng.poisson(1), 2)) * land.shape  # roads come from outside
    stops = np.concatenate([centres, passing])
    bridgeable = ndimage.uniform_filter(water.astype(np.float32), 25) < 0.6
    for start, end in zip(stops, np.roll(stops, 1, 0), strict=True):
        wide = rng.random() < 0.25
        lane = distance(land.shape, road(rng, start, end), limit=3)
        surface = {"asphalt": 0.75, "concrete": 0.25} if rng.random() < 0.7 else {climate.soil: 1.0}
        strip = np.clip((1.6 if wide else 0.9) - lane, 0, 1) * (0.85 if wide else 0.65)
        land.paint(strip * bridgeable, surface)
    for centre in centres:
        _town(land, centre, ~water)
    for centre in rng.uniform((0, 0), land.shape, (rng.poisson(25 * area * (climate.towns[1] / 10)), 2)):
        _farm(land, centre, ~water)


def _town(land: _Land, centre: Points, dry: Mask) -> None:
    """Build one town: a grid of streets, blocks of houses with gardens, halls at the edge."""
    rng = land.rng
    radius = math.exp(land.uniform((2.2, 4.4)))
    y, x = (axis.astype(np.float32) for axis in np.ogrid[: land.shape[0], : land.shape[1]])
    y, x = y - np.float32(centre[0]), x - np.float32(centre[1])
    far = np.hypot(y, x) / radius + 0.25 * land.noise(40, 2.6)
    inside = (far < 1) & dry
    angle = land.uniform((0, math.pi))
    wave = 2 * land.noise(120, 3.4)
    u = math.cos(angle) * x + math.sin(angle) * y + wave
    v = math.cos(angle) * y - math.sin(angle) * x + wave
    side = land.uniform((2, 3.2))
    block_u, block_v = land.uniform((7, 13)), land.uniform((10, 22))
    house = ((u // side).astype(np.int64) * 7919 + (v // side).astype(np.int64) * 104729) % 65536
    block = ((u // block_u).astype(np.int64) * 31 + (v // block_v).astype(np.int64) * 15731) % 65536
    street = ((u % block_u) < 1) | ((v % block_v) < 1)
    dense = np.clip(1.2 - far, 0, 1) * (0.35 + 0.6 * table(rng, block))
    built = inside & ~street & (table(rng, house) < dense)
    gardens = {"meadow": 0.45, "leaves": 0.25, land.climate.soil: 0.15, "concrete": 0.15}
    land.paint(inside * np.float32(0.75), gardens)
    land.paint((inside & street) * np.float32(0.6), {"asphalt": 0.9, "concrete": 0.1})
    land.paint(built * np.float32(0.85), {"tiles": 0.5, "concrete": 0.3, "asphalt": 0.2})
    hall = inside & ~street & (table(rng, block) < land.uniform((0, 0.15)))
    land.paint(hall * np.float32(0.9), {"concrete": 0.5, "metal": 0.35, "asphalt": 0.15})
    land.gain[inside] = (0.8 + 0.45 * table(rng, house))[inside]
    land.roughness[inside] = 3.5


def _farm(land: _Land, centre: Points, dry: Mask) -> None:
    """Put a few buildings at one place."""
    for _ in range(land.rng.integers(1, 6)):
        top, left = (centre + land.rng.normal(0, 3, 2)).astype(int)
        spot = (
            slice(max(top, 0), max(top + land.rng.integers(1, 4), 0)),
            slice(max(left, 0), max(left + land.rng.integers(1, 5), 0)),
        )
        if dry[spot].size and dry[spot].all():
            roof = {"metal": 1.0} if land.rng.random() < 0.2 else {"tiles": 0.7, "meadow": 0.3}
            land.mixture[:, spot[0], spot[1]] = mix(roof)[:, None, None]
            land.roughness[spot] = 3.0


def _snow(land: _Land, share: float, height: Array) -> None:
    """Cover the ground with snow: less under trees, in towns, on water and in the valleys."""
    lying = np.clip(0.5 + 3 * (share - 0.5) + 0.03 * height + 0.25 * land.noise(200, 3), 0, 1)
    trees, built, water = (_share(land, kind) for kind in (TREES, BUILT, WATER))
    frozen = land.uniform((-1, 1))
    bare = np.clip(0.85 * trees + 0.6 * built + (1 if frozen < 0.3 else 0.1) * water, 0, 1)
    land.paint((lying * (1 - bare) * 0.96).astype(np.float32), {"snow": 1})


def _look(land: _Land, height: Array) -> Array:
    """Return what Sentinel-2 sees: mixture, light and shade, blur of the coarser bands, noise; (13, H, W)."""
    rng = land.rng
    spectra = np.array([MATERIALS[name].reflectance for name in NAMES], np.float32)
    spectra = spectra * np.exp(rng.normal(0, 0.07, (len(NAMES), 1)) + rng.normal(0, 0.03, spectra.shape))
    image = np.tensordot(spectra.astype(np.float32).T, land.mixture, 1).astype(np.float32)  # (13, H, W)
    sun = math.radians(land.uniform((25, 70)))  # from the zenith
    turn = math.radians(land.uniform((120, 220)))
    down, right = np.gradient(height)
    facing = math.cos(sun) + math.sin(sun) * (down * math.cos(turn) - right * math.sin(turn))
    shade = np.clip(facing / math.cos(sun), 0.25, 1.9)
    water = _share(land, WATER)
    light = (land.gain * (shade * (1 - water) + water)).astype(np.float32)
    air = np.minimum(np.array(AIR, np.float32)[:, None, None], 0.9 * image)  # hills do not shade it
    image = air * np.float32(land.uniform((0.9, 1.15))) + (image - air) * light
    for side, bands in ((2, (4, 5, 6, 8, 11, 12)), (6, (0, 9, 10))):  # of 20 m and 60 m pixels
        for band in bands:
            image[band] = ndimage.uniform_filter(image[band], side)
    image += 0.0015 * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0.0001, 1).astype(np.float32)


def _listen(land: _Land, height: Array) -> Array:
    """Return what Sentinel-1 hears: backscatter, relief, bright walls, speckle and noise; (2, H, W) dB."""
    rng = land.rng
    levels = np.array([[MATERIALS[name].vv_db, MATERIALS[name].vh_db] for name in NAMES])
    levels = levels + rng.normal(0, 0.8, (len(NAMES), 1)) + rng.normal(0, 0.4, levels.shape)
    windy = [NAMES.index("clear_water"), NAMES.index("mud_water")]
    levels[windy] += np.array([rng.uniform(-2, 5), rng.uniform(-1, 1.5)])
    power = np.tensordot((10 ** (levels / 10)).astype(np.float32).T, land.mixture, 1)  # (2, H, W)
    _, right = np.gradient(ndimage.gaussian_filter(height, 1))
    slope = (right * rng.choice([-1, 1])).astype(np.float32)  # towards a radar in the east or the west
    change_db = (1 - _share(land, WATER)) * np.clip(9 * slope, -6, 6) + 0.5 * land.noise(40, 2)
    change_db = change_db + land.roughness * rng.standard_normal(land.shape, np.float32)
    power = power * 10 ** ((change_db + land.echo_db) / 10)
    power = power + 10 ** (np.array(NOISE_FLOOR_DB)[:, None, None] / 10)
    speckle = rng.gamma(LOOKS, 1 / LOOKS, power.shape)
    return (10 * np.log10(power * speckle)).astype(np.float32)


def _label(land: _Land) -> NDArray[np.uint8]:
    """Return the land cover with the largest share, (H, W)."""
    classes = sorted({material.land_cover for material in MATERIALS.values()})
    largest = np.stack([_share(land, kind) for kind in classes]).argmax(0)
    cover = np.array(classes, np.uint8)[largest]
    cover[land.tilled & np.isin(cover, (GRASS, BARE))] = CROPS
    return cover


def _share(land: _Land, land_cover: int) -> Array:
    """Return the share of one land cover in each pixel, (H, W)."""
    return land.mixture[[material.land_cover == land_cover for material in MATERIALS.values()]].sum(0)
