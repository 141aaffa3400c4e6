import os
import resource
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pellucid.cli
from pellucid.cli import room
from pellucid.cli.room import MIB, PER_THREAD, make_room, needed_bytes
from pellucid.errors import InputError


@pytest.fixture(autouse=True)
def _keep_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (room.THREADS, room.OTHER_THREADS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def limit(monkeypatch: pytest.MonkeyPatch, num_bytes: float) -> None:
    soft = resource.RLIM_INFINITY if num_bytes == float("inf") else int(num_bytes)
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, resource.RLIM_INFINITY))


def test_without_a_limit_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, float("inf"))
    make_room(with_torch=True)
    assert room.THREADS not in os.environ
    assert room.OTHER_THREADS not in os.environ


def test_too_little_is_refused_before_pytorch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 600 * MIB)
    with pytest.raises(InputError, match=r"may take 600 MiB of memory and needs \d+.*ulimit -v \d+"):
        make_room(with_torch=True)
    make_room(with_torch=False)
    result = CliRunner().invoke(pellucid.cli.app, ["remove-clouds", "s.tif", "-o", "o.tif"])
    assert (result.exit_code, result.output.count("error:")) == (2, 1)
    assert "this process may take 600 MiB" in result.output
    assert CliRunner().invoke(pellucid.cli.app, ["models"]).exit_code == 0


def test_where_it_is_short_threads_are_fewer_but_not_against_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    needed = needed_bytes(with_torch=True)
    for given, wanted in ((needed, "1"), (needed + 2.5 * PER_THREAD, "3"), (needed + 90 * PER_THREAD, None)):
        limit(monkeypatch, given)
        make_room(with_torch=True)
        assert os.environ.pop(room.THREADS, None) == wanted
        assert os.environ.pop(room.OTHER_THREADS) == "1"
    limit(monkeypatch, needed)
    monkeypatch.setenv(room.THREADS, "2")
    make_room(with_torch=True)
    assert os.environ[room.THREADS] == "2"


def test_what_is_needed_follows_from_the_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spec:
        origin = str(tmp_path / "torch" / "__init__.py")

    for name, size in (
        ("torch/lib/liba.so", 100),
        ("torch/lib/a.h", 7),
        ("nvidia/cu13/lib/libb.so.13", 1000),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: Spec)
    assert needed_bytes(with_torch=True) == room.BESIDE_TORCH + 1100
    assert needed_bytes(with_torch=False) == room.WITHOUT_TORCH
