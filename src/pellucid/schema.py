"""Frozen models that refuse unknown keys, and the way from values to them."""

import dataclasses
import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pellucid.errors import InputError

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
    try:
        values = yaml.safe_load(os.path.expandvars(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"cannot read the config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no keys, a config needs at least `network` and `data`")
    return values


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
        raise InputError(f"{where}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    """Return the first problem of a validation as one clause."""
    problem = error.errors()[0]
    if isinstance(cause := problem.get("ctx", {}).get("error"), InputError):
        return str(cause)
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = sorted({key for model in Strict.__subclasses__() for key in model.model_fields})
        return f"unknown key {place!r}{nearest(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"key {place!r} is missing"
    text = problem["msg"].removeprefix("Value error, ")
    return f"{place!r} is {problem['input']!r}, {text[0].lower()}{text[1:]}"


def nearest(key: str, known: list[str]) -> str:
    """Return the end of a sentence about an unknown key: the nearest known one, or else all of them."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"
