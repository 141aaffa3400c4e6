"""Frozen models of what a config says about data: the sources, and how samples are changed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sen12MsCrSource(Strict):
    """SEN12MS-CR: radar, cloudy and cloud-free images of the same places."""

    name: Literal["sen12ms_cr"]
    root: Path
    layout: Literal["auto", "csv", "rois", "folders"] = "auto"
    csv: str = "data.csv"
    split: Literal["train", "val", "test", "all"] = "all"
    splits: Path | None = None
    """JSON with exact ROI names per split; only for the layouts without a split column."""
    exclude: tuple[str, ...] = ()
    """Sample names or ROIs to leave out."""
    legacy_fill: bool = False
    """Fill NaN with the mean over all bands, as the published loader does."""
    weight: float = Field(1.0, gt=0)
    """Share of this source in training, relative to the others."""


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


class SyntheticSource(Strict):
    """Made-up landscapes with radar, over which clouds are simulated."""

    name: Literal["synthetic"]
    num_scenes: int = Field(64, gt=0)
    size: int = Field(256, gt=0)
    seed: int = 0
    weight: float = Field(1.0, gt=0)


class SlicesSource(Strict):
    """Slices of tomograms: of high resolution alone, or paired by name with slices of low resolution."""

    name: Literal["slices"]
    hr: Path
    """Folder of the high resolution."""
    lr: Path | None = None
    """Folder of the low resolution; without it, it is made by Pillow's bicubic reduction."""
    pattern: str = "*"
    numbers: tuple[int, int] | None = None
    """First and last number, taken from the end of the file's name, or the page of a stack, from 0."""
    exclude: tuple[str, ...] = ()
    weight: float = Field(1.0, gt=0)


class SarOpticalSource(Strict):
    """Pictures of radar and of the same places in colour, which lists data_r_NNN.csv pair."""

    name: Literal["sar_optical"]
    root: Path
    split: Literal["train", "val", "test", "all"] = "all"
    """Whole region folders (r_NNN) belong to one split."""
    shares: tuple[NotNegative, NotNegative, NotNegative] = (0.8, 0.1, 0.1)
    """Of the pairs in train, val and test, relative to their sum."""
    seed: int = 0
    """Another one divides the folders otherwise."""
    splits: Path | None = None
    """JSON with exact folder names per split, in place of `shares` and `seed`."""
    folders: tuple[str, ...] = ()
    """Region folders to take; none: all."""
    exclude: tuple[str, ...] = ()
    """Pairs or region folders to leave out."""
    prompt: str = "Colorise image, Region: {region}, Season: {season}"
    """Text of a pair, with {columns} of the lists; a clause (up to a comma) with an empty one is left out."""
    size: int = Field(0, ge=0)
    """Side in pixels to which every picture is resized; 0: none is."""
    weight: float = Field(1.0, gt=0)

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not sum(value):
            raise ValueError("one share at least must be above 0")
        return value


Source = Annotated[
    Sen12MsCrSource | ClearScenesSource | SyntheticSource | SlicesSource | SarOpticalSource,
    Field(discriminator="name"),
]


class LowResolutionAugment(Strict):
    """Random changes of the low-resolution image alone, in training; probabilities, then their ranges."""

    intensity: float = Field(0.0, ge=0, le=1)
    contrast: tuple[float, float] = (0.85, 1.15)
    brightness: tuple[float, float] = (-0.1, 0.1)
    noise: float = Field(0.0, ge=0, le=1)
    noise_std: tuple[float, float] = (0.01, 0.05)
    blur: float = Field(0.0, ge=0, le=1)
    blur_sigma: tuple[float, float] = (0.3, 0.8)
    """In pixels of the low resolution."""


class PictureAugment(Strict):
    """Random changes of pictures and the radar beside them, in training; 0 switches each off."""

    rotation: float = Field(0.0, ge=0, le=45)
    """Degrees: both are turned by an angle in [-rotation, rotation]; what comes from outside is not valid."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """The picture alone is multiplied by a factor in [1 - brightness, 1 + brightness]."""
    contrast: float = Field(0.0, ge=0, lt=1)
    """Likewise, about the picture's mean grey."""
    saturation: float = Field(0.0, ge=0, lt=1)
    """Likewise, about each pixel's grey."""
    hue: float = Field(0.0, ge=0, le=0.5)
    """Its hues are moved by a part in [-hue, hue] of the colour circle."""
    radar_noise: float = Field(0.0, ge=0, lt=1)
    """Standard deviation of Gaussian noise on the radar alone, in [0, 1]."""


class AugmentConfig(Strict):
    """Random changes of a training sample, each drawn once for all its images."""

    flip: bool = True
    turn: bool = True
    scale: float = Field(0.0, ge=0, lt=1)
    """Zoom by a factor in [1 - scale, 1 + scale]."""
    gain: float = Field(0.0, ge=0, lt=1)
    """Reflectance is multiplied by a factor in [1 - gain, 1 + gain], one per image and one per band."""
    simulate: float = Field(0.0, ge=0, le=1)
    """Share of the pairs whose cloudy image is replaced by their clear one under simulated clouds; of the
    images of an autoencoder, share of those that are seen under such clouds."""
    score_clouds: float = Field(0.0, ge=0, le=1)
    """Share of the simulated skies that are told as the built-in cloud score sees them, not as they are: a
    network that is told the clouds must not trust the map more than it will deserve."""
    radar_shift: float = Field(0.0, ge=0, lt=1)
    """Standard deviation of a constant added to each polarisation, in units of its range."""
    drop_radar: float = Field(0.0, ge=0, le=1)
    """Share of the samples whose radar is taken away."""
    low_resolution: LowResolutionAugment = LowResolutionAugment()
    picture: PictureAugment = PictureAugment()


class DataConfig(Strict):
    """Where the images come from and how samples are cut."""

    train: tuple[Source, ...]
    val: tuple[Source, ...] = ()
    hold_out: tuple[str, ...] = ()
    """Groups (ROIs) taken out of training, whichever source they are in."""
    tile: int = Field(128, gt=0)
    """Side of a training crop in pixels."""
    augment: AugmentConfig = AugmentConfig()
    num_cached: int = Field(0, ge=0)
    """Training samples that a generative method keeps encoded on disk and repeats; 0: none is kept, no two
    are alike."""
    cache: Path = Path("cache")
    """Folder of the samples that are kept."""
