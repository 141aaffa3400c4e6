from pathlib import Path

import pytest

from pellucid.apply.outputs import Done, Output, check_outputs
from pellucid.errors import InputError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)


def test_results_of_several_sources_may_lie_in_one_folder_that_is_still_to_be_made(tmp_path: Path) -> None:
    sources = [tmp_path / "in" / name for name in ("a.png", "b.png")]
    touch(*sources)
    outputs = [Output(tmp_path / "out" / source.name, source, 1) for source in sources]
    check_outputs(outputs, sources, in_folder=True)
    with pytest.raises(InputError, match=r"the folder .*out does not exist"):
        check_outputs(outputs, sources)


def test_results_that_replace_something_are_refused(tmp_path: Path) -> None:
    a, b = tmp_path / "a.tif", tmp_path / "b.tif"
    touch(a, b)
    (tmp_path / "link.tif").hardlink_to(a)
    for outputs, message in (
        ([Output(a, b)], "a.tif: it is an input; name another file"),
        ([Output(tmp_path / "link.tif", b)], "link.tif: it is an input"),
        (
            [Output(tmp_path / "c.tif", a), Output(tmp_path / "c.tif", b)],
            "a.tif and .*b.tif would both become",
        ),
        ([Output(tmp_path / "c.tif", a), Output(tmp_path / "c.tif", a, 1)], "c.tif: it is the result itself"),
    ):
        with pytest.raises(InputError, match=message):
            check_outputs(outputs, [a, b])
    twins = [Output(tmp_path / "c.tif", a), Output(tmp_path / "C.tif", b)]
    check_outputs(twins, [a, b])
    with pytest.raises(InputError, match="would both become"):
        check_outputs(twins, [a, b], ignore_case=True)


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path) -> None:
    out = Output(tmp_path / "out" / "a.tif", tmp_path / "a.tif", 10**18)
    with pytest.raises(InputError, match=r"GB free, 1000000000.0 GB may be needed; free the disk"):
        check_outputs([out], [], in_folder=True)


def test_what_is_done_is_remembered_until_it_or_the_key_changes(tmp_path: Path) -> None:
    note, source, result = tmp_path / "note.json", tmp_path / "a.png", tmp_path / "out.png"
    touch(source, result)
    done = Done(note, "key", resume=True)
    assert not done.holds(source, [result])
    done.add(source, [result])
    assert Done(note, "key", resume=True).holds(source, [result])
    assert not Done(note, "other", resume=True).holds(source, [result])
    assert not Done(note, "key", resume=False).holds(source, [result])
    source.write_text("changed")
    assert not Done(note, "key", resume=True).holds(source, [result])
    note.write_text("no JSON")
    assert not Done(note, "key", resume=True).holds(source, [result])
    done.drop()
    assert not note.exists()


def test_without_a_note_nothing_is_kept(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    done = Done(None, "", resume=True)
    done.add(tmp_path / "a.png", [])
    done.drop()
    assert not done.holds(tmp_path / "a.png", [])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
