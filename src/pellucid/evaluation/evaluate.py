"""Evaluation of a method against baselines, which a useful model clearly beats.

The baselines are the untouched input and, the same for every pixel, the mean spectrum of the training set
and the mean of the image's own clear pixels, where a cloud map says which these are; and an older date, where
there is one. Of radar that is given colours they are the grey radar, and the mean colour of the training
images with the same prompt. An autoencoder has none: what it gets is what it is to give back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from pellucid.apply.options import ApplyOptions
from pellucid.data.batch import Images
from pellucid.data.drawing import spread
from pellucid.data.schema import AnyPrecision
from pellucid.datasets._listing import Patches
from pellucid.errors import InputError
from pellucid.evaluation.calibration import DeviationErrors
from pellucid.evaluation.calibration_plot import draw_calibration
from pellucid.evaluation.fid import FeatureDistances
from pellucid.evaluation.figures import (
    CLOUDY,
    MODEL,
    ImageScore,
    baselines,
    pick_color,
    score_image,
    score_reconstruction,
)
from pellucid.evaluation.folder import CALIBRATION, PAGE, PICTURES, SHEET, claim_evaluation, write_evaluation
from pellucid.evaluation.page import Thumbnails, write_evaluation_page
from pellucid.evaluation.score_sheet import ScoreSheet
from pellucid.evaluation.table import Evaluation, Setting, summarise
from pellucid.evaluation.trial import Restored, Setup, Trial
from pellucid.methods.inference import check_samples
from pellucid.methods.method import Method, result_range


@dataclass(frozen=True)
class Extras:
    """Figures beside the usual ones.

    Attributes:
        legacy: PSNR and SSIM as the published GLF-CR code has them, over all pixels.
        lpips: perceptual distance of two images.
        fid: features of an image, (1, C, H, W) -> (1, D), for the Fréchet distance between their
            distributions over all images.
        detail: which detail is made up and missing, and how far what is seen was changed.
    """

    legacy: bool = False
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None
    fid: Callable[[Tensor], Tensor] | None = None
    detail: bool = False


@dataclass(frozen=True)
class Record:
    """What is kept of an evaluation beside its figures.

    Attributes:
        notes: a remark.
        settings: how it is made, by name.
        sheet: patches on the picture sheet, spread evenly over the data.
        pictures: whether the panels of every image, or of those on the sheet, are written too, as files of
            their own.
        words: what is known of each image's place, by which the figures are grouped; alike in their keys.
        page: whether a page is written, to look at in a browser.
        curves: the picture of the training, if there is one, for the page.
    """

    notes: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    sheet: int = 8
    pictures: bool | Literal["sheet"] = False
    words: Sequence[Mapping[str, str]] = ()
    page: bool = True
    curves: Path | None = None


NO_EXTRAS, USUAL, PLAIN = Extras(), Setup(), Record()


def evaluate(
    method: Method,
    data: Images,
    *,
    name: str,
    out: Path | None = None,
    record: Record = PLAIN,
    extras: Extras = NO_EXTRAS,
    setup: Setup = USUAL,
    mean_spectrum: tuple[float, ...] | None = None,
    cloud_threshold: float = CLOUDY,
    samples: int = 1,
    limit: int = 0,
    device: str = "auto",
    precision: AnyPrecision = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Return how well a method restores, image by image, next to its baselines, which autoencoders lack.

    Args:
        method: restores patches of any size; those its stride does not divide are padded by reflection.
        data: patches with targets.
        name: of the evaluation, and of its folder; with a number behind it where that is taken.
        out: folder, if any, for that of the evaluation, with metrics.json, per_image.csv and pictures, and
            for the lists of all evaluations in it, evaluations.csv and evaluations.json.
        record: what is kept beside the figures.
        extras: figures beside the usual ones.
        setup: what the method gets of each patch, and how many at once.
        mean_spectrum: (C,) baseline in [0, 1] of a method without mean colours; None: the method's own.
        cloud_threshold: cloud probability above which a pixel counts as cloudy.
        samples: of a generative method, whose mean is evaluated; their noise follows from the image's key.
        limit: evaluate the first images alone, as many; 0: all.
        device: "auto" is the GPU where there is one.
        precision: of the network; the figures are always computed in fp32.
        progress: called with (images done, images).
    """
    _check(method, data, samples, extras, setup)
    trial = Trial(method, ApplyOptions(samples=samples, device=device, precision=precision), setup)
    num_images = min(limit or len(data), len(data))
    spectrum = mean_spectrum if mean_spectrum is not None else method.mean_spectrum
    settings = {"crop": setup.crop, "samples": samples, "cloud_threshold": cloud_threshold}
    record = replace(record, settings={**record.settings, **settings})
    with claim_evaluation(out, name) as folder:
        tally = _Tally(method, spectrum, cloud_threshold, extras, record)
        tally.start(folder, num_images)
        for i, restored in enumerate(trial.run(data, num_images)):
            tally.add(restored, place=data.groups[i] if isinstance(data, Patches) else "")
            if progress is not None:
                progress(i + 1, num_images)
        return tally.finish(folder.name if folder else name)


class _Tally:
    """The figures and pictures of the images that are restored, one after the other."""

    def __init__(
        self,
        method: Method,
        spectrum: tuple[float, ...] | None,
        cloudy: float,
        extras: Extras,
        record: Record,
    ) -> None:
        self.method, self.spectrum, self.cloudy = method, spectrum, cloudy
        self.extras, self.record = extras, record
        self.scores, self.errors = list[ImageScore](), DeviationErrors(cloudy)

    def start(self, folder: Path | None, num_images: int) -> None:
        """Begin with none of so many images, whose figures go into the folder, if there is one."""
        self.folder = folder
        self.distances = FeatureDistances(self.extras.fid, num_images) if self.extras.fid else None
        pictures = folder / PICTURES if folder and self.record.pictures else None
        self.thumbnails = Thumbnails(num_images) if folder and self.record.page else None
        self.drawn = ScoreSheet(
            spread(self.record.sheet, num_images),
            pictures,
            self.thumbnails,
            saves_all=self.record.pictures != "sheet",
        )

    def add(self, restored: Restored, *, place: str) -> None:
        """Take in the next image, of a place."""
        at, words = len(self.scores), self.record.words
        baseline = _pick_baseline(self.method, restored, self.spectrum)
        score = _score(restored, baseline, self.cloudy, self.extras)
        self.scores.append(replace(score, words=words[at] if words else {}, place=place))
        self.drawn.add(at, restored, self.scores[-1])
        self.errors.add(restored.batch, restored.estimate)
        if self.distances:
            self.distances.add(restored.batch.reference(), _images(restored, baseline, self.cloudy))

    def finish(self, name: str) -> Evaluation:
        """Return the figures of all images, after writing them into the folder, if there is one."""
        result = summarise(
            self.scores,
            name=name,
            notes=self.record.notes,
            fid=self.distances.compute() if self.distances else None,
            calibration=self.errors.compute(),
            settings=self.record.settings,
            folder=self.folder,
        )
        if self.folder is not None:
            self._write(result, self.folder)
        return result

    def _write(self, result: Evaluation, folder: Path) -> None:
        self.drawn.save(folder / SHEET)
        if result.calibration:
            draw_calibration(result.calibration, folder / CALIBRATION)
        if self.thumbnails:
            plot = folder / CALIBRATION if result.calibration else None
            write_evaluation_page(folder / PAGE, result, self.thumbnails, plot, self.record.curves)
        write_evaluation(result, folder)


def _pick_baseline(
    method: Method, restored: Restored, spectrum: tuple[float, ...] | None
) -> tuple[float, ...] | None:
    """Return the mean spectrum, or colour, of the bands that were restored."""
    color = pick_color(method.mean_colors, restored.batch, spectrum)
    if color is None or len(color) != len(result_range(method).bands):
        return color
    return tuple(color[i] for i in restored.positions)


def _images(restored: Restored, spectrum: tuple[float, ...] | None, cloudy: float) -> dict[str, Tensor]:
    """Return the images that are compared with the reference, by source."""
    is_colored = _is_colored(restored.method)
    made = baselines(restored.batch, spectrum, cloudy=cloudy, is_colored=is_colored)
    return {MODEL: restored.estimate.image, **restored.ablated, **made}


def _score(
    restored: Restored, spectrum: tuple[float, ...] | None, cloudy: float, extras: Extras
) -> ImageScore:
    method, batch, image = restored.method, restored.batch, restored.estimate.image
    if method.task == "reconstruct":
        return score_reconstruction(batch, image, result_range(method), cloudy=cloudy)
    return score_image(
        batch,
        image,
        spectrum,
        others=restored.ablated,
        cloudy=cloudy,
        is_colored=_is_colored(method),
        legacy=extras.legacy,
        lpips=extras.lpips,
        detail=extras.detail,
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
