"""The command that says what made a file."""

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.terminal import out, print_json, report_errors

Result = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A result of any kind, a Sentinel-2 product, a run folder, or the name of a model.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@report_errors()
def info(path: Result, as_json: AsJson = False) -> None:
    """Print what made a result: command, model, digest of its weights, version, seed, options, inputs.

    Of a Sentinel-2 product: its level, baseline, tile, date, bands and offsets, and what to do with it.

    Example: `pellucid info clear.tif`
    """
    from pellucid.apply.info import in_lines, inform

    found = inform(path)
    if as_json:
        print_json(found)
        return
    for line in in_lines(found):
        out.print(line, soft_wrap=True)
