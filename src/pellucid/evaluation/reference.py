"""Folders -> data by which a trained model is judged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pellucid.build.datasets import COMPANION, check_pictures
from pellucid.datasets._listing import Patches, SingleImages
from pellucid.datasets.sar_optical import LISTS, SarOptical, SarOpticalSource
from pellucid.datasets.sen12ms_cr import Sen12MsCr, Sen12MsCrSource
from pellucid.datasets.slices import Slices, SlicesSource
from pellucid.errors import InputError
from pellucid.methods.method import Method

# Words about a pair of pictures by which its figures are told apart.
COLUMNS = ("region", "season")


def read_reference(
    method: Method,
    root: Path,
    *,
    split: Literal["train", "val", "test", "all"] = "all",
    splits: Path | None = None,
    legacy_fill: bool = False,
    lr: Path | None = None,
    numbers: tuple[int, int] | None = None,
    folders: tuple[str, ...] = (),
    trained: SarOpticalSource | None = None,
) -> Patches:
    """Return the images under a folder with which a method can be judged: slices, pictures, or SEN12MS-CR.

    An autoencoder is judged by the cloud-free images, or the radar, of what lies there.

    Args:
        method: decides what is read.
        root: folder of the patches, of the lists of pictures, or of the slices of high resolution.
        split: of the patches or pictures.
        splits: JSON of ROIs, or of region folders, per split.
        legacy_fill: of the patches, see `Sen12MsCrSource`.
        lr: folder of the slices of low resolution; without it, they are made.
        numbers: first and last of the slices.
        folders: region folders of the pictures, in place of a split.
        trained: the pictures that the method learnt from: these are prepared, prompted and split alike.

    Raises:
        InputError: if there is no such data, or the method is for other bands.
    """
    if method.optical.kind == "slice":
        return Slices(SlicesSource(name="slices", hr=root, lr=lr, numbers=numbers), scale=method.scale)
    if method.optical.kind == "picture" or any(root.glob(LISTS)):
        check_pictures(method.optical.bands, method.radar.bands)
        _check_split(split, splits, folders, trained)
        like = trained or SarOpticalSource(name="sar_optical", root=root)
        changes = {
            "root": root,
            "split": "all" if folders else split,
            "splits": splits or like.splits,
            "folders": folders,
            "exclude": (),
        }
        return _judged(SarOptical(like.model_copy(update=changes)), method)
    source = Sen12MsCrSource(
        name="sen12ms_cr", root=root, split=split, splits=splits, legacy_fill=legacy_fill
    )
    bands = method.optical.bands or COMPANION
    return _judged(Sen12MsCr(source, bands=bands, radar=method.radar.bands), method)


def words_of(images: Patches) -> tuple[Mapping[str, str], ...]:
    """Return what is known of each image's place: of pictures, region folder, region and season."""
    if isinstance(images, SingleImages):
        return words_of(images.patches)
    if not isinstance(images, SarOptical):
        return ()
    return tuple(
        {"folder": pair.group, **{column: pair.words[column] for column in COLUMNS}} for pair in images.pairs
    )


def _judged(patches: Patches, method: Method) -> Patches:
    """Return the patches as the method is judged by them."""
    if method.task == "reconstruct":
        return SingleImages(patches, "optical" if method.optical.bands else "radar")
    return patches


def _check_split(
    split: str, splits: Path | None, folders: tuple[str, ...], trained: SarOpticalSource | None
) -> None:
    """Refuse a split of which the training knew nothing: its test part may have been learnt."""
    if trained is None or trained.split != "all" or trained.splits or splits or folders or split == "all":
        return
    raise InputError(
        f"this model was not trained on a split, so that split {split!r} may hold what it has seen; name the"
        " region folders with --folders r_006, or take --split all"
    )
