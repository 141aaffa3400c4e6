"""Leave one place out, train, judge the patches of that place; for every place, or for groups of places.

    python -m benchmarks.cross_validation configs/cross_attention_shipped.yaml --out runs/cross_validation

A fold that is done is not done again, so the command may be stopped and called once more.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console
from rich.table import Table

from pellucid.build import build_training_data, join, load, read_source, start_method
from pellucid.config import Config, Sen12MsCrSource, load_config
from pellucid.data.augment import Selected
from pellucid.evaluator import evaluate
from pellucid.run import replace_file, save_run
from pellucid.scores import INPUT, MODEL, SPECTRUM
from pellucid.trainer import train

# A patch counts as cloudy from this share of cloudy pixels on.
CLOUDY = 0.05


def main() -> None:
    """Run every fold that is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/cross_validation"))
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--places", nargs="*", help="only these folds, to share the work between processes")
    options = parser.parse_args()
    config = load_config(options.config, tuple(options.changes))
    rows = []
    for place in options.places or places(config):
        file = options.out / place / "scores.json"
        if not file.exists():
            rows_of_fold = run_fold(config, place, options.out / place)
            text = json.dumps(rows_of_fold, indent=1)
            replace_file(file, partial(_write, text=text))
        rows += json.loads(file.read_text())
    Console().print(summary(rows))


def places(config: Config) -> list[str]:
    """Return the places of all pairs of cloudy and clear images, sorted."""
    groups = {group for source in _pairs(config) for group in read_source(source, config).groups}
    return sorted(groups)


def run_fold(config: Config, place: str, folder: Path) -> list[dict[str, float | str]]:
    """Train without `place`, and return a row per patch of it: gain over the better baseline, in dB."""
    data = config.data.model_copy(update={"hold_out": (*config.data.hold_out, place), "val": ()})
    fold = config.model_copy(update={"data": data})
    method = start_method(fold)
    training = build_training_data(fold)
    method.mean_spectrum = training.mean_spectrum

    def save(**extra: object) -> None:
        save_run(folder, config=fold, method=method, **extra)  # type: ignore[arg-type]

    if not (folder / "weights.safetensors").exists():
        train(fold, method, training.stream, None, folder, save=save)
    held = [Selected(read_source(source, config), only=[place]) for source in _pairs(config)]
    result = evaluate(
        load(folder, device=config.train.device),
        join(held),
        name=place,
        mean_spectrum=training.mean_spectrum,
        pictures=0,
    )
    return [
        {
            "place": place,
            "patch": image.key,
            "cover": image.cover,
            **{source: image.values[source, "all", "psnr"] for source in (MODEL, INPUT, SPECTRUM)},
            "gain": image.gain(),
        }
        for image in result.images
    ]


def summary(rows: list[dict[str, float | str]]) -> Table:
    """Return mean and spread over places of the gain, over cloudy patches and over all."""
    table = Table(
        "place", "patches", "cloudy", "gain, cloudy", "gain, all", title="PSNR above the better baseline, dB"
    )
    by_place: dict[str, list[dict[str, float | str]]] = {}
    for row in rows:
        by_place.setdefault(str(row["place"]), []).append(row)
    cloudy_means, all_means = [], []
    for place, own in by_place.items():
        gains = [float(row["gain"]) for row in own]
        cloudy = [float(row["gain"]) for row in own if float(row["cover"]) >= CLOUDY]
        all_means.append(fmean(gains))
        cloudy_means += [fmean(cloudy)] if cloudy else []
        table.add_row(
            place,
            str(len(own)),
            str(len(cloudy)),
            f"{fmean(cloudy):+.2f}" if cloudy else "",
            f"{fmean(gains):+.2f}",
        )
    patches = [float(row["gain"]) for row in rows if float(row["cover"]) >= CLOUDY]
    table.add_section()
    table.add_row(
        "mean over places",
        str(len(rows)),
        str(len(patches)),
        f"{fmean(cloudy_means):+.2f} ± {stdev(cloudy_means):.2f}",
        f"{fmean(all_means):+.2f} ± {stdev(all_means):.2f}",
    )
    table.add_row("mean over patches", "", "", f"{fmean(patches):+.2f} ± {stdev(patches):.2f}", "")
    return table


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _pairs(config: Config) -> list[Sen12MsCrSource]:
    sources = [*config.data.train, *config.data.val]
    return [source for source in sources if isinstance(source, Sen12MsCrSource)]


if __name__ == "__main__":
    main()
