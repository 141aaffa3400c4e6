"""Training runs whose checkpoints were damaged, or whose disk was full."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyData, train_tiny

from pellucid.build.run import read_run
from pellucid.errors import InputError
from pellucid.train.checkpoint_files import find_newest, link, read_checkpoint

VALIDATION = TinyData(2, size=(16, 16), seed=5000)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def flip_middle(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_run(folder)[1]


def test_the_last_two_checkpoints_and_the_best_are_separate_files(tmp_path: Path) -> None:
    train_tiny(tmp_path, val_data=VALIDATION)
    folder = tmp_path / "checkpoints"
    paths = [folder / name for name in ("last.ckpt", "previous.ckpt", "best.ckpt")]
    assert len({path.stat().st_ino for path in paths}) == 3
    assert [read_checkpoint(path)["global_step"] for path in paths[:2]] == [8, 6]
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("val_data", [VALIDATION, None])
@pytest.mark.parametrize("is_missing", [False, True])
def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_an_older_one_to_the_same_end(
    tmp_path: Path, val_data: TinyData | None, is_missing: bool
) -> None:
    train_tiny(tmp_path / "once", num_steps=12, val_data=val_data)
    train_tiny(tmp_path / "twice", num_steps=8, val_data=val_data)
    last = tmp_path / "twice" / "checkpoints" / "last.ckpt"
    last.unlink() if is_missing else flip_middle(last)
    with pytest.warns(UserWarning, match=r"last\.ckpt is (damaged|not there); the run goes on from .* step"):
        report, _ = train_tiny(tmp_path / "twice", num_steps=12, val_data=val_data, resume=True)
    assert report.status == "done"
    found, wanted = weights(tmp_path / "twice"), weights(tmp_path / "once")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert read_checkpoint(last)["global_step"] == 12
    assert read_checkpoint(last.with_name("previous.ckpt"))["global_step"] < 12


def test_any_flipped_bit_in_a_checkpoint_is_found_or_of_no_effect(tmp_path: Path) -> None:
    train_tiny(tmp_path, num_steps=2)
    path = tmp_path / "checkpoints" / "last.ckpt"
    size = path.stat().st_size
    for at in range(0, size, size // 100):
        copied = shutil.copyfile(path, tmp_path / "flipped.ckpt")
        flip(copied, at)
        if size - 73 <= at < size - 64:  # what announces the digest
            continue
        with pytest.raises(InputError, match=r"flipped\.ckpt is damaged"):
            read_checkpoint(copied)


def test_any_flipped_bit_in_weights_is_found_or_of_no_effect(tmp_path: Path) -> None:
    train_tiny(tmp_path, num_steps=2)
    path, wanted = tmp_path / "weights.safetensors", weights(tmp_path)
    num_found, content = 0, path.read_bytes()
    for at in range(0, len(content), len(content) // 100):
        flip(path, at)
        try:
            found = weights(tmp_path)
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        except InputError as error:
            assert "weights.safetensors is damaged" in str(error) or "in its metadata" in str(error)  # noqa: PT017
            num_found += 1
        path.write_bytes(content)
    assert num_found > 95


def test_a_run_with_nothing_but_damaged_checkpoints_says_so(tmp_path: Path) -> None:
    train_tiny(tmp_path, num_steps=8)
    paths = {path.stat().st_ino: path for path in (tmp_path / "checkpoints").glob("*.ckpt")}
    for path in paths.values():
        flip_middle(path)
    with pytest.raises(InputError, match=r"last\.ckpt is damaged \(its content does not fit the SHA-256"):
        find_newest(tmp_path / "checkpoints")


def test_best_weights_stay_where_their_checkpoint_was_damaged(tmp_path: Path) -> None:
    options: dict[str, Any] = {"learning_rate": 1e-30, "val_data": VALIDATION}  # no later step is better
    train_tiny(tmp_path, num_steps=4, **options)
    before = weights(tmp_path)
    flip_middle(tmp_path / "checkpoints" / "best.ckpt")
    with pytest.warns(UserWarning, match=r"best\.ckpt is damaged .* the weights stay as they were saved"):
        train_tiny(tmp_path, num_steps=8, resume=True, **options)
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path).items())


def test_a_full_disk_leaves_the_checkpoints_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_tiny(tmp_path, num_steps=4)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(
            InputError,
            match=r"cannot save the checkpoint of step 6 .*\(No space left on device\); free the disk",
        ):
            train_tiny(tmp_path, num_steps=8, resume=True)
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")]
    report, _ = train_tiny(tmp_path, num_steps=8, resume=True)
    assert report.status == "done"


def test_a_link_replaces_what_was_there_and_outlives_its_source(tmp_path: Path) -> None:
    (tmp_path / "last").write_text("new")
    (tmp_path / "best").write_text("old")
    for _ in range(2):
        link(tmp_path / "last", tmp_path / "best")
    (tmp_path / "last").unlink()
    assert (tmp_path / "best").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
