"""SEN12MS-CR: radar, cloudy and cloud-free images of the same places.

Ebel, Meraner, Schmitt and Zhu 2020, doi:10.1109/TGRS.2020.3024744. Three layouts are read: the lists
(`data.csv`) of the published GLF-CR code, the dataset's own folders
(ROIs1158_spring_s1/s1_1/ROIs1158_spring_s1_1_p30.tif), and plain folders s2_cloudy/, s2_cloudfree/ and, where
there is one, s1/, paired by file name.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.cloud_score import NEEDED, cloud_score
from pellucid.data.geotiff import Raster
from pellucid.data.radar_units import find_unit
from pellucid.data.ranges import SENTINEL1, SENTINEL2, Bands, ValueRange
from pellucid.data.raster import read_optical, read_radar
from pellucid.data.schema import Strict
from pellucid.data.shards import Tree, is_there, is_whole
from pellucid.data.text_file import read_rows
from pellucid.datasets._listing import CLOUDY_ROLE, CheckedSample, ImageFile, Listing, ScenePatches, Wanted
from pellucid.datasets._splits import check_patterns, is_named, read_splits
from pellucid.errors import InputError

# ROIs1158_spring_s2_cloudy_1_p30 and ROIs1158_spring_1_p30 are both patch 30 of ROI ROIs1158_spring_1.
_NAME = re.compile(r"(?P<season>ROIs\d+_[a-z]+)(?:_s1|_s2|_s2_cloudy)?_(?P<number>\d+)_p(?P<patch>\d+)")
# ROIs1970_fall_139 was seen in fall.
_SEASON = re.compile(r"ROIs\d+_([a-z]+)_\d+")
# Column 0 of the published lists.
SPLIT_NUMBERS = {"1": "train", "2": "val", "3": "test"}

# Cloudy images in the dataset's own folders.
CLOUDY = "ROIs*_s2_cloudy/s2_cloudy_*/*.tif"

SIGN = "data.csv, s2_cloudy/ or ROIs*_s2_cloudy/"


class Config(Strict):
    """SEN12MS-CR: radar, cloudy and cloud-free images of the same places."""

    name: Literal["sen12ms_cr"] = "sen12ms_cr"
    root: Path
    """Folder of the dataset."""
    layout: Literal["auto", "csv", "rois", "folders"] = "auto"
    """How the folder is laid out; auto finds out."""
    csv: str = "data.csv"
    """Name of the list of the layout csv."""
    split: Literal["train", "val", "test", "all"] = "all"
    """Which patches are taken."""
    splits: Path | None = None
    """JSON with exact ROI names per split; only for the layouts without a split column."""
    exclude: tuple[str, ...] = ()
    """Patch names or ROIs to leave out."""
    legacy_fill: bool = False
    """Fill NaN with the mean over all bands, as the published loader does."""
    missing: Literal["refuse", "skip"] = "refuse"
    """What is done about patches of which a file, or the end of it, is missing: refused or left out."""
    weight: float = Field(1.0, gt=0)
    """Share of these data in the training samples, relative to the others."""


@dataclass(frozen=True)
class Patch:
    """The files of one patch, without radar where the layout has none.

    `key` names it without the sensor; `group` is the place (ROI), whose patches overlap and belong to one
    split; `split` is "" where the layout does not say it.
    """

    key: str
    group: str
    cloudy: Path
    clear: Path
    radar: Path | None
    split: str = ""

    def images(self) -> tuple[ImageFile, ...]:
        """Return the files as a check reads them."""
        radar = () if self.radar is None else (ImageFile("radar", self.radar, "radar"),)
        cloudy = ImageFile(CLOUDY_ROLE, self.cloudy, "optical")
        return cloudy, ImageFile("clear", self.clear, "optical"), *radar


class Sen12MsCr(ScenePatches):
    """Whole patches of SEN12MS-CR, each a `Batch` with B = 1.

    `sar`, of the polarisations `radar`, is NaN where there is none; `cloud` is the built-in score of the
    cloudy image, None if `bands` leaves out what it needs (B02 and B04).
    """

    def __init__(
        self, config: Config, *, bands: Bands = SENTINEL2.bands, radar: Bands = SENTINEL1.bands
    ) -> None:
        patches = find_patches(config)
        check_patterns([(p.key, p.group) for p in patches], config.exclude, where=f"exclude of {config.root}")
        kept = [p for p in patches if not is_named((p.key, p.group), config.exclude)]
        self.patches = _select_split(kept, config)
        if not self.patches:
            raise InputError(
                f"{config.root} has no patch of the split {config.split!r}; use split: all, or another"
            )
        if config.missing == "skip":
            self._leave_out()
        else:
            _refuse_missing(config.root, self.patches)
        self.legacy_fill, self.bands = config.legacy_fill, bands
        self.radar_indices = [SENTINEL1.bands.index(band) for band in radar]
        self.keys = tuple(patch.key for patch in self.patches)
        self.groups = tuple(patch.group for patch in self.patches)

    def _leave_out(self) -> None:
        lost = {
            patch.key: [file.path for file in patch.images() if not is_whole(file.path)]
            for patch in self.patches
        }
        self.left_out = tuple(f"{key}: {', '.join(map(str, paths))}" for key, paths in lost.items() if paths)
        self.patches = [patch for patch in self.patches if not lost[patch.key]]
        if not self.patches:
            raise InputError(
                f"no patch is whole, the first lacks {self.left_out[0]}; download more of the data"
            )

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index`, without cropping or change."""
        patch = self.patches[index]
        read = _read_filled if self.legacy_fill else read_optical
        degraded, has_degraded = read(patch.cloudy, self.bands)
        target, has_target = read(patch.clear, self.bands)
        sar = self._read_radar(patch, degraded)
        sizes = {tuple(image.shape[-2:]) for image in (degraded, target, sar)}
        if len(sizes) > 1:
            raise InputError(
                f"the images of {patch.key} differ in size, {sorted(sizes)}; they must be on one grid"
            )
        valid = has_degraded & has_target
        degraded, target = degraded * valid, target * valid
        cloud = (cloud_score(degraded, self.bands) * valid)[None] if NEEDED.issubset(self.bands) else None
        sar = sar[self.radar_indices]
        degraded, target, sar, valid = (image[None] for image in (degraded, target, sar, valid))
        return Batch(degraded=degraded, target=target, sar=sar, cloud=cloud, valid=valid, key=(patch.key,))

    def _read_radar(self, patch: Patch, degraded: Tensor) -> Tensor:
        if patch.radar is None:
            return degraded.new_full((len(SENTINEL1.bands), *degraded.shape[-2:]), torch.nan)
        if self.legacy_fill:
            return _fill(patch.radar, SENTINEL1, scale=1.0)
        return read_radar(patch.radar)


def build(config: Config, wanted: Wanted) -> Sen12MsCr:
    """Return the patches, with the bands and polarisations of a method."""
    return Sen12MsCr(config, **wanted.of_scenes())


def recognise(root: Path) -> bool:
    """Return whether a folder has one of the three layouts, lists under the usual name."""
    try:
        return bool(_detect_layout(Config(root=root)))
    except InputError:
        return False


def from_list(path: Path) -> dict[str, object] | None:
    """Return the keys of a config for a list of the published GLF-CR code; None: it is none."""
    rows = read_rows(path, "the list")
    is_ours = bool(rows) and rows[0][1][0].removesuffix(".0") in SPLIT_NUMBERS
    return {"root": path.parent, "layout": "csv", "csv": path.name} if is_ours else None


def list_samples(config: Config) -> Listing:
    """Return the images of every patch, whether or not it is excluded or of the config's split."""
    patches = find_patches(config.model_copy(update={"splits": None}))
    split_of = {patch.key: patch.split for patch in patches}
    split_by = "as listed" if any(split_of.values()) else ""
    if config.splits is not None:
        split_by = config.splits.name
        splits = read_splits(config.splits, known=[patch.group for patch in patches])
        place = {name: split for split, groups in splits.items() for name in groups}
        split_of = {patch.key: place.get(patch.group, "") for patch in patches}
    samples = []
    for patch in patches:
        season = _SEASON.match(patch.key)
        words = {"season": season[1] if season else ""}
        samples.append(CheckedSample(patch.key, patch.group, patch.images(), split_of[patch.key], words))
    return Listing(samples, split_by=split_by, is_uniform=True)


def name_patch(stem: str) -> tuple[str, str]:
    """Return the name of a patch without its sensor, and its ROI; another name is its own place.

    Example: `ROIs1158_spring_s2_cloudy_1_p30` gives (`ROIs1158_spring_1_p30`, `ROIs1158_spring_1`).
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        return stem, stem
    roi = f"{match['season']}_{match['number']}"
    return f"{roi}_p{match['patch']}", roi


def find_patches(config: Config) -> list[Patch]:
    """Return every patch that the layout lists, whether or not its files exist."""
    if not config.root.is_dir():
        raise InputError(f"{config.root} is no folder; data root must name a copy of SEN12MS-CR")
    layout = _detect_layout(config) if config.layout == "auto" else config.layout
    if layout == "csv":
        if config.splits is not None:
            read_splits(config.splits)  # what is no list of splits is refused as that
            raise InputError(
                f"{config.csv} has its own split column, splits: {config.splits} cannot be used with it"
            )
        return _list_csv(config.root, config.root / config.csv)
    patches = _list_rois(config.root) if layout == "rois" else _list_folders(config.root)
    if not patches:
        raise InputError(
            f"{config.root} holds no patches in the layout {layout!r}; see layout: csv, rois or folders"
        )
    return patches


def _detect_layout(config: Config) -> str:
    if (config.root / config.csv).is_file():
        return "csv"
    tree = Tree(config.root)
    if tree.has_folder("s2_cloudy"):
        return "folders"
    if any(config.root.glob("ROIs*_s2_cloudy")) or tree.glob(CLOUDY):
        return "rois"
    if packed := tree.packed():
        raise InputError(
            f"{packed[0]} is compressed, so that no image in it can be read alone; a .tar is read "
            f"as it is: gunzip {packed[0].name}"
        )
    raise InputError(
        f"{config.root} is not SEN12MS-CR as known here: it has no {config.csv}, no s2_cloudy/ and no"
        " ROIs*_s2_cloudy/; name the folder that holds one of them"
    )


def _list_csv(root: Path, path: Path) -> list[Patch]:
    """Return the patches of a list without header, with 5 columns or 7 (separate file names)."""
    places, tree = _read_places(root), Tree(root)
    rows = read_rows(path, "the list")
    return [_parse_row(tree, row, f"{path}, line {line}", places) for line, row in rows]


def _parse_row(tree: Tree, row: list[str], where: str, places: dict[str, str]) -> Patch:
    cells = [cell.replace("\\", "/") for cell in row]
    while not cells[-1]:  # spreadsheets fill rows up
        cells.pop()
    if len(cells) not in (5, 7):
        raise InputError(
            f"{where} has {len(cells)} columns; 5 (split, radar, clear and cloudy folder, file name) or 7"
            " (with clear, radar and cloudy file name) are needed"
        )
    number, radar_folder, clear_folder, cloudy_folder = cells[:4]
    number = number.removesuffix(".0")
    if number not in SPLIT_NUMBERS:
        raise InputError(
            f"{where} begins with {number!r}; 1 (train), 2 (validation) or 3 (test) is needed, no header"
        )
    clear, radar, cloudy = cells[4:] if len(cells) == 7 else cells[4:] * 3
    key, roi = name_patch(Path(clear).stem)
    names = ((cloudy_folder, cloudy), (clear_folder, clear), (radar_folder, radar))
    cloudy_path, clear_path, radar_path = (tree.find(PurePosixPath(*name)) for name in names)
    return Patch(key, places.get(key, roi), cloudy_path, clear_path, radar_path, split=SPLIT_NUMBERS[number])


def _list_rois(root: Path) -> list[Patch]:
    patches, tree = [], Tree(root)
    for cloudy, path in tree.glob(CLOUDY):
        season = cloudy.parents[1].name.removesuffix("_s2_cloudy")
        number = cloudy.parent.name.removeprefix("s2_cloudy_")
        key, roi = name_patch(cloudy.stem)
        if roi != f"{season}_{number}":
            raise InputError(f"{path} does not belong into its folder, which is of the ROI {season}_{number}")
        patch = key.removeprefix(f"{roi}_")
        clear, radar = (
            PurePosixPath(f"{season}_{kind}")
            / f"{kind}_{number}"
            / f"{season}_{kind}_{number}_{patch}{cloudy.suffix}"
            for kind in ("s2", "s1")
        )
        has_radar = tree.has_folder(f"{season}_s1")
        patches.append(Patch(key, roi, path, tree.find(clear), tree.find(radar) if has_radar else None))
    return patches


def _list_folders(root: Path) -> list[Patch]:
    places, tree = _read_places(root), Tree(root)
    patches, has_radar = [], tree.has_folder("s1")
    for cloudy, path in tree.glob("s2_cloudy/*.tif"):
        key, roi = name_patch(cloudy.stem)
        clear, radar = (tree.find(PurePosixPath(kind, cloudy.name)) for kind in ("s2_cloudfree", "s1"))
        patches.append(Patch(key, places.get(key, roi), path, clear, radar if has_radar else None))
    return patches


def _refuse_missing(root: Path, patches: list[Patch]) -> None:
    """Refuse data of which a file, or the end of a `.tar`, is missing."""
    if broken := Tree(root).broken:
        raise InputError(
            f"{broken[0]} is not whole; download it again, or train on what is there with missing: skip"
        )
    for patch in patches:
        for file in patch.images():
            if not is_there(file.path):
                raise InputError(
                    f"{file.path} is missing; patch {patch.key} needs it, restore it, exclude the patch, or "
                    "train on what is there with missing: skip"
                )


def _read_places(root: Path) -> dict[str, str]:
    """Return the place of each patch from the columns `name` and `split_group` of index.csv, where it is."""
    path = root / "index.csv"
    if not path.is_file():
        return {}
    (_, header), *rows = read_rows(path, "the list") or [(1, [])]
    known = [dict(zip(header, row, strict=False)) for _, row in rows]
    return {row["name"]: row["split_group"] for row in known if row.get("name") and row.get("split_group")}


def _select_split(patches: list[Patch], config: Config) -> list[Patch]:
    if config.split == "all":
        return patches
    if config.splits is not None:
        splits = read_splits(config.splits)
        if config.split not in splits:
            raise InputError(f"{config.splits} has no split {config.split!r}; it has {', '.join(splits)}")
        return [patch for patch in patches if patch.group in splits[config.split]]
    if not any(patch.split for patch in patches):
        raise InputError(
            f"{config.root} does not say which patch is of the split {config.split!r};"
            " name a JSON of ROI names per split (splits: FILE), or use split: all"
        )
    return [patch for patch in patches if patch.split == config.split]


def _read_filled(path: Path, bands: Bands) -> tuple[Tensor, Tensor]:
    """Return an optical image as the published loader does: bands by position, NaN filled, all valid."""
    image = _fill(path, SENTINEL2, scale=1e-4)[[SENTINEL2.bands.index(band) for band in bands]]
    valid = image.isfinite().all(0, keepdim=True)
    return image.nan_to_num(nan=0.0), valid


def _fill(path: Path, values: ValueRange, *, scale: float) -> Tensor:
    """Return the image with NaN replaced by the mean over all its bands; one that is all NaN stays so."""
    with Raster(path, "image") as raster:
        dtype, image = raster.dataset.dtypes[0], raster.read_array().astype(np.float32)
    if len(image) != len(values.bands):
        raise InputError(
            f"{path} has {len(image)} bands, legacy_fill needs exactly {', '.join(values.bands)}"
        )
    if not np.isnan(image).all():
        name = f"the radar scene {path}"
        if values.unit == "dB" and find_unit(image, name, dtype=dtype, polarisations=values.bands) != "db":
            raise InputError(
                f"{path} holds linear power, legacy_fill needs dB; convert it, or leave that out"
            )
        image = np.where(np.isnan(image), np.nanmean(image), image)
    return values.to_unit(torch.from_numpy(image) * scale)
