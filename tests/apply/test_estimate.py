from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scenes import BANDS, OPTIONS, FakeMethod, ground, identity, nothing_left, write

from pellucid.apply.estimate import Estimate
from pellucid.apply.remove_clouds import estimate
from pellucid.data.batch import Batch

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


def test_an_estimate_reads_as_a_sentence() -> None:
    assert str(Estimate(400, 2_400_000_000, 6_300_000_000)) == (
        "about 7 min, 2.4 GB of memory, 6.3 GB on the disk"
    )
    assert str(Estimate(20, 900_000_000, 20_000_000)) == "about 20 s, 0.9 GB of memory, 0.02 GB on the disk"
