"""The picture of a calibration: coverage, error against deviation, and error against confidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pellucid.data.drawing import save_picture
from pellucid.evaluation.calibration import DROPPED, LEVELS, Calibration

# Of the regions, the first that is there is drawn.
SHOWN = ("cloudy", "restored", "all")
# Sides of a panel and of its axes in pixels; lines are drawn this many times larger, for smooth edges.
PANEL, AXES, FINE = 400, 300, 3
LEFT, TOP = 70, 40
MODEL_COLOR, IDEAL_COLOR = (31, 94, 168), (150, 150, 150)


@dataclass(frozen=True)
class Curve:
    """Points of one colour, joined by lines."""

    label: str
    points: Sequence[tuple[float, float]]
    color: tuple[int, int, int] = MODEL_COLOR


def draw_calibration(found: Mapping[str, Calibration], path: Path) -> None:
    """Write a picture of the calibration over cloudy pixels, or over all where clouds are not known."""
    region = next(region for region in SHOWN if region in found)
    figures = found[region]
    largest = max(figures.rmse_kept[0], *(max(pair) for pair in figures.by_confidence), 1e-6)
    coverage = [(0.0, 0.0), *zip(LEVELS, figures.coverage, strict=True), (1.0, 1.0)]
    panels = (
        _panel(
            (f"coverage of {region} pixels, ECE {figures.ece:.3f}", "nominal", "observed"),
            [Curve("calibrated", [(0, 0), (1, 1)], IDEAL_COLOR), Curve("model", coverage)],
            (1, 1),
        ),
        _panel(
            ("error of ten groups by reported deviation", "reported deviation", "RMSE"),
            [
                Curve("calibrated", [(0, 0), (largest, largest)], IDEAL_COLOR),
                Curve("model", figures.by_confidence),
            ],
            (largest, largest),
        ),
        _panel(
            (f"error against confidence, AUSE {figures.ause:.3f}", "share of least sure dropped", "RMSE"),
            [
                Curve(
                    "largest errors dropped", list(zip(DROPPED, figures.rmse_best, strict=True)), IDEAL_COLOR
                ),
                Curve("model", list(zip(DROPPED, figures.rmse_kept, strict=True))),
            ],
            (1, largest),
        ),
    )
    canvas = Image.new("RGB", (PANEL * len(panels), PANEL), "white")
    for i, panel in enumerate(panels):
        canvas.paste(panel, (i * PANEL, 0))
    save_picture(canvas, path)


def _panel(titles: tuple[str, str, str], curves: Sequence[Curve], limits: tuple[float, float]) -> Image.Image:
    """Return curves over axes from 0 to the limits; the titles are those of panel, x and y axis."""
    panel = _draw_lines(curves, limits)
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(13)
    title, across, up = titles
    draw.text((LEFT, 6), title, "black", font)
    draw.text((LEFT + AXES / 2, TOP + AXES + 30), across, "black", font, anchor="ma")
    draw.text((LEFT, TOP - 4), up, "black", font, anchor="lb")
    for i in range(5):
        x, y = LEFT + AXES * i / 4, TOP + AXES * (1 - i / 4)
        draw.text((x, TOP + AXES + 8), f"{limits[0] * i / 4:.3g}", "black", font, anchor="ma")
        draw.text((LEFT - 8, y), f"{limits[1] * i / 4:.3g}", "black", font, anchor="rm")
    right = float(LEFT + AXES)
    for curve in reversed(curves):
        draw.text((right, TOP - 4), curve.label, curve.color, font, anchor="rb")
        right -= font.getlength(curve.label) + 12
    return panel


def _draw_lines(curves: Sequence[Curve], limits: tuple[float, float]) -> Image.Image:
    large = Image.new("RGB", (PANEL * FINE, PANEL * FINE), "white")
    draw = ImageDraw.Draw(large)

    def place(x: float, y: float) -> tuple[float, float]:
        return (LEFT + AXES * x / limits[0]) * FINE, (TOP + AXES * (1 - y / limits[1])) * FINE

    draw.rectangle([place(0, limits[1]), place(limits[0], 0)], outline="black", width=FINE)
    for curve in curves:
        points = [place(*point) for point in curve.points]
        draw.line(points, curve.color, 2 * FINE, joint="curve")
        for x, y in points if curve.color == MODEL_COLOR else ():
            draw.circle((x, y), 3 * FINE, curve.color)
    return large.resize((PANEL, PANEL), Image.Resampling.LANCZOS)
