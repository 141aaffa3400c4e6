import os
from pathlib import Path

import pytest

from pellucid.data.text_file import parse_json, read_rows, read_text
from pellucid.errors import InputError

PLAIN = "name,place\r\na,r_1\r\n\r\nb,\r\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace("\r\n", "\n").encode(),
        PLAIN.replace("a,", '"a" ,').encode(),
        (PLAIN + ",\r\n").encode(),
    ],
)
def test_tables_of_spreadsheets_are_read_alike(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    rows = read_rows(tmp_path / "list.csv", "the list")
    assert rows == [(1, ["name", "place"]), (2, ["a", "r_1"]), (4, ["b", ""])]


def test_commas_in_quotes_part_no_cells(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('"48,8, 17,3";Chile\n"1,2";Peru\n')
    rows = read_rows(tmp_path / "list.csv", "the list")
    assert rows == [(1, ["48,8, 17,3", "Chile"]), (2, ["1,2", "Peru"])]


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_another_encoding_is_named_with_the_way_out(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.csv").write_bytes("a,Málaga\n".encode(encoding))
    with pytest.raises(InputError, match=r"list\.csv is not in UTF-8; save it as CSV in UTF-8"):
        read_rows(tmp_path / "list.csv", "the list")


def test_a_cell_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("a,b\n" + "x" * 200_000 + ",c\n")
    with pytest.raises(InputError, match="line 2: field larger than field limit"):
        read_rows(tmp_path / "list.csv", "the list")


def test_what_is_no_file_or_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(InputError, match="it is no regular file"):
            read_text(tmp_path / name, "the list")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="has 1,099,511,627,776 bytes, at most"):
        read_text(tmp_path / "huge", "the list")
    for name in ("none", "x" * 300):
        with pytest.raises(InputError, match=r"cannot read the list .*: (No such file|File name too long)"):
            read_text(tmp_path / name, "the list")


def test_json_that_is_nested_too_deep_is_an_error_of_its_value() -> None:
    assert parse_json('{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 100_000)
