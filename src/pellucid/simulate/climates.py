"""What landscapes are made of: materials with their spectra and echoes, and climates that mix them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Classes of ESA WorldCover (doi:10.5281/zenodo.7254221), as used in `Landscape.land_cover`.
TREES, GRASS, CROPS, BUILT, BARE, SNOW, WATER = 10, 30, 40, 50, 60, 70, 80


class Material(NamedTuple):
    """One ingredient of a pixel."""

    reflectance: tuple[float, ...]  # top of the atmosphere, Level 1C, B01 ... B12 in the order of `SENTINEL2`
    vv_db: float  # backscatter, gamma nought
    vh_db: float
    land_cover: int  # WorldCover class


# Medians over classes and hand-picked areas of the TerraMesh samples and of cloud-free SEN12MS-CR patches:
# rain forest, sand, sea of 282D_485L; dry grass of 38D_378R; fields of 637U_59R; conifers of 433D_629L;
# snow of ROIs1158_spring_26; soils and crops of ROIs1868_summer_102 and oriolac_5349; towns of oriolac_6317.
_TABLE = (
    ("crop", ".125 .096 .090 .060 .100 .300 .390 .380 .430 .120 .001 .195 .085", -10.5, -16.5, CROPS),
    ("young", ".130 .104 .094 .085 .115 .215 .255 .252 .285 .095 .001 .215 .125", -12.0, -19.0, CROPS),
    ("meadow", ".126 .100 .094 .070 .112 .240 .295 .290 .325 .100 .001 .215 .110", -12.3, -18.3, GRASS),
    ("leaves", ".122 .090 .071 .042 .074 .191 .237 .232 .265 .072 .001 .104 .039", -8.3, -13.9, TREES),
    ("needles", ".116 .083 .060 .040 .056 .123 .148 .147 .165 .055 .001 .076 .035", -9.3, -15.2, TREES),
    ("straw", ".138 .122 .127 .156 .181 .222 .253 .248 .288 .074 .002 .337 .239", -12.6, -19.0, GRASS),
    ("brown_soil", ".138 .116 .115 .125 .147 .167 .184 .185 .205 .072 .001 .255 .190", -13.0, -20.5, BARE),
    ("red_soil", ".134 .110 .110 .160 .182 .200 .215 .218 .245 .080 .001 .320 .245", -13.5, -21.0, BARE),
    ("wet_soil", ".128 .100 .086 .084 .096 .106 .116 .116 .128 .050 .001 .145 .105", -11.5, -19.0, BARE),
    ("sand", ".220 .225 .240 .275 .285 .305 .325 .318 .350 .090 .002 .418 .356", -16.5, -22.5, BARE),
    ("rock", ".160 .145 .143 .150 .160 .170 .180 .182 .195 .090 .002 .220 .190", -11.0, -18.0, BARE),
    ("concrete", ".175 .165 .168 .175 .185 .198 .210 .215 .222 .095 .002 .225 .195", -3.5, -11.5, BUILT),
    ("tiles", ".145 .130 .135 .165 .180 .195 .208 .212 .222 .090 .002 .250 .215", -3.0, -11.0, BUILT),
    ("metal", ".300 .310 .320 .330 .335 .340 .345 .350 .350 .160 .003 .300 .260", 1.0, -8.0, BUILT),
    ("asphalt", ".145 .118 .108 .104 .110 .120 .127 .130 .135 .060 .001 .140 .118", -13.5, -21.0, BUILT),
    ("clear_water", ".124 .086 .052 .028 .023 .019 .017 .014 .012 .005 .001 .004 .003", -20.5, -27.0, WATER),
    ("mud_water", ".140 .117 .112 .095 .086 .062 .057 .047 .042 .016 .001 .010 .006", -19.5, -26.5, WATER),
    ("snow", ".700 .690 .640 .670 .690 .700 .690 .660 .655 .380 .007 .060 .055", -14.5, -21.9, SNOW),
)
MATERIALS = {
    name: Material(tuple(float(value) for value in spectrum.split()), vv_db, vh_db, land_cover)
    for name, spectrum, vv_db, vh_db, land_cover in _TABLE
}
NAMES = tuple(MATERIALS)

Recipe = Mapping[str, float]  # share of each material


def mix(recipe: Recipe) -> NDArray[np.float32]:
    """Return the recipe as a share per material, summing to 1."""
    shares = np.array([recipe.get(name, 0.0) for name in NAMES], np.float32)
    return shares / shares.sum()


@dataclass(frozen=True)
class Climate:
    """What grows, and how the land is used; a pair of numbers is a range."""

    wild: Recipe  # ground where nothing else is
    crops: tuple[tuple[float, Recipe], ...]  # recipes of a field, each with its frequency
    forest: Recipe
    forest_share: tuple[float, float]  # of the land
    field_share: tuple[float, float]  # of the land
    parcel_px: tuple[float, float]  # width of a field
    relief: tuple[float, float]  # steepness of the hills; 1: mountains
    soil: str  # material that thin vegetation lets through
    frequency: float  # share of the scenes
    mud: tuple[float, float] = (0.1, 0.9)  # share of mud in rivers
    snow: tuple[float, float] = (0.0, 0.0)  # share of the ground under snow
    towns: tuple[int, int] = (3, 14)  # in 1000 x 1000 pixels


_GREEN: Recipe = {"crop": 1.0}
_MEADOW: Recipe = {"meadow": 1.0}
_STUBBLE: Recipe = {"straw": 0.6, "brown_soil": 0.4}
_PLOUGHED: Recipe = {"brown_soil": 0.7, "wet_soil": 0.3}
_WET: Recipe = {"wet_soil": 1.0}
_SPROUTING: Recipe = {"young": 0.7, "brown_soil": 0.3}
_STRAW: Recipe = {"straw": 1.0}
_WINTER: Recipe = {"young": 0.5, "wet_soil": 0.5}
CLIMATES: dict[str, Climate] = {
    "summer": Climate(
        wild={"meadow": 0.8, "leaves": 0.2},
        crops=((3, _GREEN), (2, _MEADOW), (2, _STUBBLE), (1.5, _SPROUTING), (1, _PLOUGHED), (0.4, _STRAW)),
        forest={"leaves": 0.7, "needles": 0.3},
        forest_share=(0.05, 0.5),
        field_share=(0.4, 1.0),
        parcel_px=(8, 32),
        relief=(0.0, 0.5),
        soil="brown_soil",
        frequency=0.22,
    ),
    "autumn": Climate(
        wild={"meadow": 0.6, "straw": 0.3, "leaves": 0.1},
        crops=((1, _GREEN), (2, _MEADOW), (2, _STUBBLE), (2, _PLOUGHED), (2, _SPROUTING), (1.5, _WET)),
        forest={"leaves": 0.4, "needles": 0.4, "brown_soil": 0.2},
        forest_share=(0.05, 0.4),
        field_share=(0.5, 1.0),
        parcel_px=(8, 40),
        relief=(0.0, 0.4),
        soil="brown_soil",
        frequency=0.18,
    ),
    "boreal": Climate(
        wild={"meadow": 0.4, "needles": 0.3, "wet_soil": 0.3},
        crops=((2, _MEADOW), (1, _GREEN), (1, _PLOUGHED), (1, _SPROUTING)),
        forest={"needles": 0.85, "leaves": 0.15},
        forest_share=(0.5, 0.85),
        field_share=(0.0, 0.3),
        parcel_px=(6, 16),
        relief=(0.0, 0.5),
        soil="wet_soil",
        frequency=0.1,
        mud=(0.0, 0.3),
        towns=(0, 4),
    ),
    "dry": Climate(
        wild={"straw": 0.5, "red_soil": 0.3, "sand": 0.05, "rock": 0.15},
        crops=(
            (2, {"straw": 0.7, "red_soil": 0.3}),
            (2, {"red_soil": 0.8, "straw": 0.2}),
            (1, {"young": 0.4, "straw": 0.6}),
            (0.7, _GREEN),
            (1, _STRAW),
        ),
        forest={"needles": 0.35, "straw": 0.4, "leaves": 0.25},
        forest_share=(0.0, 0.25),
        field_share=(0.1, 0.7),
        parcel_px=(6, 24),
        relief=(0.1, 1.0),
        soil="red_soil",
        frequency=0.16,
        mud=(0.4, 1.0),
        towns=(1, 8),
    ),
    "desert": Climate(
        wild={"sand": 0.55, "rock": 0.25, "red_soil": 0.2},
        crops=((3, _GREEN), (1, {"red_soil": 0.6, "sand": 0.4}), (1, {"young": 0.6, "sand": 0.4})),
        forest={"leaves": 0.3, "straw": 0.3, "sand": 0.4},
        forest_share=(0.0, 0.05),
        field_share=(0.0, 0.25),
        parcel_px=(8, 24),
        relief=(0.2, 1.2),
        soil="sand",
        frequency=0.08,
        mud=(0.5, 1.0),
        towns=(0, 5),
    ),
    "tropics": Climate(
        wild={"leaves": 0.6, "meadow": 0.4},
        crops=((3, _MEADOW), (2, {"leaves": 0.5, "crop": 0.5}), (1, {"red_soil": 1}), (1, _GREEN)),
        forest={"leaves": 1.0},
        forest_share=(0.4, 0.9),
        field_share=(0.1, 0.7),
        parcel_px=(10, 40),
        relief=(0.0, 0.7),
        soil="red_soil",
        frequency=0.14,
        mud=(0.5, 1.0),
        towns=(0, 6),
    ),
    "winter": Climate(
        wild={"straw": 0.5, "meadow": 0.3, "wet_soil": 0.2},
        crops=((2, _WET), (2, _STUBBLE), (2, _PLOUGHED), (1.5, _WINTER), (1, _MEADOW)),
        forest={"needles": 0.5, "leaves": 0.1, "brown_soil": 0.4},
        forest_share=(0.1, 0.5),
        field_share=(0.3, 1.0),
        parcel_px=(10, 40),
        relief=(0.0, 0.7),
        soil="wet_soil",
        frequency=0.12,
        snow=(-0.3, 0.8),
    ),
}
