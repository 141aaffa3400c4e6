import subprocess
import sys
from pathlib import Path

import pytest
from many import QUICK, ROOT, call, environment, make_scenes, save_model, whole
from scenes import read


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("runs") / "tiny")


def test_workers_of_a_cluster_restore_a_scene_each(tmp_path: Path, model: Path) -> None:
    scenes, out = make_scenes(tmp_path, 2), tmp_path / "out"
    words = [sys.executable, ROOT / "docs" / "scenes_on_dask.py", scenes, out]
    words += ["--sar-dir", tmp_path / "s1", "-m", model, *QUICK]
    done = subprocess.run(
        list(map(str, words)), env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = whole(tmp_path, model, 2)
    assert all((read(out / name) == values).all() for name, values in expected.items())


def test_a_scheduler_that_does_not_answer_is_told_in_a_sentence(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pellucid.cli.cluster.PATIENCE", 1.0)
    scenes = make_scenes(tmp_path, 1)
    words = ("remove-clouds", scenes, "-o", tmp_path / "out", "-m", model, "--scheduler", "tcp://127.0.0.1:9")
    result = call(*words, *QUICK)
    assert result.exit_code == 2
    assert "does not answer within 1 s" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
