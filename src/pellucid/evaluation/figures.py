"""The figures of one image: the restored one, and the baselines, against the reference."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import Tensor

from pellucid.build.run import read_metadata
from pellucid.data.batch import ANY_PROMPT, Batch
from pellucid.data.ranges import ValueRange
from pellucid.data.run_folder import find_run, shipped_runs
from pellucid.errors import InputError
from pellucid.evaluation.pores import Pores, find_pores
from pellucid.methods.method import Method
from pellucid.metrics import (
    consistency,
    gmsd,
    hallucination,
    inconsistency,
    legacy_psnr,
    legacy_ssim,
    mae,
    mean_inside,
    omission,
    psnr,
    rmse,
    sam,
    ssim_map,
    whole_windows,
)

# Cloud probability above which a pixel counts as cloudy by default, and as under thick cloud. In simulated
# pairs the map is one minus the share of the ground's light that comes through: thick cloud lets less than
# 5 % through.
CLOUDY, THICK = 0.5, 0.95
# Cloud probability up to which a pixel shows clear ground, and the share of such pixels that a mean needs.
CLEAR, ENOUGH_CLEAR = 0.2, 0.01
MODEL, INPUT, BICUBIC, SPECTRUM, CLEAR_MEAN = "model", "input", "bicubic", "mean spectrum", "clear mean"
OLDER_DATE = "older date"
# What the input, and the mean spectrum, are called where radar is given colours.
GREY_RADAR, MEAN_COLOR = "grey radar", "mean colour"
BASELINES = (INPUT, BICUBIC, GREY_RADAR, SPECTRUM, MEAN_COLOR, CLEAR_MEAN, OLDER_DATE)
REGIONS = ("all", "cloudy", "thin", "thick", "clear")
NO_IMAGES: Mapping[str, Tensor] = MappingProxyType({})
_PIXELWISE = {"psnr": psnr, "sam": sam, "mae": mae, "rmse": rmse}


@dataclass(frozen=True)
class ImageScore:
    """The figures of one image.

    Attributes:
        cover: share of its valid pixels that are cloudy; NaN without a cloud map.
        values: by (source, region, metric); the region is one of `REGIONS`, or a band.
        words: what is known of its place, such as region and season; "" where it is not known.
        place: where it was taken, by name; images of one place are alike.
    """

    key: str
    cover: float
    values: Mapping[tuple[str, str, str], float]
    words: Mapping[str, str] = field(default_factory=dict)
    place: str = ""

    def gain(self, region: str = "all") -> float:
        """Return the model's PSNR minus that of the best baseline, in dB."""
        baselines = [self.values.get((source, region, "psnr"), math.nan) for source in BASELINES]
        known = [value for value in baselines if not math.isnan(value)]
        return self.values[MODEL, region, "psnr"] - max(known) if known else math.nan

    def loss_without(self, source: str, region: str = "all") -> float:
        """Return the model's PSNR minus that of `source`, a model without guides, in dB; NaN without one."""
        other = self.values.get((source, region, "psnr"), math.nan)
        return self.values.get((MODEL, region, "psnr"), math.nan) - other


def score_image(
    batch: Batch,
    restored: Tensor,
    spectrum: tuple[float, ...] | None,
    *,
    others: Mapping[str, Tensor] = NO_IMAGES,
    cloudy: float = CLOUDY,
    is_colored: bool = False,
    legacy: bool = False,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    detail: bool = False,
) -> ImageScore:
    """Return the figures of one image and of the baselines.

    Args:
        batch: with B = 1 and a target.
        restored: (1, C, H, W).
        spectrum: (C,) mean spectrum, or mean colour, if known.
        others: images by other models, such as the same one without its guides, by source.
        cloudy: cloud probability above which a pixel counts as cloudy.
        is_colored: whether radar is given colours: no reflectance, so that there is no spectral angle, and
            the baselines are called `GREY_RADAR` and `MEAN_COLOR`.
        legacy: also PSNR and SSIM as the published GLF-CR code has them, over all pixels.
        lpips: perceptual distance of two images, over all pixels.
        detail: also which detail is made up and missing, and how far what is seen was changed.
    """
    target, valid = batch.reference(), batch.valid
    made = baselines(batch, spectrum, cloudy=cloudy, is_colored=is_colored)
    sources = {MODEL: restored, **others, **made}
    has_angle = target.shape[1] > 1 and not is_colored
    regions, values = find_regions(batch, cloudy), {}
    for source, image in sources.items():
        for place, value in _compare(image, target, regions, has_angle=has_angle).items():
            values[source, *place] = value
        values[source, "all", "gmsd"] = gmsd(image, target, valid).item()
        if batch.scale > 1:
            values[source, "all", "consistency"] = consistency(image, batch.degraded, batch.scale).item()
            if target.shape[1] == 1:
                errors = _pores(image, valid).errors(_pores(target, valid))
                values |= {(source, "all", name): error for name, error in errors.items()}
        if detail and batch.scale == 1:
            for place, value in _compare_detail(image, batch, regions).items():
                values[source, *place] = value
        if lpips is not None:
            values[source, "all", "lpips"] = lpips(image, target).item()
        if legacy:
            values[source, "all", "legacy_psnr"] = legacy_psnr(image, target).item()
            values[source, "all", "legacy_ssim"] = legacy_ssim(image, target).item()
    return ImageScore(batch.key[0], _cover(batch, cloudy), values)


def _pores(image: Tensor, valid: Tensor) -> Pores:
    """Return the pores of a slice, (1, 1, H, W)."""
    return find_pores(image[0, 0].cpu().numpy(), valid[0, 0].cpu().numpy())


def baselines(
    batch: Batch, spectrum: tuple[float, ...] | None, *, cloudy: float = CLOUDY, is_colored: bool = False
) -> dict[str, Tensor]:
    """Return what a model has to beat, (1, C, H, W) each, by name; the arguments are as in `score_image`.

    With a cloud map, one is the mean of the image's own clear pixels, or, where it has none, the spectrum.
    With older dates, one is these, as models get them; where they show nothing it is the one before.
    """
    given = GREY_RADAR if is_colored else BICUBIC if batch.scale > 1 else INPUT
    images = {given: batch.enlarged()}
    if spectrum is not None:
        target = batch.reference()
        if len(spectrum) != target.shape[1]:
            raise InputError(
                f"the mean spectrum has {len(spectrum)} bands, the data {target.shape[1]}; give one per band"
            )
        flat = target.new_tensor(spectrum).view(1, -1, 1, 1).expand_as(target)
        images[MEAN_COLOR if is_colored else SPECTRUM] = flat
    if not is_colored and batch.scale == 1 and batch.cloud is not None:
        mean = _clear_mean(batch, batch.cloud, min(CLEAR, cloudy))
        mean = images.get(SPECTRUM) if mean is None else mean.expand_as(batch.degraded)
        if mean is not None:
            images[CLEAR_MEAN] = mean
    if batch.older is not None and batch.older.isfinite().any():
        images[OLDER_DATE] = batch.older.where(batch.older.isfinite(), list(images.values())[-1])
    return images


def _clear_mean(batch: Batch, cloud: Tensor, clear: float) -> Tensor | None:
    """Return the mean of the degraded image where `cloud` is at most `clear`, (1, C, 1, 1).

    None if there are too few such pixels.
    """
    is_clear = batch.valid & (cloud <= clear)
    if is_clear.sum() < max(1, ENOUGH_CLEAR * int(batch.valid.sum())):
        return None
    return batch.degraded.where(is_clear, 0).sum((2, 3), keepdim=True) / is_clear.sum()


def score_reconstruction(
    batch: Batch, restored: Tensor, images: ValueRange, *, cloudy: float = CLOUDY
) -> ImageScore:
    """Return the figures of an autoencoder's image: no baselines, but also the PSNR of each band.

    The batch has B = 1 and a target, `restored` is (1, C, H, W). The spectral angle is of reflectance alone.
    """
    target = batch.reference()
    has_angle = images.kind == "sentinel2" and len(images.bands) > 1
    found = _compare(restored, target, find_regions(batch, cloudy), has_angle=has_angle)
    for at, band in enumerate(images.bands):
        one = slice(at, at + 1)
        found[band, "psnr"] = psnr(restored[:, one], target[:, one], batch.valid).item()
    return ImageScore(
        batch.key[0], _cover(batch, cloudy), {(MODEL, *place): value for place, value in found.items()}
    )


def _compare(
    image: Tensor, target: Tensor, regions: Mapping[str, Tensor], *, has_angle: bool
) -> dict[tuple[str, str], float]:
    """Return the figures by region and metric; that named "all" has all valid pixels."""
    similarity, is_whole = ssim_map(image, target), whole_windows(regions["all"])
    values = {}
    for region, mask in regions.items():
        for metric, function in _PIXELWISE.items():
            if metric != "sam" or has_angle:
                values[region, metric] = function(image, target, mask).item()
        values[region, "ssim"] = mean_inside(similarity, mask & is_whole).item()
    return values


def _compare_detail(
    image: Tensor, batch: Batch, regions: Mapping[str, Tensor]
) -> dict[tuple[str, str], float]:
    """Return hallucination and omission by region, and inconsistency with what is seen, of all pixels."""
    values = {}
    for region, mask in regions.items():
        for metric, function in (("hallucination", hallucination), ("omission", omission)):
            values[region, metric] = function(image, batch.reference(), mask).item()
    seen = batch.valid if batch.cloud is None else batch.valid & (batch.cloud <= CLEAR)
    values["all", "inconsistency"] = inconsistency(image, batch.degraded, seen).item()
    return values


def find_regions(batch: Batch, cloudy: float = CLOUDY) -> dict[str, Tensor]:
    """Return the (1, 1, H, W) masks of all, and with a cloud map of cloudy pixels, above `cloudy`, and clear.

    Of a cloud map that is not 0 and 1 alone, also of pixels under thin cloud and under thick.
    """
    if batch.cloud is None:
        return {"all": batch.valid}
    is_cloudy, is_thick = batch.cloud > cloudy, batch.cloud > THICK
    masks = {"cloudy": is_cloudy, "clear": ~is_cloudy}
    if (batch.valid & (batch.cloud > 0) & (batch.cloud < 1)).any():
        masks |= {"thin": is_cloudy & ~is_thick, "thick": is_thick}
    return {"all": batch.valid, **{region: batch.valid & mask for region, mask in masks.items()}}


def _cover(batch: Batch, cloudy: float) -> float:
    num_valid = int(batch.valid.sum())
    if batch.cloud is None or not num_valid:
        return math.nan
    return float(((batch.cloud > cloudy) & batch.valid).sum() / num_valid)


def pick_color(
    colors: Mapping[str, tuple[float, ...]] | None, batch: Batch, otherwise: tuple[float, ...] | None
) -> tuple[float, ...] | None:
    """Return the mean colour of a batch's prompt, or of all images if that prompt has none.

    Without `colors` by prompt it is `otherwise`. The batch has B = 1.
    """
    if colors is None:
        return otherwise
    (prompt,) = batch.prompt or (ANY_PROMPT,)
    return colors.get(prompt, colors[ANY_PROMPT])


def baseline_spectrum(method: Method) -> tuple[float, ...] | None:
    """Return the mean spectrum to compare with: the method's own, else that of the model that ships.

    A published checkpoint does not say what it was trained on.
    """
    if method.mean_spectrum is not None:
        return method.mean_spectrum
    for name in shipped_runs():
        _, metadata = read_metadata(find_run(name))
        if metadata.mean_spectrum and set(method.optical.bands) <= set(metadata.optical.bands):
            known = dict(zip(metadata.optical.bands, metadata.mean_spectrum, strict=True))
            return tuple(known[band] for band in method.optical.bands)
    return None
