from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import BANDS, OPTIONS, identity, write
from torch import Tensor

from pellucid.apply import scene_pass
from pellucid.apply.engine import Engine
from pellucid.apply.remove_clouds import OpenScene
from pellucid.apply.scene_pass import read_scene
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.methods.method import Method

HEIGHT, WIDTH = 96, 80


@dataclass(frozen=True)
class Watched:
    """Which pixels of the scene counted, (HEIGHT, WIDTH), and how many of them as clear."""

    seen: Tensor
    count: float

    def __add__(self, other: "Watched") -> "Watched":
        return Watched(self.seen + other.seen, self.count + other.count)


def watching(found: list[Any], largest: int = 1000) -> Method:
    """A method that tells which pixels it was asked to count; pixels darker than 0.4 are clear.

    It has too little memory for tiles of more than `largest` pixels.
    """
    method = identity()

    def collect(_: Any, batch: Batch, share: Tensor, *, least: float = 0.0) -> Watched | None:
        assert batch.at is not None
        if max(share.shape) > largest:
            raise MemoryError
        (top, left), seen = batch.at[0], torch.zeros(HEIGHT, WIDTH)
        for y, x in share[0, 0].nonzero().tolist():
            seen[top + y, left + x] += 1
        clear = share * (batch.degraded.mean(1, keepdim=True) < 0.4)
        if least and float(clear.sum()) < least * float(share.sum()):
            return None
        return Watched(seen, float(clear.sum()))

    def with_scene(self: Any, collected: Watched) -> Any:
        found.append(collected)
        return self

    kind = type(method)
    method.__class__ = type("Watching", (kind,), {"collect": collect, "with_scene": with_scene})
    return method


def look(
    tmp_path: Path, values: np.ndarray, monkeypatch: pytest.MonkeyPatch, *, few: int = 8, largest: int = 1000
) -> Watched:
    """Return what is collected in 9 blocks of 32 px; if more than `few`, half a part of each suffices."""
    for name, value in {"BLOCK": 32, "PART": 16, "AROUND": 4, "ENOUGH": 128, "FEW": few}.items():
        monkeypatch.setattr(scene_pass, name, value)
    found: list[Any] = []
    scene = write(tmp_path / "s2.tif", values, BANDS)
    given: dict[str, Any] = {"sar": None, "cloud": None, "uncertainty": None, "options": OPTIONS}
    with OpenScene(scene, tmp_path / "out.tif", method=watching(found, largest), **given) as opened:
        read_scene(opened)
    return found[0]


def ground() -> np.ndarray:
    values = np.full((13, HEIGHT, WIDTH), 800, np.uint16)
    values[10] = 10  # no cirrus in B10
    return values


def test_clear_land_is_read_in_part_and_no_pixel_counts_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look(tmp_path, ground(), monkeypatch)
    assert found.seen.max() == 1
    assert found.count == found.seen.sum() == 9 * 16 * 16  # one part of each of 3 x 3 blocks


def test_parts_of_which_others_of_their_block_tell_enough_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, collect = list[int](), Engine.collect

    def count(engine: Engine, batch: Batch, share: Tensor, **options: Any) -> Any:
        calls.append(1)
        return collect(engine, batch, share, **options)

    monkeypatch.setattr(Engine, "collect", count)
    look(tmp_path, ground(), monkeypatch)
    assert len(calls) == 9


def test_a_small_scene_is_read_whole_but_for_its_clouds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = ground()
    values[:, :32] = 8000
    found = look(tmp_path, values, monkeypatch, few=9)
    assert (found.seen[:16].sum(), found.count) == (0, 64 * WIDTH)


def test_what_little_is_clear_between_clouds_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.full((13, HEIGHT, WIDTH), 8000, np.uint16)
    values[:, 70:90, 40:60] = ground()[:, 70:90, 40:60]
    found = look(tmp_path, values, monkeypatch)
    assert found.count == 20 * 20  # its block is read at once


def test_a_block_that_is_cloudy_in_part_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = ground()
    values[:, 4:28, 4:28] = 8000  # too much to be sure that parts are enough
    found = look(tmp_path, values, monkeypatch)
    assert found.seen[:32, :32].all()
    assert found.count == 32 * 32 - 24 * 24 + 8 * 16 * 16


def test_of_cloud_alone_one_part_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(tmp_path, np.full((13, HEIGHT, WIDTH), 8000, np.uint16), monkeypatch)
    assert (found.count, found.seen.sum()) == (0, 16 * 16)


def test_parts_too_large_for_the_memory_are_looked_at_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look(tmp_path, ground(), monkeypatch, few=9, largest=24)
    assert (found.seen == 1).all()
    with pytest.raises(InputError, match="too little memory for a tile of 24 px"):
        look(tmp_path, ground(), monkeypatch, few=9, largest=23)


@pytest.mark.parametrize("is_rare", [False, True])
def test_parts_in_which_next_to_nothing_counts_matter_where_little_counts_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_rare: bool
) -> None:
    values, rest = ground(), [*range(2, 10), 11, 12]
    values[rest, :, 32:] = 9000  # no cloud at a glance, but bright
    if is_rare:
        values[rest, 4:] = 9000
        values[rest, :, 8:] = 9000
    found = look(tmp_path, values, monkeypatch)
    assert found.seen[:16, :16].sum() > 0
    assert (found.seen[:, 32:].sum() > 0) == is_rare
