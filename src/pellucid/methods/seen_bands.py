"""Which bands the networks of `ground` see of an image: a set that they were trained with.

Shown other sets, they keep clouds. What the smallest lacks is a mean of other bands; what is beyond a set is
painted without the networks, by the regression alone, as bands of other sensors are.
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from pellucid.data.cloud_score import NEEDED
from pellucid.data.ranges import Bands
from pellucid.networks._clearness import BANDS

# Those of training, largest first: Level 1C, Level 2A, what is sharp in it, and colours with near infrared.
SETS = (
    BANDS,
    tuple(band for band in BANDS if band != "B10"),
    ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    ("B02", "B03", "B04", "B08"),
)
# What stands for bands that the smallest set lacks, 1 in all, so that a cloud stays as bright: least squares
# over clear ground of the training, or blue and red (one of them alone is worse by 0.3 dB). Red edges, filled
# in for a larger set, leave more of the clouds.
FILLS = {
    "B08": ({"B8A": 0.8, "B04": 0.2}, {"B02": 0.5, "B04": 0.5}),
    "B03": ({"B02": 0.5, "B04": 0.5},),
}


class Place(NamedTuple):
    """Where the bands of an image are for the networks.

    Attributes:
        channels: of each band; beyond the 13 of Sentinel-2 where the networks do not see it.
        filled: shares of other channels that stand for a channel.
        twins: of each channel beyond the 13, that of the same band, whose prior it has; -1: there is none.
    """

    channels: tuple[int, ...]
    filled: Mapping[int, Mapping[int, float]]
    twins: tuple[int, ...]


@cache
def place(bands: Bands) -> Place:
    """Return where bands are: by the largest set that an image has, else the smallest, filled.

    Bands that show no clouds are all seen, as they are.
    """
    filled = dict[str, dict[str, float]]()
    seen = next((each for each in SETS if set(each) <= set(bands)), None)
    if seen is None and NEEDED.issubset(bands):
        seen = SETS[-1]
        missing = [band for band in seen if band not in bands]
        filled = {band: next(of for of in FILLS[band] if of.keys() <= set(bands)) for band in missing}
    seen = seen or BANDS
    others = [band for band in bands if band not in seen]
    channels = tuple(len(BANDS) + others.index(b) if b in others else BANDS.index(b) for b in bands)
    at = dict(zip(bands, channels, strict=True))
    shares = {BANDS.index(b): {at[o]: share for o, share in of.items()} for b, of in filled.items()}
    twins = tuple(BANDS.index(band) if band in BANDS else -1 for band in others)
    return Place(channels, shares, twins)
