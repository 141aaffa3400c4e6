import hashlib
import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pellucid.data.digests import (
    BLANK,
    check_archive,
    check_tensors,
    digest_weights_file,
    save_tensors,
    seal_archive,
)
from pellucid.data.run_folder import SHIPPED


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def saved_tensors(folder: Path) -> Path:
    save_tensors({"a": torch.arange(30.0), "b": torch.ones(2, 3)}, folder / "a.safetensors", {"x": '"y"'})
    return folder / "a.safetensors"


def sealed_archive(folder: Path) -> Path:
    torch.save({"a": torch.arange(30.0), "step": 7}, folder / "a.ckpt")
    seal_archive(folder / "a.ckpt")
    return folder / "a.ckpt"


def test_the_digest_is_that_of_the_file_with_zeros_in_its_place(tmp_path: Path) -> None:
    path = saved_tensors(tmp_path)
    with safe_open(path, framework="pt") as file:
        texts = file.metadata()
    digest = texts["sha256"].strip('"').encode()
    assert texts["x"] == '"y"'
    assert hashlib.sha256(path.read_bytes().replace(digest, BLANK)).hexdigest().encode() == digest
    assert torch.equal(load_file(path)["a"], torch.arange(30.0))
    check_tensors(path)


def test_a_checkpoint_with_its_digest_is_still_a_checkpoint_and_a_zip_file(tmp_path: Path) -> None:
    path = sealed_archive(tmp_path)
    check_archive(path)
    for mmap in (True, False):
        state = torch.load(path, weights_only=True, mmap=mmap)
        assert state["step"] == 7
        assert torch.equal(state["a"], torch.arange(30.0))
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert hashlib.sha256(path.read_bytes()[:-71]).hexdigest().encode() == file.comment[7:]


def test_a_flipped_bit_of_a_number_is_found(tmp_path: Path) -> None:
    for make, check in ((saved_tensors, check_tensors), (sealed_archive, check_archive)):
        path = make(tmp_path)
        for at in range(100, path.stat().st_size - 100, 13):
            digest_at = path.read_bytes().find(b'"sha256"')
            if digest_at <= at < digest_at + 80 and path.suffix == ".safetensors":
                continue
            flip(path, at)
            with pytest.raises(ValueError, match="does not fit the SHA-256"):
                check(path)
            flip(path, at)
        check(path)


def test_files_of_earlier_versions_have_no_digest_and_are_taken_as_they_are(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors", {"x": "y"})
    torch.save({"a": 1}, tmp_path / "a.ckpt")
    (tmp_path / "short").write_bytes(b"PK")
    check_tensors(tmp_path / "a.safetensors")
    check_archive(tmp_path / "a.ckpt")
    check_tensors(tmp_path / "short")
    check_archive(tmp_path / "short")
    with pytest.raises(ValueError, match="is no zip file"):
        seal_archive(tmp_path / "a.safetensors")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*/weights.safetensors")), ids=lambda p: p.parent.name)
def test_models_that_ship_have_digests(path: Path) -> None:
    check_tensors(path)
    with safe_open(path, framework="pt") as file:
        assert "sha256" in file.metadata()


def test_a_weights_file_has_the_digest_that_was_saved_in_it_or_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors({"a": torch.ones(3)}, path, {})
    saved = digest_weights_file(path)
    assert saved.encode() in path.read_bytes()
    path.write_bytes(b"weights of an earlier version")
    assert digest_weights_file(path) == hashlib.sha256(path.read_bytes()).hexdigest() != saved


def test_a_pipe_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for check in (check_tensors, check_archive):
        with pytest.raises(OSError, match="no such file"):
            check(tmp_path / "pipe")


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    texts = {name: f'"{name} ä"' for name in ("optical", "radar", "mean_spectrum", "text", "tokenizer")}
    for i in range(8):
        save_tensors({"x": torch.ones(3)}, tmp_path / f"{i}.safetensors", texts)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with safe_open(tmp_path / "0.safetensors", framework="pt") as file:
        assert texts.items() <= file.metadata().items()
