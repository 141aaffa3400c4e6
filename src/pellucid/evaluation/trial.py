"""A method on whole patches: in all of their bands or some, with its guides and without them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple, cast

import torch
from torch import Tensor

from pellucid.apply.engine import Engine, OutOfMemoryError
from pellucid.apply.memory import make_way
from pellucid.apply.options import ApplyOptions
from pellucid.data.batch import Batch, Images
from pellucid.data.ranges import Bands
from pellucid.errors import InputError, counted
from pellucid.generative.noise import keyed_noise
from pellucid.methods.method import Estimate, Method, result_range
from pellucid.methods.tones import expected_tone

# What the model is called where some of its guides were taken away.
NO_RADAR, NO_OLDER = "model without radar", "model without older dates"
NO_GUIDES = "model without guides"
ABLATED = (NO_RADAR, NO_OLDER, NO_GUIDES)
_WHOLE = "whole"
# What helps where memory is too short for one patch.
WAY_OUT = "choose another --device, or evaluate the centres alone (evaluate --crop)"


@dataclass(frozen=True)
class Setup:
    """What a method gets of each patch.

    Attributes:
        bands: those that a method for any bands gets; (): all.
        given_clouds: whether a method that finds clouds itself gets the cloud map nevertheless.
        ablate_guides: whether the method is also applied without radar, without older dates and without both,
            where it can do without and the patch has them; None: if it takes older dates.
        crop: side in pixels of the centre of a patch that it gets, 128 in the published code; 0: all.
        batch: patches that go through the network together, where neighbours have one size.
        tone: mean colour that pictures in colour get, in [0, 1], as by `colorize --tone`; (): the method's.
    """

    bands: Bands = ()
    given_clouds: bool = False
    ablate_guides: bool | None = None
    crop: int = 0
    batch: int = 1
    tone: tuple[float, ...] = ()


class Restored(NamedTuple):
    """What a method makes of a patch.

    Attributes:
        batch: the patch, in the bands that were restored; finite wherever it is valid.
        method: for these bands.
        positions: of these bands among all of the method.
        estimate: (1, C, H, W) each, on the CPU.
        ablated: restored images, (1, C, H, W), by what was taken away: a name in `ABLATED`.
    """

    batch: Batch
    method: Method
    positions: tuple[int, ...]
    estimate: Estimate
    ablated: Mapping[str, Tensor]


class _View(NamedTuple):
    """What a method gets of a patch: as a whole, and without some of its guides, by what is missing."""

    batch: Batch
    positions: tuple[int, ...]
    engine: Engine
    seen: Mapping[str, Batch]

    def shape(self) -> object:
        """Return what is the same for patches that go through a network together."""
        images = [(name, image.shape) for name, image in self.seen[_WHOLE].images().items()]
        return self.positions, tuple(self.seen), images, self.batch.prompt is None


class Trial:
    """A method that is tried on whole patches of any size, each a single tile.

    Raises:
        InputError: if the setup does not apply to the method.
    """

    def __init__(self, method: Method, options: ApplyOptions, setup: Setup) -> None:
        _check_setup(method, setup)
        self.method, self.options, self.setup = method, options, setup
        self.engines: dict[tuple[int, ...], Engine] = {}
        is_wanted = setup.ablate_guides
        self.ablates = method.takes_older if is_wanted is None else is_wanted

    def run(self, data: Images, num_images: int) -> Iterator[Restored]:
        """Yield what the method makes of the first patches, in their order."""
        size = self.setup.batch
        for first in range(0, num_images, size):
            yield from self.restore_all([data[i] for i in range(first, min(first + size, num_images))])

    def restore(self, patch: Batch) -> Restored:
        """Return what the method makes of a patch with a target, B = 1."""
        (restored,) = self.restore_all([patch])
        return restored

    def restore_all(self, patches: Sequence[Batch]) -> list[Restored]:
        """Return what the method makes of patches with targets, B = 1 each.

        Neighbours of one size with the same bands and guides go through the network together.
        """
        views = [self._see(patch) for patch in patches]
        return [
            restored
            for _, alike in groupby(views, key=lambda view: view.shape())
            for restored in _restore(list(alike), self.setup.tone)
        ]

    def engine_of(self, patch: Batch) -> Engine:
        """Return the engine that restores a patch with a target, B = 1."""
        return self._see(patch).engine

    def _see(self, patch: Batch) -> "_View":
        """Return what the method gets of a patch."""
        patch = crop_centre(patch, self.setup.crop) if self.setup.crop else patch
        _check_patch(self.method, patch)
        positions = self._find_bands(patch)
        engine, batch = self._engine(positions), _select(patch, positions)
        is_blind = engine.method.finds_clouds and not self.setup.given_clouds
        seen = replace(batch, cloud=None) if is_blind else batch
        without = ablate(engine.method, seen) if self.ablates else {}
        return _View(batch, positions, engine, {_WHOLE: seen, **without})

    def _find_bands(self, patch: Batch) -> tuple[int, ...]:
        """Return the positions of the bands to be restored: without those that the patch lacks, all NaN."""
        bands = result_range(self.method).bands
        wanted = [bands.index(band) for band in self.setup.bands] or range(len(bands))
        known = [
            i
            for i in wanted
            if all(image[:, i].isfinite().any() for image in (patch.degraded, patch.reference()))
        ]
        if missing := [bands[i] for i in wanted if i not in known]:
            if not self.method.any_bands:
                raise InputError(
                    f"{patch.key[0]} lacks {', '.join(missing)}, which this model needs; "
                    "choose other data, or a model for any bands"
                )
            if not known:
                raise InputError(
                    f"{patch.key[0]} has none of the bands {', '.join(missing)}; choose other data"
                )
        return tuple(known)

    def _engine(self, positions: tuple[int, ...]) -> Engine:
        if positions not in self.engines:
            method = self.method
            if positions != tuple(range(len(result_range(method).bands))):
                bands = tuple(method.optical.bands[i] for i in positions)
                method = method.with_bands(method.optical.select(bands))
            self.engines[positions] = Engine(method, self.options)
        return self.engines[positions]


def ablate(method: Method, batch: Batch) -> dict[str, Batch]:
    """Return the batch without its guides, by what is missing: those that it has and the method can spare."""
    has_radar = bool(method.radar.bands) and method.radar_optional and _has_values(batch.sar)
    has_older = method.takes_older and _has_values(batch.older)
    found = {}
    if has_radar:
        found[NO_RADAR] = replace(batch, sar=_blank(batch.sar))
    if has_older:
        found[NO_OLDER] = replace(batch, older=_blank(batch.older))
    if has_radar and has_older:
        found[NO_GUIDES] = replace(batch, sar=_blank(batch.sar), older=_blank(batch.older))
    return found


def _has_values(image: Tensor | None) -> bool:
    return image is not None and bool(image.isfinite().any())


def _blank(image: Tensor | None) -> Tensor | None:
    return None if image is None else torch.full_like(image, torch.nan)


def _select(patch: Batch, positions: tuple[int, ...]) -> Batch:
    """Return the patch in some bands; pixels that are not finite in all of them become invalid, and 0."""
    at = list(positions)
    if positions != tuple(range(patch.degraded.shape[1])):
        older = None if patch.older is None else patch.older[:, at]
        patch = replace(patch, degraded=patch.degraded[:, at], target=patch.reference()[:, at], older=older)
    degraded, target = patch.degraded, patch.reference()
    if patch.scale > 1 or (degraded.isfinite().all() and target.isfinite().all()):
        return patch
    is_known = (degraded.isfinite() & target.isfinite()).all(1, keepdim=True)
    return replace(
        patch,
        degraded=degraded.where(is_known, 0),
        target=target.where(is_known, 0),
        valid=patch.valid & is_known,
    )


def _restore(views: Sequence[_View], tone: tuple[float, ...]) -> list[Restored]:
    """Return what a method makes of patches that are alike, all at once; in a tone, if there is one."""
    engine = views[0].engine
    found = {name: _estimate_all(engine, [view.seen[name] for view in views]) for name in views[0].seen}
    whole = found.pop(_WHOLE)
    restored = []
    for i, view in enumerate(views):
        estimate = Estimate(*(None if part is None else part[i : i + 1] for part in whole))  # type: ignore[arg-type]
        sar, drawn = view.batch.sar, estimate.image.mean((0, 2, 3)).tolist()
        if wanted := tone or (expected_tone(engine.method, sar, drawn) if sar is not None else ()):
            estimate = estimate._replace(image=_set_tone(estimate.image, wanted))
        ablated = {name: each.image[i : i + 1] for name, each in found.items()}
        restored.append(Restored(view.batch, engine.method, view.positions, estimate, ablated))
    return restored


def _set_tone(image: Tensor, tone: tuple[float, ...]) -> Tensor:
    """Return (B, C, H, W) with each band shifted so that its mean over an image is the tone's; clipped."""
    shift = image.new_tensor(tone)[:, None, None] - image.mean((2, 3), keepdim=True)
    return (image + shift).clamp(0, 1)


def _estimate_all(engine: Engine, batches: Sequence[Batch]) -> Estimate:
    """Return what the method says of patches that are alike: all at once, or as many as memory allows."""
    try:
        return _estimate(engine, Batch.cat(batches))
    except OutOfMemoryError as error:
        if len(batches) == 1:
            raise OutOfMemoryError(f"{str(error).rpartition('; ')[0]}; {make_way()}, {WAY_OUT}") from error
    half = len(batches) // 2
    parts = zip(*(_estimate_all(engine, some) for some in (batches[:half], batches[half:])), strict=True)
    image, *others = (None if first is None else torch.cat([first, then]) for first, then in parts)
    return Estimate(cast("Tensor", image), *others)


def _estimate(engine: Engine, batch: Batch) -> Estimate:
    """Return what the method says of patches, on the CPU: the mean of its samples, and their deviation."""
    height, width = batch.valid.shape[-2:]
    padded = batch.pad(engine.method.stride).to(engine.device)
    size = (int(padded.valid.shape[-2]), int(padded.valid.shape[-1]))
    noises = [keyed_noise(batch.key, *size, sample=i) for i in range(engine.options.samples)]
    drawn = [engine.estimate(padded, noise) for noise in noises]
    found = drawn[0]
    if len(drawn) > 1:
        images = torch.stack([each.image for each in drawn])
        found = Estimate(images.mean(0), images.std(0))
    image, *others = (None if each is None else each[..., :height, :width] for each in found)
    return Estimate(cast("Tensor", image), *others)


def _check_setup(method: Method, setup: Setup) -> None:
    """Refuse what does not apply to the method."""
    bands = result_range(method).bands
    if setup.bands and not method.any_bands:
        raise InputError(
            f"--bands is for models for any bands, this one is for {', '.join(bands)}; leave it out"
        )
    if unknown := [band for band in setup.bands if band not in bands]:
        raise InputError(f"--bands has {', '.join(unknown)}, known are {', '.join(bands)}; choose among them")
    if twice := sorted({band for band in setup.bands if setup.bands.count(band) > 1}):
        raise InputError(f"--bands has {', '.join(twice)} twice; name each band once")
    if setup.given_clouds and not method.finds_clouds:
        raise InputError(
            "--given-clouds is for models that find clouds themselves, this one gets the cloud map always; "
            "leave it out"
        )
    if setup.tone and method.optical.kind != "picture":
        raise InputError("--tone is for models that turn radar into pictures in colour; leave it out")
    has_guides = method.takes_older or (method.radar_optional and bool(method.radar.bands))
    if setup.ablate_guides and (method.task != "restore" or not has_guides):
        raise InputError("--ablate-guides is for models that can do without their guides; leave it out")


def _check_patch(method: Method, patch: Batch) -> None:
    """Refuse a patch that has other bands or another scale, or lacks radar that the method needs."""
    found, bands = patch.degraded.shape[1], result_range(method).bands
    if found != len(bands):
        raise InputError(
            f"{patch.key[0]} has {counted(found, 'band')}, the model needs {', '.join(bands)}; "
            "choose other data"
        )
    if patch.scale != method.scale:
        raise InputError(
            f"{patch.key[0]} is to be enlarged {patch.scale} times, the model enlarges {method.scale} times; "
            "choose other data or another model"
        )
    if not method.radar_optional and (patch.sar is None or not patch.sar.isfinite().all()):
        raise InputError(
            f"{patch.key[0]} has pixels without radar and this model needs it everywhere;"
            " choose data with radar, or a model that can do without"
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
