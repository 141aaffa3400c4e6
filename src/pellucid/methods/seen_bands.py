"""Which bands the networks of `ground` see of an image: a set that they were trained with.

Shown other sets, they keep clouds. What a set lacks is seen as a mean of other bands; what is beyond the set
is painted without the networks, by the regression alone, as bands of other sensors are.
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
# Each near infrared is seen in place of the other, and red edges as shares of red, the rest near infrared: as
# they are over clear ground of the training (rounded), and 1 in all, so that a cloud stays as bright.
NEAR_INFRARED, RED_SHARES = ("B08", "B8A"), {"B05": 0.8, "B06": 0.3, "B07": 0.05}
# What stands for green and near infrared where this alone is there. Green in place of near infrared does as
# well, red or blue alone are worse by 0.3 dB.
VISIBLE = {"B02": 0.5, "B04": 0.5}


class Place(NamedTuple):
    """Where the bands of an image are for the networks.

    Attributes:
        channels: of each band; beyond the 13 of Sentinel-2 where the networks do not see it.
        filled: shares of other channels that stand for a channel.
    """

    channels: tuple[int, ...]
    filled: Mapping[int, Mapping[int, float]]


@cache
def place(bands: Bands) -> Place:
    """Return where bands are: by the largest set that they fill, or as they are if they fill none."""
    for seen in SETS:
        filled = {band: _shares(band, bands) for band in seen if band not in bands}
        if all(filled.values()):
            break
    else:
        seen, filled = BANDS, {}
    others = [band for band in bands if band not in seen]
    channels = tuple(len(BANDS) + others.index(b) if b in others else BANDS.index(b) for b in bands)
    at = dict(zip(bands, channels, strict=True))
    shares = {BANDS.index(b): {at[o]: share for o, share in of.items()} for b, of in filled.items()}
    return Place(channels, shares)


def _shares(band: str, bands: Bands) -> dict[str, float]:
    """Return the shares of bands that are seen in place of one that is missing; none: nothing can be."""
    if not NEEDED.issubset(bands):
        return {}
    infrared = next((each for each in NEAR_INFRARED if each in bands), None)
    if band in RED_SHARES and infrared:
        return {"B04": RED_SHARES[band], infrared: 1 - RED_SHARES[band]}
    if band in NEAR_INFRARED and infrared:
        return {infrared: 1.0}
    return VISIBLE if band in ("B03", *NEAR_INFRARED) else {}
