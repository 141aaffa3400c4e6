"""What the service offers: commands with their files and options; a request as a command line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pellucid.errors import InputError, nearest
from pellucid.web.limits import MAX_TEXT

Kind = Literal["yes", "whole", "number", "text"]
Value = bool | int | float | str


@dataclass(frozen=True)
class Role:
    """What a file is to a command.

    Attributes:
        name: by which requests call it.
        label: for people.
        help: what it is.
        flag: before the path on the command line; "" if it is the argument.
        many: whether several are taken: each behind its flag, or, as the argument, in one folder.
        suffixes: of the files that are offered.
        grey: suffixes of those that must hold grey pictures.
    """

    name: str
    label: str
    help: str
    flag: str = ""
    many: bool = False
    suffixes: tuple[str, ...] = (".tif", ".tiff")
    grey: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """An option that people change; a text may be one of `known`, and must be if `only` those are taken."""

    name: str
    help: str
    flag: str
    kind: Kind
    default: Value | None = None
    low: float | None = None
    high: float | None = None
    known: tuple[str, ...] = ()
    only: bool = False
    writes: str = ""  # of yes: the file in the folder of results that the flag names


@dataclass(frozen=True)
class Task:
    """A command that is offered.

    Attributes:
        command: of pellucid.
        about: what it does, in two words.
        roles: the files that it takes.
        choices: the options that it takes; the first `num_first` are shown at once.
        out: the name of the result of one file.
        out_many: the name of the folder of the results of several; "" if it takes one.
    """

    command: str
    about: str
    roles: tuple[Role, ...]
    choices: tuple[Choice, ...]
    out: str
    out_many: str = ""
    num_first: int = 2


def write_words(
    task: Task, inputs: Mapping[str, Sequence[Path]], options: Mapping[str, Value | None], results: Path
) -> list[str]:
    """Return the words after `pellucid`: paths are absolute, so that no name is taken for an option.

    Args:
        task: the command.
        inputs: absolute paths by role; several as an argument lie in one folder.
        options: values by name; None or "" leaves the default.
        results: the folder of the results.
    """
    known = [role.name for role in task.roles]
    for name in inputs:
        if name not in known:
            raise InputError(f"{task.command} takes no file as {name!r}{nearest(name, known)}")
    words = [task.command]
    out = task.out
    for role in task.roles:
        paths = inputs.get(role.name, ())
        if not paths and not role.flag:
            raise InputError(f"{role.label} is missing; add a file")
        if len(paths) > 1 and not role.many:
            raise InputError(f"{role.label} is one file, {len(paths)} are given; leave out the others")
        if role.flag:
            words += [f"{role.flag}={path}" for path in paths]
        elif len(paths) > 1 or (paths[0].is_dir() and task.out_many):
            words.append(str(paths[0].parent if len(paths) > 1 else paths[0]))
            out = task.out_many
        else:
            words.append(str(paths[0]))
    return [*words, f"--output={results / out}", *_options(task, options, results)]


def _options(task: Task, options: Mapping[str, Value | None], results: Path) -> list[str]:
    known = {choice.name: choice for choice in task.choices}
    words = list[str]()
    for name, value in options.items():
        if name not in known:
            raise InputError(f"{task.command} takes no option {name!r} here{nearest(name, [*known])}")
        choice = known[name]
        if value is None or value == "":
            continue
        checked = _check(choice, value)
        if isinstance(checked, bool):
            words += [f"{choice.flag}={results / choice.writes}" if choice.writes else choice.flag] * checked
        elif checked != choice.default:
            words.append(f"{choice.flag}={checked}")
    return words


def _check(choice: Choice, value: Value) -> Value:
    """Return the value of an option, or refuse it."""
    if choice.kind == "yes":
        if not isinstance(value, bool):
            raise InputError(f"{choice.name} is {value!r}, must be true or false")
        return value
    if choice.kind == "text":
        return _check_text(choice, value)
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool | str) or not math.isfinite(value) or (choice.kind == "whole" and not is_whole):
        raise InputError(
            f"{choice.name} is {value!r}, must be a {choice.kind} number".replace("a number ", "a ")
        )
    low, high = choice.low, choice.high
    if (low is not None and value < low) or (high is not None and value > high):
        span = f"{low:g} to {high:g}" if high is not None and low is not None else f"{low:g} or more"
        raise InputError(f"{choice.name} is {value:g}, must be {span}")
    return int(value) if choice.kind == "whole" else float(value)


def _check_text(choice: Choice, value: Value) -> str:
    text = str(value).strip()
    if not isinstance(value, str) or len(text) > MAX_TEXT or not text.isprintable():
        raise InputError(f"{choice.name} must be a text of one line, at most {MAX_TEXT} characters long")
    if choice.only and text not in choice.known:
        raise InputError(f"{choice.name} is {text!r}{nearest(text, [*choice.known])}")
    return text
