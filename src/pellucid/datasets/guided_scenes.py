"""Scenes of any bands with whatever guides exist beside them: radar, other dates, real clouds."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.cloud_score import cloud_score
from pellucid.data.files import glob_files, only_files
from pellucid.data.ranges import SENTINEL1, SENTINEL2, Bands
from pellucid.data.raster import read_cloud
from pellucid.data.schema import Strict
from pellucid.data.tiff_stack import name_shape
from pellucid.datasets._guides import mirror, read_bands, read_polarisations
from pellucid.datasets._listing import ScenePatches, Wanted
from pellucid.datasets._splits import check_patterns, is_named
from pellucid.datasets.clear_scenes import find_group
from pellucid.errors import InputError


class Config(Strict):
    """Clear scenes of any bands with whatever guides exist beside them, and real clouds where they exist."""

    name: Literal["guided_scenes"] = "guided_scenes"
    root: Path
    """Folder of clear scenes."""
    pattern: str = "**/*.tif"
    """Which files below the root are scenes."""
    exclude: tuple[str, ...] = ()
    """Scenes or places to leave out."""
    group: str = ""
    """Regular expression whose first group names the place that belongs to one split; empty: each file."""
    radar_root: Path | None = None
    """Folder with radar of the same relative names; where a file or polarisation lacks, it is NaN."""
    radar_bands: tuple[str, ...] = ()
    """Names of the bands that are VV and VH, for instance those of one orbit, [ASC_VV, ASC_VH]."""
    older_root: Path | None = None
    """Folder with another date of each scene, of the same relative names."""
    older: str = ""
    """Regular expression whose first group names the patch of ground: its other scenes are other dates. In
    training one of them is drawn, else the one before it by number is taken, or the next."""
    cloudy_root: Path | None = None
    """Folder of really cloudy scenes, which are the samples then: each has its clear scene by name, or else
    the date before it, or next to it, by `older`. Radar and cloud map are of the cloudy date."""
    cloud_root: Path | None = None
    """Folder with cloud probability of the same names as the cloudy scenes; else it is the built-in score."""
    cloud_scale: float | None = Field(None, gt=0)
    """The value of these maps that means certainly cloud; none: their names and values tell."""
    bands: tuple[str, ...] = ()
    """Names by position, for files without band names."""
    offset: Literal["auto", "none"] | int = "auto"
    """DN to add before dividing by 10000; "auto" asks the metadata, then the values of each file."""
    pad: int = Field(0, ge=0)
    """Smaller scenes are continued to this side by their mirror image, which is not valid."""
    weight: float = Field(1.0, gt=0)
    """Share of these data in the training samples, relative to the others."""


@dataclass(frozen=True)
class SceneFiles:
    """The files of one sample; `spot` names the patch of ground that other dates show too, "" without."""

    key: str
    group: str
    spot: str
    clear: Path
    radar: Path | None = None
    older: Path | None = None
    cloudy: Path | None = None
    cloud: Path | None = None

    def names(self) -> tuple[str, ...]:
        """Return what the scene may be called: its key, its file name and its place."""
        return self.key, Path(self.key).name, self.group


class GuidedScenes(ScenePatches):
    """Whole scenes, each a `Batch` with B = 1 that has every field.

    What there is not, is NaN: bands, `sar`, `older`. `older` is the other date as it was, not brought to the
    colours of the scene: `finish_older` does that, once clouds are over the scene.
    """

    has_older = True

    def __init__(
        self, config: Config, *, bands: Bands = SENTINEL2.bands, radar: Bands = SENTINEL1.bands
    ) -> None:
        self.config, self.bands = config, bands
        self.radar_indices = [SENTINEL1.bands.index(band) for band in radar]
        self.is_clear = config.cloudy_root is None
        clear = _find_scenes(config, config.root, config.pattern)
        cloudy = config.cloudy_root
        self.scenes = clear if cloudy is None else _find_cloudy(config, cloudy, clear)
        self.keys = tuple(scene.key for scene in self.scenes)
        self.groups = tuple(scene.group for scene in self.scenes)
        self.spots = [scene.spot for scene in self.scenes]

    def companions(self, index: int) -> list[int]:
        """Return the samples that show the same ground as `index` on another date, without clouds."""
        spot = self.spots[index]
        if not spot or not self.is_clear:
            return []
        return [i for i, other in enumerate(self.spots) if other == spot and i != index]

    def __getitem__(self, index: int) -> Batch:
        """Return scene `index`."""
        scene = self.scenes[index]
        target, valid = self._read(scene.clear)
        degraded, cloud = target, torch.zeros_like(target[:1])
        if scene.cloudy is not None:
            degraded, is_seen = self._read(scene.cloudy)
            valid = valid & is_seen
            cloud = (
                read_cloud(scene.cloud, self.config.cloud_scale)
                if scene.cloud
                else cloud_score(degraded, self.bands)
            )
        nothing = target.new_full((1, 1, 1), torch.nan)  # takes no memory, however large
        sar, older = (nothing.expand(count, *target.shape[1:]) for count in (2, len(target)))
        if scene.radar is not None:
            sar = read_polarisations(scene.radar, self.config.radar_bands)
        if scene.older is not None:
            older, is_seen = self._read(scene.older)
            older = older.where(is_seen, torch.nan)
        target = target * valid
        images = {
            "degraded": target if scene.cloudy is None else degraded * valid,
            "target": target,
            "cloud": cloud * valid,
            "sar": sar[self.radar_indices] if scene.radar else sar[: len(self.radar_indices)],
            "older": older,
            "valid": valid,
        }
        return self._pad(scene, {name: image[None] for name, image in images.items()})

    def _read(self, path: Path) -> tuple[Tensor, Tensor]:
        return read_bands(path, self.bands, offset=self.config.offset, names=self.config.bands)

    def _pad(self, scene: SceneFiles, images: dict[str, Tensor]) -> Batch:
        sizes = {name: name_shape(image.shape[-2:]) for name, image in images.items()}
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise InputError(f"the images of {scene.key} differ in size ({found}); put them on one grid")
        height, width = images["valid"].shape[-2:]
        images = {name: mirror(image, self.config.pad) for name, image in images.items()}
        inside = torch.zeros_like(images["valid"])
        inside[..., :height, :width] = True
        batch = Batch(key=(scene.key,), **images)  # type: ignore[arg-type]
        return replace(batch, valid=batch.valid & inside)


def build(config: Config, wanted: Wanted) -> GuidedScenes:
    """Return the scenes, with the bands and polarisations of a method."""
    return GuidedScenes(config, **wanted.of_scenes())


def _find_scenes(config: Config, root: Path, pattern: str) -> list[SceneFiles]:
    """Return the scenes of a folder by name, with their guides."""
    if not root.is_dir():
        raise InputError(f"{root} is no folder; name a folder of clear scenes")
    found = sorted(glob_files(root, pattern), key=_by_number)
    scenes = [_find_scene(config, root, path) for path in found]
    if not scenes:
        raise InputError(f"no file in {root} fits the pattern {pattern!r}; change root or pattern")
    known = [scene.names() for scene in scenes]
    check_patterns(known, config.exclude if root == config.root else (), where=f"exclude of {root}")
    kept = [scene for scene in scenes if not is_named(scene.names(), config.exclude)]
    if not kept:
        raise InputError(f"exclude takes every scene out of {root}; leave one at least")
    return [replace(s, older=s.older or _other_date(s, kept, without=s.clear)) for s in kept]


def _find_scene(config: Config, root: Path, path: Path) -> SceneFiles:
    relative = path.relative_to(root)
    key = relative.with_suffix("").as_posix()
    spot = find_group(key, config.older) if config.older else ""
    guides = {"radar": config.radar_root, "older": config.older_root, "cloud": config.cloud_root}
    found = {name: folder / relative for name, folder in guides.items() if folder is not None}
    there = only_files(found.values())
    files = {name: file for name, file in found.items() if file in there}
    return SceneFiles(key, find_group(key, config.group), spot, path, **files)


def _find_cloudy(config: Config, root: Path, clear: list[SceneFiles]) -> list[SceneFiles]:
    """Return the cloudy scenes of a folder with their clear ones."""
    named = {scene.key: scene for scene in clear}
    samples = []
    for path in sorted(glob_files(root, config.pattern), key=_by_number):
        cloudy = _find_scene(config, root, path)
        target = named[cloudy.key].clear if cloudy.key in named else _other_date(cloudy, clear)
        if target is None:
            raise InputError(
                f"{path} has no clear scene in {config.root}, neither by name nor by older; add it, or "
                "restrict pattern"
            )
        older = cloudy.older or _other_date(cloudy, clear, without=target)
        samples.append(replace(cloudy, clear=target, cloudy=path, older=older))
    if not samples:
        raise InputError(f"no file in {root} fits the pattern {config.pattern!r}; change it")
    return samples


def _other_date(scene: SceneFiles, others: list[SceneFiles], *, without: Path | None = None) -> Path | None:
    """Return the clear scene of the same ground before this one by number, or else the one after it."""
    same = [o.clear for o in others if scene.spot and o.spot == scene.spot and o.clear != without]
    before = [path for path in same if _by_number(Path(path.name)) < _by_number(Path(scene.clear.name))]
    return before[-1] if before else next(iter(same), None)


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Return what sorts names by the numbers in them: 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.as_posix())]
