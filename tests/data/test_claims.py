import multiprocessing
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pellucid.data.claims import claim_files, claim_folders
from pellucid.data.files import temporary_beside
from pellucid.errors import InputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_one_owner_by_whatever_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    with claim_files(tmp_path / "a.tif", None):
        for path in (tmp_path / "a.tif", Path("a.tif"), tmp_path / "link" / "a.tif"):
            with pytest.raises(
                InputError, match=r"a\.tif: another run is writing it \(process \d+ on .*; wait"
            ):
                claim_files(path).__enter__()
        with claim_files(tmp_path / "b.tif", tmp_path / "b.tif"):
            assert names(tmp_path) == [".a.tif.lock", ".b.tif.lock", "link"]
    assert names(tmp_path) == ["link"]
    with claim_files(tmp_path / "a.tif"):
        pass


def test_several_are_claimed_all_or_none(tmp_path: Path) -> None:
    with claim_files(tmp_path / "b"):
        with pytest.raises(InputError, match="b: another run is writing it"):
            claim_files(tmp_path / "a", tmp_path / "b").__enter__()
        with claim_files(tmp_path / "a"):
            pass


def test_missing_folders_of_files_are_made_and_go_again_if_they_stay_empty(tmp_path: Path) -> None:
    paths = [tmp_path / "new" / name / "a.tif" for name in ("one", "two")]
    with claim_files(*paths):
        assert names(tmp_path / "new" / "one") == [".a.tif.lock"]
        paths[0].touch()
    assert list(tmp_path.rglob("*.tif")) == paths[:1]
    assert names(tmp_path / "new") == ["one"]


def test_a_folder_that_would_have_the_name_of_a_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="by its name it is a file, and a folder of results is to be made"):
        claim_folders(tmp_path / "a" / "report.html").__enter__()
    assert names(tmp_path) == []
    (tmp_path / "old.html").mkdir()
    with claim_folders(tmp_path / "old.html"):
        pass


def test_a_folder_has_one_owner_and_goes_again_if_it_stays_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with claim_folders(folder, None):
        with pytest.raises(InputError, match="b: another run is writing it"):
            claim_folders(folder).__enter__()
        assert names(folder) == [".pellucid.lock"]
    assert names(tmp_path) == []
    with claim_folders(folder):
        (folder / "result").touch()
    assert names(folder) == ["result"]


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for claim, message in (
        (claim_files(tmp_path / "file" / "a"), "file is a file; choose another folder"),
        (claim_files(tmp_path), "it is a folder"),
        (claim_folders(tmp_path / "file"), "cannot make the folder"),
    ):
        with pytest.raises(InputError, match=message):
            claim.__enter__()


def test_temporary_files_of_killed_runs_go_but_not_those_of_others(tmp_path: Path) -> None:
    mine = [".a.tif.pellucid-abcdefgh.tif", ".a.tif.pellucid-12345678.tif.ovr.tmp"]
    others = [".b.tif.pellucid-abcdefgh.tif", ".a.notes.tif", "a.tif.pellucid-abcdefgh.tif"]
    for name in mine + others:
        (tmp_path / name).touch()
    with claim_files(tmp_path / "a.tif"), temporary_beside(tmp_path / "a.tif") as temporary:
        assert temporary.name.startswith(".a.tif.pellucid-")
        assert names(tmp_path) == sorted([*others, ".a.tif.lock", temporary.name])
    assert names(tmp_path) == sorted(others)


def test_in_a_folder_the_temporary_files_of_runs_that_are_at_work_stay(tmp_path: Path) -> None:
    for folder in ("run", "clouds"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ".x.csv.pellucid-abcdefgh.csv").touch()
    for name in ("a", "b"):
        (tmp_path / f".{name}.tif.pellucid-abcdefgh.tif").touch()
    with ExitStack() as stack:
        (tmp_path / "run" / ".pellucid.lock").touch()
        (tmp_path / ".a.tif.lock").touch()
        stack.enter_context(claim_folders(tmp_path))
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob(".*.pellucid-*")]
    assert sorted(left) == [".a.tif.pellucid-abcdefgh.tif", "run/.x.csv.pellucid-abcdefgh.csv"]


def hold(path: Path) -> None:
    with claim_files(path):
        time.sleep(60)


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path / "a.tif",))
    process.start()
    lock = tmp_path / ".a.tif.lock"
    deadline = time.monotonic() + 60
    while not (lock.exists() and lock.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(InputError, match=f"another run is writing it .process {process.pid} on "):
        claim_files(tmp_path / "a.tif").__enter__()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert lock.exists()
    with claim_files(tmp_path / "a.tif"):
        pass
    assert names(tmp_path) == []


def try_both(folder: Path, answers: "multiprocessing.Queue[str]") -> None:
    """Claim a folder, and a file in it or below, and say what came of it."""
    for claim in (
        claim_folders(folder),
        claim_files(folder / "a.tif"),
        claim_files(folder / "sub" / "b.tif"),
    ):
        try:
            with claim:
                answers.put("claimed")
        except InputError as error:
            answers.put(str(error))


def test_a_folder_and_a_file_in_it_have_one_owner(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    (tmp_path / "sub").mkdir()

    def ask_another() -> list[str]:
        answers = context.Queue()
        process = context.Process(target=try_both, args=(tmp_path, answers))
        process.start()
        found = [answers.get(timeout=60) for _ in range(3)]
        process.join()
        return found

    with claim_folders(tmp_path), claim_files(tmp_path / "a.tif"):  # by one process, both
        whole, inside, below = ask_another()
        assert "another run is writing it (process" in whole
        assert "a.tif: another run is writing it (process" in inside
        assert f"b.tif: another run is writing into {tmp_path} (process" in below
    with claim_files(tmp_path / "sub" / "b.tif"):
        whole, inside, below = ask_another()
        assert f"cannot write {tmp_path}: another run is writing a file in it (process" in whole
        assert inside == "claimed"
        assert "b.tif: another run is writing it" in below
    assert ask_another() == ["claimed"] * 3


def race(folder: Path, number: int) -> None:
    """Claim a file many times; as its one owner, write and read back."""
    for _ in range(200):
        try:
            with claim_files(folder / "a"):
                (folder / "a").write_text(str(number))
                time.sleep(0.0005)
                assert (folder / "a").read_text() == str(number)
        except InputError:
            continue


def test_a_lock_that_its_owner_has_just_removed_counts_for_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=race, args=(tmp_path, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert names(tmp_path) == ["a"]


def test_names_of_any_length_can_be_claimed_and_written(tmp_path: Path) -> None:
    for name in ("x" * 251 + ".tif", "ä" * 125 + ".tif"):
        with claim_files(tmp_path / name), temporary_beside(tmp_path / name) as temporary:
            temporary.replace(tmp_path / name)
        assert names(tmp_path) == [name]
        (tmp_path / name).unlink()
