"""Commands that say what there is and whether it is whole: doctor, models."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from pellucid.cli.terminal import out, print_json, report_errors
from pellucid.data.digests import read_digest
from pellucid.data.run_folder import SHIPPED, WEIGHTS, describe, shipped_runs

COLORS = {"ok": "green", "note": "yellow", "wrong": "red"}

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@report_errors()
def doctor(as_json: Json = False) -> None:
    """Say what is installed and what the machine has, what is wrong with it and how to mend it.

    The exit code is 0 if all is well, 1 if something is wrong. A note is no fault: some commands may miss
    what it names.

    Example: `pellucid doctor`
    """
    from pellucid.evaluation.installation import check_installation, to_dict

    findings = check_installation()
    summary = to_dict(findings)
    if as_json:
        print_json(summary)
    else:
        table = Table("", "what", "found", box=None)
        for each in findings:
            mend = f"\n-> {each.mend}" if each.mend else ""
            table.add_row(Text(each.state, COLORS[each.state]), each.name, Text(each.found + mend))
        out.print(table)
        wrong = sum(each.state == "wrong" for each in findings)
        out.print(f"wrong: {wrong}, see above" if wrong else "pellucid is ready")
    if not summary["is_ready"]:
        raise typer.Exit(1)


@report_errors()
def models(as_json: Json = False) -> None:
    """List the models that ship: what they are, what they reach, and their licences.

    Example: `pellucid models`
    """
    found = [describe(SHIPPED / name) for name in shipped_runs()]
    if as_json:
        folders = [SHIPPED / each.name for each in found]
        digests = [{"folder": str(each), "sha256": read_digest(each / WEIGHTS)} for each in folders]
        print_json([{**each._asdict(), **more} for each, more in zip(found, digests, strict=True)])
        return
    table = Table("name", "MB", "what it is, and its licence", show_lines=True)
    for name, size, about, licence in found:
        table.add_row(name, f"{size:.1f}", Text.assemble(about, "\n", (licence, "dim")))
    out.print(table)
    out.print("pellucid verify NAME says whether a model gives the right values here", soft_wrap=True)
