"""Training samples that are encoded once, kept on disk, and repeated."""

import json
from collections.abc import Callable
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.utils.data import Dataset

from pellucid.data.batch import Batch, Encoded
from pellucid.data.digests import check_tensors, save_tensors
from pellucid.data.files import write_atomically
from pellucid.data.text_file import parse_json
from pellucid.errors import InputError, damaged
from pellucid.train.stream import TrainingStream

# Samples per file.
SHARD = 64
# Encoded at once.
AT_ONCE = 8
# The entry of a file's metadata that holds the samples' prompts, as a list in JSON.
PROMPTS = "prompts"


class EncodedSamples(Dataset[Encoded]):
    """The first samples of a run, encoded, then the same in another order, and so on to the run's end.

    Missing files are written at once, in FOLDER/DIGEST, with `SHARD` samples each.

    Args:
        samples: of the run, images and all.
        encode: returns what is kept of them.
        folder: made where it is missing.
        count: how many samples are kept.
        digest: of everything that the encoded samples depend on.
    """

    def __init__(
        self,
        samples: TrainingStream,
        encode: Callable[[Batch], Encoded],
        *,
        folder: Path,
        count: int,
        digest: str,
    ) -> None:
        self.folder, self.count = folder / digest, count
        self.length, self.samples_per_epoch = len(samples), samples.samples_per_epoch
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write to {folder} ({error.strerror}), change data.cache") from error
        for first in range(0, count, SHARD):
            path = self._path(first)
            if not path.is_file():
                indices = range(first, min(first + SHARD, count))
                parts = (indices[at : at + AT_ONCE] for at in range(0, len(indices), AT_ONCE))
                kept = [encode(Batch.cat([samples[i] for i in part])) for part in parts]
                write_atomically(path, partial(_save, Encoded.cat(kept)))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Encoded:
        """Return sample `index` of the run, B = 1, always the same."""
        turn, at = divmod(index, self.count)
        chosen = int(_order(self.count, turn)[at])
        path = self._path(chosen)
        try:
            file = _open(path)
            values = {name: file.get_slice(name)[chosen % SHARD : chosen % SHARD + 1] for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise damaged(path, error, "remove it and train again") from error
        prompts = _prompts(path)
        prompt = None if prompts is None else prompts[chosen % SHARD : chosen % SHARD + 1]
        return Encoded(key=(f"sample {chosen}",), prompt=prompt, **values)

    def _path(self, index: int) -> Path:
        # A last file that is not full must not be taken for a full one by a run that keeps more.
        size = min(SHARD, self.count - index // SHARD * SHARD)
        return self.folder / f"{index // SHARD:05d}_{size}.safetensors"


def _save(kept: Encoded, path: Path) -> None:
    texts = {} if kept.prompt is None else {PROMPTS: json.dumps(kept.prompt)}
    save_tensors({name: value.contiguous() for name, value in kept.images().items()}, path, texts)


@lru_cache(maxsize=64)
def _open(path: Path) -> Any:
    """Return the open file, whose tensors are read on demand."""
    _check_once(path)
    file: Any = safe_open(path, framework="pt")
    return file.__enter__()


@cache
def _check_once(path: Path) -> None:
    """Check all of a file, before it is first read."""
    check_tensors(path)


@lru_cache(maxsize=64)
def _prompts(path: Path) -> tuple[str, ...] | None:
    """Return the prompts of a file's samples."""
    text = (_open(path).metadata() or {}).get(PROMPTS)
    return None if text is None else tuple(parse_json(text))


@lru_cache(maxsize=2)
def _order(count: int, turn: int) -> torch.Tensor:
    """Return the order of the samples in one pass: as they are in the first, then shuffled."""
    if turn == 0:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(turn))
