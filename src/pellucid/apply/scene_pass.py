"""A pass over all of a scene before it is restored, in which a method collects what the scene tells it."""

import torch

from pellucid.apply.engine import Progress
from pellucid.apply.scene import OpenScene


def read_scene(scene: OpenScene, progress: Progress | None = None) -> None:
    """Let the method collect from every tile, and take what it found for the tiles that it restores.

    Tiles are added one by one, so that neither their order nor their batch matters; each valid pixel counts
    once. A method that collects nothing costs nothing. `progress` is called with the tiles done and all.
    """
    if not scene.engine.collects:
        return
    total, grid = None, scene.tiles
    for done, (top, left) in enumerate(grid, start=1):
        tile = scene.cut(top, left)
        share = torch.zeros(tile.batch.valid.shape)
        rows, columns = grid.core(top, left)
        share[..., rows, columns] = 1
        share *= tile.batch.valid
        if share.any():
            found = scene.engine.collect(tile.batch, share)
            total = found if total is None else total + found
        if progress:
            progress(done, len(grid))
    if total is not None:
        scene.use(total)
