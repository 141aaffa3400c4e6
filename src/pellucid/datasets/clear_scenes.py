"""Any clear scenes, over which clouds are simulated: a folder of GeoTIFFs, with or without radar."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.raster import read_optical, read_radar
from pellucid.datasets._splits import check_patterns, is_named
from pellucid.errors import InputError
from pellucid.schema import Strict


class ClearScenesSource(Strict):
    """Any clear scenes, over which clouds are simulated."""

    name: Literal["clear_scenes"]
    root: Path
    pattern: str = "**/*.tif"
    radar_root: Path | None = None
    """Folder with radar of the same relative names; without it, there is no radar."""
    offset: Literal["auto", "none"] | int = "auto"
    """DN to add before dividing by 10000; "auto" asks the metadata, then the values."""
    group: str = ""
    """Regular expression whose first group names the place; empty: each file is a place."""
    exclude: tuple[str, ...] = ()
    weight: float = Field(1.0, gt=0)


@dataclass(frozen=True)
class Scene:
    """The files of one clear scene.

    Attributes:
        key: path below the root, without its suffix.
        group: the place; scenes of one place belong to one split.
        radar: None where there is no radar.
    """

    key: str
    group: str
    optical: Path
    radar: Path | None

    def names(self) -> tuple[str, ...]:
        """Return what the scene may be called: its key, its file name and its place."""
        return self.key, Path(self.key).name, self.group


class ClearScenes(Dataset[Batch]):
    """Whole clear scenes, each a `Batch` with B = 1 whose `degraded` is its `target`, and `cloud` is 0.

    `sar` is NaN where there is no radar. A scene that lacks one of the bands is refused, for instance one of
    level 2A (no B10) where all 13 of level 1C are wanted.

    Args:
        source: where the scenes lie and which of them are meant.
        bands: optical bands of the images.
        radar: polarisations of `sar`.

    Attributes:
        keys: name of each scene.
        groups: place of each scene.

    Raises:
        InputError: if the pattern fits no file, no radar is found in a `radar_root`, or no scene is left.
    """

    def __init__(
        self,
        source: ClearScenesSource,
        *,
        bands: tuple[str, ...] = SENTINEL2.bands,
        radar: tuple[str, ...] = SENTINEL1.bands,
    ) -> None:
        if not source.root.is_dir():
            raise InputError(f"{source.root} is no folder; root must name a folder of clear scenes")
        scenes = [_find_scene(path, source) for path in sorted(source.root.glob(source.pattern))]
        if not scenes:
            raise InputError(
                f"no file in {source.root} fits the pattern {source.pattern!r}; change root or pattern"
            )
        if source.radar_root is not None and not any(scene.radar for scene in scenes):
            raise InputError(
                f"{source.radar_root} holds no radar named like a scene, for instance {scenes[0].key}.tif;"
                " leave radar_root out if there is none"
            )
        check_patterns([s.names() for s in scenes], source.exclude, where=f"exclude of {source.root}")
        self.scenes = [scene for scene in scenes if not is_named(scene.names(), source.exclude)]
        if not self.scenes:
            raise InputError(f"exclude takes every scene out of {source.root}; leave one at least")
        self.offset, self.bands = source.offset, bands
        self.radar_indices = [SENTINEL1.bands.index(band) for band in radar]
        self.keys = tuple(scene.key for scene in self.scenes)
        self.groups = tuple(scene.group for scene in self.scenes)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Batch:
        """Return scene `index`.

        Raises:
            InputError: if a file cannot be read, lacks a band, or its radar differs in size.
        """
        scene = self.scenes[index]
        clear, valid = read_optical(scene.optical, self.bands, offset=self.offset)
        sar = _read_radar(scene, clear)[self.radar_indices]
        cloud = torch.zeros_like(clear[:1])
        images = {"degraded": clear, "target": clear, "sar": sar, "cloud": cloud, "valid": valid}
        return Batch(key=(scene.key,), **{name: image[None] for name, image in images.items()})  # type: ignore[arg-type]


def _find_scene(path: Path, source: ClearScenesSource) -> Scene:
    relative = path.relative_to(source.root)
    key = relative.with_suffix("").as_posix()
    radar = None if source.radar_root is None else source.radar_root / relative
    return Scene(key, _find_group(key, source.group), path, radar if radar and radar.is_file() else None)


def _find_group(key: str, expression: str) -> str:
    """Return the first group of the expression in the key, or the key itself without an expression."""
    if not expression:
        return key
    try:
        match = re.search(expression, key)
        return match[1] if match else _refuse(key, expression)
    except (re.error, IndexError) as error:
        raise InputError(
            f"group: {expression!r} must be a regular expression with one group: {error}"
        ) from error


def _refuse(key: str, expression: str) -> str:
    raise InputError(f"group: {expression!r} finds no place in the name {key!r}; change the expression")


def _read_radar(scene: Scene, clear: Tensor) -> Tensor:
    if scene.radar is None:
        return clear.new_full((len(SENTINEL1.bands), *clear.shape[-2:]), torch.nan)
    sar = read_radar(scene.radar)
    if sar.shape[-2:] != clear.shape[-2:]:
        found, needed = (" x ".join(map(str, image.shape[-2:])) for image in (sar, clear))
        raise InputError(
            f"{scene.radar} has {found} pixels, its optical image {needed}; they must be on one grid"
        )
    return sar
