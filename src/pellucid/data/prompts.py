"""Prompts from templates: a text whose {columns} are filled with what is known of an image."""

import re
from collections.abc import Iterable, Mapping
from string import Formatter

import torch
from torch import Tensor

from pellucid.errors import InputError

# What is known of a scene by its name alone, and of its clouds.
SCENE_COLUMNS = ("season", "place", "cover")
# Words for the share of the pixels that are cloudy, and the least share that each stands for.
COVERS = (("clear", 0.0), ("partly cloudy", 0.05), ("mostly cloudy", 0.5), ("overcast", 0.95))
# Cloud probability above which a pixel counts as cloudy.
CLOUDY = 0.5

_SEASON = re.compile(r"(?<![a-z])(spring|summer|fall|autumn|winter)(?![a-z])", re.IGNORECASE)
# A grid zone of Sentinel-2, whose letter gives the latitude: C to M lie in the south. A day of this century.
_TILE = re.compile(r"(?<![A-Z0-9])T\d\d([C-HJ-NP-X])[A-Z]{2}(?![A-Z0-9])")
_DAY = re.compile(r"(?<!\d)20\d\d(0[1-9]|1[0-2])[0-3]\d(?!\d)")
_ROI = re.compile(r"ROIs\d+_[a-z]+_\d+")
_SEASONS = ("winter", "spring", "summer", "fall")


def columns_of(template: str) -> list[str]:
    """Return the names of the template's {columns}, in their order."""
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def check_template(template: str, columns: Iterable[str], kind: str) -> None:
    """Refuse a template that is no format string, or names something else than a column of a `kind`."""
    try:
        names = set(columns_of(template))
    except ValueError as error:
        raise InputError(f"prompt: {template!r} is no template: {error}") from error
    if unknown := sorted(names - set(columns)):
        raise InputError(
            f"prompt: no {kind} has a column {unknown[0]!r}; choose among {', '.join(sorted(columns))}"
        )


def fill_prompt(template: str, words: Mapping[str, str]) -> str:
    """Return the template with its {columns} filled in, without the clauses of which a column is not known.

    Clauses are separated by commas; where none is left, the prompt is "".
    """
    clauses = [clause.strip() for clause in template.split(",")]
    known = [clause for clause in clauses if all(words.get(name) for name in columns_of(clause))]
    return ", ".join(clause.format_map(words) for clause in known)


def describe_scene(template: str, name: str, cloud: Tensor | None = None) -> str:
    """Return the prompt of a scene: {season} and {place} by its name, {cover} by its cloud probability.

    A season is one that the name says, as in SEN12MS-CR, or that of its day, where a tile of Sentinel-2 says
    on which side of the equator. The place is this tile, or the region of SEN12MS-CR. What is not known is
    left out.
    """
    cover = "" if cloud is None else _cover(float((cloud > CLOUDY).float().mean()))
    return fill_prompt(template, {**_words(name), "cover": cover})


def describe_all(template: str, names: Iterable[str]) -> list[str]:
    """Return the different prompts that scenes may have: under each cover, if the template names it."""
    covers = [word for word, _ in COVERS] if "cover" in columns_of(template) else [""]
    known = [{**_words(name), "cover": cover} for name in names for cover in covers]
    return sorted({fill_prompt(template, words) for words in known})


def _words(name: str) -> dict[str, str]:
    place = _TILE.search(name) or _ROI.search(name)
    return {"season": _find_season(name), "place": place[0] if place else ""}


def describe_scenes(template: str, names: Iterable[str], cloud: Tensor | None = None) -> tuple[str, ...]:
    """Return the prompts of several scenes, with cloud probabilities (B, 1, H, W) or none."""
    clouds = [None] * len(tuple(names)) if cloud is None else torch.unbind(cloud)
    return tuple(describe_scene(template, *each) for each in zip(names, clouds, strict=True))


def _find_season(name: str) -> str:
    if said := _SEASON.search(name):
        return said[1].lower().replace("autumn", "fall")
    tile, day = _TILE.search(name), _DAY.search(name)
    if tile is None or day is None:
        return ""
    quarter = int(day[1]) % 12 // 3 + (2 if tile[1] < "N" else 0)
    return _SEASONS[quarter % 4]


def _cover(share: float) -> str:
    return [word for word, least in COVERS if share >= least][-1]
