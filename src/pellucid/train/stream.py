"""The training samples of a run: sample i depends on the seed and i alone."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pellucid.data.batch import Batch
from pellucid.datasets._augment import AugmentConfig, map_images, random_crop, random_turn
from pellucid.datasets._listing import Patches, Selected
from pellucid.errors import InputError

# Bytes of patches that each process keeps in memory: about 128 of 256 x 256 pixels, cloudy and clear.
CACHED = 2**30
# Changes a cropped and turned sample at random: see `Patches.change`.
Change = Callable[[Batch, torch.Generator], Batch]


class TrainingStream(Dataset[Batch]):
    """Random crops of random patches, changed at random.

    Args:
        sources: the datasets, each with its weight among the samples, which it changes after crop and turn.
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
        self.keys = tuple(key for patches, _ in self.parts for key in patches.keys)
        self.prompts = tuple(prompt for patches, _ in self.parts for prompt in patches.prompts)
        self.samples_per_epoch = sum(len(patches) for patches, _ in self.parts)
        self.has_older = any(patches.has_older for patches, _ in self.parts)
        self.companions = [[patches.companions(i) for i in range(len(patches))] for patches, _ in self.parts]
        self.length, self.tile = length, tile
        self.augment, self.seed = augment, seed
        limits = (CACHED * self.weights / self.weights.sum()).long().tolist()
        self.kept = [_Recent(part[0], limit) for part, limit in zip(self.parts, limits, strict=True)]

    def __len__(self) -> int:
        return self.length

    def check(self, stride: int) -> None:
        """Refuse a tile that `stride` does not divide, or that the first patch of a source does not hold."""
        if self.tile % stride:
            better = max(1, round(self.tile / stride)) * stride
            raise InputError(
                f"data.tile is {self.tile}, must be a multiple of {stride} for this network; try {better}"
            )
        for patches in self.kept:
            _check_tile(self.tile, patches[0])

    def __getitem__(self, index: int) -> Batch:
        """Return sample `index` of the run, B = 1, always the same."""
        generator = torch.Generator().manual_seed(self.seed * 2_147_483_647 + index)
        part = int(torch.multinomial(self.weights, 1, generator=generator))
        chosen = int(torch.multinomial(self.shares[part], 1, generator=generator))
        batch = self._add_older(self.kept[part][chosen], part, chosen, generator)
        _check_tile(self.tile, batch)
        batch = random_crop(batch, self.tile, self.augment.scale, generator)
        batch = random_turn(batch, self.augment, generator)
        return self.parts[part][1](batch, generator)

    def _add_older(self, batch: Batch, part: int, chosen: int, generator: torch.Generator) -> Batch:
        """Return the batch with a random one of its other dates; NaN if only other sources have some."""
        if not self.has_older:
            return batch
        if others := self.companions[part][chosen]:
            other = self.kept[part][others[int(torch.randint(len(others), (), generator=generator))]]
            return replace(batch, older=other.reference().where(other.valid, torch.nan))
        if batch.older is not None:
            return batch
        return replace(batch, older=torch.full_like(batch.degraded, torch.nan))


class _Recent:
    """Patches, of which the last used stay in memory: `limit` bytes of them, but at least one."""

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


class Centres(Patches):
    """The square in the middle of each patch: images of one size, for batches of different places.

    Its side is `tile` pixels of the target.
    """

    def __init__(self, patches: Patches, tile: int) -> None:
        self.patches, self.tile = patches, tile
        self.keys, self.groups = patches.keys, patches.groups

    def __getitem__(self, index: int) -> Batch:
        """Return the middle of patch `index`."""
        batch = self.patches[index]
        _check_tile(self.tile, batch)
        height, width = batch.degraded.shape[-2:]
        side = self.tile // batch.scale
        y, x = (height - side) // 2, (width - side) // 2  # in pixels of `degraded`

        def cut(image: Tensor) -> Tensor:
            k = image.shape[-1] // width
            return image[..., k * y : k * (y + side), k * x : k * (x + side)]

        return map_images(batch, cut)


def _shares(groups: Sequence[str]) -> Tensor:
    """Return the weight of each patch: a place counts as the square root of its number of patches."""
    count = Counter(groups)
    return torch.tensor([count[group] ** -0.5 for group in groups])


def _check_tile(tile: int, batch: Batch) -> None:
    height, width = batch.valid.shape[-2:]
    if min(height, width) < tile:
        raise InputError(f"{batch.key[0]} has {height} x {width} pixels, data.tile needs {tile}; lower it")
    if tile % batch.scale:
        raise InputError(f"data.tile is {tile}, must be a multiple of method.scale, {batch.scale}")


def _count_bytes(batch: Batch) -> int:
    storages = [image.untyped_storage() for image in batch.images().values()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
