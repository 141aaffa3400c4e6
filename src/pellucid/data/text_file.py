"""Text files that people make: regular files of limited size in UTF-8, tables in CSV, and JSON."""

import csv
import io
import json
import re
import stat
from pathlib import Path
from typing import Any

from pellucid.errors import InputError, explain

# Bytes. A list of 200,000 pairs has 30 million.
MAX_BYTES = 64 << 20
# What parts the cells of a line: a comma, or what spreadsheets write in its place.
_DELIMITERS = ",;\t"


def read_text(path: Path, what: str, *, max_bytes: int = MAX_BYTES, save_as: str = "text in UTF-8") -> str:
    """Return the content of a file in UTF-8, without a byte-order mark; `what` it is to the user.

    What is no regular file (a pipe, a device) or larger than `max_bytes` is refused before it is read;
    `save_as` names the form in which to save one that is not in UTF-8.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode) or not stat.S_ISREG(found.st_mode):
            raise InputError(f"cannot read {what} {path}: it is no regular file; name a file")
        if found.st_size > max_bytes:
            raise InputError(
                f"cannot read {what} {path}: it has {found.st_size:,} bytes, at most {max_bytes:,} are read; "
                "name another, or split it"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {explain(error, 'check the path')}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} is not in UTF-8; save it as {save_as}") from error


def parse_json(text: str | bytes) -> Any:
    """Return the values of a text in JSON; a ValueError says what is wrong, also a nesting too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def read_rows(path: Path, what: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a table in CSV with their line numbers, from 1; empty rows are left out.

    Cells are parted by commas or, as spreadsheets do in some countries, by semicolons or tabs, whichever the
    first line has most of; spaces around them are taken off.
    """
    text = read_text(path, what, save_as="CSV in UTF-8")
    first = text.lstrip().partition("\n")[0]
    delimiter = max(_DELIMITERS, key=re.sub(r'"[^"]*"', "", first).count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}; {what} must be plain CSV") from error
    return rows
