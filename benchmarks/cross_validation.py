r"""Leave-one-place-out cross-validation: train without a place, evaluate on its patches; for every place.

    python -m benchmarks.cross_validation configs/cross_attention_shipped.yaml \
        --set data.train.0.split=all --set data.val=[] --out runs/cross_validation

Each fold is evaluated at several values of `method.caution`, so that one can be chosen. Finished folds are
kept: the command can be stopped and called again, and --places divides the folds among processes.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.kept import keep, train_whole
from pellucid.build.datasets import read_source
from pellucid.build.method import load
from pellucid.config import Config, load_config
from pellucid.datasets import sen12ms_cr
from pellucid.evaluation.evaluate import evaluate
from pellucid.evaluation.figures import INPUT, MODEL, SPECTRUM, ImageScore
from pellucid.methods.regression import RegressionConfig

CAUTIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
# Share of cloudy pixels from which a patch counts as cloudy.
CLOUDY = 0.05


def main() -> None:
    """Run every fold that is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/cross_validation"))
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--places", nargs="*", help="only these folds, to divide them among processes")
    options = parser.parse_args()
    config = load_config(options.config, tuple(options.changes))
    rows = []
    for place in options.places or places(config):
        folder = options.out / place
        rows += keep(folder / "scores.json", partial(run_fold, config, place, folder))
    Console().print(by_place(rows, _caution(config)), by_caution(rows))


def places(config: Config) -> list[str]:
    """Return the places of all pairs of cloudy and clear images, sorted."""
    groups = {group for source in _pairs(config) for group in read_source(source, config).groups}
    return sorted(groups)


def run_fold(config: Config, place: str, folder: Path) -> list[dict[str, Any]]:
    """Train without `place`, and return a row per patch of it: gain over input or mean spectrum, in dB."""
    data = config.data.model_copy(update={"hold_out": (*config.data.hold_out, place), "val": ()})
    fold = config.model_copy(update={"data": data})
    train_whole(fold, folder)
    sources = [read_source(source, config) for source in _pairs(config)]
    held = [patches[i] for patches in sources for i, group in enumerate(patches.groups) if group == place]
    method = load(folder, device=config.train.device)
    rows = []
    for caution in CAUTIONS:
        method.caution = caution  # type: ignore[attr-defined]
        result = evaluate(method, held, name=place)
        rows += [
            {
                "place": place,
                "patch": image.key,
                "cover": image.cover,
                "caution": caution,
                **{source: image.values[source, "all", "psnr"] for source in (MODEL, INPUT, SPECTRUM)},
                "gain": _gain(image),
            }
            for image in result.images
        ]
    return rows


def _gain(image: ImageScore) -> float:
    """Return the model's PSNR minus that of the input or, if better, the mean spectrum, in dB."""
    psnr = {source: image.values[source, "all", "psnr"] for source in (MODEL, INPUT, SPECTRUM)}
    return psnr[MODEL] - max(psnr[INPUT], psnr[SPECTRUM])


def by_place(rows: list[dict[str, Any]], caution: float) -> Table:
    """Return the gain at each place, over its cloudy patches and over all."""
    table = Table(
        "place", "patches", "cloudy", "gain, cloudy", "gain, all", title=f"caution {caution}: gain in dB"
    )
    for place in dict.fromkeys(row["place"] for row in rows):
        own = [row for row in rows if row["place"] == place and row["caution"] == caution]
        cloudy = [row["gain"] for row in own if row["cover"] >= CLOUDY]
        over_cloudy = f"{fmean(cloudy):+.2f}" if cloudy else ""
        over_all = f"{fmean(row['gain'] for row in own):+.2f}"
        table.add_row(place, str(len(own)), str(len(cloudy)), over_cloudy, over_all)
    return table


def by_caution(rows: list[dict[str, Any]]) -> Table:
    """Return mean and standard deviation of the gain over cloudy patches, by patches and by places."""
    title = "PSNR above the better baseline over cloudy patches, dB"
    table = Table("caution", "patches", "mean over patches", "places", "mean over places", title=title)
    for caution in sorted({row["caution"] for row in rows}):
        cloudy = [row for row in rows if row["caution"] == caution and row["cover"] >= CLOUDY]
        places = {row["place"] for row in cloudy}
        patches = [row["gain"] for row in cloudy]
        means = [fmean(row["gain"] for row in cloudy if row["place"] == place) for place in places]
        table.add_row(str(caution), str(len(patches)), _mean(patches), str(len(means)), _mean(means))
    return table


def _caution(config: Config) -> float:
    return config.method.caution if isinstance(config.method, RegressionConfig) else 0.0


def _mean(values: list[float]) -> str:
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):+.2f}{spread}" if values else ""


def _pairs(config: Config) -> list[sen12ms_cr.Config]:
    sources = [*config.data.train, *config.data.val]
    return [source for source in sources if isinstance(source, sen12ms_cr.Config)]


if __name__ == "__main__":
    main()
