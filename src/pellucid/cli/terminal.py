"""What every command shares: the terminal, errors in one sentence, progress, options from dataclasses."""

import inspect
import json
import logging
import math
import re
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import Field, asdict, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from typer.core import TyperCommand

from pellucid.apply.memory import make_way
from pellucid.apply.options import Help
from pellucid.cli.room import make_room
from pellucid.data.run_folder import shipped_runs
from pellucid.errors import InputError, explain_memory, is_out_of_memory, nearest, refusal

# Characters in a line of a file or a pipe, which has no width of its own: tables keep their names.
PIPED = 140
# Paths may hold brackets, which are no markup.
out = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPED)
err = Console(stderr=True, highlight=False, emoji=False)

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A model that ships (`pellucid models`) or a run folder.",
        autocompletion=lambda: [*shipped_runs()],
    ),
]


# What of several results is opened first, by suffix.
TO_OPEN = (".html", ".png", ".jpg", ".tif", ".tiff")
# Exit code of what is stopped by Ctrl-C or a terminate signal.
STOPPED = 130
# Who else is told of progress: label, done, total.
followers = list[Callable[[str, float, int], None]]()
# What a command has told, for its JSON; None: nobody asks for it.
_told: ContextVar[dict[str, Any] | None] = ContextVar("told", default=None)


@contextmanager
def report_errors() -> Iterator[None]:
    """Print what the user can mend as one sentence, with exit code 2, and warnings in one line each.

    Ctrl-C and a terminate signal end in one sentence too, which says how to go on, if that is possible.
    """
    with warnings.catch_warnings(), _terminate_as_interrupt(), _log_as_sentences():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: say("warning", message, "yellow")
        try:
            yield
        except Exception as error:
            if (sentence := _as_sentence(error)) is None:
                raise
            say("error", sentence)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            err.print(escape("; ".join(["stopped", *getattr(error, "__notes__", [])])), soft_wrap=True)
            raise typer.Exit(STOPPED) from error


def _as_sentence(error: Exception) -> str | None:
    """Return what the user can mend as one sentence; None: it is a fault of ours."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and (refused := refusal(error)):
        return str(refused)
    if is_out_of_memory(error):
        return explain_memory(error, f"{make_way()}, or cut the input into parts")
    return None


def say(label: str, message: object, color: str = "red") -> None:
    """Print a sentence on standard error, behind a label in colour."""
    err.print(f"[{color}]{label}:[/] {escape(' '.join(str(message).split()))}", soft_wrap=True)


class _Sentences(logging.Handler):
    """Prints each warning of ours that is logged, once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print the warning, if it is new."""
        text = record.getMessage()
        if text not in self.said:
            say("warning", text, "yellow")
        self.said.add(text)


@contextmanager
def _log_as_sentences() -> Iterator[None]:
    """Print what we log, and not what libraries log: what matters of it, they raise."""
    ours, silent = _Sentences(), logging.NullHandler()
    handlers = [("pellucid", ours), ("rasterio", silent), ("tifffile", silent)]
    for name, handler in handlers:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name, handler in handlers:
            logging.getLogger(name).removeHandler(handler)


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Answer a terminate signal as Ctrl-C, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Command(TyperCommand):
    """A command whose help begins with its examples, and that names the nearest choice for a wrong word."""

    def __init__(self, name: str | None, *, help: str | None = None, **settings: Any) -> None:  # noqa: A002
        paragraphs = (help or "").split("\n\n")
        examples = [each for each in paragraphs if each.startswith("Example: ")]
        others = [each for each in paragraphs if each not in examples]
        settings["short_help"] = settings.get("short_help") or others[0]
        super().__init__(name, help="\n\n".join([*examples, *others]), **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return what is left of the arguments."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # of typer or click, by their versions
            text = str(getattr(error, "message", ""))
            if found := re.search(r"'([^']*)' is not one of (.*?)\.?$", text):
                near = nearest(found[1], re.findall(r"'([^']*)'", found[2]))
                error.message = text.rstrip(".") + near * ("mean" in near)  # type: ignore[attr-defined]
            raise


def scriptable(
    command: Callable[..., None], *, ends: bool = True, with_torch: bool = True
) -> Callable[..., None]:
    """Return the command with `--quiet`, under which it prints errors and warnings alone, and `--json`.

    The JSON is what it gives `tell` and `print_paths`; a command that prints its own, or never `ends`, keeps
    its options. It is refused where memory is too short for the libraries, PyTorch's among them or not.
    """
    own = inspect.signature(command)
    adds_json = ends and "as_json" not in own.parameters

    @wraps(command)
    def run(*, quiet: bool, **given: Any) -> None:
        as_json = adds_json and given.pop("as_json")
        before, out.quiet = out.quiet, quiet or as_json
        told = _told.set({} if as_json else None)
        try:
            with report_errors():
                make_room(with_torch=with_torch)
            command(**given)
        except typer.Exit as error:
            if error.exit_code == 1:
                _print_told()
            raise
        else:
            _print_told()
        finally:
            out.quiet = before
            _told.reset(told)

    option = typer.Option("--quiet", "-q", help="Print nothing but errors, warnings and JSON.")
    added = [keyword("quiet", Annotated[bool, option], False)]
    if adds_json:
        option = typer.Option("--json", help="Print what was made as JSON, for scripts.")
        added.append(keyword("as_json", Annotated[bool, option], False))
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, **{each.name: each.annotation for each in added}}
    return run


def tell(**values: Any) -> None:
    """Take plain values, paths and dataclasses into the JSON of the command, where that is asked for."""
    found = _told.get()
    if found is not None:
        found |= {name: asdict(x) if is_dataclass(x) else x for name, x in values.items()}  # type: ignore[arg-type]


def _print_told() -> None:
    found = _told.get()
    if found is not None:
        print_json(_without_nan(found))


def _without_nan(value: Any) -> Any:
    """Return plain values in which what is no finite number is None."""
    if isinstance(value, Mapping):
        return {str(name): _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(value: Any) -> None:
    """Print plain values and paths as JSON, for scripts: on standard output, quiet or not."""
    typer.echo(json.dumps(value, indent=1, allow_nan=False, default=str))


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float, int], None]]:
    """Yield a function of (done, total) that moves a bar with the time left."""
    with progress_bars(label) as (advance,):
        yield advance


@contextmanager
def progress_bars(*labels: str) -> Iterator[tuple[Callable[[float, int], None], ...]]:
    """Yield a function as of `progress_bar` for each label; all but the last show when they first move."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=out.quiet or not err.is_terminal) as bar:
        tasks = [bar.add_task(label, total=None, visible=label == labels[-1]) for label in labels]

        def advance(task: TaskID, done: float, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)
            for follow in followers:
                follow(labels[task], done, total)

        yield tuple(partial(advance, task) for task in tasks)


def print_paths(**paths: Path | None) -> None:
    """Print where each result lies behind what it is, what was not made left out, and last what to open."""
    made = {label: path for label, path in paths.items() if path}
    tell(files=made)
    for label, path in made.items():
        out.print(f"{label:<9}{path}", soft_wrap=True)
    shown = [path for suffix in TO_OPEN for path in made.values() if path.suffix.lower() == suffix]
    if shown:
        out.print(f"{'open':<9}{shown[0]}", soft_wrap=True)


def typed_command() -> str:
    """Return what the user typed, for the card of a run."""
    return shlex.join(["pellucid", *sys.argv[1:]])


def split_names(text: str) -> tuple[str, ...]:
    """Return the names of a list parted by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_numbers(option: str, text: str | None, *, count: str, example: str) -> Any:
    """Return as many whole numbers, parted by commas, as the example has; None where nothing is typed."""
    if not text:
        return None
    try:
        return tuple(int(part) for part, _ in zip(text.split(","), example.split(","), strict=True))
    except ValueError as error:
        message = f"{option} is {text!r}, must be {count} whole numbers such as {example}"
        raise InputError(message) from error


def takes(
    options: type[Any],
    *,
    hide: Collection[str] = (),
    has_all: Callable[[Mapping[str, Any]], bool] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator of commands: their parameter `options` becomes an option per field with a `Help`.

    `options` is a dataclass as in `pellucid.apply.options`; the fields to `hide` keep their defaults. Errors
    are reported as by `report_errors`; an option that has no effect is one, unless the arguments `has_all`.
    """
    shown = [field for field in fields(options) if field.name not in hide]
    helps = {field: about for field in shown for about in get_args(field.type) if isinstance(about, Help)}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        @report_errors()
        def run(**given: Any) -> None:
            if has_all is None or not has_all(given):
                _refuse_idle(helps, given)
            values = {field.name: _value(about, given.pop(field.name)) for field, about in helps.items()}
            command(**given, options=options(**values))

        own = inspect.signature(command)
        parameters: list[inspect.Parameter] = []
        for name, parameter in own.parameters.items():
            parameters += [_parameter(*each) for each in helps.items()] if name == "options" else [parameter]
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _refuse_idle(helps: Mapping[Field[Any], Help], given: Mapping[str, Any]) -> None:
    """Refuse an option that has no effect, since none is given of the options that it needs."""
    for field, about in helps.items():
        needed = [name for name in about.needs if name in given]
        if needed and given[field.name] != field.default and not any(given[name] for name in needed):
            options = [f"--{each.replace('_', '-')}" for each in (field.name, *needed)]
            listed = " or ".join(filter(None, [", ".join(options[1:-1]), options[-1]]))
            raise InputError(f"{options[0]} has no effect without {listed}; add one, or leave it out")


def refuse_idle(because: str, **typed: bool) -> None:
    """Refuse the first option that is typed, by the name of its parameter, though it has no effect."""
    for name, is_typed in typed.items():
        if is_typed:
            raise InputError(f"--{name.replace('_', '-')} has no effect {because}; leave it out")


def _value(about: Help, typed: Any) -> Any:
    return about.parse(typed) if about.parse and typed is not None else typed


def _parameter(field: Field[Any], about: Help) -> inspect.Parameter:
    """Return the field as a parameter that typer understands."""
    kind: Any = get_args(field.type)[0]
    if about.parse:
        kind = str | None if field.default is None else str
    option = typer.Option(*about.flags, help=about.text, min=about.min, max=about.max, metavar=about.metavar)
    return keyword(field.name, Annotated[kind, option], field.default)


def keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    """Return a parameter that typer makes an option."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
