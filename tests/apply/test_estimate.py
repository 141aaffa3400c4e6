from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scenes import BANDS, OPTIONS, FakeMethod, ground, identity, nothing_left, write

from pellucid.apply.estimate import Estimate
from pellucid.apply.remove_clouds import estimate
from pellucid.data.batch import Batch
from pellucid.methods.method import Estimate as Estimated

PLAIN = replace(OPTIONS, html=False, painted=False)


def test_time_grows_with_the_tiles_and_the_time_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("pellucid.apply.estimate.time.monotonic", lambda: clock[0])

    def restore(batch: Batch) -> torch.Tensor:
        clock[0] += 2.0
        return batch.degraded

    path = write(tmp_path / "s2.tif", ground(), BANDS)
    found = estimate(path, tmp_path / "out.tif", method=FakeMethod(restore), options=PLAIN)
    assert found.seconds == pytest.approx(3 * 4 * 2.0, rel=0.01)  # tiles of 32 px in 75 x 101 px
    assert nothing_left(tmp_path, {"s2.tif"})


def test_disk_holds_the_working_file_and_the_result(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", ground(), BANDS)
    found = estimate(path, tmp_path / "out.tif", method=identity(), options=PLAIN)
    assert found.disk_bytes == 2 * 75 * 101 * 13 * 2
    assert found.memory_bytes > 50e6


def test_what_one_looks_at_and_a_deviation_take_time_memory_and_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pellucid.apply.estimate.time.monotonic", lambda: 0.0)
    monkeypatch.setattr("pellucid.apply.estimate._peak_bytes", lambda: 0)
    path = write(tmp_path / "s2.tif", ground(400, 400), BANDS)
    method = identity()
    method.gives_deviation = True
    shown = replace(OPTIONS, preview=True, html=True, sidecars=True)
    monkeypatch.setattr(
        method, "estimate", lambda batch, *_, **__: Estimated(batch.degraded, batch.degraded, None)
    )
    found = [
        estimate(path, tmp_path / "out.tif", method=method, options=options, uncertainty=std)
        for options, std in ((PLAIN, None), (shown, None), (PLAIN, tmp_path / "std.tif"))
    ]
    plain, looked_at, spread = found
    raw = 400 * 400 * 13 * 2
    assert looked_at.seconds - plain.seconds == pytest.approx(1.8, abs=0.1)
    assert plain.disk_bytes + 2e6 < looked_at.disk_bytes < plain.disk_bytes + 2e6 + raw
    assert spread.disk_bytes == 3 * plain.disk_bytes == 6 * raw
    assert spread.memory_bytes > plain.memory_bytes + 200e6


def test_an_estimate_reads_as_a_sentence() -> None:
    assert str(Estimate(400, 2_400_000_000, 6_300_000_000, 3_000_000_000)) == (
        "about 7 min, 2.4 GB of memory, 6.3 GB on the disk"
    )
    assert (
        str(Estimate(20, 900_000_000, 20_000_000, 9_000_000))
        == "about 20 s, 0.9 GB of memory, 0.02 GB on the disk"
    )


def test_what_many_scenes_take_adds_up_but_for_memory_and_unfinished_files() -> None:
    found = Estimate(2000, 10**9, 3 * 10**9, 2 * 10**9).of_many([1, 1, 0.5, 1, 1, 1], 2)
    assert found == Estimate(11_000, 2 * 10**9, 13 * 10**9, 11 * 10**9)
    assert str(found) == "about 3.1 h, 2.0 GB of memory, 13 GB on the disk"
