"""The command that puts evaluations side by side."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.terminal import out, print_json, print_paths, progress_bar, report_errors, say

if TYPE_CHECKING:
    from pellucid.evaluation.compare import Comparison

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN RUN ...",
        help="Folders of evaluations; or runs, or models that ship, whose newest evaluation counts.",
    ),
]


@report_errors()
def compare_command(
    runs: Runs,
    metric: Annotated[str, typer.Option(help="psnr, ssim, sam, mae, rmse or another in per_image.csv.")] = (
        "psnr"
    ),
    region: Annotated[str, typer.Option(help="all, cloudy, thin, thick or clear pixels.")] = "all",
    images: Annotated[int, typer.Option(min=0, help="Images to list, those that differ most.")] = 10,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Every image, as .csv; or everything, as .json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Compare evaluated models image by image: the mean difference, and whether it is more than chance.

    Example: `pellucid compare runs/mine runs/theirs`

    Example: `pellucid compare ground cross_attention --metric ssim --region cloudy -o images.csv`

    The differences are against the first. Their 95 % confidence intervals come from bootstrap over places.
    """
    from pellucid.evaluation.compare import compare, find_evaluation, write_comparison

    folders = [find_evaluation(run) for run in runs]
    with progress_bar("comparing") as advance:
        found = compare(folders, metric=metric, region=region, progress=advance)
    if output:
        write_comparison(found, output)
    if as_json:
        print_json(found.to_dict())
        return
    for name, values in found.unlike.items():
        say("note", f"they differ in {name}: {', '.join(str(value) for value in values)}", "yellow")
    if found.num_left_out:
        say("note", f"{found.num_left_out} images are left out, which not all of them have", "yellow")
    _print_tables(found, images)
    print_paths(images=output)


def _print_tables(found: "Comparison", num_images: int) -> None:
    """Print the means and differences, and the images that differ most."""
    import numpy as np
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    from pellucid.evaluation.table import COLUMNS

    name = f"{COLUMNS.get(found.metric, found.metric)}, {found.region} pixels"
    right = [Column(head, justify="right") for head in ("mean", "difference", "95 % interval", "above")]
    table = Table("", *right, title=f"{name}, {len(found.keys)} images", box=SIMPLE_HEAD, padding=0)
    table.title_justify = "left"
    decimals = 2 if found.metric in ("psnr", "sam") else 4
    for at, label in enumerate(found.names):
        row = [_number(found.means[at], decimals)]
        if at:
            each = found.differences[at - 1]
            interval = f"{each.low:+.{decimals}f} to {each.high:+.{decimals}f}"
            few = f"{each.num_places} place{'s' * (each.num_places != 1)} alone"
            row += [f"{each.mean:+.{decimals}f}", few if math.isnan(each.low) else interval]
            row += [f"{each.share_above:.0%} of {each.num_images}"]
        table.add_row(label, *row)
    out.print(table)
    heads = [Column(label, justify="right") for label in found.names]
    listed = Table("image", *heads, box=SIMPLE_HEAD, padding=0)
    spreads = np.nan_to_num(np.ptp(found.values, axis=0), nan=-1)
    for i in np.argsort(-spreads, kind="stable")[:num_images]:
        listed.add_row(found.keys[i], *(_number(float(value), decimals) for value in found.values[:, i]))
    if num_images:
        out.print(listed)


def _number(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"
