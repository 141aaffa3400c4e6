"""Many scenes from the command line: in processes, and in parts as a job array has them."""

import errno
import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many import QUICK, ROOT, call, environment, make_scenes, save_model, whole
from rasterio.transform import Affine
from scenes import BANDS, ground, read, write

from pellucid.apply.options import SceneOptions
from pellucid.apply.scene_list import SceneJob
from pellucid.cli import many
from pellucid.cli.cluster import _tell
from pellucid.errors import WriteError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("runs") / "tiny")


def test_a_failed_scene_does_not_stop_the_others_and_is_told(tmp_path: Path, model: Path) -> None:
    scenes = make_scenes(tmp_path, 2)
    (tmp_path / "scenes" / "bad.tif").write_text("no raster")
    write(tmp_path / "s1" / "bad.tif", np.full((2, 9, 9), -10, np.float32), ("VV", "VH"))
    words = ("remove-clouds", scenes, "--sar-dir", tmp_path / "s1", "-o", tmp_path / "out", "-m", model)
    result = call(*words, *QUICK, "--workers", "1", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["done"], found["failed"], found["skipped"]) == (2, 1, 0)
    status = call("status", tmp_path / "out", "--json")
    assert status.exit_code == 1
    states = {Path(each["scene"]).name: each for each in json.loads(status.stdout)["scenes"]}
    assert states["bad.tif"]["state"] == "failed"
    assert "is no readable raster" in states["bad.tif"]["reason"]
    expected = whole(tmp_path, model, 2)
    assert all((read(tmp_path / "out" / name) == values).all() for name, values in expected.items())

    (tmp_path / "scenes" / "bad.tif").unlink()
    again = json.loads(call(*words, *QUICK, "--json").stdout)
    assert (again["done"], again["failed"], again["skipped"]) == (0, 0, 2)
    assert call("status", tmp_path / "out").exit_code == 0


def test_a_full_disk_stops_all_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise WriteError("cannot write out.tif: No space left on device")

    monkeypatch.setattr(many, "_restore", full)
    job = SceneJob(tmp_path / "s2.tif", tmp_path / "out.tif")
    with pytest.raises(WriteError):
        many.restore_one(job, model="ground", options=SceneOptions(), out=tmp_path)
    told = partial(many.restore_one, model="ground", options=SceneOptions(), out=tmp_path)
    assert _tell(told, job) == "cannot write out.tif: No space left on device"


@pytest.mark.parametrize(("number", "way"), [(errno.ENOSPC, "free the disk"), (errno.EACCES, "permissions")])
def test_what_the_system_refuses_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, way: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "out.tif")

    monkeypatch.setattr(many, "_restore", refuse)
    job = SceneJob(tmp_path / "s2.tif", tmp_path / "out.tif")
    work = partial(many.restore_one, model="ground", options=SceneOptions(), out=tmp_path)
    said = _tell(work, job)
    assert said
    assert said.startswith("cannot read or write out.tif: ")
    assert way in said
    if number == errno.ENOSPC:  # in other scenes, too
        with pytest.raises(WriteError):
            work(job)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
        ),
    ],
)
def test_a_scene_that_memory_is_too_short_for_is_no_fault_to_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhaust(*_: object) -> None:
        raise error

    monkeypatch.setattr(many, "_restore", exhaust)
    job = SceneJob(tmp_path / "s2.tif", tmp_path / "out.tif")
    said = many.restore_one(job, model="ground", options=SceneOptions(), out=tmp_path)
    assert said
    assert said.startswith("memory is exhausted")
    assert said.endswith("; try fewer --workers, or close other programs")


def test_options_of_one_scene_and_of_many_are_told_apart(tmp_path: Path, model: Path) -> None:
    scenes = make_scenes(tmp_path, 1)
    one = tmp_path / "scenes" / "0.tif"
    for words, sentence in (
        ((scenes, "--sar", one), "--sar does not apply: "),
        ((one, "--part", "1/2"), "--part does not apply: "),
        ((one.parent, "--part", "1/2"), "is a folder, taken for one product; quote a pattern such as"),
        ((scenes, "--part", "3/2"), "--part is '3/2', must be one of so many parts"),
    ):
        result = call("remove-clouds", *words, "-o", tmp_path / "out", "-m", model)
        assert result.exit_code == 2
        assert sentence in " ".join(result.output.split())
    result = call("remove-clouds", scenes, "-o", tmp_path / "out.tif", "-m", model)
    assert (result.exit_code, "name a folder" in result.output) == (2, True)
    assert call("status", tmp_path).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_scene_may_be_called_scenes_and_json_is_printed_though_quiet(tmp_path: Path, model: Path) -> None:
    make_scenes(tmp_path, 1)
    one = (tmp_path / "scenes" / "0.tif").rename(tmp_path / "scenes" / "scenes.tif")
    words = ("remove-clouds", one.with_name("*.tif"), "-o", tmp_path / "out", "-m", model, *QUICK, "--quiet")
    assert json.loads(call(*words, "--json").stdout)["done"] == 1
    status = json.loads(call("status", tmp_path / "out", "--json", "--quiet").stdout)
    assert [(each["scene"], each["state"]) for each in status["scenes"]] == [(str(one), "done")]
    estimate = ("remove-clouds", one, "-o", tmp_path / "one.tif", "-m", model, "--estimate", "--json")
    assert json.loads(call(*estimate, "--quiet").stdout)["disk_bytes"] > 0
    info = json.loads(call("info", tmp_path / "out" / "scenes.tif", "--json", "--quiet").stdout)
    assert info["command"] == "remove-clouds"


def test_the_plan_says_which_guides_belong_to_which_scene(tmp_path: Path, model: Path) -> None:
    scenes = make_scenes(tmp_path, 1)
    words = ("remove-clouds", scenes, "--sar-dir", tmp_path / "s1", "-o", tmp_path / "out", "-m", model)
    plan = json.loads(call(*words, "--dry-run", "--json").stdout)
    assert [(Path(job["scene"]).name, Path(job["sar"]).parent.name) for job in plan] == [("0.tif", "s1")]
    assert "1 tile, with radar; all checks passed" in plan[0]["plan"]
    (tmp_path / "s1" / "0.tif").unlink()
    write(tmp_path / "s1" / "elsewhere.tif", np.full((2, 9, 9), -10, np.float32), ("VV", "VH"))
    failed = call(*words, "--dry-run")
    assert (failed.exit_code, "no radar scene belongs to" in failed.output) == (1, True)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_opens_every_scene_and_says_what_would_be_done_or_its_fault(
    tmp_path: Path, model: Path
) -> None:
    scenes = make_scenes(tmp_path, 2)
    words = ("remove-clouds", scenes, "--sar-dir", tmp_path / "s1", "-o", tmp_path / "out", "-m", model)
    assert call(*words, *QUICK, "--workers", "1").exit_code == 0
    write(tmp_path / "scenes" / "1.tif", ground(96, 96)[:5], BANDS[:5])
    sar = np.full((2, 96, 96), -10, np.float32)
    write(write(tmp_path / "scenes" / "2.tif", ground(96, 96), BANDS).parents[1] / "s1" / "2.tif", sar)
    before = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    found = call(*words, *QUICK, "--dry-run")
    assert found.exit_code == 1
    text = " ".join(found.output.split())
    assert "0.tif: is done already" in text
    assert "1.tif lacks the bands B06" in text
    assert "96 x 96 px of 10 x 10" in text
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == before


@pytest.mark.parametrize("kills", [3])
def test_a_job_array_whose_tasks_are_killed_loses_nothing(tmp_path: Path, model: Path, kills: int) -> None:
    scenes, variables = make_scenes(tmp_path), environment(tmp_path)
    out, random = tmp_path / "out", np.random.default_rng(0)

    def task(part: int) -> subprocess.Popen[bytes]:
        slurm = {"SLURM_ARRAY_TASK_ID": str(part), "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_CPUS_PER_TASK": "1"}
        words: list[Any] = ["bash", ROOT / "docs" / "scenes.sbatch", scenes, out]
        words += ["--sar-dir", tmp_path / "s1", "-m", model, *QUICK]
        return subprocess.Popen(
            words, env=variables | slurm, start_new_session=True, stderr=subprocess.DEVNULL
        )

    for kill in range(kills):
        process = task(1 + kill % 3)
        time.sleep(float(random.uniform(1, 5)))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for part in (1, 2, 3):
        assert task(part).wait(300) == 0
    assert json.loads(call("status", out, "--json").stdout)["done"] == 3
    expected = whole(tmp_path, model)
    assert all((read(out / name) == values).all() for name, values in expected.items())
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".pellucid"]


def test_a_date_that_cannot_guide_a_scene_of_many_is_left_out_and_told(tmp_path: Path) -> None:
    values = ground(96, 96)
    values[:, :32] = 7000
    scenes = write(tmp_path / "scenes" / "0.tif", values, BANDS).with_name("*.tif")
    write(tmp_path / "old" / "0_overcast.tif", np.full_like(values, 9000), BANDS)
    write(tmp_path / "old" / "0_elsewhere.tif", values, BANDS, transform=Affine(10, 0, 9e5, 0, -10, 5e6))
    words: list[str | Path] = [scenes, "--reference-dir", tmp_path / "old", "--no-html", "--no-preview"]
    plan = call("remove-clouds", *words, "-o", tmp_path / "out", "--dry-run")
    assert "2 other dates left out" in " ".join(plan.output.split())
    result = call("remove-clouds", *words, "-o", tmp_path / "out", "--workers", "1", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["scenes"]
    left_out = [Path(path).name for path in found["left_out"]]
    assert (found["state"], sorted(left_out)) == ("done", ["0_elsewhere.tif", "0_overcast.tif"])
    status = call("status", tmp_path / "out")
    assert "1 without other dates that cannot guide them" in " ".join(status.output.split())
    alone = call("remove-clouds", tmp_path / "scenes" / "0.tif", "-o", tmp_path / "alone.tif", "--no-html")
    assert alone.exit_code == 0
    assert (read(tmp_path / "out" / "0.tif") == read(tmp_path / "alone.tif")).all()
    words = [tmp_path / "scenes" / "0.tif", "--reference", tmp_path / "old" / "0_overcast.tif"]
    refused = call("remove-clouds", *words, "-o", tmp_path / "refused.tif")
    assert (refused.exit_code, "no clear pixel in common" in refused.output) == (2, True)


def test_what_many_scenes_take_is_estimated_from_the_largest(tmp_path: Path, model: Path) -> None:
    scenes = make_scenes(tmp_path, 3)
    (tmp_path / "scenes" / "bad.tif").write_text("no raster")
    words = (scenes, "-o", tmp_path / "out", "-m", model, *QUICK, "--workers", "2", "--estimate")
    words = (words[0], "--sar-dir", tmp_path / "s1", *words[1:])
    found = json.loads(call("remove-clouds", *words, "--json").stdout)
    alone = ("remove-clouds", tmp_path / "scenes" / "0.tif", "--sar", tmp_path / "s1" / "0.tif")
    one = json.loads(
        call(*alone, "-o", tmp_path / "one.tif", "-m", model, *QUICK, "--estimate", "--json").stdout
    )
    assert (found["scenes"], found["processes"]) == (3, 2)
    assert found["result_bytes"] == 3 * one["result_bytes"]
    assert found["disk_bytes"] == 3 * one["result_bytes"] + 2 * (one["disk_bytes"] - one["result_bytes"])
    told = " ".join(call("remove-clouds", *words).output.split())
    assert "3 scenes in 2 processes: about " in told
    assert "1 scene cannot be restored; --dry-run says why" in told
    assert not (tmp_path / "out").exists()
