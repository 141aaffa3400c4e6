"""What a model is told of a place: its prompt, from a region and a season that are checked before."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from pellucid.config import Config
from pellucid.data.sar_optical import fill_prompt
from pellucid.data_config import SarOpticalSource
from pellucid.errors import InputError

# Of the published colorization.
KNOWN = {
    "region": ("tropical", "temperate", "arctic"),
    "season": ("winter", "spring", "summer", "autumn", "fall"),
}
DEFAULT: str = SarOpticalSource.model_fields["prompt"].default


@dataclass(frozen=True)
class Wish:
    """A prompt, and what pictures that follow it are called by.

    Attributes:
        prompt: the text.
        words: its region and season; those that are given.
    """

    prompt: str
    words: tuple[str, ...] = ()


def trained_pictures(config: Config) -> SarOpticalSource | None:
    """Return the first source of pictures that a run was trained on; None if there is none."""
    return next((source for source in config.data.train if isinstance(source, SarOpticalSource)), None)


def find_template(config: Config) -> str:
    """Return the template of the prompts of a run's training data, or the default one."""
    pictures = trained_pictures(config)
    return pictures.prompt if pictures else DEFAULT


class Prompts:
    """Prompts as in training.

    Args:
        template: with {region} and {season}; see `fill_prompt`.
        texts: of training, whose regions and seasons are known besides the published ones.

    Attributes:
        known: regions and seasons, by what they are.
    """

    def __init__(self, template: str = DEFAULT, texts: Iterable[str] = ()) -> None:
        self.template = template
        texts = tuple(texts)
        self.known = {
            column: tuple(dict.fromkeys((*words, *_find_words(template, column, texts))))
            for column, words in KNOWN.items()
        }

    def fill(self, region: str = "", season: str = "") -> str:
        """Return the prompt of a region and a season, without what says nothing where they are "".

        Raises:
            InputError: if one is not known, or the template has no place for it.
        """
        words = {"region": region, "season": season}
        return fill_prompt(
            self.template, {column: self._check(column, word) for column, word in words.items()}
        )

    def combine(self, regions: Sequence[str] = (), seasons: Sequence[str] = ()) -> list[Wish]:
        """Return each region with each season; without any, the prompt that names none.

        Raises:
            InputError: see `fill`.
        """
        pairs = product(dict.fromkeys(regions or [""]), dict.fromkeys(seasons or [""]))
        return [Wish(self.fill(*pair), tuple(word for word in pair if word)) for pair in pairs]

    def _check(self, column: str, word: str) -> str:
        """Return the word as it is known."""
        if not word:
            return ""
        if f"{{{column}}}" not in self.template:
            raise InputError(
                f"--{column} is {word!r}, but the prompts of this model, {self.template!r}, tell none; "
                "leave it out, or write a whole --prompt"
            )
        for known in self.known[column]:
            if known.lower() == word.strip().lower():
                return known
        raise InputError(
            f"--{column} is {word!r}, known are {', '.join(self.known[column])}; choose one of them, or "
            "write a whole --prompt"
        )


def _find_words(template: str, column: str, texts: Iterable[str]) -> list[str]:
    """Return what stands in the texts where the template has the column beside other words, sorted."""
    place = f"{{{column}}}"
    clause = next((part.strip() for part in template.split(",") if place in part), None)
    if clause is None or clause == place:  # which would be any clause
        return []
    # Other columns in the clause may be anything.
    parts = [re.escape(re.sub(r"\{[^}]*\}", "\0", part)).replace("\0", ".*") for part in clause.split(place)]
    pattern = re.compile("(.+)".join(parts))
    found = (pattern.fullmatch(part.strip()) for text in texts for part in text.split(","))
    return sorted({match[1] for match in found if match})
