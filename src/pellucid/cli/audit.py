"""The command that audits data and splits."""

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.data import (
    Bands,
    Kind,
    Limit,
    Pattern,
    Radar,
    ReportPath,
    Sheet,
    check_report_path,
    print_report,
)
from pellucid.cli.terminal import out, progress_bar, report_errors, split_names

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Folder of one of the layouts of --kind.")]
Split = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Anybody's split: JSON with lists of places by split, a list as data.csv, or a table with a "
        "column split; default: that of the data.",
    ),
]
Older = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Clear scenes of another date, of the same names.")
]
Cloudy = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Cloudy scenes of the same names.")]


@report_errors()
def audit_command(
    folder: Data,
    split: Split = None,
    older: Older = None,
    cloudy: Cloudy = None,
    radar: Radar = None,
    kind: Kind = "auto",
    pattern: Pattern = "",
    bands: Bands = "",
    report_path: ReportPath = None,
    sheet: Sheet = None,
    limit: Limit = 0,
) -> None:
    """Find what makes figures untrue: places of the test in training, and faults of the data.

    Leaks: places or patches in two splits, names that begin as others do, footprints that overlap, patches
    that look alike. Faults: radar that is cut off or wrapped around, clouds in cloud-free images, an offset
    taken off twice or not at all, snow on one date, images that lie beside each other. And all that
    `data check` finds.

    The exit code is 0 if nothing was found, 1 if something was, 2 if the folder is no data at all.

    Example: `pellucid audit DIR --split configs/sen12ms_cr_splits.json`

    Example: `pellucid audit DIR/s2_cloudfree --cloudy DIR/s2_cloudy --radar DIR/s1 --report found.json`
    """
    from pellucid.data.claims import claim_files
    from pellucid.data.files import check_is_folder

    check_report_path(report_path)
    check_is_folder(folder)
    for each in (older, cloudy):
        if each is not None:
            check_is_folder(each)
    from pellucid.evaluation.audit import audit_folder, is_clean
    from pellucid.evaluation.audit_split import read_any_split
    from pellucid.evaluation.check_folder import CheckOptions

    named = None if split is None else read_any_split(split)
    options = CheckOptions(kind=kind, pattern=pattern, radar=radar, bands=split_names(bands), limit=limit)
    with claim_files(report_path, sheet), progress_bar("reading") as advance:
        report = audit_folder(
            folder, named, options, older=older, cloudy=cloudy, sheet_path=sheet, progress=advance
        )
        print_report(report, report_path)
    if named is not None:
        counts = ", ".join(f"{name} {len(names)}" for name, names in named.names.items())
        out.print(f"split {named.path.name}: {counts}; SHA-256 {named.sha256}", soft_wrap=True)
    if not is_clean(report):
        raise typer.Exit(1)
    out.print("neither a leak nor a fault was found")
