"""The reference of the site, written from the code: command line, Python, config keys, errors."""

import ast
import dataclasses
import html
import importlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import pellucid
from pellucid.cli import app

# Classes and functions for use from Python, beside those of `pellucid` itself.
PYTHON = (
    "pellucid.apply.options:SceneOptions",
    "pellucid.apply.options:SliceOptions",
    "pellucid.apply.options:PictureOptions",
    "pellucid.apply.colorize:colorize_file",
    "pellucid.apply.map_clouds:map_clouds",
    "pellucid.evaluation.compare:compare",
    "pellucid.simulate.pairs:simulate_pairs",
    "pellucid.xarray:restore",
    "pellucid.train.run_training:run_training",
    "pellucid.errors:InputError",
)
CONFIGS = (
    ("The whole", "pellucid.config:Config"),
    ("`data`", "pellucid.config:DataConfig"),
    ("`data.augment`", "pellucid.datasets._augment:AugmentConfig"),
    ("`train`", "pellucid.config:TrainConfig"),
    ("`method: {name: regression}`", "pellucid.methods.regression:RegressionConfig"),
    ("`method: {name: ground}`", "pellucid.methods.ground:GroundConfig"),
    ("`method: {name: generative}`", "pellucid.methods.generative:GenerativeConfig"),
    ("`method: {name: autoencoding}`", "pellucid.methods.autoencoding:AutoencodingConfig"),
    ("`method: {name: contrastive}`", "pellucid.methods.contrastive:ContrastiveConfig"),
    ("`method.path`", "pellucid.generative.path:PathConfig"),
    ("`method.space`", "pellucid.methods.space:SpaceConfig"),
)
SHELVES = (("network", "networks"), ("data.train", "datasets"))


class Key(NamedTuple):
    """A key of a config."""

    name: str
    type: str
    default: str  # "" if it must be given
    text: str  # what it means


def reference_pages(repository: Path) -> dict[str, str]:
    """Return the pages in Markdown, by file name."""
    return {
        "command_line.md": command_page(),
        "python.md": python_page(),
        "config_keys.md": config_page(repository),
        "errors.md": error_page(repository / "src" / "pellucid"),
    }


def load(place: str) -> Any:
    """Return what `module:name` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


# The command line


def commands(group: Any = None, before: str = "pellucid") -> Iterator[tuple[str, Any]]:
    """Yield each command with the words that call it."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        words = f"{before} {name}"
        yield from commands(command, words) if hasattr(command, "commands") else [(words, command)]


def command_page() -> str:
    """Return the page of all commands."""
    parts = ["# Command line", "What `pellucid COMMAND --help` says of each command, written from the code."]
    for words, command in commands():
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        options = [each for each in command.params if each not in arguments]
        shape = " ".join([words, *map(_metavar, arguments), "[OPTIONS]"])
        parts += [f"## `{words}`", f"```text\n{shape}\n```", inspect.cleandoc(command.help)]
        given = [(f"`{_metavar(each)}`", each.help or "") for each in arguments]
        parts += [_table(("argument", "what it is"), given)] if given else []
        rows = [(_option(each), _default(each), each.help or "") for each in options]
        parts.append(_table(("option", "default", "what it means"), rows))
    return "\n\n".join(parts) + "\n"


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _option(option: Any) -> str:
    """Return the names of an option, and what follows them."""
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    kind = type_text(option.type_descriptor.annotation)
    return f"{names} " + (f"`{option.metavar}`" if option.metavar else kind)


def _default(option: Any) -> str:
    if option.required:
        return "must be given"
    hidden = option.default is None or option.default is False or option.default == []
    return "" if hidden or callable(option.default) else f"`{option.default}`"


# Python


def python_page() -> str:
    """Return the page of functions and classes."""
    names = [f"{pellucid._HOMES[name]}:{name}" for name in pellucid.__all__]
    parts = ["# Python", "What `import pellucid` offers, written from the code."]
    for place in (*names, *PYTHON):
        module, _, name = place.partition(":")
        short = f"pellucid.{name}" if place in names else f"{module}.{name}"
        found = load(place)
        parts += [f"## `{short}`", f"```python\n{signature(name, found)}\n```", sections(found.__doc__ or "")]
        if dataclasses.is_dataclass(found) and "Attributes:" not in str(found.__doc__):
            rows = [(f"`{key.name}`", key.type, _code(key.default), key.text) for key in keys_of(found)]
            parts.append(_table(("field", "type", "default", "what it means"), rows))
    return "\n\n".join(parts) + "\n"


def signature(name: str, found: Any) -> str:
    """Return how a function or class is called, a line per parameter where they are many."""
    if isinstance(found, type):
        return f"{name}(...)"
    shown = inspect.signature(found)
    parameters = [str(each) for each in shown.parameters.values()]
    kinds = [each.kind for each in shown.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parameters.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    inner = ", ".join(parameters)
    if len(inner) > 80:
        inner = "\n" + "".join(f"    {each},\n" for each in parameters)
    end = f" -> {inspect.formatannotation(shown.return_annotation)}"
    return re.sub(
        r"\b(?:pellucid|pathlib|collections\.abc|typing|torch)\.(?:\w+\.)*(?=[A-Z])",
        "",
        f"{name}({inner}){end}",
    )


def sections(docstring: str) -> str:
    """Return a docstring in Google's style as Markdown: its sections as lists."""
    lines = list[str]()
    for line in inspect.cleandoc(docstring).splitlines():
        if line in ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:"):
            lines += [f"**{'Arguments' if line == 'Args:' else line[:-1]}**", ""]
        elif found := re.fullmatch(r"    (\*{0,2}\w+(?:, \w+)*): (.*)", line):
            lines.append(f"- `{found[1]}`: {found[2]}")
        else:
            lines.append(line.removeprefix("    ") if line.startswith("    ") else line)
    return "\n".join(lines)


# Config keys


def config_page(repository: Path) -> str:
    """Return the page of all keys of a config."""
    parts = [
        "# Config keys",
        "Every key of a YAML file for `pellucid train`, written from the code. `--set train.batch=8` sets "
        "one on the command line; an unknown key is an error that offers the nearest name.",
    ]
    for title, place in CONFIGS:
        parts += [f"## {title}", *_described(load(place))]
    for key, shelf in SHELVES:
        for path in sorted((repository / "src" / "pellucid" / shelf).glob("[!_]*.py")):
            module = importlib.import_module(f"pellucid.{shelf}.{path.stem}")
            first = inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0]
            parts += [f"## `{key}: {{name: {path.stem}}}`", first, *_described(module.Config, named=False)]
    rows = [
        (f"`configs/{path.name}`", path.read_text(encoding="utf-8").partition("\n")[0].strip("# "))
        for path in sorted((repository / "configs").glob("*.yaml"))
        if not path.stem.endswith("_tiny")
    ]
    parts += ["## Configs to start from", _table(("file", "what it trains"), rows)]
    return "\n\n".join(parts) + "\n"


def _described(kind: Any, *, named: bool = True) -> list[str]:
    """Return what a config says of itself, and the table of its keys."""
    about = [inspect.cleandoc(kind.__doc__)] if named and kind.__doc__ else []
    rows = [
        (f"`{key.name}`", key.type, _code(key.default) or "must be given", key.text) for key in keys_of(kind)
    ]
    return [*about, _table(("key", "type", "default", "what it means, and its unit"), rows)]


def keys_of(kind: Any) -> Iterator[Key]:
    """Yield the keys of a model of pydantic or of a dataclass, those of its bases first."""
    texts = {name: text for each in reversed(kind.__mro__) for name, text in field_texts(each).items()}
    if not issubclass(kind, BaseModel):
        yield from _fields_of(kind, texts)
        return
    for name, field in kind.model_fields.items():
        if name != "name":
            limits = ", ".join(filter(None, map(_limit, field.metadata)))
            default = "" if field.is_required() else _plain(_default_of(field))
            text = " ".join(filter(None, (texts.get(name), f"({limits})" * bool(limits))))
            yield Key(name, type_text(field.annotation), default, text)


def _fields_of(kind: Any, texts: dict[str, str]) -> Iterator[Key]:
    """Yield the fields of a dataclass; what the command line says of one is its text too."""
    for each in dataclasses.fields(kind):
        factory: Any = each.default_factory
        value: Any = each.default if factory is dataclasses.MISSING else factory()
        about = [found.text for found in get_args(each.type) if hasattr(found, "text")]
        text = texts.get(each.name, "") or " ".join(about)
        shown = "" if value is dataclasses.MISSING else _plain(value)
        yield Key(each.name, type_text(each.type), shown, text)


def _default_of(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def _plain(value: Any) -> str:
    """Return a default as YAML has it, in one line."""
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return "{}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_plain(each)}' for key, each in value.items())}}}"
    words = {None: "null", True: "true", False: "false", "": "''"}
    return words.get(value, str(value)) if isinstance(value, bool | str | None) else str(value)


def _limit(found: Any) -> str:
    """Return what a number must be."""
    signs = {"gt": "> ", "ge": ">= ", "lt": "< ", "le": "<= "}
    return ", ".join(f"{sign}{getattr(found, name)}" for name, sign in signs.items() if hasattr(found, name))


def type_text(kind: Any) -> str:
    """Return a type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return type_text(inner[0])
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(each) for each in inner if each is not type(None)))
    if origin in (tuple, list):
        parts = [each for each in inner if each is not ...]
        return ", ".join(map(type_text, parts)) if len(parts) > 1 else f"list of {type_text(parts[0])}"
    if origin is dict:
        return f"{type_text(inner[1])} by name"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "keys"}
    if kind in names:
        return names[kind]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "keys"
    name = getattr(kind, "__forward_arg__", getattr(kind, "__name__", str(kind)))
    return {"Path": "path"}.get(name, str(name))


def field_texts(kind: type) -> dict[str, str]:
    """Return the text of each field of a class: in its docstring, below it, or behind it as a comment."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    body, lines = ast.parse(source).body[0], source.splitlines()
    if not isinstance(body, ast.ClassDef):
        return {}
    texts = attributes(ast.get_docstring(body) or "")
    for field, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        comment = lines[(field.end_lineno or field.lineno) - 1].partition("  # ")[2]
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if is_text or comment:
            texts[field.target.id] = " ".join(str(after.value.value).split()) if is_text else comment  # type: ignore[union-attr]
    return texts


def attributes(docstring: str) -> dict[str, str]:
    """Return what a docstring in Google's style says of each attribute; one line may describe several."""
    block = docstring.partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n     +.*)*)", block, re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}


# Errors


def error_page(package: Path) -> str:
    """Return the page of all that pellucid refuses."""
    found = sorted({each for path in package.rglob("*.py") for each in errors_of(path, package)})
    parts = [
        "# Errors A to Z",
        "What pellucid says when it cannot use an input, written from the code. Each says what was found, "
        "what was needed, and the way out; the exit code is 2, and nothing was written or replaced. *Words "
        "in italics* stand for what is yours. They are sorted by their first fixed word.",
    ]
    letter = ""
    for first, text, place in found:
        if first[:1].upper() != letter:
            letter = first[:1].upper()
            parts.append(f"## {letter}")
        parts.append(f"{text}  \n<small>`{place}`</small>")
    return "\n\n".join(parts) + "\n"


def errors_of(path: Path, package: Path) -> Iterator[tuple[str, str, str]]:
    """Yield first fixed word, sentence in Markdown and file of each error in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        texts = {
            target.id: node.value
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(scope):
            is_error = (
                isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError" and node.args
            )
            if is_error and len(text := _sentence(node.args[0], texts)) > 20:  # type: ignore[attr-defined]
                fixed = re.sub(r"\*[^*]*\*", "", text)
                word = re.search(r"[A-Za-z][^\n]*", fixed)
                if word:
                    yield word[0].lower(), text, path.relative_to(package).as_posix()


def _sentence(node: ast.expr, texts: dict[str, ast.expr]) -> str:
    """Return a text of the code in Markdown, what is filled in in italics; "" if it is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_sentence(each, texts) for each in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"*{_stand_in(node.value)}*"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _sentence(node.left, texts) + _sentence(node.right, texts)
    if isinstance(node, ast.Name) and node.id in texts:
        return _sentence(texts[node.id], {})
    return ""


def _stand_in(node: ast.expr) -> str:
    """Return the last name of an expression, in words; of what is counted, its word."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "counted":
        return f"number of {ast.literal_eval(node.args[1])}s"
    names = [
        each.id if isinstance(each, ast.Name) else each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Name | ast.Attribute)
    ]
    return names[0].strip("_").replace("_", " ") if len(names) == 1 else "…"


# Markdown


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _escape(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return re.sub(r"([*_`\[\]|])", r"\\\1", html.escape(text, quote=False))
