import io
import zipfile
from pathlib import Path

import pytest

from pellucid.web.results import find_page, list_files, zip_files


@pytest.mark.parametrize(
    ("names", "page"),
    [
        (["a.png", "clear.html", "clear.tif"], "clear.html"),
        (["many/a.png", "many/sheet.png"], "many/sheet.png"),
        (["a.tif"], ""),
    ],
)
def test_a_page_is_opened_before_a_picture(names: list[str], page: str) -> None:
    assert find_page(names) == page


def test_files_are_listed_by_their_place_without_hidden_ones_and_links(tmp_path: Path) -> None:
    for name in ("b.tif", "many/a.png", ".c.partial.tif", "many/.lock", ".pellucid/x"):
        path = tmp_path / "result" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "result" / "link.tif").symlink_to(tmp_path / "result" / "b.tif")
    assert list(list_files(tmp_path)) == ["b.tif", "many/a.png"]
    assert not list_files(tmp_path, "..")


def test_an_archive_comes_in_pieces_and_is_whole(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(range(256)) * 20_000)
    (tmp_path / "empty").touch()
    files = {"a/large": tmp_path / "large", "empty": tmp_path / "empty"}
    pieces = list(zip_files(files))
    assert max(map(len, pieces)) < 2**21
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert archive.read("a/large") == files["a/large"].read_bytes()
        assert archive.read("empty") == b""
