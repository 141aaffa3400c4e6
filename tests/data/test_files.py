import os
import warnings
from functools import partial
from pathlib import Path

import pytest

from pellucid.data.files import (
    check_exists,
    check_folder,
    check_input,
    check_is_file,
    check_is_folder,
    check_writable,
    glob_files,
    make_folder,
    only_files,
    stands_for,
)
from pellucid.errors import InputError


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(InputError, match=r"cannot make the folder .*/file is a file; choose another"):
            make_folder(folder)


def test_a_folder_that_cannot_hold_results_is_refused_before_it_is_made(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "file").touch()
    for folder, message in (
        (tmp_path / "file", "it is a file, and there are two; name a folder"),
        (source, "it is the input; name another folder"),
        (tmp_path / "file" / "out", r"file is a file; choose another folder"),
        (tmp_path / "out.json" / "a", r"cannot write .*/out.json: by its name it is a file"),
        (tmp_path / "out.zip", r"by its name it is a file, and there are two; name a folder, such .*/out$"),
        (tmp_path / "out.PNG", r"by its name it is a file, and there are two; name a folder, such .*/out$"),
    ):
        with pytest.raises(InputError, match=message):
            check_folder(folder, source, reason="there are two")
    check_folder(tmp_path / "new" / "out", source, reason="there are two")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old.png").mkdir()
    check_folder(tmp_path / "old.png", source, reason="there are two")


def test_files_are_found_whatever_the_case_of_their_suffix_and_without_what_systems_leave(
    tmp_path: Path,
) -> None:
    for name in ("b.TIF", "in/a.tif", "._b.tif", "__MACOSX/._a.tif", ".cache/a.tif", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.tif").mkdir()
    assert glob_files(tmp_path, "**/*.tif") == [tmp_path / "b.TIF", tmp_path / "in/a.tif"]
    assert glob_files(tmp_path, "in/*.Tif") == [tmp_path / "in/a.tif"]
    with pytest.raises(InputError, match=r"'' is no pattern .*use one such as"):
        glob_files(tmp_path, "")


@pytest.mark.parametrize(
    "path",
    ["/vsizip/a.zip/s2.tif", "https://example.org/s2.tif", "s3://b/s2.tif", "/vsicurl/https://b.org/s2.tif"],
)
def test_what_is_not_on_this_machine_is_refused_as_that(path: str) -> None:
    checks = (check_is_file, check_is_folder, partial(check_input, what="scene"))
    for check in (*checks, partial(check_exists, way_out="name another")):
        with pytest.raises(
            InputError, match=rf"{path} is no file on this machine, .*; download or unpack it"
        ):
            check(Path(path))
    for check in (check_writable, make_folder):
        with pytest.raises(InputError, match=f"cannot write {path}: it is no path on this machine"):
            check(Path(path))


def test_pipes_and_names_that_cannot_be_are_no_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, message in (
        ("pipe", "is a pipe or device, no file"),
        ("none", "the scene .* does not exist, check the path"),
        ("x" * 300, "cannot read the scene .*: File name too long; choose a shorter name"),
        ("loop", "cannot read the scene .*: Too many levels of symbolic links; choose another name"),
    ):
        with pytest.raises(InputError, match=message):
            check_input(tmp_path / name, "scene")
    with pytest.raises(InputError, match="is a pipe or device"):
        check_input(Path("/dev/zero"), "scene")


def test_links_that_lead_nowhere_are_left_out_after_saying_so(tmp_path: Path) -> None:
    for name in ("a.tif", "target.tif"):
        (tmp_path / name).touch()
    (tmp_path / "good.tif").symlink_to(tmp_path / "target.tif")
    with warnings.catch_warnings(action="error"):
        assert [path.name for path in glob_files(tmp_path, "*.tif")] == ["a.tif", "good.tif", "target.tif"]
    (tmp_path / "bad.tif").symlink_to(tmp_path / "gone.tif")
    (tmp_path / ".#lock.tif").symlink_to("somebody@machine:1")
    with pytest.warns(
        UserWarning, match=r"bad\.tif leads to no file and counts as missing; mend or delete"
    ) as said:
        assert [path.name for path in glob_files(tmp_path, "*.tif")] == ["a.tif", "good.tif", "target.tif"]
    assert len(said) == 1
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    with pytest.warns(UserWarning, match=r"bad\.tif and 1 other link lead to no file and count as missing"):
        only_files(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_in_a_folder_are_left_out_after_saying_so(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "b.tif")
    with pytest.warns(UserWarning, match=r"b\.tif is a pipe or device and is left out") as said:
        assert [path.name for path in glob_files(tmp_path, "*.tif")] == ["a.tif"]
    assert len(said) == 1
    (tmp_path / "c.tif").symlink_to("/dev/zero")
    with pytest.warns(UserWarning, match=r"b\.tif and 1 other are pipes or devices and are left out"):
        glob_files(tmp_path, "*.tif")


@pytest.mark.parametrize("ending", [".partial.tif", ".partial.std.tif", ".pellucid-ab_c1234.tif"])
def test_a_hidden_file_stands_for_that_which_the_user_named(ending: str) -> None:
    assert stands_for(Path("d/.my.scene.tif" + ending)) == Path("d/my.scene.tif")
    assert stands_for(Path("d/.mine.tif")) == Path("d/.mine.tif")
