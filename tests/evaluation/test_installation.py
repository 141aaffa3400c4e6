import sys
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from pellucid.data.digests import save_tensors
from pellucid.evaluation import installation
from pellucid.evaluation.installation import Finding, check_installation, to_dict, usable_cores


def found(findings: list[Finding]) -> dict[str, Finding]:
    return {each.name: each for each in findings}


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return found(check_installation())


def test_nothing_is_wrong_where_the_tests_run(findings: dict[str, Finding]) -> None:
    assert [each for each in findings.values() if each.state == "wrong"] == []
    assert {"Python", "torch", "cpu", "threads", "GDAL", "PROJ", "disk", "model ground"} <= set(findings)
    assert torch.__version__ in findings["torch"].found
    assert "GTiff" in findings["GDAL"].found


def test_the_summary_is_plain_and_says_whether_anything_is_wrong() -> None:
    good, bad = Finding("a", "1"), Finding("b", "2", "wrong", "mend it")
    assert to_dict([good])["is_ready"]
    assert not to_dict([good, bad])["is_ready"]
    assert to_dict([bad])["checks"] == [{"name": "b", "found": "2", "state": "wrong", "mend": "mend it"}]


def test_a_package_that_is_missing_or_too_old_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [Requirement("no-such-package>=1"), Requirement("rasterio>=99"), Requirement("numpy>=1")]
    monkeypatch.setattr(installation, "_requirements", lambda: wanted)
    by_name = found(check_installation())
    assert by_name["no-such-package"].found == "not installed"
    assert by_name["no-such-package"].mend == "pip install 'no-such-package>=1'"
    assert "must be >=99" in by_name["rasterio"].found
    assert "numpy" not in by_name
    assert "packages" not in by_name


def test_an_extra_that_is_missing_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [Requirement('no-such-package; extra == "lora"'), Requirement('numpy; extra == "train"')]
    monkeypatch.setattr(installation, "_requirements", lambda: wanted)
    by_name = found(check_installation())
    assert by_name["extra lora"].state == "note"
    assert "pip install 'pellucid[lora]'" in by_name["extra lora"].mend
    assert by_name["extra train"].state == "ok"


def test_weights_with_a_flipped_bit_or_without_a_digest_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "broken", "pointer"):
        (tmp_path / name).mkdir()
        save_tensors({"a": torch.ones(8)}, tmp_path / name / "weights.safetensors", {})
    path = tmp_path / "broken" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    (tmp_path / "pointer" / "weights.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    monkeypatch.setattr(installation, "SHIPPED", tmp_path)
    monkeypatch.setattr(installation, "shipped_runs", lambda: ("broken", "pointer", "whole"))
    by_name = found(check_installation())
    states = {name: by_name[f"model {name}"].state for name in ("broken", "pointer", "whole")}
    assert states == {"broken": "wrong", "pointer": "wrong", "whole": "ok"}


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    by_name = found(check_installation())
    assert by_name["gdal"].state == "wrong"
    assert by_name["Python"].state == "ok"


def test_a_proj_that_knows_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "SOME_CRS", "EPSG:999999")
    monkeypatch.setenv("PROJ_LIB", "/somewhere")
    proj = found(check_installation())["PROJ"]
    assert (proj.state, proj.mend) == ("wrong", "unset PROJ_LIB")


def test_the_quota_of_a_container_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_read", lambda path: "50000 100000\n")
    assert usable_cores() == 0.5
    monkeypatch.setattr(installation, "_read", lambda path: "max 100000\n")
    assert usable_cores() >= 1


def test_many_threads_on_few_cores_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "usable_cores", lambda: 1.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    threads = found(check_installation())["threads"]
    assert (threads.state, threads.mend.startswith("export OMP_NUM_THREADS=1")) == ("note", True)


def test_little_memory_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 1048576 kB\n"}
    monkeypatch.setattr(installation, "_read", lambda path: texts.get(path, ""))
    assert found(check_installation())["memory"].found == "1.0 of 8.0 GiB free"
    texts |= {"/sys/fs/cgroup/memory.max": "4294967296\n", "/sys/fs/cgroup/memory.current": "3758096384\n"}
    memory = found(check_installation())["memory"]
    assert (memory.found, memory.state) == ("0.5 of 4.0 GiB free", "note")
