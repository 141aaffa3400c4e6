"""Any clear scenes, over which clouds are simulated: a folder of GeoTIFFs, with or without radar."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.files import glob_files, is_hidden, only_files
from pellucid.data.ranges import SENTINEL1, SENTINEL2, Bands
from pellucid.data.raster import read_optical, read_radar
from pellucid.data.safe_product import is_named_product, is_product
from pellucid.data.schema import Strict
from pellucid.data.slice_file import TIFF
from pellucid.data.tiff_stack import name_shape
from pellucid.datasets._listing import (
    CheckedSample,
    ImageFile,
    Listing,
    Problem,
    ScenePatches,
    Wanted,
    count_bands,
    first_image,
)
from pellucid.datasets._splits import check_patterns, is_named
from pellucid.errors import InputError, counted

# Any GeoTIFFs are taken, so that the other layouts are asked first.
IS_GENERAL = True
SIGN = "GeoTIFFs of several bands"


class Config(Strict):
    """Any clear scenes, over which clouds are simulated: GeoTIFFs, or Sentinel-2 products."""

    name: Literal["clear_scenes"] = "clear_scenes"
    root: Path
    """Folder of the scenes."""
    pattern: str = "**/*.tif"
    """Which files below the root are scenes."""
    radar_root: Path | None = None
    """Folder with radar of the same relative names; without it, there is no radar."""
    offset: Literal["auto", "none"] | int = "auto"
    """DN to add before dividing by 10000; "auto" asks the metadata, then the values."""
    group: str = ""
    """Regular expression whose first group names the place; empty: each file is a place."""
    exclude: tuple[str, ...] = ()
    """Scenes or places to leave out."""
    weight: float = Field(1.0, gt=0)
    """Share of these data in the training samples, relative to the others."""


@dataclass(frozen=True)
class SceneFiles:
    """The files of one clear scene; `key` is its path below the root without suffix, `group` the place."""

    key: str
    group: str
    optical: Path
    radar: Path | None

    def names(self) -> tuple[str, ...]:
        """Return what the scene may be called: its key, its file name and its place."""
        return self.key, Path(self.key).name, self.group


class ClearScenes(ScenePatches):
    """Whole clear scenes, each a `Batch` with B = 1 whose `degraded` is its `target`, and `cloud` is 0.

    `sar`, of the polarisations `radar`, is NaN where there is none. A scene that lacks one of the bands is
    refused, for instance one of level 2A (no B10) where all 13 of level 1C are wanted.
    """

    is_clear = True

    def __init__(
        self, config: Config, *, bands: Bands = SENTINEL2.bands, radar: Bands = SENTINEL1.bands
    ) -> None:
        if not config.root.is_dir():
            raise InputError(f"{config.root} is no folder; root must name a folder of clear scenes")
        scenes = [_find_scene(path, config) for path in _find_files(config)]
        if not scenes:
            raise InputError(
                f"no file in {config.root} fits the pattern {config.pattern!r}; change root or pattern"
            )
        if config.radar_root is not None and not any(scene.radar for scene in scenes):
            raise InputError(
                f"{config.radar_root} holds no radar named like a scene, for instance {scenes[0].key}.tif;"
                " leave radar_root out if there is none"
            )
        check_patterns([s.names() for s in scenes], config.exclude, where=f"exclude of {config.root}")
        self.scenes = [scene for scene in scenes if not is_named(scene.names(), config.exclude)]
        if not self.scenes:
            raise InputError(f"exclude takes every scene out of {config.root}; leave one at least")
        self.offset, self.bands = config.offset, bands
        self.radar_indices = [SENTINEL1.bands.index(band) for band in radar]
        self.keys = tuple(scene.key for scene in self.scenes)
        self.groups = tuple(scene.group for scene in self.scenes)

    def __getitem__(self, index: int) -> Batch:
        """Return scene `index`."""
        scene = self.scenes[index]
        clear, valid = read_optical(scene.optical, self.bands, offset=self.offset)
        sar = _read_radar(scene, clear)[self.radar_indices]
        cloud = torch.zeros_like(clear[:1])
        clear, sar, cloud, valid = (image[None] for image in (clear, sar, cloud, valid))
        return Batch(degraded=clear, target=clear, sar=sar, cloud=cloud, valid=valid, key=(scene.key,))


def build(config: Config, wanted: Wanted) -> ClearScenes:
    """Return the scenes, with the bands and polarisations of a method."""
    return ClearScenes(config, **wanted.of_scenes())


def recognise(root: Path) -> bool:
    """Return whether a folder's first image is a GeoTIFF of several bands, or it holds products."""
    if is_product(root) or _find_products(root):
        return True
    first = first_image(root)
    if first is None or first.suffix.lower() not in TIFF:
        return False
    if first.parent != root:
        _check_uniform(root)
    return count_bands(first) > 1


def _check_uniform(root: Path) -> None:
    firsts = {inner.name: next(iter(glob_files(inner, "*.tif")), None) for inner in root.iterdir()}
    bands = {name: count_bands(path) for name, path in sorted(firsts.items()) if path is not None}
    if len(set(bands.values())) > 1:
        names = ", ".join(f"{name} ({counted(number, 'band')})" for name, number in bands.items())
        raise InputError(f"{root} holds images of several kinds, {names}; name one of these folders")


def list_samples(config: Config) -> Listing:
    """Return the images of each scene."""
    samples, problems = [], []
    for scene in ClearScenes(config).scenes:
        images = [ImageFile("optical", scene.optical, "optical")]
        if scene.radar is not None:
            images.append(ImageFile("radar", scene.radar, "radar"))
        elif config.radar_root is not None:
            problems.append(Problem("no radar", f"{scene.key} has none in {config.radar_root}", scene.key))
        samples.append(CheckedSample(scene.key, scene.group, tuple(images)))
    return Listing(samples, problems)


def _find_files(config: Config) -> list[Path]:
    """Return the files of all scenes; without a pattern, products count too, and the root may be one."""
    if is_product(config.root):
        return [config.root]
    if config.pattern != Config.model_fields["pattern"].default:
        return glob_files(config.root, config.pattern)
    return [*glob_files(config.root, config.pattern), *_find_products(config.root)]


def _find_products(root: Path) -> list[Path]:
    return sorted(
        path for path in root.glob("**/S2*") if is_named_product(path) and not is_hidden(path, root)
    )


def _find_scene(path: Path, config: Config) -> SceneFiles:
    relative = Path(path.name) if path == config.root else path.relative_to(config.root)
    key = relative.with_suffix("").as_posix()
    radar = [] if config.radar_root is None else only_files([config.radar_root / relative])
    return SceneFiles(key, find_group(key, config.group), path, next(iter(radar), None))


def find_group(key: str, expression: str) -> str:
    """Return the first group of the expression in the key, or the key itself without an expression."""
    if not expression:
        return key
    try:
        if match := re.search(expression, key):
            return match[1]
    except (re.error, IndexError) as error:
        raise InputError(
            f"group: {expression!r} must be a regular expression with one group: {error}"
        ) from error
    raise InputError(f"group: {expression!r} finds no place in the name {key!r}; change the expression")


def _read_radar(scene: SceneFiles, clear: Tensor) -> Tensor:
    if scene.radar is None:
        return clear.new_full((len(SENTINEL1.bands), *clear.shape[-2:]), torch.nan)
    sar = read_radar(scene.radar)
    if sar.shape[-2:] != clear.shape[-2:]:
        found, needed = (name_shape(image.shape[-2:]) for image in (sar, clear))
        raise InputError(
            f"{scene.radar} has {found} pixels, its optical image {needed}; they must be on one grid"
        )
    return sar
