"""A YAML list of sources -> the images with which a trained model is evaluated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pellucid.data.batch import Batch
from pellucid.data.schema import parse, read_yaml
from pellucid.datasets._fixed import Clouded, fix
from pellucid.datasets._listing import Patches, SingleImages, Wanted
from pellucid.datasets._shelf import find_layout
from pellucid.errors import InputError
from pellucid.methods.method import Method


class Joined(Patches):
    """The patches of several sources, in their order."""

    def __init__(self, parts: Sequence[Patches]) -> None:
        self.parts = parts
        self.keys = tuple(key for part in parts for key in part.keys)
        self.groups = tuple(group for part in parts for group in part.groups)

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index`."""
        index = range(len(self))[index]
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)


def read_sources(method: Method, path: Path) -> Patches:
    """Return the images of a YAML file with a list `sources`, each as in `data.val` of a config.

    Clear scenes lie under simulated clouds with an exact map, always the same. The key `simulate` of a source
    is their seed, 0 without it; given for pairs, a number or true, which is 1, it puts such clouds over their
    clear images instead.
    """
    values = read_yaml(path)
    sources = values.get("sources") if isinstance(values, dict) else None
    if not isinstance(sources, list) or not sources or not all(isinstance(s, dict) for s in sources):
        raise InputError(
            f"{path} has no list of sources; write 'sources:' and below it entries as in data.val"
        )
    return Joined([_read(method, source, f"{path}, source {n}") for n, source in enumerate(sources, start=1)])


def _read(method: Method, source: dict[str, Any], where: str) -> Patches:
    keys = dict(source)
    seed = keys.pop("simulate", False)
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"{where}: simulate is {seed!r}; give the seed, a whole number from 0")
    if not isinstance(keys.get("name"), str):
        raise InputError(f"{where} has no name of a layout; give one, for instance name: guided_scenes")
    layout = find_layout(keys["name"])
    bands = method.optical.bands
    config = parse(layout.Config, keys, where=where)
    patches: Patches = layout.build(config, Wanted(bands, method.radar.bands, method.scale))
    if method.task == "reconstruct":
        return SingleImages(patches, bands)
    return fix(patches, bands, 0) if seed is False else Clouded(patches, bands, int(seed))
