"""A pass over a scene before it is restored, in which a method collects what the scene tells it."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.apply.ahead import run_ahead
from pellucid.apply.engine import OutOfMemoryError, Progress
from pellucid.apply.lanes import run_lanes
from pellucid.apply.memory import Tidying
from pellucid.apply.scene import OpenScene
from pellucid.data.batch import Batch

# Side in pixels of a block, of each of the four parts of one, and of what is read around a part.
BLOCK, PART, PARTS, AROUND = 512, 256, 4, 8
# Blocks that are read whole; where there are more, so many clear pixels of each suffice: what is rare in one,
# a river for instance, is in another. A scene of 2048 px loses 0.02 dB by it.
FEW, ENOUGH = 4, PART**2 // 2
# A block is read whole unless, at a glance, it has so many times as many: not all of them are worth as much.
SURELY = 4
# A part less clear than this at a glance is not looked at.
LEAST = 0.01
# Of a part of which less counts than this share, no more is learned, if of the whole scene so many times as
# much does.
FAINT, TIMES = 0.002, 5
# Share of the scene's pixels that count below which it hardly tells its own colours.
HARDLY = 0.001
log = logging.getLogger(__name__)

Part = tuple[slice, slice]


class Seen(NamedTuple):
    """What a method sees of a part of a scene."""

    batch: Batch
    share: torch.Tensor  # (1, 1, H, W), how much each pixel counts


def read_scene(scene: OpenScene, progress: Progress | None = None) -> None:
    """Let the method collect from the scene, and take what it found for the tiles that it restores.

    Parts wholly under cloud are left out. Of a large scene, the clearest parts of each block are read until
    they tell enough, so that clear land costs a quarter; a cloudy block is read at once. Neither tiles nor
    batch matter. A method that collects nothing costs nothing. `progress` is called with the parts done and
    all.
    """
    if scene.engine.collects:
        collected = collect_scene(scene, progress)
        scene.use(collected)
        if not scene.references and collected.count < HARDLY * scene.tiles.height * scene.tiles.width:
            log.warning(
                "%s shows hardly any clear ground, so what is painted has the usual colours of the training, "
                "not those of the day; a --reference of the place would tell them",
                scene.optical.path,
            )


def collect_scene(scene: OpenScene, progress: Progress | None = None) -> Any:
    """Return what a method that collects finds in the scene; see `read_scene`."""
    glance, blocks = scene.glance_clear(), list(_blocks(scene))
    size, whole = (scene.tiles.height, scene.tiles.width), len(blocks) <= FEW
    ordered = [_clearest_first(parts, glance, size, whole=whole) for parts in blocks]
    enough = math.inf if whole else ENOUGH
    least = FAINT if len(blocks) > 1 else 0.0
    try:
        total = _collect(scene, ordered, enough, progress, least)
    except OutOfMemoryError:
        ordered = [_split(parts) for parts in ordered]
        total = _collect(scene, ordered, enough, progress, least)
    if least and (total is None or total.count < TIMES * FAINT * size[0] * size[1]):
        total = _collect(scene, ordered, enough, progress)
    if total is None:  # all is cloud, which one part with data can say
        total = _collect(scene, [[part for parts in blocks for part in parts]], 0, None)
    return total


def _collect(
    scene: OpenScene,
    blocks: Sequence[Sequence[Part]],
    enough: float,
    progress: Progress | None,
    least: float = 0.0,
) -> Any:
    """Return what the method collects from the parts of each block until they tell enough; None: nothing."""
    total, counts, tidy = None, [0.0] * len(blocks), Tidying()
    todo = _in_rounds(blocks)
    told = set[int]()  # blocks of which no more is wanted

    def cut() -> Iterator[tuple[int, Seen | None]]:
        yield from ((n, _cut(scene, part)) for n, (i, part) in enumerate(todo) if i not in told)

    def look(at: tuple[int, Seen | None]) -> tuple[int, Any]:
        n, seen = at
        is_wanted = seen and todo[n][0] not in told
        return n, scene.engine.collect(*seen, least=least) if seen and is_wanted else None

    with (
        closing(run_ahead(cut(), 1)) as parts,
        closing(run_lanes(look, parts, scene.engine.lanes, OutOfMemoryError)) as looks,
    ):
        for n, found in looks:
            i = todo[n][0]
            if found and i not in told:
                total = found if total is None else total + found
                counts[i] += found.count
                if counts[i] >= enough:
                    told.add(i)
            if progress:
                progress(n + 1, len(todo))
            tidy()
    if progress and todo and todo[-1][0] in told:  # the last parts may have been left out
        progress(len(todo), len(todo))
    return total


def _cut(scene: OpenScene, part: Part) -> Seen | None:
    """Return a part with its surroundings, and which of its pixels count; None: it holds no data."""
    stride = scene.method.stride
    sizes = [-(-(along.stop - along.start + 2 * AROUND) // stride) * stride for along in part]
    tile = scene.cut(part[0].start - AROUND, part[1].start - AROUND, (sizes[0], sizes[1]))
    share = torch.zeros(tile.batch.valid.shape)
    inner = [slice(AROUND, AROUND + along.stop - along.start) for along in part]
    share[..., inner[0], inner[1]] = 1
    share *= tile.batch.valid
    return Seen(tile.batch, share) if share.any() else None


def _blocks(scene: OpenScene) -> Iterator[list[Part]]:
    """Yield the parts of each block of the scene."""
    height, width = scene.tiles.height, scene.tiles.width
    for top, left in product(range(0, height, BLOCK), range(0, width, BLOCK)):
        rows, columns = slice(top, min(top + BLOCK, height)), slice(left, min(left + BLOCK, width))
        yield _split([(rows, columns)])


def _in_rounds(blocks: Sequence[Sequence[Part]]) -> list[tuple[int, Part]]:
    """Return the parts with the numbers of their blocks: all first parts of a row of blocks, then the next.

    What a part tells is known only when others have begun; in turn they are of other blocks.
    """
    ordered = [
        (part[0].start // BLOCK, turn, i, part)
        for i, parts in enumerate(blocks)
        for turn, part in enumerate(parts)
    ]
    return [(i, part) for *_, i, part in sorted(ordered, key=lambda each: each[:3])]


def _join(parts: Sequence[Part]) -> list[Part]:
    """Return the parts of a block as one."""
    rows, columns = zip(*parts, strict=True)
    return [
        (
            slice(min(s.start for s in rows), max(s.stop for s in rows)),
            slice(min(s.start for s in columns), max(s.stop for s in columns)),
        )
    ]


def _split(parts: Sequence[Part]) -> list[Part]:
    """Return the parts of what is larger than one."""
    return [
        (slice(row, min(row + PART, rows.stop)), slice(column, min(column + PART, columns.stop)))
        for rows, columns in parts
        for row, column in product(
            range(rows.start, rows.stop, PART), range(columns.start, columns.stop, PART)
        )
    ]


def _clearest_first(
    parts: list[Part], glance: NDArray[np.float64] | None, size: tuple[int, int], *, whole: bool
) -> list[Part]:
    """Return the parts of a block that show some ground at a glance at the scene, the clearest first.

    They are one, which has fewer surroundings, if the block is wanted `whole` or all of it may be needed.
    """
    if glance is None:
        return _join(parts) if whole and len(parts) == PARTS else parts
    shares = []
    for part in parts:
        ends = [
            slice(along.start * n // side, -(-along.stop * n // side))
            for along, n, side in zip(part, glance.shape, size, strict=True)
        ]
        shares.append(float(glance[ends[0], ends[1]].mean()))
    order = sorted(range(len(parts)), key=lambda i: -shares[i])
    shown = [parts[i] for i in order if shares[i] >= LEAST]
    whole = whole or sum(shares) * PART**2 < SURELY * ENOUGH
    return _join(shown) if whole and len(shown) == PARTS else shown
