import json
from pathlib import Path

import golden
import torch

from pellucid.data.tokenizer import default_tokenizer, read_tokenizer


def test_ids_are_the_published_ones(golden_folder: Path) -> None:
    prompts = json.loads((golden_folder / "sar_prompts.json").read_text())
    expected = golden.arrays(golden_folder, "sar_tokenizer_default")["ids"]
    assert torch.equal(default_tokenizer()(prompts), expected)
    published = read_tokenizer(golden_folder / "sar_default_vocab.json")
    assert default_tokenizer().fingerprint == published.fingerprint


def test_prompt_of_the_guide_has_its_ids() -> None:
    ids = default_tokenizer(length=14)(["Colorise image, Region: tropical, Season: summer"])
    assert ids.tolist() == [[2, 4, 5, 105, 6, 109, 8, 105, 7, 109, 13, 3, 0, 0]]


def test_a_word_that_stands_twice_has_its_second_place() -> None:
    tokenizer = default_tokenizer(length=4)
    assert tokenizer(["her", "[TOKEN_999]"]).tolist() == [[2, 97, 3, 0], [2, 113, 1, 114]]
    assert tokenizer.size == 1000
