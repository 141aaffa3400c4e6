"""Evaluation of a method against baselines, which a useful model clearly beats.

The baselines are the untouched input and, the same for every pixel, the mean spectrum of the training set
and the mean of the image's own clear pixels, where a cloud map says which these are. Of radar that is given
colours they are the grey radar, and the mean colour of the training images with the same prompt. An
autoencoder has none: what it gets is what it is to give back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from pellucid.apply.options import ApplyOptions
from pellucid.data.batch import Batch, Images
from pellucid.data.drawing import spread
from pellucid.errors import InputError
from pellucid.evaluation.calibration import DeviationErrors
from pellucid.evaluation.calibration_plot import draw_calibration
from pellucid.evaluation.fid import FeatureDistances
from pellucid.evaluation.figures import (
    MODEL,
    ImageScore,
    baselines,
    pick_color,
    score_image,
    score_reconstruction,
)
from pellucid.evaluation.score_sheet import ScoreSheet
from pellucid.evaluation.table import Evaluation, claim_evaluation, summarise, write_evaluation
from pellucid.evaluation.trial import Restored, Setup, Trial
from pellucid.methods.inference import check_samples
from pellucid.methods.method import Method, result_range
from pellucid.schema import AnyPrecision


@dataclass(frozen=True)
class Extras:
    """Figures beside the usual ones.

    Attributes:
        legacy: PSNR and SSIM as the published GLF-CR code has them, over all pixels.
        lpips: perceptual distance of two images.
        fid: features of an image, (1, C, H, W) -> (1, D), for the Fréchet distance between their
            distributions over all images.
    """

    legacy: bool = False
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None
    fid: Callable[[Tensor], Tensor] | None = None


NO_EXTRAS, USUAL = Extras(), Setup()


def evaluate(
    method: Method,
    data: Images,
    *,
    name: str,
    notes: str = "",
    out: Path | None = None,
    extras: Extras = NO_EXTRAS,
    setup: Setup = USUAL,
    mean_spectrum: tuple[float, ...] | None = None,
    pictures: int = 8,
    crop: int = 0,
    samples: int = 1,
    words: Sequence[Mapping[str, str]] = (),
    device: str = "auto",
    precision: AnyPrecision = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Return how well a method restores, image by image, next to its baselines, which autoencoders lack.

    Args:
        method: restores patches of any size; those its stride does not divide are padded by reflection.
        data: patches with targets.
        name: of the model, for the run history.
        notes: a remark for it.
        out: folder, if any, that gets metrics.json, per_image.csv, the pictures and a row in evaluations.csv.
        extras: figures beside the usual ones.
        setup: what the method gets of each patch.
        mean_spectrum: (C,) baseline in [0, 1] of a method without mean colours; None: the method's own.
        pictures: patches on the picture sheet, spread evenly over the data.
        crop: side in pixels of the centre that is cut out first, 128 in the published code; 0: no cut.
        samples: of a generative method, whose mean is evaluated; their noise follows from the image's key.
        words: what is known of each image's place, by which the figures are grouped; alike in their keys.
        device: "auto" is the GPU where there is one.
        precision: of the network; the figures are always computed in fp32.
        progress: called with (images done, images).
    """
    _check(method, data, samples, extras, setup)
    trial = Trial(method, ApplyOptions(samples=samples, device=device, precision=precision), setup)
    distances = FeatureDistances(extras.fid, len(data)) if extras.fid else None
    spectrum = mean_spectrum if mean_spectrum is not None else method.mean_spectrum
    drawn, errors = ScoreSheet(spread(pictures, len(data))), DeviationErrors()
    scores: list[ImageScore] = []
    with claim_evaluation(out):
        for i in range(len(data)):
            restored = trial.restore(crop_centre(data[i], crop) if crop else data[i])
            baseline = _pick_baseline(method, restored, spectrum)
            scores.append(replace(_score(restored, baseline, extras), words=words[i] if words else {}))
            drawn.add(i, restored, scores[-1])
            errors.add(restored.batch, restored.estimate)
            if distances:
                distances.add(restored.batch.reference(), _images(restored, baseline))
            if progress is not None:
                progress(i + 1, len(data))
        fid = distances.compute() if distances else None
        result = summarise(scores, name=name, notes=notes, fid=fid, calibration=errors.compute())
        if out is not None:
            _write(result, drawn, out)
        return result


def _write(result: Evaluation, drawn: ScoreSheet, out: Path) -> None:
    write_evaluation(result, out)
    drawn.save(out / "sheet.png")
    if result.calibration:
        draw_calibration(result.calibration, out / "calibration.png")


def _pick_baseline(
    method: Method, restored: Restored, spectrum: tuple[float, ...] | None
) -> tuple[float, ...] | None:
    """Return the mean spectrum, or colour, of the bands that were restored."""
    color = pick_color(method.mean_colors, restored.batch, spectrum)
    if color is None or len(color) != len(result_range(method).bands):
        return color
    return tuple(color[i] for i in restored.positions)


def _images(restored: Restored, spectrum: tuple[float, ...] | None) -> dict[str, Tensor]:
    """Return the images that are compared with the reference, by source."""
    made = baselines(restored.batch, spectrum, is_colored=_is_colored(restored.method))
    return {MODEL: restored.estimate.image, **restored.ablated, **made}


def _score(restored: Restored, spectrum: tuple[float, ...] | None, extras: Extras) -> ImageScore:
    method, batch, image = restored.method, restored.batch, restored.estimate.image
    if method.task == "reconstruct":
        return score_reconstruction(batch, image, result_range(method))
    return score_image(
        batch,
        image,
        spectrum,
        others=restored.ablated,
        is_colored=_is_colored(method),
        legacy=extras.legacy,
        lpips=extras.lpips,
    )


def _is_colored(method: Method) -> bool:
    """Return whether the method gives radar colours: pictures have no other input."""
    return method.optical.kind == "picture"


def _check(method: Method, data: Images, samples: int, extras: Extras, setup: Setup) -> None:
    """Refuse an evaluation of nothing, and figures that do not apply to the results of the method."""
    if not len(data):
        raise InputError("there are no images to evaluate on, give data with at least one")
    check_samples(method, samples)
    wanted = {"--legacy-metrics": extras.legacy, "--lpips": extras.lpips, "--fid": extras.fid}
    options = [option for option, is_wanted in wanted.items() if is_wanted]
    if method.task == "reconstruct" and options:
        raise InputError(
            f"an autoencoder is evaluated by PSNR, SSIM and errors alone; leave out {' and '.join(options)}"
        )
    num_bands = len(setup.bands or result_range(method).bands)
    for option in ("--lpips", "--fid"):
        if option in options and num_bands not in (1, 3):
            raise InputError(
                f"{option} compares grey images or three bands, the model restores {num_bands}; "
                f"leave out {option}"
            )


def crop_centre(batch: Batch, side: int) -> Batch:
    """Return the central square of `side` pixels, which must divide by the scale."""
    height, width = batch.valid.shape[-2:]
    if side > min(height, width) or side % batch.scale:
        raise InputError(
            f"{batch.key[0]} has {height} x {width} pixels, the crop needs {side}; choose a smaller one"
            + (f" that divides by {batch.scale}" if batch.scale > 1 else "")
        )
    cut = {}
    for name, image in batch.images().items():
        factor = batch.scale if name == "degraded" else 1
        y, x = ((size - side) // 2 // batch.scale * batch.scale // factor for size in (height, width))
        cut[name] = image[..., y : y + side // factor, x : x + side // factor]
    return replace(batch, **cut)  # type: ignore[arg-type]
