import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import golden
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.tokenizer import (
    SPECIAL,
    Tokenizer,
    check_size,
    default_tokenizer,
    learn_tokenizer,
    read_tokenizer,
    word_tokenizer,
)
from pellucid.errors import InputError

PROMPTS = [
    "Colorise image, Region: tropical, Season: summer",
    "Colorise image, Region: arctic",
    "Colorise image",
]
VOCABULARY = {token: number for number, token in enumerate([*SPECIAL, "sea", "ice", ",", "a_1", "é"])}


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """A tokenizer as Stable Diffusion's folders hold it, of the letters a and b."""
    end = "<|endoftext|>"
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    vocabulary = ["<|startoftext|>", end, "a", "b", "a</w>", "b</w>", "ab</w>"]
    ids = {token: number for number, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    special = {"bos_token": vocabulary[0], "eos_token": end, "unk_token": end, "pad_token": end}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_ids_are_the_published_ones(golden_folder: Path) -> None:
    prompts = json.loads((golden_folder / "sar_prompts.json").read_text())
    tokenizer = read_tokenizer(golden_folder / "sar_default_vocab.json")
    expected = golden.arrays(golden_folder, "sar_tokenizer_default")["ids"]
    assert torch.equal(tokenizer(prompts), expected)
    assert (tokenizer.size, tokenizer.length, tokenizer.end_id) == (1000, 77, 3)


def test_words_signs_and_unknown_words_are_told_apart() -> None:
    ids = word_tokenizer(VOCABULARY, length=12)(["Sea,ICE a_1", "[END] É", ""])
    assert ids.tolist() == [
        [2, 4, 6, 5, 7, 3, 0, 0, 0, 0, 0, 0],
        [2, 1, 1, 1, 8, 3, 0, 0, 0, 0, 0, 0],  # "[", "end" and "]" are no special token
        [2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


@given(st.text(alphabet="aB9_éß ,.:[]-\n\t’中", max_size=20))
def test_a_text_falls_apart_as_the_published_expression_says(text: str) -> None:
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    tokenizer = word_tokenizer({word: at for at, word in enumerate([*SPECIAL, *dict.fromkeys(words)])})
    assert not tokenizer.unknown(text)
    ids = tokenizer([text])[0, 1 : len(words) + 1].tolist()
    assert ids == [len(SPECIAL) + list(dict.fromkeys(words)).index(word) for word in words]


@pytest.mark.parametrize(("words", "end"), [(3, [3]), (4, [4]), (9, [4])])
def test_a_text_that_is_too_long_loses_its_end_as_published(words: int, end: list[int]) -> None:
    ids = word_tokenizer(VOCABULARY, length=5)(["sea " * words])
    assert ids.tolist() == [[2, 4, 4, 4, *end]]


def test_no_texts_have_no_ids() -> None:
    assert word_tokenizer(VOCABULARY)([]).shape == (0, 77)


def test_vocabulary_is_ordered_by_frequency_and_alphabet() -> None:
    tokenizer = learn_tokenizer(PROMPTS, length=12)
    # Three times the first four, twice the fifth.
    order = [",", ":", "colorise", "image", "region", "arctic", "season", "summer", "tropical"]
    assert tokenizer([" ".join(order)])[0].tolist() == [2, *range(4, 13), 3, 0]
    assert tokenizer.size == 13


def test_vocabulary_does_not_depend_on_the_order_of_the_texts() -> None:
    assert learn_tokenizer(PROMPTS).to_json() == learn_tokenizer(PROMPTS[::-1]).to_json()
    assert learn_tokenizer(PROMPTS).to_json() != learn_tokenizer(PROMPTS[1:]).to_json()
    assert learn_tokenizer(PROMPTS).to_json() != learn_tokenizer(PROMPTS, length=20).to_json()


def test_unknown_words_are_reported_as_they_were_written() -> None:
    tokenizer = learn_tokenizer(PROMPTS)
    assert tokenizer.unknown("Colorise image, Region: Desert, Season: monsoon!") == ("Desert", "monsoon", "!")
    assert tokenizer.unknown("Region: ARCTIC") == ()


def test_saved_tokenizer_is_the_same_in_a_run_folder_and_alone(tmp_path: Path) -> None:
    tokenizer = learn_tokenizer(PROMPTS, length=20)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        again = read_tokenizer(path)
        assert torch.equal(again([*PROMPTS, "other"]), tokenizer([*PROMPTS, "other"]))
        assert again.to_json() == tokenizer.to_json()
        assert again.length == 20


def test_tokenizer_of_clip_keeps_its_end(clip_folder: Path, tmp_path: Path) -> None:
    tokenizer = read_tokenizer(clip_folder, length=5)
    expected = [[0, 6, 4, 1, 1], [0, 6, 6, 6, 1]]  # padded with its end, cut to leave room for it
    assert tokenizer(["ab A", "ab ab ab ab"]).tolist() == expected
    assert (tokenizer.size, tokenizer.end_id) == (7, 1)
    assert tokenizer.unknown("ab z") == ("z",)
    run = tmp_path / "run"
    run.mkdir()
    (run / "tokenizer.json").write_text(tokenizer.to_json())
    assert read_tokenizer(run)(["ab A", "ab ab ab ab"]).tolist() == expected


def test_vocabulary_that_the_text_encoder_does_not_know_is_refused() -> None:
    tokenizer = learn_tokenizer(PROMPTS)
    check_size(tokenizer, 13)
    with pytest.raises(InputError, match="has 13 ids, the text encoder's vocabulary is 12; set vocab_size"):
        check_size(tokenizer, 12)


def test_vocabulary_too_small_for_the_prompts_is_refused() -> None:
    learn_tokenizer(PROMPTS, size=13)
    with pytest.raises(InputError, match="9 different words and signs, a vocabulary of 12 has room for 8"):
        learn_tokenizer(PROMPTS, size=12)


def test_prompt_that_does_not_fit_is_refused() -> None:
    learn_tokenizer(PROMPTS, length=12)
    with pytest.raises(InputError, match="has 10 words and signs, at most 9 fit"):
        learn_tokenizer(PROMPTS, length=11)


def _nothing(path: Path) -> None:
    pass


def _write(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_nothing, "does not exist, take that of the training run"),
        (Path.mkdir, "holds no tokenizer, neither tokenizer.json nor"),
        (_write("{"), "cannot read the tokenizer"),
        (_write("[1]"), "holds no tokenizer, take that of the training run"),
        (_write('{"sea": 1}'), r"holds no tokenizer \(the vocabulary lacks \[PAD\], \[UNK\]"),
        (_write('{"model": {}}'), "holds no tokenizer"),
    ],
)
def test_what_is_no_tokenizer_is_refused(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "tokens")
    with pytest.raises(InputError, match=message) as error:
        read_tokenizer(tmp_path / "tokens")
    assert "\n" not in str(error.value)


def test_tokenizer_without_padding_is_refused(clip_folder: Path) -> None:
    config = clip_folder / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "pad_token": None}))
    with pytest.raises(InputError, match="has no padding token, name one"):
        read_tokenizer(clip_folder)


def test_length_must_be_known() -> None:
    backend = word_tokenizer(VOCABULARY)._backend
    backend.no_padding()
    with pytest.raises(ValueError, match="pads to no fixed length"):
        Tokenizer(backend)


def test_default_ids_are_the_published_ones(golden_folder: Path) -> None:
    prompts = json.loads((golden_folder / "sar_prompts.json").read_text())
    expected = golden.arrays(golden_folder, "sar_tokenizer_default")["ids"]
    assert torch.equal(default_tokenizer()(prompts), expected)
    published = read_tokenizer(golden_folder / "sar_default_vocab.json")
    assert default_tokenizer().to_json() == published.to_json()


def test_prompt_of_the_guide_has_its_ids() -> None:
    ids = default_tokenizer(length=14)(["Colorise image, Region: tropical, Season: summer"])
    assert ids.tolist() == [[2, 4, 5, 105, 6, 109, 8, 105, 7, 109, 13, 3, 0, 0]]


def test_a_word_that_stands_twice_has_its_second_place() -> None:
    tokenizer = default_tokenizer(length=4)
    assert tokenizer(["her", "[TOKEN_999]"]).tolist() == [[2, 97, 3, 0], [2, 113, 1, 114]]
    assert tokenizer.size == 1000


def test_a_pipe_is_no_tokenizer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match="it is no regular file; name a file"):
        read_tokenizer(tmp_path / "tokenizer.json")
