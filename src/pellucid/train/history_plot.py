"""The curves of a training as a picture: loss terms, learning rate, and the figures of validation."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pellucid.data.drawing import save_picture

# Size of a panel and of its axes in pixels, and how many times larger lines are drawn, for smooth edges.
WIDTH, HEIGHT, LEFT, TOP, ACROSS, UP, FINE = 700, 320, 70, 34, 420, 230, 3
# Colours that the colour-blind tell apart (Okabe and Ito 2008, jfly.uni-koeln.de/color).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
# A panel of positive values is logarithmic if the largest is so many times the smallest.
MANY_TIMES = 20.0
# Panels from top to bottom, by their titles.
TOTAL, TERMS, PSNR, OTHERS, RATE = (
    "loss",
    "terms of the loss in",
    "PSNR in validation, dB",
    "validation",
    "learning rate",
)
PARTS = {"train": "training", "val": "validation"}
TITLES = (TOTAL, *(f"{TERMS} {part}" for part in PARTS.values()), PSNR, OTHERS, RATE)
# What people call the figures of a history; other names are words, of which these are short for something.
CALLED = {"psnr": "restored", "psnr_input": "input", "psnr_spectrum": "mean spectrum", "found": "texts found"}
CALLED |= {"chance": "texts found by chance", "multi_scale": "three scales", "denoise": "noise"}
SHORT = ("l1", "l2", "ssim", "kl", "lpips")

Points = Sequence[tuple[float, float]]


def draw_history(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write the curves of a history, whose rows have a `step`; nothing where it has fewer than two rows."""
    panels = [_panel(title, curves) for title, curves in _group(rows).items() if curves]
    if len(rows) < 2 or not panels:
        return
    canvas = Image.new("RGB", (WIDTH, HEIGHT * len(panels)), "white")
    for i, panel in enumerate(panels):
        canvas.paste(panel, (0, i * HEIGHT))
    save_picture(canvas, path)


def _group(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Points]]:
    """Return the curves by the title of their panel and by what they are called, without what is no number.

    A term that is all of the loss is not shown again.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    of = {
        name: [(row["step"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
        for name in names
    }
    groups: dict[str, dict[str, Points]] = {title: {} for title in TITLES}
    for name, points in of.items():
        kind, _, rest = name.partition("_")
        term = rest.removeprefix("loss_")
        if name == "learning_rate":
            groups[RATE]["learning rate"] = points
        elif kind not in PARTS or not points:
            continue
        elif term == "total":
            groups[TOTAL][PARTS[kind]] = points
        elif kind == "train" or rest.startswith("loss_"):
            total = of.get(name.removesuffix(term) + "total", [])
            if points != total:
                groups[f"{TERMS} {PARTS[kind]}"][_call(term)] = points
        else:
            groups[PSNR if rest.startswith("psnr") else OTHERS][_call(rest)] = points
    return {title: {name: x for name, x in curves.items() if x} for title, curves in groups.items()}


def _call(name: str) -> str:
    """Return what people call a figure or a term of the loss."""
    if name in CALLED:
        return CALLED[name]
    return " ".join(word.upper() if word in SHORT else word for word in name.split("_"))


def _panel(title: str, curves: Mapping[str, Points]) -> Image.Image:
    """Return curves over their axes, with their names at the right."""
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    is_log = min(ys) > 0 and max(ys) > MANY_TIMES * min(ys)
    low, high = _limits(ys, is_log=is_log)
    first, last = min(xs), max(*xs, min(xs) + 1)
    large = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "white")
    draw = ImageDraw.Draw(large)

    def place(x: float, y: float) -> tuple[float, float]:
        height = ((math.log10(y) if is_log else y) - low) / (high - low)
        return (LEFT + ACROSS * (x - first) / (last - first)) * FINE, (TOP + UP * (1 - height)) * FINE

    corners = [LEFT * FINE, TOP * FINE, (LEFT + ACROSS) * FINE, (TOP + UP) * FINE]
    draw.rectangle(corners, outline="black", width=FINE)
    for points, color in zip(curves.values(), COLORS * len(curves), strict=False):
        placed = [place(*point) for point in points]
        draw.line(placed, color, 2 * FINE, joint="curve")
        for point in placed[-1:]:
            draw.circle(point, 3 * FINE, color)
    panel = large.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    _label(
        panel, title, curves, (first, last, *((10**low, 10**high) if is_log else (low, high))), is_log=is_log
    )
    return panel


def _limits(ys: Sequence[float], *, is_log: bool) -> tuple[float, float]:
    """Return the ends of the axis, logarithms if it is logarithmic: somewhat more than the values."""
    low, high = (math.log10(min(ys)), math.log10(max(ys))) if is_log else (min(ys), max(ys))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _label(
    panel: Image.Image,
    title: str,
    curves: Mapping[str, Points],
    limits: tuple[float, float, float, float],
    *,
    is_log: bool,
) -> None:
    """Write title, ticks, names and last values on a panel; the limits are those of step and value."""
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(13)
    draw.text((LEFT, 8), f"{title}{', logarithmic' * is_log}", "black", font)
    draw.text((LEFT + ACROSS / 2, TOP + UP + 24), "step", "black", font, anchor="ma")
    first, last, low, high = limits
    for value in _round_between(low, high, is_log=is_log):
        share = math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)
        y = TOP + UP * (1 - share)
        draw.line((LEFT - 4, y, LEFT, y), "black")
        draw.text((LEFT - 7, y), f"{value:.5g}", "black", font, anchor="rm")
    for step in _round_between(first, last):
        x = LEFT + ACROSS * (step - first) / (last - first)
        draw.line((x, TOP + UP, x, TOP + UP + 4), "black")
        draw.text((x, TOP + UP + 7), f"{step:,.5g}", "black", font, anchor="ma")
    for i, (name, points) in enumerate(curves.items()):
        color = COLORS[i % len(COLORS)]
        draw.text((LEFT + ACROSS + 14, TOP + 18 * i), f"{name}  {points[-1][1]:.4g}", color, font)


def _round_between(low: float, high: float, *, is_log: bool = False) -> list[float]:
    """Return some round numbers from `low` to `high`: 1, 2 or 5 times powers of ten, or their multiples."""
    if is_log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        times = (1, 2, 5) if high < 1000 * low else (1,)
        found = [each * 10.0**power for power in powers for each in times]
        return [value for value in found if low <= value <= high]
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if rough <= times * power * (1 + 1e-9))
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
