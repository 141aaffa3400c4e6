r"""Leave places, or whole data sets, out of a short first stage of `ground`, and evaluate where none trained.

    python -m benchmarks.left_out --by place --steps 100
    python -m benchmarks.left_out --by source --steps 100

By place: all places with radar are divided into folds, near ones into the same. Each fold trains without its
places, in whichever source they are, and is evaluated on them, those that the config excludes too.

By source: trains as the config has it, with another seed, not at all, and without each data set in turn; all
are evaluated on the places with radar that the config excludes.

Parts of clear scenes are hidden, and the model is told which. With --second, a second stage follows, and it
is evaluated under simulated skies, of which the model is told nothing:

    python -m benchmarks.left_out --second configs/ground_shipped.yaml --second-steps 400

Finished runs are kept in --out: the command can be stopped and called again.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import nan, sqrt
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.hidden_ground import (
    ALL,
    FIGURES,
    NO_GUIDE,
    NO_OLDER,
    NO_RADAR,
    Row,
    Scene,
    by_place,
    find_scenes,
    mean_of,
    name_sources,
    score,
)
from benchmarks.kept import keep, train_whole
from pellucid.build.datasets import read_source
from pellucid.build.method import load
from pellucid.config import Config, load_config
from pellucid.errors import InputError
from pellucid.evaluation.figures import CLEAR_MEAN
from pellucid.methods.method import Method
from pellucid.train.data import build_training_data
from pellucid.train.run_training import start_method

# Places so near to one another, 0.9 to 20 km, that they belong to one fold.
NEIGHBOURS = (
    ("bercy", "paris", "saclay_e", "saclay_w"),
    ("aguasclaras", "brasilia"),
    ("S2B_MSIL2A_20170924T93020_69_24", "S2B_MSIL2A_20180204T94161_57_38"),
)
# Shares of cloudy pixels that tables of simulated skies divide: up to half, up to nearly all, and more.
COVERS = (0.0, 0.5, 0.95, 1.01)
# The runs by source that leave out nothing.
WHOLE, ANOTHER_SEED, UNTRAINED = "every data set", "every data set, another seed", "not trained"


@dataclass(frozen=True)
class Run:
    """A training, and the scenes of places that are not in it; `make` does it and returns the method.

    `skies`: these are evaluated under simulated skies, instead of with hidden parts.
    """

    name: str
    config: Config
    scenes: tuple[Scene, ...]
    make: Callable[[Config], Method]
    figures: Sequence[str] = FIGURES
    skies: bool = False

    def result(self) -> dict[str, Any]:
        """Train, and return the seconds that it took and the rows of all scenes."""
        start = time.monotonic()
        method = self.make(self.config)
        seconds = time.monotonic() - start
        scenes = track(self.scenes, f"evaluate {self.name}")
        rows = [row for scene in scenes for row in score(method, scene, self.figures, skies=self.skies)]
        return {"run": self.name, "seconds": round(seconds, 1), "rows": rows}


def main() -> None:
    """Do every run that is missing and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--by", choices=("place", "source"), default="place")
    parser.add_argument("--config", type=Path, default=Path("configs/ground.yaml"))
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=100, help="optimiser steps of each run")
    parser.add_argument("--second", type=Path, help="config of a second stage, by place")
    parser.add_argument("--second-steps", type=int, default=400, help="optimiser steps of that")
    parser.add_argument("--folds", type=int, default=5, help="parts of the places, each left out in turn")
    parser.add_argument("--only", nargs="*", default=(), help="only the runs without these places or sources")
    parser.add_argument("--out", type=Path, default=Path("runs/left_out"))
    options = parser.parse_args()
    config = shorten(load_config(options.config, tuple(options.changes)), options.steps)
    name = f"{options.by}_{options.steps}_steps_of_{config.train.batch}"
    second = None
    if options.second and options.by == "place":
        second = shorten(load_config(options.second, tuple(options.changes)), options.second_steps)
        name += f"_then_{options.second_steps}"
    runs = runs_by_place(config, options.folds, second) if options.by == "place" else runs_by_source(config)
    folder = options.out / name
    wanted = [run for run in runs if not options.only or is_wanted(run, options.only)]
    console, results = Console(width=140), []
    for number, run in enumerate(wanted, start=1):
        console.print(f"{number} of {len(wanted)}: {run.name}")
        results.append(keep(folder / f"{run.name}.json", run.result))
    if options.by == "place":
        print_places(results, console, skies=second is not None)
    else:
        print_sources(results, console)


def shorten(config: Config, steps: int) -> Config:
    """Return the config with so many steps, the schedule in proportion, and without validation."""
    warmup = config.train.warmup_steps * steps // config.train.num_steps
    length = {"num_steps": max(steps, 1), "validate_every": max(steps, 1), "checkpoint_every": max(steps, 1)}
    train = config.train.model_copy(update={**length, "warmup_steps": max(warmup, steps // 10)})
    data = config.data.model_copy(update={"val": ()})
    return config.model_copy(update={"train": train, "data": data})


def train(config: Config, then: Config | None = None) -> Method:
    """Return the method of a short training, of two stages if `then` is given; its weights are not kept."""
    with TemporaryDirectory(prefix="left_out_") as folder:
        last = Path(folder) / "run"
        train_whole(config, last)
        if then is not None:
            changed = then.train.model_copy(update={"init_from": str(last)})
            last = Path(folder) / "second"
            train_whole(then.model_copy(update={"train": changed}), last)
        return load(last, device=config.train.device)


def begin(config: Config) -> Method:
    """Return the method as its training begins, with weights drawn at random."""
    method = start_method(config)
    method.mean_spectrum = build_training_data(config).mean_spectrum
    method.network.eval()
    return method


def divide(places: Iterable[str], count: int) -> list[tuple[str, ...]]:
    """Return the places in `count` folds, dealt in turn; those of `NEIGHBOURS` stay together."""
    places = list(dict.fromkeys(places))
    together = {place: group for group in NEIGHBOURS for place in group}
    units = list(dict.fromkeys(together.get(place, (place,)) for place in places))
    folds = [tuple(p for unit in units[i::count] for p in unit if p in places) for i in range(count)]
    if not all(folds):
        raise InputError(f"--folds is {count}, but there are {len(units)} places; give at most as many")
    return folds


def without_places(config: Config, places: Sequence[str]) -> Config:
    """Return the config without these places, and without the sources in which nothing is left."""
    data = config.data
    sources = [source for source in data.train if set(read_source(source, config).groups) - set(places)]
    return _with_data(config, train=tuple(sources), hold_out=(*data.hold_out, *places))


def without_source(config: Config, name: str) -> Config:
    """Return the config without the training sources of a data set."""
    named = zip(config.data.train, name_sources(config), strict=True)
    return _with_data(config, train=tuple(source for source, own in named if own != name))


def runs_by_place(config: Config, count: int, second: Config | None = None) -> list[Run]:
    """Return a run per fold of all places with radar; with the config of a second stage, of both stages."""
    scenes = find_scenes(config)
    runs = []
    for number, places in enumerate(divide((scene.place for scene in scenes), count), start=1):
        own = tuple(scene for scene in scenes if scene.place in places)
        then = second and without_places(second, places)
        name, skies = f"fold {number} of {count}", second is not None
        runs.append(Run(name, without_places(config, places), own, partial(train, then=then), skies=skies))
    return runs


def runs_by_source(config: Config) -> list[Run]:
    """Return the runs with every data set, and without each, the one drawn most first."""
    trained = {group for source in config.data.train for group in read_source(source, config).groups}
    scenes = tuple(scene for scene in find_scenes(config) if scene.place not in trained)
    if not scenes:
        raise InputError("the config excludes no place with radar to evaluate on; exclude some")
    other = config.model_copy(
        update={"train": config.train.model_copy(update={"seed": config.train.seed + 1})}
    )
    weights: dict[str, float] = {}
    for source, name in zip(config.data.train, name_sources(config), strict=True):
        weights[name] = weights.get(name, 0) + source.weight
    configs = {WHOLE: config, ANOTHER_SEED: other}
    for name in sorted(weights, key=weights.__getitem__, reverse=True):
        configs[f"without {name}"] = without_source(config, name)
    figures = (CLEAR_MEAN, NO_RADAR, ALL)
    trainings = [Run(name, each, scenes, train, figures) for name, each in configs.items()]
    return [Run(UNTRAINED, config, scenes, begin, figures), *trainings]


def is_wanted(run: Run, names: Sequence[str]) -> bool:
    """Return whether a run leaves out one of these places or data sets, or is named so itself."""
    held = {scene.place for scene in run.scenes} if run.name.startswith("fold") else set()
    return bool(held & set(names)) or run.name.removeprefix("without ") in names


def print_places(results: Sequence[dict[str, Any]], console: Console, *, skies: bool = False) -> None:
    """Print the PSNR of the hidden or cloudy pixels at each place, by what is given, and the means."""
    rows = [row for result in results for row in result["rows"]]
    if skies:
        whole, edges = COVERS[-1], pairwise(COVERS)
        parts = [(f"{least:.0%} to {min(below, 1):.0%} cloudy", least, below) for least, below in edges]
    else:
        whole, shares = 1.0, sorted(_column(rows, "hidden"))  # of what is all hidden nothing is left to see
        parts = [(f"{share:.0%} hidden", share, share + 1e-6) for share in shares]
    table = _table("place", "data set", *FIGURES, title="PSNR of hidden pixels, dB")
    for place, own in by_place(rows).items():
        means = (mean_of(own, figure, below=whole) for figure in FIGURES)
        table.add_row(place, own[0]["source"], *(f"{mean:.2f}" for mean in means))
    console.print(table)
    table = _table("places", "number", *FIGURES, "by guides", "by radar alone", title="mean over places, dB")
    groups = {source: [row for row in rows if row["source"] == source] for source in _column(rows, "source")}
    dated = {row["place"] for row in rows if row[NO_OLDER] != row[ALL]}
    groups["with an older date"] = [row for row in rows if row["place"] in dated]
    groups["without one"] = [row for row in rows if row["place"] not in dated]
    for name, own in {**groups, "all": rows}.items():
        if own:
            table.add_row(name, *_means(own, 0.0, whole))
            for part, least, below in parts:
                if any(least <= row["hidden"] < below for row in own):
                    table.add_row(f"{name}, {part}", *_means(own, least, below))
    console.print(table)
    _print_seconds(results, console)


def _column(rows: Sequence[Row], name: str) -> list[Any]:
    """Return the values that a column has, each once."""
    return list(dict.fromkeys(row[name] for row in rows))


def _means(rows: Sequence[Row], least: float, below: float) -> list[str]:
    """Return the number of places, the mean over places of each figure, and what guides and radar bring."""
    places = by_place([row for row in rows if least <= row["hidden"] < below]).values()
    means = {f: fmean(mean_of(own, f, least, below) for own in places) for f in FIGURES}
    gains = (means[ALL] - means[CLEAR_MEAN], means[NO_OLDER] - means[NO_GUIDE])
    return [str(len(places)), *(f"{means[f]:.2f}" for f in FIGURES), *(f"{gain:+.2f}" for gain in gains)]


def print_sources(results: Sequence[dict[str, Any]], console: Console) -> None:
    """Print what each run gains over the clear mean, and how that differs from the run with every data set.

    The differences are means over places, with their standard errors.
    """
    found = {result["run"]: by_place(result["rows"]) for result in results}
    whole = found.get(WHOLE)
    columns = [text for figure in (ALL, NO_RADAR) for text in (figure, f"{figure}: difference")]
    table = _table("trained on", "places", *columns, title="hidden pixels, dB above the clear mean")
    for name, places in found.items():
        cells = []
        for figure in (ALL, NO_RADAR):
            gains = [mean_of(own, figure) - mean_of(own, CLEAR_MEAN) for own in places.values()]
            cells.append(f"{fmean(gains):+.2f}")
            changes = (
                [mean_of(own, figure) - mean_of(whole[p], figure) for p, own in places.items()]
                if whole
                else []
            )
            cells.append(_with_error(changes) if any(changes) else "")
        table.add_row(name, str(len(places)), *cells)
    console.print(table)
    _print_seconds(results, console)


def _with_error(values: Sequence[float]) -> str:
    """Return the mean of values with its standard error."""
    error = stdev(values) / sqrt(len(values)) if len(values) > 1 else nan
    return f"{fmean(values):+.2f} ± {error:.2f}"


def _with_data(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def _table(*columns: str, title: str) -> Table:
    return Table(*columns, title=title, box=box.MARKDOWN)


def _print_seconds(results: Sequence[dict[str, Any]], console: Console) -> None:
    """Print how long the trainings took."""
    seconds = [result["seconds"] for result in results]
    console.print(f"{len(results)} runs, {fmean(seconds):.0f} s each, {sum(seconds) / 60:.0f} minutes in all")


if __name__ == "__main__":
    main()
