"""The counts of the house, against their limits: `python -m tests.house`."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "pellucid"
# Lines of a file and of a function; modules, `__init__.py` among them, and folders directly in the package.
MAX_FILE, MAX_FUNCTION, MAX_LOOSE, MAX_ROOMS = 400, 60, 6, 14


@dataclass(frozen=True)
class Count:
    """Something that is counted, the most that it may be, and what is over that."""

    what: str
    found: int
    limit: int | None = None
    offenders: tuple[str, ...] = ()

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" (at most {self.limit})"
        return "\n    ".join([f"{self.what}: {self.found:,}{limit}", *self.offenders])


def count_house(package: Path = PACKAGE) -> list[Count]:
    """Return every count of the package."""
    paths = {path.relative_to(package).as_posix(): path for path in sorted(package.rglob("*.py"))}
    texts = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
    files = {name: text.count("\n") for name, text in texts.items()}
    functions = dict(found for name, text in texts.items() for found in _functions(name, text))
    loose = [name for name in files if "/" not in name]
    rooms = sorted({name.partition("/")[0] for name in files if "/" in name})
    return [
        Count("modules loose at the top", len(loose), MAX_LOOSE, tuple(loose[MAX_LOOSE:])),
        Count("rooms", len(rooms), MAX_ROOMS, tuple(rooms[MAX_ROOMS:])),
        Count("lines of the longest file", max(files.values()), MAX_FILE, _over(files, MAX_FILE)),
        Count(
            "lines of the longest function",
            max(functions.values()),
            MAX_FUNCTION,
            _over(functions, MAX_FUNCTION),
        ),
        Count("files", len(files)),
        Count("lines", sum(files.values())),
    ]


def _functions(file: str, text: str) -> Iterator[tuple[str, int]]:
    """Yield place and length of each function, its decorators left out."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{file}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def _over(lines: dict[str, int], limit: int) -> tuple[str, ...]:
    over = sorted((count, name) for name, count in lines.items() if count > limit)
    return tuple(f"{name}: {count}" for count, name in reversed(over))


if __name__ == "__main__":
    print(*count_house(), sep="\n")  # noqa: T201
