"""What the layouts of the shelf have in common: their dataset, what a method wants, what a check lists."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pellucid.data.batch import Batch
from pellucid.data.files import glob_files
from pellucid.data.geotiff import Raster
from pellucid.data.prompts import describe_scenes
from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2, SLICE, Bands
from pellucid.data.slice_file import PICTURES
from pellucid.datasets._augment import AugmentConfig, change_clouds, change_image
from pellucid.errors import InputError

# Band that is read beside radar which is wanted alone: layouts of scenes pair it with optical images.
COMPANION = ("B02",)
# What a cloudy image is called in its sample.
CLOUDY_ROLE = "cloudy"


@dataclass(frozen=True)
class Wanted:
    """What a method needs of its data: optical bands, polarisations of the radar, or none of either.

    `scale` is how many times larger the target is than the degraded image, None if the method enlarges none.
    """

    bands: Bands
    radar: Bands
    scale: int | None = None

    def of_scenes(self) -> dict[str, Bands]:
        """Return the `bands` and `radar` to be read of Sentinel-2 and Sentinel-1 scenes."""
        if not {*self.bands} <= {*SENTINEL2.bands} or not {*self.radar} <= {*SENTINEL1.bands}:
            self.refuse("scenes of Sentinel-2 and Sentinel-1")
        return {"bands": self.bands or COMPANION, "radar": self.radar}

    def refuse(self, found: str) -> NoReturn:
        """Refuse data that are `found`, a kind of images, which the method is not for."""
        names = ", ".join((*self.bands, *self.radar))
        kind = {SLICE.bands: "slices", PICTURE.bands: "pictures"}.get(self.bands, "scenes")
        raise InputError(
            f"the data are {found}, but the method names {names}, which are bands of {kind}; choose other "
            "data, or a model for these"
        )


class Patches(Dataset[Batch]):
    """A dataset of whole patches; what is set here holds for a layout that says nothing else.

    Attributes:
        keys: name of each patch.
        groups: place of each patch; patches of one place belong to one split.
        is_clear: whether `degraded` is the clear image, over which clouds are simulated.
        has_older: whether samples have `older`: another date as it was, NaN where there is none.
        baseline: the mean spectrum with which a model is compared: that of all training images, or of those
            with the same prompt; None: there is no such baseline.
        prompts: text of each patch; () without texts.
        words: what is known of each patch, by which figures are grouped, under the same names; or ().
        left_out: a line about each patch that was left out because a file of it is missing or not whole.
    """

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    is_clear: bool = False
    has_older: bool = False
    baseline: Literal["spectrum", "prompt"] | None = "spectrum"
    prompts: tuple[str, ...] = ()
    words: tuple[Mapping[str, str], ...] = ()
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def companions(self, index: int) -> Sequence[int]:  # noqa: ARG002
        """Return the samples whose `target` may be the `older` of sample `index`: none."""
        return ()

    def change(self, batch: Batch, generator: torch.Generator, augment: AugmentConfig) -> Batch:  # noqa: ARG002
        """Return a training sample, which was cropped and turned, with its other random changes: none."""
        return batch


class ScenePatches(Patches):
    """Patches of Sentinel-2 scenes with the radar of Sentinel-1; `bands` are the optical ones."""

    bands: Bands

    def change(self, batch: Batch, generator: torch.Generator, augment: AugmentConfig) -> Batch:
        """Return the batch with another brightness and radar and, at times, under simulated clouds."""
        return change_clouds(batch, generator, augment=augment, bands=self.bands, is_clear=self.is_clear)


class Selected(Patches):
    """The patches of all places but those in `without`."""

    def __init__(self, patches: Patches, *, without: Sequence[str] = ()) -> None:
        self.patches = patches
        self.indices = [i for i, group in enumerate(patches.groups) if group not in without]
        self.keys = tuple(patches.keys[i] for i in self.indices)
        self.groups = tuple(patches.groups[i] for i in self.indices)
        self.prompts = tuple(patches.prompts[i] for i in self.indices) if patches.prompts else ()
        self.has_older = patches.has_older

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index` of those that are kept."""
        return self.patches[self.indices[index]]

    def companions(self, index: int) -> Sequence[int]:
        """Return the samples whose `target` may be the `older` of sample `index`, of those that are kept."""
        found = self.patches.companions(self.indices[index])
        return [self.indices.index(i) for i in found if i in self.indices]


class Described(Patches):
    """Scenes whose texts a template makes of their names; see `describe_scene`."""

    def __init__(self, patches: Patches, template: str) -> None:
        self.patches = patches
        self.keys, self.groups, self.words = patches.keys, patches.groups, patches.words
        self.is_clear, self.baseline, self.left_out = patches.is_clear, patches.baseline, patches.left_out
        self.prompts = describe_scenes(template, patches.keys)

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index` with its text."""
        return replace(self.patches[index], prompt=(self.prompts[index],))

    def change(self, batch: Batch, generator: torch.Generator, augment: AugmentConfig) -> Batch:
        """Return a training sample with the random changes of its scenes."""
        return self.patches.change(batch, generator, augment)


class SingleImages(Patches):
    """The clear image, or without `bands` the radar, of each patch, as `degraded` and `target` alike.

    Pixels without data are 0.
    """

    baseline = None

    def __init__(self, patches: Patches, bands: Bands) -> None:
        self.patches, self.bands = patches, bands
        self.keys, self.groups, self.words = patches.keys, patches.groups, patches.words
        self.left_out = patches.left_out

    def __getitem__(self, index: int) -> Batch:
        """Return the image of patch `index`."""
        batch = self.patches[index]
        kind, image = ("optical", batch.target) if self.bands else ("radar", batch.sar)
        valid = batch.valid
        if image is not None and not self.bands:
            valid = image.isfinite().all(1, keepdim=True)
        if image is None or not valid.any():
            raise InputError(
                f"{batch.key[0]} has no {kind} image, which this autoencoder is for; exclude it, or "
                "leave its source out"
            )
        image = image.where(valid, 0)
        return Batch(degraded=image, target=image, valid=valid, key=batch.key)

    def change(self, batch: Batch, generator: torch.Generator, augment: AugmentConfig) -> Batch:
        """Return the image with another brightness, or radar, and at times under simulated clouds."""
        return change_image(batch, generator, augment=augment, bands=self.bands)


# How a file is read: as a Sentinel-2 or Sentinel-1 scene, a grey or colour picture, a slice, or by a function
# that returns (C, H, W) in [0, 1], NaN where there is no data.
Form: TypeAlias = Literal["optical", "radar", "gray", "color", "slice"] | Callable[[Path], NDArray[Any]]


@dataclass(frozen=True)
class ImageFile:
    """Where an image is and how it is read; `role` says what it is, "cloudy", `page` counts from 0."""

    role: str
    path: Path
    form: Form
    page: int = 0


@dataclass(frozen=True)
class CheckedSample:
    """Images that belong together, one per role, as a check reads them.

    `group` is the place, which belongs to one split; `split` is "" where there is none; `words` are what else
    is known, by name, "" where one is not.
    """

    key: str
    group: str
    images: tuple[ImageFile, ...]
    split: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Something wrong with data, as a `kind` in two or three words, "missing file", and in a sentence.

    `key` names the sample it is about, "" where it is about several. One that `is_fatal` makes the sample, or
    the splits, unusable.
    """

    kind: str
    text: str
    key: str = ""
    is_fatal: bool = False


@dataclass(frozen=True)
class Listing:
    """The samples of a folder, whether or not their files exist, and problems of the lists themselves.

    `split_by` says where the splits come from, "" where there are none; `is_uniform`, whether all samples
    should have one size.
    """

    samples: Sequence[CheckedSample]
    problems: Sequence[Problem] = ()
    split_by: str = ""
    is_uniform: bool = False


def first_image(root: Path) -> Path | None:
    """Return the first image file of a folder, or, where there is none, of the GeoTIFFs in its folders."""
    for pattern in ("*", "**/*.tif"):
        for path in glob_files(root, pattern):
            if path.suffix.lower() in PICTURES:
                return path
    return None


def count_bands(path: Path) -> int:
    """Return the number of bands of a GeoTIFF."""
    with Raster(path, "image", is_stack=True) as raster:
        return int(raster.dataset.count)
