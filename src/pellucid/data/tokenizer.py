"""Texts as the numbers that a text encoder takes, in the file format of Hugging Face's tokenizers.

A tokenizer of whole words is made from the prompts of a dataset; the tokenizer of a published model can be
used instead. Either is one file, `tokenizer.json`, kept with the weights, which are of no use without it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import tokenizers
import torch
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from pellucid.data.text_file import parse_json, read_text
from pellucid.errors import InputError

# Name of the file in a run folder and in a folder of transformers; its folder in a published model.
TOKENIZER, SUBFOLDER = "tokenizer.json", "tokenizer"
# A whole-word vocabulary begins with these, with the ids 0 to 3.
SPECIAL = PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[START]", "[END]"
# A word, or a sign that is neither part of a word nor a space.
WORDS = r"\w+|[^\w\s]"
# Ids per text, of CLIP. Radford et al. 2021, arXiv:2103.00020
LENGTH = 77

# The published vocabulary, in its order: the words of prompts, everyday words, and signs.
PROMPT_WORDS = """
colorise image region season tropical temperate arctic winter spring summer autumn fall north south east west
land water ocean sea coast mountain forest desert urban rural
"""
EVERYDAY_WORDS = """
a an the and or but in on at to for of with by from up about into through during before after above below
between among under over is are was were be been being have has had do does did will would could should may
might can this that these those i you he she it we they me him her us them my your his her its our their mine
yours ours theirs
"""
SIGNS = ", . ! ? : ; ( ) [ ] { } - _"
# Then follow the numbers below NUM_NUMBERS, and entries that no text uses, up to SIZE.
NUM_NUMBERS, SIZE = 100, 1000


class Tokenizer:
    """Texts to ids, all in rows of `length` ids, L, to which the backend pads.

    Raises:
        ValueError: if it pads to no length.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self.length: int = (backend.padding or {}).get("length") or 0
        if not self.length:
            raise ValueError("the tokenizer pads to no fixed length")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return (B, L) int64: start, words, end, padding.

        A text that is too long is cut; a tokenizer of whole words then cuts the end too, as published, and
        CLIP's keeps it.
        """
        # One by one: a batch would start threads of the library, after which data loaders cannot fork.
        rows = [self._backend.encode(text).ids[: self.length] for text in texts]
        return torch.tensor(rows, dtype=torch.int64).view(-1, self.length)

    @property
    def size(self) -> int:
        """Size of the vocabulary that a text encoder needs: all ids lie below."""
        return 1 + max(self._backend.get_vocab().values())

    @property
    def end_id(self) -> int:
        """The id that ends every text."""
        nothing = self._backend.encode("")
        return nothing.ids[sum(nothing.attention_mask) - 1]

    def unknown(self, text: str) -> tuple[str, ...]:
        """Return the parts of a text that have no id, as they are written."""
        if (nothing := getattr(self._backend.model, "unk_token", None)) is None:
            return ()
        row = self._backend.encode(text, add_special_tokens=False)
        at = self._backend.token_to_id(nothing)
        parts = zip(row.ids, row.offsets, row.attention_mask, strict=True)
        return tuple(text[slice(*span)] for number, span, is_text in parts if is_text and number == at)

    def to_json(self) -> str:
        """Return the content of `tokenizer.json`, which `read_tokenizer` reads."""
        return self._backend.to_str(pretty=True)


def learn_tokenizer(texts: Iterable[str], *, size: int = 1000, length: int = LENGTH) -> Tokenizer:
    """Return a tokenizer of the words of these texts, the most frequent first, then by alphabet.

    `size` is that of the text encoder's vocabulary, `length` the number of ids per text.
    """
    split = [_words(text) for text in texts]
    longest = max(split, key=len, default=[])
    if len(longest) > length - 2:  # for start and end
        raise InputError(
            f"the prompt {' '.join(longest)!r} has {len(longest)} words and signs, "
            f"at most {length - 2} fit into length = {length}; shorten it, or set a larger length"
        )
    counts = Counter(chain.from_iterable(split))
    if (needed := len(counts) + len(SPECIAL)) > size:
        raise InputError(
            f"the prompts have {len(counts)} different words and signs, a vocabulary of {size} has room for "
            f"{max(size - len(SPECIAL), 0)}; set vocab_size to at least {needed}"
        )
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return word_tokenizer({word: number for number, word in enumerate([*SPECIAL, *words])}, length=length)


def word_tokenizer(vocabulary: Mapping[str, int], *, length: int = LENGTH) -> Tokenizer:
    """Return the tokenizer of whole, lower-case words and signs with these ids, `SPECIAL` among them."""
    if missing := [token for token in SPECIAL if token not in vocabulary]:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
    backend = tokenizers.Tokenizer(models.WordLevel(dict(vocabulary), unk_token=UNKNOWN))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = _splitter()
    ends = [(token, vocabulary[token]) for token in (START, END)]
    backend.post_processor = processors.TemplateProcessing(f"{START} $A {END}", special_tokens=ends)
    backend.enable_padding(length=length, pad_id=vocabulary[PAD], pad_token=PAD)
    return Tokenizer(backend)


def read_tokenizer(path: Path, *, length: int = LENGTH) -> Tokenizer:
    """Return the tokenizer of a file or folder; nothing is downloaded.

    Args:
        path: a run folder or its `tokenizer.json`; a folder of transformers, or the model folder above it;
            or a published vocabulary, a JSON file of words and ids.
        length: ids per text if the file does not state it; the file of a run does.
    """
    if path.is_dir():
        return _read_folder(path, length)
    content = _read_json(path)
    try:
        if "model" not in content:
            return word_tokenizer(content, length=length)
        return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)))
    except Exception as error:  # tokenizers raises nothing narrower
        raise InputError(f"{path} holds no tokenizer ({error}), take that of the training run") from error


def check_size(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Refuse a tokenizer with ids outside the vocabulary of a text encoder."""
    if tokenizer.size > vocab_size:
        raise InputError(
            f"the tokenizer has {tokenizer.size} ids, the text encoder's vocabulary is {vocab_size}; "
            f"set vocab_size to at least {tokenizer.size}"
        )


def check_length(tokenizer: Tokenizer, length: int) -> None:
    """Refuse a tokenizer that gives more ids per text than a text encoder takes."""
    if tokenizer.length > length:
        raise InputError(
            f"the tokenizer gives {tokenizer.length} ids per text, the text encoder takes {length}; "
            f"set length to {tokenizer.length}, or take the tokenizer that it was trained with"
        )


def _words(text: str) -> list[str]:
    lower = normalizers.Lowercase().normalize_str(text)
    return [word for word, _ in _splitter().pre_tokenize_str(lower)]


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)


def _read_json(path: Path) -> dict[str, int]:
    """Return the content of a file; its values are ids if it is a vocabulary."""
    if not path.exists():
        raise InputError(f"the tokenizer {path} does not exist, take that of the training run")
    try:
        content = parse_json(read_text(path, "the tokenizer"))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"cannot read the tokenizer {path} ({error}), take it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no tokenizer, take that of the training run")
    return content


def _read_folder(folder: Path, length: int) -> Tokenizer:
    """Return the tokenizer of a run, or of transformers, which keep the padding token in another file."""
    if (folder / SUBFOLDER).is_dir():
        folder = folder / SUBFOLDER
    file = folder / TOKENIZER
    if file.is_file() and not (folder / "tokenizer_config.json").is_file():
        return read_tokenizer(file)
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        backend = found.backend_tokenizer
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise InputError(
            f"{folder} holds no tokenizer, neither {TOKENIZER} nor the files of a tokenizer of transformers"
        ) from error
    if found.pad_token_id is None:
        raise InputError(
            f"the tokenizer of {folder} has no padding token, name one in its tokenizer_config.json"
        )
    backend.enable_padding(length=length, pad_id=found.pad_token_id, pad_token=found.pad_token)
    backend.enable_truncation(length)
    return Tokenizer(backend)


def default_tokenizer(*, length: int = LENGTH) -> Tokenizer:
    """Return the tokenizer with the published ids, 0 to 999, of `length` ids per text."""
    words = [*SPECIAL, *PROMPT_WORDS.split(), *EVERYDAY_WORDS.split(), *SIGNS.split()]
    words += map(str, range(NUM_NUMBERS))
    words += [f"[TOKEN_{number}]" for number in range(len(words), SIZE)]
    return word_tokenizer({word: number for number, word in enumerate(words)}, length=length)
