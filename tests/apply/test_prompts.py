from pathlib import Path

import pytest

from pellucid.apply.color_jobs import DEFAULT, Prompts, Wish, find_template
from pellucid.config import load_config
from pellucid.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_a_prompt_is_that_of_training_without_what_is_not_known() -> None:
    prompts = Prompts()
    assert prompts.fill("tropical", "summer") == "Colorise image, Region: tropical, Season: summer"
    assert prompts.fill(season="fall") == "Colorise image, Season: fall"
    assert prompts.fill() == "Colorise image"


def test_words_are_known_in_any_case_and_from_the_training() -> None:
    texts = ("Colorise image, Region: Tundra, Season: monsoon", "Colorise image", "", "Region: tropical")
    prompts = Prompts(texts=texts)
    assert prompts.known["region"] == ("tropical", "temperate", "arctic", "Tundra")
    assert prompts.known["season"] == ("winter", "spring", "summer", "autumn", "fall", "monsoon")
    assert prompts.fill("tundra", " MONSOON") == texts[0]


def test_words_are_found_between_those_of_another_template() -> None:
    template = "a picture of {country} in {season}, {region}"
    prompts = Prompts(template, ["a picture of Chile in the dry season, desert", "desert"])
    assert prompts.known["season"][-1] == "the dry season"
    assert prompts.known["region"] == ("tropical", "temperate", "arctic")
    assert Prompts("{season} (in {region})", ["wet (in hills)"]).known["region"][-1] == "hills"
    assert prompts.fill("arctic", "winter") == "arctic"  # no country, no clause


@pytest.mark.parametrize(
    ("region", "season", "message"),
    [
        ("mars", "", r"--region is 'mars', known are tropical, temperate, arctic, tundra; choose one"),
        ("", "monsoon", r"--season is 'monsoon', known are winter, spring, summer, autumn, fall; choose one"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(region: str, season: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Prompts(texts=["Colorise image, Region: tundra"]).fill(region, season)


def test_a_template_without_a_place_for_a_word_is_named() -> None:
    with pytest.raises(InputError, match=r"--region is 'arctic', but .*'Season: {season}', tell none"):
        Prompts("Season: {season}").fill("arctic")


def test_every_region_comes_with_every_season_once() -> None:
    wishes = Prompts().combine(("arctic", "tropical", "arctic"), ("winter", "fall"))
    assert [wish.words for wish in wishes] == [
        ("arctic", "winter"),
        ("arctic", "fall"),
        ("tropical", "winter"),
        ("tropical", "fall"),
    ]
    assert wishes[0].prompt == "Colorise image, Region: arctic, Season: winter"
    assert Prompts().combine() == [Wish("Colorise image")]


def test_the_template_is_that_of_the_training_data() -> None:
    source = "{name: sar_optical, root: x, prompt: 'A {region}'}"
    config = load_config(CONFIGS / "colorize_tiny.yaml", (f"data.train=[{source}]",))
    assert find_template(config) == "A {region}"
    assert find_template(load_config(CONFIGS / "glf_cr.yaml")) == DEFAULT
