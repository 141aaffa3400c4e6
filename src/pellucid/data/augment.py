"""The training samples of a run: sample i depends on the seed and i alone.

So a run continues exactly where it stopped, and processes of a distributed run share one order.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from pellucid.data.batch import Batch
from pellucid.data.cloud_score import cloud_score
from pellucid.data.clouds import CloudOptions, add_clouds
from pellucid.data_config import AugmentConfig, LowResolutionAugment
from pellucid.errors import InputError

# Bytes of patches that each process keeps in memory: about 128 of 256 x 256 pixels, cloudy and clear.
CACHED = 2**30


class Patches(Protocol):
    """A dataset of whole patches, whose places are known."""

    keys: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Batch: ...


# What makes a training sample of a crop: clouds for a scene, a worse low resolution for a slice.
Change = Callable[[Batch, torch.Generator], Batch]


class TrainingStream(Dataset[Batch]):
    """Random crops of random patches, changed at random.

    Args:
        sources: the datasets, each with its share of the samples and what changes them after crop and turn.
        length: samples of the whole run.
        tile: side of a crop in pixels of the target.
        augment: the random changes that all sources have in common: zoom, flip and turn.
        seed: of everything random.
        hold_out: places that are left out.

    Raises:
        ValueError: if no patch is left.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Patches, float, Change]],
        *,
        length: int,
        tile: int,
        augment: AugmentConfig,
        seed: int,
        hold_out: tuple[str, ...] = (),
    ) -> None:
        self.parts = [(Selected(patches, without=hold_out), change) for patches, _, change in sources]
        if not all(len(patches) for patches, _ in self.parts):
            raise ValueError("a training source has no patch left; change data.hold_out or its exclude")
        self.weights = torch.tensor([weight for _, weight, _ in sources])
        self.shares = [_shares(patches.groups) for patches, _ in self.parts]
        self.places = {group for patches, _ in self.parts for group in patches.groups}
        self.samples_per_epoch = sum(len(patches) for patches, _ in self.parts)
        self.length, self.tile = length, tile
        self.augment, self.seed = augment, seed
        self.kept = [_Recent(patches, CACHED // len(self.parts)) for patches, _ in self.parts]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        """Return sample `index` of the run, B = 1, always the same.

        Raises:
            InputError: if the patch cannot be read, or the tile does not fit it.
        """
        generator = torch.Generator().manual_seed(self.seed * 2_147_483_647 + index)
        part = int(torch.multinomial(self.weights, 1, generator=generator))
        chosen = int(torch.multinomial(self.shares[part], 1, generator=generator))
        batch = self.kept[part][chosen]
        _check_tile(self.tile, batch)
        batch = random_crop(batch, self.tile, self.augment.scale, generator)
        batch = random_turn(batch, self.augment, generator)
        return self.parts[part][1](batch, generator)


class _Recent:
    """Patches, of which those that were asked for last stay in memory.

    Args:
        patches: to read from.
        limit: bytes that may stay; the very last patch always does.
    """

    def __init__(self, patches: Dataset[Batch], limit: int) -> None:
        self.patches, self.limit, self.num_bytes = patches, limit, 0
        self.kept: OrderedDict[int, Batch] = OrderedDict()

    def __getitem__(self, index: int) -> Batch:
        if index in self.kept:
            self.kept.move_to_end(index)
            return self.kept[index]
        batch = self.kept[index] = self.patches[index]
        self.num_bytes += _count_bytes(batch)
        while self.num_bytes > self.limit and len(self.kept) > 1:
            self.num_bytes -= _count_bytes(self.kept.popitem(last=False)[1])
        return batch


class Selected(Dataset[Batch]):
    """The patches of some places.

    Args:
        patches: to choose from.
        only: the places to keep; None keeps all.
        without: places to leave out.
    """

    def __init__(
        self, patches: Patches, *, only: Sequence[str] | None = None, without: Sequence[str] = ()
    ) -> None:
        self.patches = patches
        self.indices = [
            i
            for i, group in enumerate(patches.groups)
            if group not in without and (only is None or group in only)
        ]
        self.keys = tuple(patches.keys[i] for i in self.indices)
        self.groups = tuple(patches.groups[i] for i in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index` of those that are kept."""
        return self.patches[self.indices[index]]


class Clouded(Dataset[Batch]):
    """Clear patches, each always under the same simulated clouds.

    Args:
        patches: whose targets are clear.
        bands: optical band names, for the spectra of the clouds.
        seed: of the clouds.
    """

    def __init__(self, patches: Patches, bands: tuple[str, ...], seed: int) -> None:
        self.patches, self.bands, self.seed = patches, bands, seed
        self.keys, self.groups = patches.keys, patches.groups

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> Batch:
        """Return patch `index` under its clouds."""
        generator = torch.Generator().manual_seed(self.seed * 2_147_483_647 + index)
        return cloud_over(self.patches[index], self.bands, generator, CloudOptions())


class Centres(Dataset[Batch]):
    """The square in the middle of each patch: images of one size, where those of different places meet.

    Args:
        patches: as large as the square at least.
        tile: side of the square in pixels of the target.
    """

    def __init__(self, patches: Patches, tile: int) -> None:
        self.patches, self.tile = patches, tile
        self.keys, self.groups = patches.keys, patches.groups

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> Batch:
        """Return the middle of patch `index`.

        Raises:
            InputError: if the patch cannot be read, or is smaller.
        """
        batch = self.patches[index]
        _check_tile(self.tile, batch)
        height, width = batch.degraded.shape[-2:]
        side = self.tile // batch.scale
        y, x = (height - side) // 2, (width - side) // 2  # in pixels of `degraded`

        def cut(image: Tensor) -> Tensor:
            k = image.shape[-1] // width
            return image[..., k * y : k * (y + side), k * x : k * (x + side)]

        return _map(batch, cut)


def random_crop(batch: Batch, tile: int, scale: float, generator: torch.Generator) -> Batch:
    """Return a square of `tile` pixels, zoomed by a factor in [1 - scale, 1 + scale] about it.

    It begins where a pixel of low resolution does. Zoomed, that resolution is resampled itself.
    """
    factor = batch.scale
    height, width = batch.degraded.shape[-2:]
    zoom = 1 + scale * (2 * _uniform(generator) - 1)
    side = min(round(tile / factor / zoom), height, width)  # in pixels of `degraded`, as y and x are
    y, x = _draw(height - side + 1, generator), _draw(width - side + 1, generator)

    def cut(image: Tensor) -> Tensor:
        k = image.shape[-1] // width
        square = image[..., k * y : k * (y + side), k * x : k * (x + side)]
        return square if side * factor == tile else _resize(square, k * tile // factor)

    return _map(batch, cut)


def random_turn(batch: Batch, augment: AugmentConfig, generator: torch.Generator) -> Batch:
    """Return the batch flipped and turned by quarter turns, where `augment` allows."""
    flip = augment.flip and _chance(0.5, generator)
    turns = _draw(4, generator) if augment.turn else 0

    def turn(image: Tensor) -> Tensor:
        return torch.rot90(image.flip(-1) if flip else image, turns, (-2, -1))

    return _map(batch, turn)


def random_gain(batch: Batch, gain: float, generator: torch.Generator) -> Batch:
    """Return the batch with its optical images brightened or darkened alike, overall and per band."""
    if gain == 0:
        return batch
    bands = batch.degraded.shape[1]
    overall = 1 + gain * (2 * torch.rand(1, generator=generator) - 1)
    each = 1 + gain / 2 * (2 * torch.rand(bands, 1, 1, generator=generator) - 1)
    degraded = (batch.degraded * overall * each).clamp(max=1)
    target = None if batch.target is None else (batch.target * overall * each).clamp(max=1)
    return replace(batch, degraded=degraded, target=target)


def random_radar(batch: Batch, augment: AugmentConfig, generator: torch.Generator) -> Batch:
    """Return the batch with its radar shifted per polarisation, or taken away."""
    if batch.sar is None:
        return batch
    if _chance(augment.drop_radar, generator):
        return replace(batch, sar=torch.full_like(batch.sar, torch.nan))
    shift = augment.radar_shift * torch.randn(batch.sar.shape[1], 1, 1, generator=generator)
    return replace(batch, sar=(batch.sar + shift).clamp(0, 1))


def change_clouds(
    batch: Batch,
    generator: torch.Generator,
    *,
    augment: AugmentConfig,
    bands: tuple[str, ...],
    is_clear: bool,
) -> Batch:
    """Return the batch with another brightness, radar and, at times, sky.

    Args:
        batch: a pair, or an image that is clear.
        generator: of everything random.
        augment: the random changes.
        bands: optical band names, for the spectra of simulated clouds.
        is_clear: whether clouds must be simulated, since the batch has none.
    """
    batch = random_gain(batch, augment.gain, generator)
    if is_clear or _chance(augment.simulate, generator):
        batch = cloud_over(batch, bands, generator, CloudOptions())
        if augment.score_clouds and _chance(augment.score_clouds, generator):
            batch = replace(batch, cloud=cloud_score(batch.degraded, bands))
    return random_radar(batch, augment, generator)


def change_low_resolution(
    batch: Batch, generator: torch.Generator, *, augment: LowResolutionAugment
) -> Batch:
    """Return the batch with its degraded image alone made worse: contrast and brightness, noise, then blur.

    Each comes by chance and is clipped to [0, 1]. Contrast is a factor about black, brightness is added.
    """
    image = batch.degraded
    if _chance(augment.intensity, generator):
        contrast, brightness = (_between(x, generator) for x in (augment.contrast, augment.brightness))
        image = (contrast * image + brightness).clamp(0, 1)
    if _chance(augment.noise, generator):
        noise = torch.randn(image.shape, generator=generator)
        image = (image + _between(augment.noise_std, generator) * noise).clamp(0, 1)
    if _chance(augment.blur, generator):
        sigma = _between(augment.blur_sigma, generator)
        image = torch.from_numpy(gaussian_filter(image.numpy(), (0, 0, sigma, sigma), mode="reflect"))
    return replace(batch, degraded=image)


def cloud_over(
    batch: Batch, bands: tuple[str, ...], generator: torch.Generator, options: CloudOptions
) -> Batch:
    """Return the batch with its cloudy images replaced by the clear ones under simulated clouds.

    Raises:
        ValueError: if the batch has no target.
    """
    if batch.target is None:
        raise ValueError("clouds can only be simulated over a clear image, the batch has no target")
    covered = [add_clouds(clear, bands, generator, options) for clear in batch.target]
    degraded, cloud = (torch.stack(images) for images in zip(*covered, strict=True))
    return replace(batch, degraded=degraded * batch.valid, cloud=cloud)


def _shares(groups: Sequence[str]) -> Tensor:
    """Return the weight of each patch: a place counts as the square root of its number of patches."""
    count = Counter(groups)
    return torch.tensor([count[group] ** -0.5 for group in groups])


def _map(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    return replace(batch, **{name: change(image) for name, image in batch.images().items()})  # type: ignore[arg-type]


def _resize(image: Tensor, tile: int) -> Tensor:
    if image.dtype == torch.bool:
        return interpolate(image.float(), (tile, tile), mode="nearest").bool()
    return interpolate(image, (tile, tile), mode="bilinear", antialias=True)


def _check_tile(tile: int, batch: Batch) -> None:
    height, width = batch.valid.shape[-2:]
    if min(height, width) < tile:
        raise InputError(f"{batch.key[0]} has {height} x {width} pixels, data.tile needs {tile}; lower it")
    if tile % batch.scale:
        raise InputError(f"data.tile is {tile}, must be a multiple of method.scale, {batch.scale}")


def _count_bytes(batch: Batch) -> int:
    return sum(image.nbytes for image in batch.images().values())


def _between(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * _uniform(generator)


def _draw(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=generator))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _chance(probability: float, generator: torch.Generator) -> bool:
    return _uniform(generator) < probability
