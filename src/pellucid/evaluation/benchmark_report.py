"""What a benchmark found: means with intervals over places, as tables, JSON and a page."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from pellucid.data.files import write_text
from pellucid.evaluation.benchmark import Entry, Plan
from pellucid.evaluation.benchmark_data import Chosen, count_places
from pellucid.evaluation.compare import (
    CONFIDENCE,
    FEWEST_PLACES,
    Difference,
    Scored,
    find_difference,
    read_scored,
)
from pellucid.evaluation.figures import BASELINES, MODEL
from pellucid.evaluation.folder import METRICS, PICTURES, read_metrics
from pellucid.evaluation.page import address, shrink
from pellucid.evaluation.published_figures import PUBLISHED, PublishedFigure
from pellucid.evaluation.table import COLUMNS, COVER_BINS, DECIMALS, name_cover
from pellucid.web.write_page import render

JSON, PAGE = "benchmark.json", "benchmark.html"
METRIC_NAMES = ("psnr", "ssim", "sam", "mae", "rmse", "hallucination", "omission", "inconsistency")
REGIONS = ("all", "cloudy", "thin", "thick", "clear")
# Reported errors that lie within one standard deviation, and the pixels that count.
WITHIN, CALIBRATED = "within_1_std", ("cloudy", "restored", "all")
PICTURE_SIDE = 192


@dataclass(frozen=True)
class Row:
    """The figures of a model or baseline over some pixels, or all pixels of images of some cover."""

    source: str
    is_model: bool
    region: str
    figures: Mapping[str, Difference]


@dataclass(frozen=True)
class Benchmark:
    """All that a benchmark found; `published` are figures of others."""

    plan: Plan
    chosen: Chosen
    entries: tuple[Entry, ...]
    rows: tuple[Row, ...]
    calibration: Mapping[str, float]
    published: tuple[PublishedFigure, ...]
    timestamp: str

    def row(self, source: str, region: str) -> Row | None:
        """Return one row, None where there is none."""
        return next((row for row in self.rows if (row.source, row.region) == (source, region)), None)

    @property
    def sources(self) -> list[str]:
        """Return models and baselines in their order."""
        return list(dict.fromkeys(row.source for row in self.rows))

    def tables(self) -> list[Table]:
        """Return what is to be shown on the screen."""
        tables = [self.psnr_table(), self.quality_table(), self.cost_table(), self.cover_table()]
        return [table for table in (*tables, self.published_table()) if table.row_count]

    def psnr_table(self) -> Table:
        """Return the PSNR with its intervals, for the screen."""
        table = _table(
            f"PSNR dB, with 95 % intervals by bootstrap over places, from {FEWEST_PLACES} on",
            ["all", "cloudy", "clear"],
        )
        for source in self.sources:
            cells = (self._interval(source, region) for region in ("all", "cloudy", "clear"))
            table.add_row(source, *cells)
        return table

    def published_table(self) -> Table:
        """Return what others published, for the screen."""
        table = _table("Published by others, not measured here", ["trained by", "PSNR dB", "SSIM"])
        for other in self.published:
            ssim = "" if other.ssim is None else f"{other.ssim:.3f}"
            table.add_row(f"{other.model} *", other.split, f"{other.psnr:.2f}", ssim)
        return table

    def quality_table(self) -> Table:
        """Return the other figures, for the screen."""
        heads = ["SSIM", "SAM °", "MAE", "RMSE", "made up", "missing", "off seen", "within 1 std"]
        table = _table("All pixels; made up and missing: detail over cloudy pixels", heads)
        for source in self.sources:
            over = "cloudy" if self.row(source, "cloudy") else "all"
            cells = [self._number(source, "all", name) for name in ("ssim", "sam", "mae", "rmse")]
            cells += [self._number(source, over, name) for name in ("hallucination", "omission")]
            cells += [self._number(source, "all", "inconsistency")]
            cells.append(f"{self.calibration[source]:.0%}" if source in self.calibration else "")
            table.add_row(source, *cells)
        return table

    def cost_table(self) -> Table:
        """Return what the models cost, for the screen."""
        costs = {entry.name: entry.cost for entry in self.entries if entry.cost is not None}
        about = next((f": {cost.device}, {cost.pixels:,} pixels" for cost in costs.values()), "")
        heads = ["parameters", "GFLOP/Mpx", "s/Mpx", "MiB", "precision"]
        table = _table(f"Cost{about}", heads)
        for name, cost in costs.items():
            speed = f"{cost.gflops_per_megapixel:,.0f}", f"{cost.seconds_per_megapixel:.3g}"
            table.add_row(name, f"{cost.num_parameters:,}", *speed, f"{cost.peak_mib:.0f}", cost.precision)
        return table

    def cover_table(self) -> Table:
        """Return the PSNR by cloud cover, for the screen."""
        covers = list(dict.fromkeys(row.region for row in self.rows if row.region.startswith("cover")))
        table = _table("PSNR dB by cloud cover, all pixels", covers)
        for source in self.sources:
            table.add_row(source, *(self._number(source, cover, "psnr") for cover in covers))
        return table

    def _number(self, source: str, region: str, metric: str) -> str:
        """Return a mean as text; (n) behind it: so many of the images have a finite one."""
        row = self.row(source, region)
        found = None if row is None else row.figures.get(metric)
        if found is None:
            return ""
        most = max(
            r.figures[metric].num_images for r in self.rows if r.region == region and metric in r.figures
        )
        number = f" ({found.num_images})" if found.num_images < most else ""
        return f"{found.mean:.{DECIMALS.get(metric, 3)}f}{number}"

    def _interval(self, source: str, region: str) -> str:
        """Return a mean PSNR with its interval as text."""
        row, text = self.row(source, region), self._number(source, region, "psnr")
        found = None if row is None else row.figures.get("psnr")
        if found is None or math.isnan(found.low):
            return text
        return f"{text} [{found.low:.1f}, {found.high:.1f}]"

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; what is no finite number is None."""
        selection = self.plan.selection
        return {
            "timestamp": self.timestamp,
            "data": str(selection.data),
            "split": {"name": selection.split, "part": selection.part, "sha256": self.chosen.sha256},
            "images": list(self.chosen.keys),
            "places": sorted({*self.chosen.groups}),
            "notes": list(self.chosen.notes),
            "convention": "reflectance in [0, 1], data range 1, means over images",
            "interval": f"{CONFIDENCE:.0%}, bootstrap over places, from {FEWEST_PLACES} places on",
            "models": [_entry(entry, self.calibration.get(entry.name)) for entry in self.entries],
            "rows": [
                {"source": row.source, "is_model": row.is_model, "region": row.region}
                | {name: _plain(found) for name, found in row.figures.items()}
                for row in self.rows
            ],
            "published": [figure._asdict() for figure in self.published],
        }


def report(plan: Plan, chosen: Chosen, entries: Sequence[Entry], published: str) -> Benchmark:
    """Return what the evaluations of the models found; of `published` figures, those of that split."""
    rows: list[Row] = []
    calibration: dict[str, float] = {}
    done = [entry for entry in entries if entry.folder is not None]
    for number, entry in enumerate(done):
        assert entry.folder is not None
        scored = read_scored(entry.folder)
        sources = {entry.name: MODEL} | ({name: name for name in BASELINES} if number == 0 else {})
        rows += [row for name, source in sources.items() for row in _rows(scored, name, source)]
        found = read_metrics(entry.folder / METRICS).get("calibration", {})
        region = next((name for name in CALIBRATED if name in found), "")
        if region and found[region].get(WITHIN) is not None:
            calibration[entry.name] = found[region][WITHIN]
    rows.sort(key=lambda row: row.is_model, reverse=True)
    shown = tuple(figure for figure in PUBLISHED if published in (figure.split, "both"))
    timestamp = datetime.now(UTC).isoformat(timespec="seconds")
    return Benchmark(plan, chosen, tuple(entries), tuple(rows), calibration, shown, timestamp)


def write_report(found: Benchmark, out: Path) -> None:
    """Write benchmark.json and benchmark.html into the folder of a benchmark."""
    text = json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n"
    write_text(out / JSON, text)
    write_text(
        out / PAGE, render("benchmark", f"Benchmark: {found.plan.selection.data.name}", _page(found), {})
    )


def _rows(scored: Scored, name: str, source: str) -> list[Row]:
    """Return the rows of a source: of each region of pixels, and of each bin of cloud cover."""
    covers = {key: scored.value(key, "cover") for key in scored.images}
    groups = [(region, region, list(scored.images)) for region in REGIONS]
    for low, high in zip(COVER_BINS, (*COVER_BINS[1:], math.inf), strict=True):
        groups.append(
            (name_cover(low, high), "all", [key for key, value in covers.items() if low <= value < high])
        )
    rows = []
    for label, region, keys in groups:
        figures = {}
        places = [scored.images[key].get("place") or key for key in keys]
        for metric in METRIC_NAMES:
            column = f"{source}_{region}_{metric}".replace(" ", "_")
            values = np.array([scored.value(key, column) for key in keys])
            if np.isfinite(values).any():
                figures[metric] = find_difference(values, places)
        if figures:
            rows.append(Row(name, source == MODEL, label, figures))
    return rows


def _page(found: Benchmark) -> dict[str, Any]:
    values = found.to_dict()
    return {
        **values,
        "data": found.plan.selection.data.name,
        "summary": count_places(found.chosen.groups),
        "regions": list(dict.fromkeys(row.region for row in found.rows)),
        "metrics": [
            {"name": name, "label": COLUMNS[name], "decimals": DECIMALS.get(name, 4)} for name in METRIC_NAMES
        ],
        "pictures": _pictures(found.entries),
        "provenance": [
            ("Data", found.plan.selection.data.name),
            ("Split", f"{found.plan.selection.split}, {found.plan.selection.part}"),
            ("SHA-256 of the split", found.chosen.sha256),
            ("Measures", str(values["convention"])),
            ("Intervals", str(values["interval"])),
            ("Device", next((e.cost.device for e in found.entries if e.cost is not None), "")),
            *(("Note", note) for note in found.chosen.notes),
            *((entry.name, entry.problem or entry.trained) for entry in found.entries),
            ("Made", found.timestamp),
        ],
    }


def _pictures(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the pictures of some images: what all models got, the reference, and what each made of it."""
    folders = {entry.name: entry.folder / PICTURES for entry in entries if entry.folder is not None}
    if not folders:
        return []
    first = next(iter(folders.values()))
    shown = []
    for image in sorted(path for path in first.glob("*") if path.is_dir()):
        panels = [("input", image / "before.png"), ("older date", image / "reference.png")]
        panels += [(name, folder / image.name / "after.png") for name, folder in folders.items()]
        panels += [("reference", image / "truth.png")]
        made = [
            {"title": title, "source": address(shrink(path, PICTURE_SIDE), "jpeg")}
            for title, path in panels
            if path.is_file()
        ]
        shown.append({"name": image.name, "panels": made})
    return shown


def _table(title: str, heads: Sequence[str]) -> Table:
    columns = (Column(head, justify="right", no_wrap=True) for head in heads)
    return Table(
        Column("", no_wrap=True), *columns, title=title, title_justify="left", box=SIMPLE_HEAD, padding=0
    )


def _entry(entry: Entry, within: float | None) -> dict[str, Any]:
    cost = None if entry.cost is None else asdict(entry.cost)
    if cost is not None and not math.isfinite(cost["peak_mib"]):
        cost["peak_mib"] = None
    folder = None if entry.folder is None else entry.folder.name
    return {
        "name": entry.name,
        "folder": folder,
        "problem": entry.problem,
        "trained": entry.trained,
        "within_1_std": within,
        "cost": cost,
    }


def _plain(found: Difference) -> dict[str, float | int | None]:
    low, high = (value if math.isfinite(value) else None for value in (found.low, found.high))
    return {
        "mean": found.mean,
        "low": low,
        "high": high,
        "num_images": found.num_images,
        "num_places": found.num_places,
    }
