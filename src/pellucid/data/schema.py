"""Frozen models that refuse unknown keys, and the way from values to them."""

import dataclasses
import os
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pellucid.data.text_file import read_text
from pellucid.errors import InputError, nearest

# What a config may have; the largest of the repository has 200 values, 6 deep.
MAX_YAML_BYTES, MAX_YAML_DEPTH, MAX_YAML_VALUES = 1 << 20, 32, 100_000
_MERGE = "tag:yaml.org,2002:merge"
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]

T = TypeVar("T")
Precision: TypeAlias = Literal["fp32", "bf16"]
# "auto" is bf16 where the model is as good in it and the device is faster.
AnyPrecision: TypeAlias = Literal["auto", "fp32", "bf16"]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys of a YAML file; `${NAME}` in it stands for an environment variable."""
    text = read_text(path, "the config", max_bytes=MAX_YAML_BYTES)
    try:
        values = parse_yaml(os.path.expandvars(text))
    except ValueError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no keys, a config needs at least `network` and `data`")
    return values


class _Loader(yaml.SafeLoader):
    """Reads plain values up to a depth and a number that no config needs, aliases counted written out.

    An alias stands only where keys are merged: `<<: *name`.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth, self.sizes = 0, dict[int, int]()
        self.is_merged = False

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        was_merged, self.is_merged = self.is_merged, self._is_merged(parent, index)
        is_alias = self.check_event(yaml.AliasEvent)
        if self.depth > MAX_YAML_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_YAML_DEPTH} deep")
        if is_alias and not self.is_merged:
            name = self.peek_event().anchor  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(
                f"the alias *{name} stands where no keys are merged (<<: *{name}); write it out"
            )
        node = super().compose_node(parent, index)
        self.depth, self.is_merged = self.depth - 1, was_merged
        if is_alias and id(node) not in self.sizes:
            raise yaml.YAMLError("an alias in it stands for what it is a part of")
        if node is not None and self._size(node) > MAX_YAML_VALUES:
            raise yaml.YAMLError(f"it holds more than {MAX_YAML_VALUES:,} values, aliases written out")
        return node

    def _is_merged(self, parent: yaml.Node | None, index: Any) -> bool:
        """Whether what comes next is merged into keys, alone or in a list of such."""
        is_key = isinstance(index, yaml.Node)  # its value comes next
        return index.tag == _MERGE if is_key else isinstance(parent, yaml.SequenceNode) and self.is_merged

    def _size(self, node: yaml.Node) -> int:
        """Return how many values a node holds; the size of one that was composed before is known."""
        if id(node) not in self.sizes:
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = [part for each in inner for part in (each if isinstance(each, tuple) else (each,))]
            self.sizes[id(node)] = 1 + sum(map(self._size, parts))
        return self.sizes[id(node)]


def parse_yaml(text: str) -> Any:
    """Return the values of a text in YAML, without running anything; a ValueError says what is wrong."""
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except (
        yaml.YAMLError,
        TypeError,
        OverflowError,
        AttributeError,
    ) as error:  # of values such as 2001-99-99
        raise ValueError(str(error)) from error
    finally:
        if loader is not None:
            loader.dispose()


def parse(kind: type[T], values: object, *, where: str) -> T:
    """Return `values` as a `kind` (pydantic model or dataclass); unknown keys are refused."""
    try:
        if dataclasses.is_dataclass(kind) and isinstance(values, dict):
            known = [field.name for field in dataclasses.fields(kind)]
            for key in values:
                if key not in known:
                    raise InputError(f"{where}: unknown key {key!r}{nearest(str(key), known)}")
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error, kind, values)}") from error


def _explain(error: ValidationError, kind: Any, values: object) -> str:
    """Return the first problem of a validation as one clause, an unknown key before one that is missing."""
    problems = error.errors()
    unknown = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    problem = unknown if problems[0]["type"] == "missing" else problems[0]
    context = problem.get("ctx", {})
    if isinstance(cause := context.get("error"), InputError):
        return str(cause)
    steps, models = _follow(problem["loc"], kind, values)
    place = ".".join(steps)
    if problem["type"] == "extra_forbidden":
        known = sorted({key for model in models for key in model.model_fields})
        inner = [name for name in known if any(steps[-1] in m.model_fields for m in _below(models, name))]
        if len(inner) == 1:
            return f"unknown key {place!r}; did you mean {'.'.join((*steps[:-1], inner[0], steps[-1]))!r}?"
        return f"unknown key {place!r}{nearest(steps[-1], known)}"
    if problem["type"] == "missing":
        return f"key {place!r} is missing"
    found = shorten(problem["input"])
    if problem["type"] == "union_tag_invalid":
        known = re.findall(r"'([^']*)'", context["expected_tags"])
        return f"'{place}.name' is {context['tag']!r}{nearest(context['tag'], known)}"
    text = problem["msg"].removeprefix("Value error, ")
    known = re.findall(r"'([^']*)'", context["expected"]) if problem["type"] == "literal_error" else []
    close = nearest(str(problem["input"]), known) if known else ""
    return f"{place!r} is {found}, {text[0].lower()}{text[1:]}{close if 'mean' in close else ''}"


def _follow(loc: tuple[int | str, ...], kind: Any, values: Any) -> tuple[list[str], list[type[BaseModel]]]:
    """Return the keys that lead to a problem, and the models that it may be a key of."""
    steps, models = list[str](), _models(kind)
    for i, part in enumerate(loc):
        if models and all(_name(model) for model in models) and part in map(_name, models):
            models = [model for model in models if _name(model) == part]  # a tag of the union, no key
            continue
        steps.append(str(part))
        name = values.get("name") if isinstance(values, dict) else None
        if not models:  # what a validator of its own makes of a dictionary with a name
            models = [model for model in Strict.__subclasses__() if name and _name(model) == name]
        if i < len(loc) - 1:
            models = models if isinstance(part, int) else _below(models, part)
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            values = None
    return steps, models


def _below(models: list[type[BaseModel]], key: str) -> list[type[BaseModel]]:
    """Return the models that stand below a key of models."""
    fields = [model.model_fields[key] for model in models if key in model.model_fields]
    return [model for field in fields for model in _models(field.annotation)]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _name(model: type[BaseModel]) -> object:
    """Return the name by which a model is chosen among others, None if it is not."""
    field = model.model_fields.get("name")
    return field.default if field else None


def shorten(value: object) -> str:
    """Return how a value is written, in one line of limited length."""
    return _SHORT.repr(value)
