"""The golden tiles: two small made-up places with their truth, on which every model can be tried.

They ship as a file, because another version of numpy or scipy would make other places of the same seed:
`python -m pellucid.apply.golden_tile` made it.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pellucid.data.batch import Batch
from pellucid.data.drawing import RGB, WHITE
from pellucid.data.files import write_atomically
from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2, SLICE
from pellucid.data.run_folder import SHIPPED
from pellucid.methods.method import Method, result_range
from pellucid.simulate.clouds import SkyOptions, add_clouds
from pellucid.simulate.landscape import make_scene

TILES = SHIPPED / "golden" / "tiles.npz"
SIDE, SEED = 64, 2027
# The first place is clear in part, the second wholly under cloud.
SKIES = (
    SkyOptions(cover=(0.5, 0.5), overcast=0.0, thin=0.0, haze=0.0),
    SkyOptions(overcast=1.0, thin=0.0, haze=0.0),
)
# An older date reflects this share of the light.
OLDER = 0.9


def make_tiles(path: Path) -> None:
    """Write the tiles, all in [0, 1] and kept as 8 bit of their square roots, which dark ground needs."""
    images: dict[str, list[Tensor]] = {}
    for index, sky in enumerate(SKIES):
        scene, generator = make_scene(SIDE, SEED + index), torch.Generator().manual_seed(SEED + index)
        degraded, cloud = add_clouds(scene.optical, SENTINEL2.bands, generator, sky)
        found = {"degraded": degraded, "target": scene.optical, "older": OLDER * scene.optical}
        found |= {"cloud": cloud, "sar": SENTINEL1.to_unit(scene.radar_db)}
        for name, image in found.items():
            images.setdefault(name, []).append(image)
    stored = {name: (torch.stack(x).clamp(0, 1).sqrt() * 255).round().byte() for name, x in images.items()}
    arrays: dict[str, Any] = {name: x.numpy() for name, x in stored.items()}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)


@cache
def read_tiles() -> dict[str, Tensor]:
    """Return images by field of `Batch`, (2, C, 64, 64) in [0, 1], Sentinel-2's bands and VV, VH."""
    with np.load(TILES) as file:
        return {name: torch.from_numpy(file[name]).float().div(255).square() for name in file.files}


def tiles_for(method: Method) -> list[Batch]:
    """Return the tiles as the method gets them, B = 1 each; none if it is for images that they are not."""
    bands, tiles = result_range(method).bands, read_tiles()
    known = set(SENTINEL2.bands) | set(SENTINEL1.bands)
    if method.task == "embed" or not set(method.radar.bands) <= set(SENTINEL1.bands):
        return []
    sar = _select(tiles["sar"], SENTINEL1.bands, method.radar.bands) if method.radar.bands else None
    if bands == SLICE.bands and SIDE % method.scale == 0:
        target = _select(tiles["target"], SENTINEL2.bands, ("B08",))
        images = {"degraded": avg_pool2d(target, method.scale), "target": target}
    elif bands == PICTURE.bands and sar is not None:
        target = (_select(tiles["target"], SENTINEL2.bands, RGB) / WHITE).clamp(max=1)
        images = {"degraded": sar.mean(1, keepdim=True).expand(-1, 3, -1, -1), "target": target, "sar": sar}
    elif not bands or not set(bands) <= known:
        return []
    elif method.task == "reconstruct":
        target = sar if sar is not None else _select(tiles["target"], SENTINEL2.bands, bands)
        images = {"degraded": target, "target": target}
    else:
        names = ("degraded", "target", *(("older",) if method.takes_older else ()))
        images = {name: _select(tiles[name], SENTINEL2.bands, bands) for name in names}
        if method.takes_older:  # of the second place none is known
            images["older"] = torch.cat(
                [images["older"][:1], torch.full_like(images["older"][1:], torch.nan)]
            )
        images |= {"sar": sar} if sar is not None else {}
        images |= {} if method.finds_clouds else {"cloud": tiles["cloud"]}
    return [_batch(images, index, method) for index in range(len(SKIES))]


def _batch(images: dict[str, Tensor], index: int, method: Method) -> Batch:
    given: dict[str, Any] = {name: image[index : index + 1].contiguous() for name, image in images.items()}
    valid = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)
    prompt = ("",) if method.takes_text else None
    return Batch(valid=valid, key=(f"golden {index}",), prompt=prompt, **given)


def _select(image: Tensor, bands: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    return image[:, [bands.index(band) for band in wanted]]


if __name__ == "__main__":
    make_tiles(TILES)
