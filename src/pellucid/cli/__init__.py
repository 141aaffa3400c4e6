"""The command line: parse, build, call; what a user can mend ends in one sentence and exit code 2."""

import typer

from pellucid.cli.data import data_app
from pellucid.cli.evaluation import evaluate_command
from pellucid.cli.memory import keep_freed_memory
from pellucid.cli.pictures import colorize_command
from pellucid.cli.runs import import_command, models, train_command
from pellucid.cli.scenes import clouds, demo, remove_clouds, simulate
from pellucid.cli.slices import upscale_command

__all__ = ["app", "main"]

app = typer.Typer(
    name="pellucid",
    help="Restore what a sensor could not see: clouds off Sentinel-2, detail into CT, colour into radar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for name, command in (
    ("remove-clouds", remove_clouds),
    ("clouds", clouds),
    ("upscale", upscale_command),
    ("colorize", colorize_command),
    ("train", train_command),
    ("evaluate", evaluate_command),
    ("simulate", simulate),
    ("models", models),
    ("import", import_command),
    ("demo", demo),
):
    app.command(name)(command)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line."""
    keep_freed_memory()
    app()
