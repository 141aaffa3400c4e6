import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pellucid.apply import precision
from pellucid.apply.precision import Trial, choose_precision, compile_network, try_out
from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.errors import InputError
from pellucid.methods.method import Method
from pellucid.methods.regression import Regression, RegressionConfig

CPU = torch.device("cpu")


class Noisy(nn.Module):
    """Gives the image back, in bf16 with an error of a given size."""

    stride = 1

    def __init__(self, error: float) -> None:
        super().__init__()
        self.error = error
        self.weight = nn.Parameter(torch.full((1,), error))

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:  # noqa: ARG002
        sign = 1 - 2 * (torch.arange(degraded.shape[-1]) % 2)
        return degraded * 0.5 + 0.25 + sign * self.error * torch.is_autocast_enabled("cpu")


def method(error: float) -> Regression:
    made = Regression(
        Noisy(error), RegressionConfig(radar_optional=True), optical=SENTINEL2, radar=SENTINEL1, losses={}
    )
    made.origin = ("runs/made", "0" * 64)
    return made


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PELLUCID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False})
    return tmp_path / "pellucid" / "precision.json"


def quick_in_bf16(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let a call seem to take a processor a second in fp32, half of it in bf16; return the list of calls."""
    calls: list[bool] = []
    clock = [0.0]
    monkeypatch.setattr(precision.time, "process_time", lambda: clock[0])
    restore = Regression.restore

    def timed(self: Regression, batch: Batch, *rest: Any) -> Tensor:
        calls.append(torch.is_autocast_enabled("cpu"))
        clock[0] += 0.5 if calls[-1] else 1.0
        return restore(self, batch, *rest)

    monkeypatch.setattr(Regression, "restore", timed)
    return calls


def test_bf16_is_taken_where_it_wins_and_costs_little() -> None:
    assert Trial(fp32_s=1.0, bf16_s=0.5, loss_db=0.04).precision == "bf16"
    assert Trial(fp32_s=1.0, bf16_s=0.5, loss_db=0.06).precision == "fp32"
    assert Trial(fp32_s=1.0, bf16_s=0.9, loss_db=0.0).precision == "fp32"
    assert Trial(fp32_s=0.01, bf16_s=0.001, loss_db=0.0).precision == "fp32"  # nothing to win


def test_loss_is_that_of_a_result_at_35_db(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_in_bf16(monkeypatch)
    trial = try_out(method(10 ** (-35 / 20)), CPU)  # an error as large as that of the result itself
    assert trial.loss_db == pytest.approx(3.01, abs=0.02)
    assert (trial.fp32_s, trial.bf16_s) == (1.0, 0.5)


def test_a_model_is_tried_once_and_what_was_found_is_remembered(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = quick_in_bf16(monkeypatch)
    assert choose_precision("auto", method(0.001), CPU) == "bf16"
    assert set(calls) == {True, False}
    num_calls = len(calls)
    assert choose_precision("auto", method(0.001), CPU) == "bf16"
    assert len(calls) == num_calls
    assert choose_precision("auto", method(0.003), CPU) == "fp32"  # other weights: tried, and too far off
    assert len(calls) == 2 * num_calls
    assert len(json.loads(cache.read_text())) == 2


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"a": {"b": 1}}'])
def test_a_broken_cache_is_made_anew(cache: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    quick_in_bf16(monkeypatch)
    cache.parent.mkdir()
    cache.write_text(text)
    assert choose_precision("auto", method(0.001), CPU) == "bf16"
    assert "fp32_s" in cache.read_text()


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_in_bf16(monkeypatch)
    (tmp_path / "file").touch()
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "file" / "folder"))
    assert choose_precision("auto", method(0.001), CPU) == "bf16"


def test_nothing_is_tried_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = quick_in_bf16(monkeypatch)
    made = method(0.001)
    assert choose_precision("fp32", made, CPU) == "fp32"
    assert choose_precision("bf16", made, CPU) == "bf16"
    made.origin = None  # not loaded from a run
    assert choose_precision("auto", made, CPU) == "fp32"
    known = method(0.001)
    known.prefers_bf16 = True
    assert choose_precision("auto", known, CPU) == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_precision("auto", known, CPU) == "fp32"
    assert not calls


def test_a_network_is_compiled_as_a_whole_or_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []

    def compile_module(self: nn.Module) -> None:
        compiled.append(self)

    monkeypatch.setattr(nn.Module, "compile", compile_module)
    monkeypatch.setattr(precision.shutil, "which", lambda _: "/usr/bin/g++")
    made = method(0.0)
    compile_network(made, CPU)
    assert compiled == [made.network]

    class Parts(Regression):
        def collect(self, batch: Batch, share: Tensor, *, least: float = 0.0) -> Any:  # noqa: ARG002
            return None

    network: Any = nn.Sequential(nn.Identity(), nn.Identity())
    network.stride = 1
    parts: Method = Parts(network, RegressionConfig(), optical=SENTINEL2, radar=SENTINEL1, losses={})
    compile_network(parts, CPU)
    assert compiled[1:] == list(network)
    monkeypatch.setattr(precision.shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="needs a C\\+\\+ compiler on a CPU"):
        compile_network(made, CPU)
