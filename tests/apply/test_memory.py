import math
from pathlib import Path

import pytest
import torch

from pellucid.apply import memory
from pellucid.apply.memory import _free_in_groups, available_bytes


def group(folder: Path, names: tuple[str, str, str], limit: str, used: int, kept: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {kept}\n")


def test_each_group_of_a_process_limits_it_and_read_files_are_free(tmp_path: Path) -> None:
    (tmp_path / "groups").write_text("4:cpu:/else\n3:memory:/old/job\n0::/slurm/job:1\n")
    group(tmp_path / "slurm/job:1", memory.NEW_NAMES, "1000", 700, 200)
    group(tmp_path / "slurm", memory.NEW_NAMES, "max", 800, 0)
    group(tmp_path, memory.NEW_NAMES, "900", 800, 0)
    group(tmp_path / "memory/old/job", memory.OLD_NAMES, "600", 50, 10)
    assert sorted(_free_in_groups(tmp_path / "groups", tmp_path)) == [100, 500, 560]
    assert list(_free_in_groups(tmp_path / "none", tmp_path)) == []


def test_a_limit_of_the_process_is_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    before = available_bytes()
    assert before > 0
    monkeypatch.setattr(memory, "limit_bytes", lambda: 1.0)
    assert available_bytes() == 0


def test_memory_is_given_back_when_what_is_held_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    held, given_back = iter([5.0, 3.0, 3.0 + memory.GROWTH, 4.0 + memory.GROWTH, 3.0]), list[int]()
    monkeypatch.setattr(memory, "resident_bytes", lambda: next(held))
    monkeypatch.setattr(memory, "available_bytes", lambda: math.inf)
    monkeypatch.setattr(memory, "return_freed_memory", lambda: given_back.append(1))
    tidy = memory.Tidying()
    for expected in (1, 1, 2):  # at first, not for what may grow, and beyond it
        tidy()
        assert len(given_back) == expected


def test_less_may_grow_where_little_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 400.0)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 1000.0)
    tidy = memory.Tidying()
    tidy()
    assert tidy.most == 1100


def test_what_the_process_holds_is_known() -> None:
    before = memory.resident_bytes()
    block = torch.ones(10_000_000)
    assert memory.resident_bytes() - before > 0.9 * block.nbytes


def test_a_limit_of_this_process_is_what_has_to_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limit_bytes", lambda: math.inf)
    assert memory.make_way() == "close other programs"
    monkeypatch.setattr(memory, "limit_bytes", lambda: 1e9)
    assert memory.make_way() == "raise its limit of memory (ulimit -v)"
