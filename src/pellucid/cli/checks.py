"""Commands that say what there is and whether it is right: doctor, models, verify."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from pellucid.cli.terminal import out, print_json, print_paths, progress_bar, refuse_idle, report_errors
from pellucid.data.digests import read_digest
from pellucid.data.run_folder import SHIPPED, WEIGHTS, describe, find_run, shipped_runs

if TYPE_CHECKING:
    from pellucid.evaluation.verify import Verdict

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

    with progress_bar("looking") as advance:
        findings = check_installation(advance)
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


@report_errors()
def verify_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Models that ship, or runs; default: all that ship."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto (CPU, and GPU if there is one), cpu, cuda or cuda:N.")
    ] = "auto",
    renew: Annotated[
        bool,
        typer.Option("--renew", help="Make the golden values anew, after weights were replaced on purpose."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say whether models give the right values on this machine: PASS or FAIL.

    Weights must fit their SHA-256. On two small made-up places that ship, in fp32 and bf16, values must lie
    near the golden ones, and the PSNR must be that of the card's model. The exit code is 1 if anything fails.

    Example: `pellucid verify ground`
    """
    refuse_idle("with --renew", device=renew and device != "auto", json=renew and as_json)
    models = list(names or shipped_runs())
    for name in models:
        find_run(name)
    from pellucid.evaluation.verify import devices_here, verify
    from pellucid.evaluation.verify import renew as make_golden

    if renew:
        for name in models:
            print_paths(golden=make_golden(name))
        return
    verdicts: list[Verdict] = []
    with progress_bar("verifying") as advance:
        for done, name in enumerate(models):

            def move(tried: float, trials: int, done: int = done) -> None:
                advance(done + tried / trials, len(models))

            move(0, 1)
            verdicts += verify(name, devices=devices_here(device), progress=move)
    is_passed = all(each.is_passed for each in verdicts)
    if as_json:
        print_json({"is_passed": is_passed, "verdicts": [asdict(each) for each in verdicts]})
    else:
        out.print(_verdict_table(verdicts))
        out.print("PASS" if is_passed else "FAIL")
    if not is_passed:
        raise typer.Exit(1)


def _verdict_table(verdicts: Sequence["Verdict"]) -> Table:
    table = Table("", "model", "what", "where", "found", box=None)
    for each in verdicts:
        word = Text("PASS", "green") if each.is_passed else Text("FAIL", "red")
        table.add_row(word, each.model, each.check, each.where, Text(each.found))
    return table
