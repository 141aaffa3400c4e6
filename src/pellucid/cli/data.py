"""The commands about folders of data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.terminal import Command, out, progress_bar, report_errors, scriptable, split_names, tell

if TYPE_CHECKING:
    from pellucid.evaluation.check_report import Report

data_app = typer.Typer(help="Look at folders of data.", no_args_is_help=True, rich_markup_mode="markdown")


@data_app.callback()
def data() -> None:
    """Look at folders of data."""


Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of one of the layouts of --kind.")]
Kind = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="The layout: sar_optical, sen12ms_cr, clear_scenes or slices; auto recognises it.",
    ),
]
ReportPath = Annotated[
    Path | None, typer.Option("--report", metavar="FILE.json", help="Write everything, every problem too.")
]
Sheet = Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw 12 samples, spread over all.")]
Pattern = Annotated[str, typer.Option(help="Clear scenes, slices: which files, such as `**/*_S2_*.tif`.")]
Radar = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Clear scenes: radar of the same names.")]
Lr = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Slices: low resolution of the same names.")]
Bands = Annotated[str, typer.Option(help="Bands that scenes must have, such as B02,B03,B04; else any.")]
Splits = Annotated[
    Path | None, typer.Option(metavar="FILE", help="JSON of the places of train, val and test.")
]
Seed = Annotated[int, typer.Option(help="SAR-optical pairs: of the splits by region folder.")]
Limit = Annotated[int, typer.Option(min=0, help="Read so many samples alone, spread over all; 0: all.")]


@data_app.command("check", cls=Command)
@scriptable
@report_errors()
def check_command(
    folder: Folder,
    kind: Kind = "auto",
    report_path: ReportPath = None,
    sheet: Sheet = None,
    pattern: Pattern = "",
    radar: Radar = None,
    lr: Lr = None,
    bands: Bands = "",
    splits: Splits = None,
    seed: Seed = 0,
    limit: Limit = 0,
) -> None:
    """Say what a folder of data holds and what is wrong with it; every image is read.

    The exit code is 0 if all can be used, 1 if something cannot, 2 if the folder is no data at all.

    Example: `pellucid data check data/Dataset --sheet look.png`
    """
    from pellucid.data.claims import claim_files
    from pellucid.data.files import check_is_folder

    check_is_folder(folder)
    from pellucid.evaluation.check_folder import CheckOptions, check_folder

    options = CheckOptions(
        kind=kind,
        pattern=pattern,
        radar=radar,
        lr=lr,
        bands=split_names(bands),
        splits=splits,
        seed=seed,
        limit=limit,
    )
    check_report_path(report_path)
    with claim_files(report_path, sheet), progress_bar("reading") as advance:
        report = check_folder(folder, options, sheet_path=sheet, progress=advance)
        print_report(report, report_path)
    usable = report.num_samples - report.num_unusable
    out.print(f"{usable} of {report.num_samples} samples can be used", soft_wrap=True)
    if not report.is_usable:
        raise typer.Exit(1)


def check_report_path(path: Path | None) -> None:
    """Refuse the file of a report that cannot be written, or would replace one of another origin."""
    from pellucid.data.files import check_writable
    from pellucid.data.ownership import check_replaceable

    if path is not None:
        check_writable(path)
        check_replaceable(path, start='{\n "folder": ')


def print_report(report: "Report", path: Path | None) -> None:
    """Print what a check or an audit found, and write all of it as JSON, if there is a path."""
    import json

    from pellucid.data.files import write_text

    found = report.to_dict()
    tell(**found)
    if path is not None:
        write_text(path, json.dumps(found, indent=1, allow_nan=False) + "\n")
    read = f", {report.num_read} of them read" if report.num_read < report.num_samples else ""
    out.print(
        f"{report.folder}: {report.kind}, {report.num_samples} samples{read}, {report.num_places} places",
        soft_wrap=True,
    )
    if report.images:
        out.print(report.image_table())
    for line in report.lines():
        out.print(line, soft_wrap=True, markup=False)
    for is_fatal, line in report.problem_lines():
        out.print(line, style="red" if is_fatal else "yellow", soft_wrap=True, markup=False)
