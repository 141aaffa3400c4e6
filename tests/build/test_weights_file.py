import contextlib
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid.build.weights_file import match, read_state_dict
from pellucid.errors import InputError

WEIGHTS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.pth"
    torch.save(WEIGHTS, path)
    return path


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_url_is_fetched_once_and_read_from_then_on_without_it(cache: Path, file: Path) -> None:
    url = file.as_uri()
    assert same(read_state_dict(url), WEIGHTS)
    file.unlink()
    assert same(read_state_dict(url), WEIGHTS)
    assert [path.name for path in cache.iterdir()] == ["net.pth"]


def test_a_path_may_be_text(file: Path) -> None:
    assert same(read_state_dict(str(file)), WEIGHTS)


@pytest.mark.parametrize(
    "holder", ["model", "net", "params", "params_ema", "ema", "state_dict_ema", "generator", "state_dict"]
)
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_weights_are_found_under_the_keys_and_prefixes_of_training_scripts(
    tmp_path: Path, holder: str, prefix: str
) -> None:
    content = {holder: {prefix + name: value for name, value in WEIGHTS.items()}, "epoch": 3}
    torch.save(content, tmp_path / "net.pth.tar")
    assert same(read_state_dict(tmp_path / "net.pth.tar"), WEIGHTS)


def test_averaged_weights_are_taken_before_others_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = {name: value + 1 for name, value in WEIGHTS.items()}
    torch.save({"params": others, "params_ema": WEIGHTS}, tmp_path / "net.pth")
    assert same(read_state_dict(tmp_path / "net.pth"), WEIGHTS)
    assert "under params_ema and params; those under params_ema are taken" in caplog.text


def test_numbers_and_arrays_of_numpy_beside_the_weights_are_data(tmp_path: Path) -> None:
    beside = {"best": np.float64(0.1), "step": np.int32(3), "random": np.random.default_rng(0).random(3)}
    torch.save({"state_dict": WEIGHTS, **beside}, tmp_path / "net.ckpt")
    assert same(read_state_dict(tmp_path / "net.ckpt"), WEIGHTS)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!DOCTYPE html><html><head><title>Google Drive</title>", "is a web page, not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer, .*; run git lfs pull"),
        (b"", "is empty, download it again"),
        (b"Entry not found", "is a text, not a checkpoint; download the file itself"),
        (b"\x1f\x8b\x08\x00", "is a packed archive; unpack it"),
    ],
)
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_download_that_is_no_checkpoint_is_named(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_state_dict(tmp_path / name)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_and_other_archives_are_named(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with zipfile.ZipFile(tmp_path / "folder.pth", "w") as file:
        file.writestr("weights/net.pth", b"x")
    with pytest.raises(InputError, match=r"is TorchScript; save the state_dict\(\)"):
        read_state_dict(tmp_path / "script.pt")
    with pytest.raises(InputError, match="is a zip archive; unpack it"):
        read_state_dict(tmp_path / "folder.pth")


@pytest.mark.parametrize("zipped", [False, True])
def test_any_damage_is_read_or_refused(tmp_path: Path, zipped: bool) -> None:
    path, draw = tmp_path / "net.pth", random.Random(0)
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole[: draw.randrange(len(whole))] if draw.random() < 0.3 else whole)
        for _ in range(draw.choice((1, 3, 20))):
            if damaged:
                damaged[draw.randrange(min(len(damaged), 300))] = draw.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            read_state_dict(path)


@pytest.mark.parametrize(
    "value", [torch.eye(2).to_sparse(), torch.eye(2, device="meta"), torch.ones(2, dtype=torch.complex64)]
)
def test_what_is_no_dense_real_tensor_is_refused(tmp_path: Path, value: Tensor) -> None:
    torch.save({"weight": value}, tmp_path / "net.pth")
    with pytest.raises(InputError, match="weight in a form other than dense real numbers"):
        read_state_dict(tmp_path / "net.pth")


def test_a_damaged_download_is_not_kept_so_that_the_next_run_fetches_it_again(
    cache: Path, file: Path
) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"net\.pth is damaged"):
        read_state_dict(file.as_uri())
    assert list(cache.iterdir()) == []
    file.write_bytes(whole)
    assert same(read_state_dict(file.as_uri()), WEIGHTS)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        # Nothing listens on port 1.
        ("http://127.0.0.1:1/net.pth", "cannot download http://127.0.0.1:1/net.pth to .*refused.*, check"),
        ("file:///missing/net.pth", "cannot download file:///missing/net.pth"),
        ("gopher://there/net.pth", "cannot download gopher://there/net.pth"),
        ("https://there/vgg19", "https://there/vgg19 is no checkpoint by its name"),
    ],
)  # fmt: skip
def test_a_url_that_gives_nothing_is_named_in_one_sentence(cache: Path, url: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_state_dict(url)
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("*"))


def test_weights_of_the_right_names_and_shapes_match() -> None:
    assert same(match(WEIGHTS, nn.Linear(3, 2), "these"), WEIGHTS)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"weight": WEIGHTS["weight"]}, "net.pth: bias is missing; give another"),
        ({**WEIGHTS, "bias": torch.ones(3)}, "net.pth: bias has shape (3,) instead of (2,); give another"),
        ({**WEIGHTS, "more": torch.ones(1)}, "net.pth: more is no weight of that network; give another"),
    ],
)
def test_weights_of_another_network_are_refused_by_the_first_that_differs(
    found: dict[str, Tensor], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        match(found, nn.Linear(3, 2), "net.pth", way_out="give another")
    assert str(caught.value) == sentence
