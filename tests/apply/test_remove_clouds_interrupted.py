"""What stays of a scene when something goes wrong, and that each result has one owner."""

import multiprocessing
import os
import signal
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.errors import RasterioError
from rasterio.windows import Window
from scenes import BANDS, EVERYTHING, FakeMethod, constant, ground, identity, nothing_left, read, write
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pellucid.apply.outputs import GO_ON
from pellucid.apply.remove_clouds import restore_scene
from pellucid.data.batch import Batch
from pellucid.errors import InputError


def failing(calls: int, error: BaseException | None, seconds: float = 0.0) -> FakeMethod:
    """A method that smooths, but fails after so many tiles."""

    def restore(batch: Batch, noise: object = None) -> Tensor:
        if error and method.num_calls > calls:
            raise error
        time.sleep(seconds)
        return avg_pool2d(batch.degraded, 9, 1, 4)

    method = FakeMethod(restore)
    return method


def restore(folder: Path, name: str = "out.tif", method: FakeMethod | None = None) -> Path:
    """Smooth the scene of a folder, four tiles a row, five rows."""
    method = method or failing(1000, None)
    restore_scene(folder / "s2.tif", folder / name, method=method, options=EVERYTHING)
    return folder / name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "s2.tif", ground(120, 101), BANDS)
    return tmp_path


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "cannot write .*No space left on device; free the disk"),
        (RasterioError("write failed"), "cannot write .*write failed; free the disk"),
        (MemoryError("12 GB"), "cpu has too little memory for a tile of 32 px; use a smaller --tile"),
        (InputError("the radar is damaged; copy it again"), "the radar is damaged; copy it again"),
    ],
)
def test_an_error_in_a_late_tile_keeps_the_finished_rows(
    folder: Path, error: Exception, message: str
) -> None:
    wanted = read(restore(folder, "whole.tif"))
    with pytest.raises(
        InputError, match=f"{message}.*; what is finished was kept, and the same command goes"
    ):
        restore(folder, method=failing(14, error))
    rest = failing(1000, None)
    assert (read(restore(folder, method=rest)) == wanted).all()
    assert rest.num_calls == 12  # the last row done is needed for its overlap
    assert nothing_left(folder, {"s2.tif", "whole.tif", "out.tif"})


def test_an_error_before_any_row_is_finished_leaves_nothing(folder: Path) -> None:
    for error in (MemoryError("12 GB"), KeyboardInterrupt()):
        with pytest.raises((InputError, KeyboardInterrupt)) as raised:
            restore(folder, method=failing(2, error))
        assert "kept" not in str(raised.value)
        assert not getattr(raised.value, "__notes__", [])
        assert nothing_left(folder, {"s2.tif"})


def test_an_interruption_says_how_to_go_on_and_a_fault_of_ours_stays_a_fault(folder: Path) -> None:
    for error in (KeyboardInterrupt(), ZeroDivisionError()):
        with pytest.raises(type(error)) as raised:
            restore(folder, f"{type(error).__name__}.tif", method=failing(14, error))
        assert getattr(raised.value, "__notes__", []) == (
            [GO_ON] if isinstance(error, KeyboardInterrupt) else []
        )
        assert (folder / f".{type(error).__name__}.tif.partial.tif").exists()


@pytest.mark.parametrize("damage", ["pixel", "cut", "gone", "flip", "empty"])
def test_a_damaged_working_file_or_note_means_a_fresh_start(folder: Path, damage: str) -> None:
    wanted = read(restore(folder, "whole.tif"))
    with pytest.raises(KeyboardInterrupt):
        restore(folder, method=failing(14, KeyboardInterrupt()))
    working, note = folder / ".out.tif.partial.tif", folder / ".out.tif.partial.npz"
    content = note.read_bytes()
    if damage == "pixel":
        with rasterio.open(working, "r+") as file:  # in a row that is done
            file.write(file.read(3, window=Window(7, 20, 1, 1)) ^ 1, 3, window=Window(7, 20, 1, 1))
    elif damage == "cut":
        working.write_bytes(working.read_bytes()[:5000])
    elif damage == "gone":
        working.unlink()
    else:
        note.write_bytes({"flip": content[:200] + bytes([content[200] ^ 1]) + content[201:]}.get(damage, b""))
    method = failing(1000, None)
    with pytest.warns(UserWarning, match=r"left of .*out\.tif is damaged; it begins anew"):
        found = read(restore(folder, method=method))
    assert (found == wanted).all()
    assert method.num_calls == 20
    assert nothing_left(folder, {"s2.tif", "whole.tif", "out.tif"})


def test_a_working_file_that_is_replaced_meanwhile_is_not_written_to(folder: Path) -> None:
    wanted = read(restore(folder, "whole.tif"))
    working = folder / ".out.tif.partial.tif"

    def replace(batch: Batch, noise: object = None) -> Tensor:
        if method.num_calls == 6:
            (folder / "other.tif").write_bytes(working.read_bytes())
            (folder / "other.tif").replace(working)  # at once: another thread writes
        return avg_pool2d(batch.degraded, 9, 1, 4)

    method = FakeMethod(replace)
    with pytest.raises(InputError, match=r"out\.tif\.partial\.tif was replaced while it was being written"):
        restore(folder, method=method)
    assert not (folder / "out.tif").exists()
    assert (read(restore(folder)) == wanted).all()


def race(folder: Path, barrier: Barrier, results: Any) -> None:
    """Write the same output as another process, many times, and say how each went."""
    torch.set_num_threads(1)
    for turn in range(20):
        barrier.wait()
        try:
            restore(folder, f"out{turn}.tif", failing(1000, None, seconds=0.002))
            results.put("done")
        except InputError as error:
            results.put(str(error))


def test_of_two_runs_at_once_on_one_output_each_is_right_or_refused(folder: Path) -> None:
    wanted = read(restore(folder, "whole.tif"))
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=race, args=(folder, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=300) for _ in range(40)]
    for process in processes:
        process.join()
    refused = [outcome for outcome in outcomes if outcome != "done"]
    assert refused
    assert all("another run is writing it" in outcome for outcome in refused)
    assert outcomes.count("done") >= 20
    for turn in range(20):
        assert (read(folder / f"out{turn}.tif") == wanted).all()
    assert nothing_left(folder, {"s2.tif", "whole.tif", *(f"out{turn}.tif" for turn in range(20))})


def slowly(folder: Path) -> None:
    torch.set_num_threads(1)
    restore(folder, method=failing(1000, None, seconds=0.02))


def test_killed_runs_go_on_to_the_same_bytes_and_leave_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = restore(folder, "whole.tif").read_bytes()
    rng, context = np.random.default_rng(0), multiprocessing.get_context("fork")
    for _ in range(8):
        process = context.Process(target=slowly, args=(folder,))
        process.start()
        time.sleep(float(rng.uniform(0.1, 0.6)))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as in `slowly`, or all would begin anew
    assert restore(folder).read_bytes() == wanted
    assert nothing_left(folder, {"s2.tif", "whole.tif", "out.tif"})


def test_with_another_number_of_threads_a_scene_begins_anew_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    with pytest.raises(KeyboardInterrupt):
        restore(folder, method=failing(14, KeyboardInterrupt()))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    method = failing(1000, None)
    with pytest.warns(UserWarning, match=r"began .*out\.tif with other .* threads .* it begins anew"):
        restore(folder, method=method)
    assert method.num_calls == 20


def test_a_note_that_was_not_finished_is_removed(folder: Path) -> None:
    orphan = folder / "..out.tif.partial.npz.pellucid-01234567.npz"
    orphan.write_bytes(b"half of a note")
    restore(folder)
    assert nothing_left(folder, {"s2.tif", "out.tif"})


def test_other_options_leave_nothing_of_an_earlier_call(folder: Path) -> None:
    options = {"method": constant(0.5), "options": EVERYTHING}
    with pytest.raises(KeyboardInterrupt):
        restore(folder, method=failing(14, KeyboardInterrupt()))
    (folder / ".out.tif.partial.std.tif").touch()
    restore_scene(folder / "s2.tif", folder / "out.tif", **options)  # type: ignore[arg-type]
    assert nothing_left(folder, {"s2.tif", "out.tif"})
    restore_scene(folder / "s2.tif", folder / "again.tif", method=identity(), options=EVERYTHING)
