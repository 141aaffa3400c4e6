"""Judging a method: it against two baselines, over all, cloudy and clear pixels, and by cloud cover.

The baselines are the untouched input and the mean spectrum of the training set, the same for every pixel. A
model that does not clearly beat both is of no use. An autoencoder has none: what it gets is what it is to
give back.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.generative.noise import keyed_noise
from pellucid.inference import check_samples
from pellucid.methods.autoencoding import Autoencoding
from pellucid.methods.method import Method, result_range
from pellucid.pictures import gray_to_rgb, radar_to_rgb, save_picture, sheet, spread, to_picture
from pellucid.score_files import make_folder, write_evaluation
from pellucid.scores import (
    BASELINES,
    MODEL,
    Evaluation,
    ImageScore,
    get_target,
    score_image,
    score_reconstruction,
    summarise,
)
from pellucid.trainer import choose_device

# Mean absolute error over bands, in [0, 1], that the picture sheet shows as white; then, of an autoencoder.
ERROR_SHOWN, CODING_ERROR_SHOWN = 0.1, 0.05
RADAR = "radar (VV, VH)"
PANELS = ("input", RADAR, "result", "truth", f"error, black 0 to white {ERROR_SHOWN:g}")
CODING_PANELS = ("image", "reconstruction", f"error, black 0 to white {CODING_ERROR_SHOWN:g}")


class Images(Protocol):
    """A dataset of whole patches."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Batch: ...


def evaluate(
    method: Method,
    data: Images,
    *,
    name: str,
    notes: str = "",
    out: Path | None = None,
    legacy: bool = False,
    mean_spectrum: tuple[float, ...] | None = None,
    pictures: int = 8,
    crop: int = 0,
    samples: int = 1,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Return how well a method restores, image by image, next to both baselines, which autoencoders lack.

    With `out`, that folder gets metrics.json, per_image.csv, sheet.png and a new row in evaluations.csv.

    Args:
        method: restores patches of any size; those its stride does not divide are padded by reflection.
        data: patches with targets.
        name: of the model, for the run history.
        notes: a remark for the run history.
        out: folder to write; None writes nothing.
        legacy: also PSNR and SSIM as the published GLF-CR code has them, over all pixels.
        mean_spectrum: (C,) baseline in [0, 1]; None: the method's own, and if it has none, no such baseline.
        pictures: patches on the picture sheet, spread evenly over the data.
        crop: side in pixels of the centre that is cut out first, 128 in the published code; 0: no cut.
        samples: of a generative method, whose mean is judged; their noise follows from the image's key.
        lpips: perceptual distance of two images, a further column.
        device: "auto" is the GPU where there is one.
        precision: of the network; the figures are always computed in fp32.
        progress: called with (images done, images).

    Raises:
        InputError: if the data has no images, no targets, other bands, or lacks radar that is needed, or the
            method cannot be judged so.
    """
    _check_wishes(method, samples, legacy=legacy, has_lpips=lpips is not None)
    if not len(data):
        raise InputError("there are no images to evaluate on, give data with at least one")
    if out is not None:
        make_folder(out)
    spectrum = mean_spectrum if mean_spectrum is not None else method.mean_spectrum
    apply = _Restorer(method, choose_device(device), precision, samples)
    drawn = _Sheet(method, spread(pictures, len(data)))
    scores = []
    for i, (batch, restored) in enumerate(_restore_each(data, apply, crop, progress)):
        scores.append(_score(method, batch, restored, spectrum, legacy=legacy, lpips=lpips))
        drawn.add(i, batch, restored, scores[-1])
    result = summarise(scores, name=name, notes=notes)
    if out is not None:
        write_evaluation(result, out)
        drawn.save(out / "sheet.png")
    return result


def _restore_each(
    data: Images, apply: "_Restorer", crop: int, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield each image, cut if so wanted, and its restoration."""
    for i in range(len(data)):
        batch = crop_centre(data[i], crop) if crop else data[i]
        yield batch, apply(batch)
        if progress is not None:
            progress(i + 1, len(data))


def _score(
    method: Method,
    batch: Batch,
    restored: Tensor,
    spectrum: tuple[float, ...] | None,
    *,
    legacy: bool,
    lpips: Callable[[Tensor, Tensor], Tensor] | None,
) -> ImageScore:
    if isinstance(method, Autoencoding):
        return score_reconstruction(batch, restored, result_range(method))
    return score_image(batch, restored, spectrum, legacy=legacy, lpips=lpips)


def _check_wishes(method: Method, samples: int, *, legacy: bool, has_lpips: bool) -> None:
    """Refuse figures that would say nothing of the method."""
    check_samples(method, samples)
    wished = {"--legacy-metrics": legacy, "--lpips": has_lpips}
    if isinstance(method, Autoencoding) and any(wished.values()):
        options = " and ".join(option for option, is_wished in wished.items() if is_wished)
        raise InputError(f"an autoencoder is judged by PSNR, SSIM and errors alone; leave out {options}")
    bands = result_range(method).bands
    if has_lpips and len(bands) not in (1, 3):
        raise InputError(
            f"LPIPS compares grey images or three bands, the model restores {len(bands)}; leave out --lpips"
        )


def mean_spectrum(data: Images) -> tuple[float, ...]:
    """Return the mean of each band over the valid pixels of the targets, in [0, 1]: a baseline.

    Raises:
        InputError: if there is no valid pixel, or no target.
    """
    total, count = torch.zeros(()), 0
    for i in range(len(data)):
        batch = data[i]
        valid = batch.valid.expand_as(get_target(batch))
        total = total + get_target(batch).double().where(valid, 0).sum((0, 2, 3))
        count += int(batch.valid.sum())
    if not count:
        raise InputError("there is no valid pixel to take the mean spectrum of, give other training data")
    return tuple((total / count).tolist())


def crop_centre(batch: Batch, side: int) -> Batch:
    """Return the central square of `side` pixels, which must divide by the scale.

    Raises:
        InputError: if the images are smaller.
    """
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


class _Restorer:
    """Restores one patch of any size, on a device and in a precision, and returns it to the CPU."""

    def __init__(self, method: Method, device: torch.device, precision: str, samples: int) -> None:
        self.method, self.device = method, device
        self.samples = samples
        self.is_half = precision == "bf16"
        method.network.to(device).eval()

    def __call__(self, batch: Batch) -> Tensor:
        """Return (1, C, H, W) float32.

        Raises:
            InputError: if the batch has other bands, or lacks radar that the method needs.
        """
        self._check(batch)
        height, width = batch.valid.shape[-2:]
        padded = batch.pad(self.method.stride).to(self.device)
        size = (int(padded.valid.shape[-2]), int(padded.valid.shape[-1]))
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_half):
            drawn = [
                self.method.restore(padded, keyed_noise(batch.key, *size, sample=i)).float()
                for i in range(self.samples)
            ]
        return torch.stack(drawn).mean(0)[..., :height, :width].cpu()

    def _check(self, batch: Batch) -> None:
        found, bands = batch.degraded.shape[1], result_range(self.method).bands
        if found != len(bands):
            raise InputError(
                f"{batch.key[0]} has {found} bands, the model needs {', '.join(bands)}; choose other data"
            )
        if batch.scale != self.method.scale:
            raise InputError(
                f"{batch.key[0]} is to be enlarged {batch.scale} times, the model enlarges "
                f"{self.method.scale} times; choose other data or another model"
            )
        if self.method.radar_optional:
            return
        if batch.sar is None or not batch.sar.isfinite().all():
            raise InputError(
                f"{batch.key[0]} has pixels without radar and this model needs it everywhere;"
                " choose data with radar, or a model that can do without"
            )


class _Sheet:
    """Pictures of some of the images.

    Args:
        method: that is judged.
        shown: positions of those that are drawn.
    """

    def __init__(self, method: Method, shown: Sequence[int]) -> None:
        self.method, self.shown = method, frozenset(shown)
        self.panels: list[list[Any]] = []
        self.captions: list[str] = []

    def add(self, position: int, batch: Batch, restored: Tensor, score: ImageScore) -> None:
        """Draw the image, if it is one of those."""
        if position in self.shown:
            self.panels.append(_panels(batch, restored, self.method))
            self.captions.append(_caption(score))

    def save(self, path: Path) -> None:
        """Write what was drawn, if anything."""
        if self.panels:
            save_picture(sheet(self.panels, _titles(self.method), self.captions), path)


def _titles(method: Method) -> tuple[str, ...]:
    """Return what the panels of a row show."""
    if isinstance(method, Autoencoding):
        return CODING_PANELS
    return PANELS if method.radar.bands else tuple(title for title in PANELS if title != RADAR)


def _panels(batch: Batch, restored: Tensor, method: Method) -> list[Any]:
    target, valid, bands = get_target(batch)[0], batch.valid[0], result_range(method).bands
    error = (restored[0] - target).abs().mean(0, keepdim=True).where(valid, torch.nan)
    if isinstance(method, Autoencoding):
        pictures = [to_picture(image, bands, valid) for image in (target, restored[0])]
        return [*pictures, gray_to_rgb(error, CODING_ERROR_SHOWN)]
    optical = [to_picture(image, bands, valid) for image in (batch.enlarged()[0], restored[0], target)]
    shown = gray_to_rgb(error, ERROR_SHOWN)
    if not method.radar.bands:
        return [*optical, shown]
    sar = batch.degraded.new_full((2, *valid.shape[-2:]), torch.nan) if batch.sar is None else batch.sar[0]
    radar = radar_to_rgb(sar) if len(sar) == 2 else gray_to_rgb(sar)
    return [optical[0], radar, *optical[1:], shown]


def _caption(score: ImageScore) -> str:
    figures = [
        f"{source} {score.values[source, 'all', 'psnr']:.2f} dB"
        for source in (MODEL, *BASELINES)
        if (source, "all", "psnr") in score.values
    ]
    cover = "" if math.isnan(score.cover) else f"   {score.cover:.0%} cloudy"
    return f"{score.key}{cover}   PSNR: {', '.join(figures)}"
