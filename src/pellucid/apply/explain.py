"""What happened inside a model over a part of a scene, as a picture."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pellucid.apply.engine import Progress
from pellucid.apply.options import SceneOptions
from pellucid.apply.scene import OpenScene
from pellucid.apply.scene_pass import read_scene
from pellucid.data.claims import claim_files
from pellucid.data.drawing import RGB, color_to_rgb, gray_to_rgb, radar_to_rgb, save_picture, sheet, to_rgb
from pellucid.data.ownership import check_replaceable
from pellucid.errors import InputError
from pellucid.methods.explanation import Layer, explain

# Panels in a row, their side in pixels, and the height of what is said below them.
PER_ROW, SIDE, FOOT = 4, 320, 48
# Times by which differences are enlarged about grey, as far as they fit, and the deviation that is white.
ENLARGED, WHITE_DEVIATION = (100, 20, 5), 0.05
# Half the side in pixels of the cross of an attention, and the share of even from which it points at places.
CROSS, UNEVEN = 6, 2.0


def check_picture(out: Path) -> None:
    """Refuse a picture that is no PNG by its name, or would replace a file of somebody else."""
    if out.suffix.lower() != ".png":
        raise InputError(f"cannot write {out}: the picture is a PNG; let its name end in .png")
    check_replaceable(out)


def explain_scene(
    optical: Path,
    out: Path,
    *,
    options: SceneOptions | None = None,
    centre: tuple[int, int] | None = None,
    reading: Progress | None = None,
    **given: Any,
) -> list[str]:
    """Write a picture of what a model does in one tile of a scene; return the names of its panels.

    All of the scene counts, as in `restore_scene`, which says what can be `given`. The tile lies about
    `centre`, row and column; None: the middle of the scene.
    """
    check_picture(out)
    options = options or SceneOptions()
    if options.tile:  # of which one is looked at: what it shares with others is not asked for
        options = replace(options, overlap=options.tile // 4)
    with claim_files(out), OpenScene(optical, None, options=options, **given) as scene:
        height, width = scene.tiles.height, scene.tiles.width
        row, column = centre or (height // 2, width // 2)
        if not (0 <= row < height and 0 <= column < width):
            raise InputError(
                f"--at is {row},{column}, the scene has {height} rows and {width} columns; name a pixel in it"
            )
        read_scene(scene, reading)
        sides = [min(side, n) for side, n in zip(_tile(scene), (height, width), strict=True)]
        first = [
            min(max(at - side // 2, 0), n - side)
            for at, side, n in zip((row, column), sides, (height, width), strict=True)
        ]
        tile = scene.cut(first[0], first[1], _tile(scene))
        layers = explain(scene.method, tile.batch.to(scene.engine.device))
        bands = scene.method.optical.bands
        valid = torch.from_numpy(tile.valid[None])
        crop = (slice(sides[0]), slice(sides[1]))
        panels = [_draw(layer, bands, valid)[crop] for layer in layers]
        titles = [_title(layer) for layer in layers]
        save_picture(_lay_out(panels, titles, _remarks(layers)), out)
    return titles


def _tile(scene: OpenScene) -> tuple[int, int]:
    return scene.tiles.tile_height, scene.tiles.tile_width


def _title(layer: Layer) -> str:
    """Return the name of a panel, and what its ends mean."""
    if layer.kind == "attention":
        return f"{layer.name}: black {{:.2f}}, white {{:.2f}} of even".format(*_span(layer.values))
    ends = {"difference": f", x {_times(layer.values)}", "deviation": f", white {WHITE_DEVIATION}"}
    return layer.name + ends.get(layer.kind, "")


def _times(difference: Tensor) -> int:
    """Return by how much a difference is enlarged."""
    largest = float(difference.abs().amax())
    return next((times for times in ENLARGED if times * largest < 0.5), ENLARGED[-1])


def _span(attention: Tensor) -> tuple[float, float]:
    """Return the least and the largest attention, in shares of an even one."""
    low, high = (attention / attention.mean()).aminmax()
    return float(low), float(high)


def _remarks(layers: Sequence[Layer]) -> str:
    """Return what to keep in mind when looking at the panels; "" for nothing."""
    highest = max((_span(layer.values)[1] for layer in layers if layer.kind == "attention"), default=UNEVEN)
    if highest >= UNEVEN:
        return ""
    change = next(layer.values for layer in layers if layer.kind == "difference").square().mean().sqrt()
    return (
        "Attention is nearly even here: no place in the radar gets more than "
        f"{highest:.2f} times the mean, so that every pixel gets about the same from it.\n"
        "All that the detail of the radar changes in the result is "
        f"{float(change):.1g} (RMS; 1 is full scale)."
    )


def _draw(layer: Layer, bands: tuple[str, ...], valid: Tensor) -> NDArray[np.uint8]:
    """Return a layer as (H, W, 3) uint8."""
    values = layer.values.detach().float().cpu()
    if layer.kind == "image":
        return to_rgb(values, bands, valid)
    if layer.kind == "radar":
        return radar_to_rgb(values) if values.isfinite().flatten(1).any(1).all() else _one_radar(values)
    if layer.kind == "colours":
        return color_to_rgb(values, valid)
    if layer.kind == "difference":
        at = [bands.index(band) for band in RGB] if set(RGB) <= set(bands) else [0, 0, 0]
        return color_to_rgb(0.5 + _times(values) * values[at], valid)
    if layer.kind == "deviation":
        return gray_to_rgb(values.mean(0, keepdim=True), WHITE_DEVIATION)
    if layer.kind == "attention":
        return _draw_attention(values, layer.at or (0, 0))
    return gray_to_rgb(values)


def _one_radar(values: Tensor) -> NDArray[np.uint8]:
    """Return the polarisation that is there, in grey."""
    return gray_to_rgb(values[values.isfinite().flatten(1).any(1)][:1])


def _draw_attention(values: Tensor, at: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an attention in grey, stretched, with a red cross at the pixel that it belongs to."""
    low, high = values.aminmax()
    picture = gray_to_rgb((values - low) / (high - low).clamp(min=1e-12)).copy()
    row, column = at
    red = np.array([230, 60, 20], np.uint8)
    picture[max(row - CROSS, 0) : row + CROSS, max(column - 1, 0) : column + 1] = red
    picture[max(row - 1, 0) : row + 1, max(column - CROSS, 0) : column + CROSS] = red
    return picture


def _lay_out(panels: Sequence[NDArray[np.uint8]], titles: Sequence[str], remarks: str) -> Image.Image:
    """Return the panels in rows, each under its title, above remarks."""
    starts = range(0, len(panels), PER_ROW)
    rows = [sheet([panels[i : i + PER_ROW]], titles[i : i + PER_ROW], side=SIDE) for i in starts]
    height = sum(row.height for row in rows)
    canvas = Image.new("RGB", (rows[0].width, height + FOOT * bool(remarks)), "white")
    ImageDraw.Draw(canvas).text((FOOT / 6, height + FOOT / 6), remarks, "black", ImageFont.load_default(12))
    for row, top in zip(rows, accumulate((row.height for row in rows), initial=0), strict=False):
        canvas.paste(row, (0, top))
    return canvas
