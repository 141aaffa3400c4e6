"""What every command shares: the terminal, errors said plainly, a progress bar, common options."""

import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pellucid.errors import InputError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Model = Annotated[
    str, typer.Option("--model", "-m", help="A model that ships (`pellucid models`) or a run folder.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option(help="bf16 is faster on GPUs and on CPUs with AMX.")
]

Steps = Annotated[
    int | None, typer.Option(min=1, help="Sampling steps; few are quick, default: the model's.")
]
Eta = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Fresh noise per step: 0 deterministic, 1 ancestral sampling."),
]
Guidance = Annotated[
    float | None,
    typer.Option(min=0, help="How many times as far a sampling model follows its input; default: its own."),
]
Seed = Annotated[int, typer.Option(help="The same seed makes the same image.")]


@contextmanager
def said_plainly() -> Iterator[None]:
    """Turn what the user can mend into one sentence and exit code 2; warnings into one line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: err.print(
            f"[yellow]warning:[/] {escape(str(message))}"
        )
        try:
            yield
        except InputError as error:
            err.print(f"[red]error:[/] {escape(' '.join(str(error).split()))}", soft_wrap=True)
            raise typer.Exit(2) from error


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float, int], None]]:
    """Yield a function of (done, total) that moves a bar with the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_paths(**paths: Path | None) -> None:
    """Print where each result lies behind what it is; what was not made is left out."""
    for label, path in paths.items():
        if path:
            out.print(f"{label:<9}{path}", soft_wrap=True)


def typed_command() -> str:
    """Return what the user typed, for the card of a run."""
    return shlex.join(["pellucid", *sys.argv[1:]])


def split_names(text: str) -> tuple[str, ...]:
    """Return the names of a list parted by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_offset(text: str) -> Literal["auto", "none"] | int:
    """Return what --offset means.

    Raises:
        InputError: if it is neither auto, nor none, nor a whole number.
    """
    if text == "auto":
        return "auto"
    if text == "none":
        return "none"
    try:
        return int(text)
    except ValueError as error:
        raise InputError(
            f"--offset is {text!r}, must be auto, none or a whole number such as -1000"
        ) from error
