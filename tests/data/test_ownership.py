import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import write

from pellucid.data.checked_raster import write_raster
from pellucid.data.drawing import save_picture
from pellucid.data.ownership import check_replaceable, is_ours, read_tags, save_image
from pellucid.data.slice_file import SliceInfo
from pellucid.data.slice_writer import write_slices
from pellucid.errors import InputError

PICTURE = np.full((8, 9, 3), 100, np.uint8)


def ours(folder: Path, name: str) -> Path:
    """Write a file as pellucid does."""
    path = folder / name
    if name.startswith("slice"):
        with write_slices(path, SliceInfo(1, 8, 9, np.dtype(np.uint8))) as append:
            append(PICTURE[..., 0])
    elif path.suffix == ".tif":
        with write_raster(path, width=9, height=8, count=1, dtype="uint8") as raster:
            raster.write(PICTURE[None, ..., 0])
    else:
        save_picture(PICTURE, path)
    return path


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "slice.png", "slice.tif"])
def test_what_pellucid_wrote_may_be_replaced(tmp_path: Path, name: str) -> None:
    assert is_ours(ours(tmp_path, name))
    check_replaceable(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.html"])
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for start in (None, "name,"):
        with pytest.raises(InputError, match="pellucid did not write"):
            check_replaceable(tmp_path / name, start=start)


def test_what_is_not_there_may_be_written(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.csv", "a", "damaged.tif", "damaged.png"])
def test_files_of_others_are_never_replaced(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.tif":
        write(path, PICTURE[None, ..., 0])
    elif path.suffix in (".png", ".jpg") and name != "damaged.png":
        Image.fromarray(PICTURE).save(path)
    else:
        path.write_bytes(b"II*\0 pellucid")
    with pytest.raises(InputError, match="a file is there that pellucid did not write; name another"):
        check_replaceable(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_says_what_made_it(tmp_path: Path, name: str) -> None:
    tags = {"PELLUCID_MODEL": "größer", "PELLUCID_INPUTS": '{"radar": "a.png"}'}
    save_image(Image.fromarray(PICTURE), tmp_path / name, tags)
    assert read_tags(tmp_path / name) == {"PELLUCID": "result", **tags}
    save_image(Image.fromarray(PICTURE), tmp_path / name)
    assert read_tags(tmp_path / name) == {"PELLUCID": "result"}


@pytest.mark.parametrize(
    ("name", "text", "is_own"),
    [
        ("a.qml", "<qgis>\n<!-- written by pellucid -->\n</qgis>", True),
        ("a.qml", "<qgis>\n</qgis>", False),
        ("a.json", '{"properties": {"processing:software": {"pellucid": "0.1.0"}}}', True),
        ("a.json", '{"properties": {"processing:software": {"other": "1"}}}', False),
        ("a.json", '{"properties": ["pellucid"]}', False),
        ("a.json", '["pellucid"]', False),
        ("a.json", "pellucid", False),
    ],
)
def test_styles_and_catalogue_entries_of_others_are_not_ours(
    tmp_path: Path, name: str, text: str, is_own: bool
) -> None:
    (tmp_path / name).write_text(text)
    assert is_ours(tmp_path / name) == is_own
