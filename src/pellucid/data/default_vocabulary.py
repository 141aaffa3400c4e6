"""The vocabulary of the published SAR colorization, which every published text encoder was trained with.

Its ids are the places in a list of 1000 entries; "her" stands there twice, and the second counts.
"""

from pellucid.data.tokenizer import LENGTH, SPECIAL, Tokenizer, word_tokenizer

# As published, in their order: what prompts say, words of every day, and signs.
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
# Then come the numbers below this, and entries that no text has, up to this many.
NUM_NUMBERS, SIZE = 100, 1000


def default_tokenizer(*, length: int = LENGTH) -> Tokenizer:
    """Return the tokenizer with the published ids, 0 to 999, of `length` ids per text."""
    words = [*SPECIAL, *PROMPT_WORDS.split(), *EVERYDAY_WORDS.split(), *SIGNS.split()]
    words += map(str, range(NUM_NUMBERS))
    words += [f"[TOKEN_{number}]" for number in range(len(words), SIZE)]
    return word_tokenizer({word: number for number, word in enumerate(words)}, length=length)
