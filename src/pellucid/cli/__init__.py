"""The command line: parse, build, call; what a user can mend ends in one sentence and exit code 2."""

import io
import sys
from typing import Annotated, Any

import typer

import pellucid
from pellucid.apply.memory import keep_freed_memory
from pellucid.cli.audit import audit_command
from pellucid.cli.benchmark import benchmark_command
from pellucid.cli.checks import doctor, models, verify_command
from pellucid.cli.comparison import compare_command
from pellucid.cli.data import data_app
from pellucid.cli.evaluation import evaluate_command
from pellucid.cli.explain import explain_command
from pellucid.cli.export import export_command
from pellucid.cli.info import info
from pellucid.cli.pictures import colorize_command
from pellucid.cli.runs import average_command, import_command, train_command
from pellucid.cli.scenes import clouds, demo, remove_clouds, simulate, status
from pellucid.cli.serve import serve_command
from pellucid.cli.slices import upscale_command
from pellucid.cli.terminal import Command, scriptable

__all__ = ["app", "main"]

app = typer.Typer(
    name="pellucid",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for name, command in (
    ("remove-clouds", remove_clouds),
    ("status", status),
    ("clouds", clouds),
    ("upscale", upscale_command),
    ("colorize", colorize_command),
    ("train", train_command),
    ("average", average_command),
    ("evaluate", evaluate_command),
    ("compare", compare_command),
    ("audit", audit_command),
    ("benchmark", benchmark_command),
    ("simulate", simulate),
    ("models", models),
    ("import", import_command),
    ("export", export_command),
    ("explain", explain_command),
    ("serve", serve_command),
    ("demo", demo),
    ("doctor", doctor),
    ("verify", verify_command),
    ("info", info),
):
    light = name in ("status", "models", "info")
    app.command(name, cls=Command)(scriptable(command, ends=name != "serve", with_torch=not light))
app.add_typer(data_app, name="data")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"pellucid {pellucid.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Restore what a sensor could not see: clouds off Sentinel-2, detail into CT, colour into radar."""


def main() -> None:
    """Run the command line.

    Characters that the terminal cannot show, and bytes in paths that are no text, are printed escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.unraisablehook = _report_unraisable
    keep_freed_memory()
    app()


def _report_unraisable(found: Any) -> None:
    """Report what cannot be raised, except that a library's message about a damaged file is no text."""
    if not isinstance(found.exc_value, UnicodeDecodeError):
        sys.__unraisablehook__(found)
