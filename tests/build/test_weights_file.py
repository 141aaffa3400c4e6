from pathlib import Path

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
