from pathlib import Path

import pytest
from tests.painters import save_radar
from tests.pairs import write_pairs

from pellucid.apply.color_jobs import DEFAULT, NamedPrompt, Prompts, find_template, is_dataset, plan
from pellucid.config import load_config
from pellucid.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"

TEMPLATE = "Colorise image, Region: {region}, Season: {season}"
ONE = [NamedPrompt("a text")]
GRID = Prompts().combine(("tropical", "arctic"), ("summer", "fall"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def test_one_picture_goes_where_it_is_told(tmp_path: Path) -> None:
    (job,) = plan(save_radar(tmp_path / "a.png"), tmp_path / "out.tif", prompts=ONE, guess=tmp_path / "g.png")
    assert (job.out, job.prompt, job.guess) == (tmp_path / "out.tif", "a text", tmp_path / "g.png")


def test_a_folder_gets_a_picture_of_every_prompt(tmp_path: Path) -> None:
    for name in ("in/b.png", "in/a.tif", "in/c.jpg"):
        save_radar(tmp_path / name)
    jobs = plan(tmp_path / "in", tmp_path / "out", prompts=GRID)
    assert len(jobs) == 3 * 4
    assert [job.out.name for job in jobs[:5]] == [
        "a_tropical_summer.tif",
        "a_tropical_fall.tif",
        "a_arctic_summer.tif",
        "a_arctic_fall.tif",
        "b_tropical_summer.png",
    ]
    assert jobs[0].prompt == "Colorise image, Region: tropical, Season: summer"
    assert (jobs[0].label, jobs[0].name) == ("tropical, summer", "a.tif")
    assert [job.out.name for job in plan(tmp_path / "in", tmp_path / "out", prompts=ONE)] == [
        "a.tif",
        "b.png",
        "c.png",
    ]
    assert not (tmp_path / "out").exists()


def test_one_picture_with_several_prompts_goes_to_a_folder(tmp_path: Path) -> None:
    jobs = plan(save_radar(tmp_path / "in" / "a.png"), tmp_path / "out", prompts=GRID)
    assert {job.out.parent for job in jobs} == {tmp_path / "out"}


def test_pairs_of_a_dataset_come_with_their_own_prompts_spread_evenly(pairs: Path, tmp_path: Path) -> None:
    assert is_dataset(pairs)
    assert not is_dataset(tmp_path)
    jobs = plan(pairs, tmp_path / "out", prompts=[NamedPrompt("")], own_prompts=TEMPLATE, num_samples=3)
    assert [job.out.name for job in jobs] == ["r_000_img_p0.png", "r_001_img_p4.png", "r_002_img_p8.png"]
    assert [job.prompt.split()[3] for job in jobs] == ["tropical,", "temperate,", "arctic,"]
    assert all(job.truth and job.truth.is_file() for job in jobs)
    assert len(plan(pairs, tmp_path / "out", prompts=[NamedPrompt("")], own_prompts=TEMPLATE)) == 10
    chosen = plan(pairs, tmp_path / "out", prompts=ONE, num_samples=99, folders=("r_001",))
    assert {(job.source.parts[-3], job.prompt) for job in chosen} == {("r_001", "a text")}
    assert len(chosen) == 9


def test_what_contradicts_itself_is_refused(pairs: Path, tmp_path: Path) -> None:
    picture, out = save_radar(tmp_path / "in" / "a.png"), tmp_path / "out"
    for source, options, message in (
        (tmp_path / "none", {}, "does not exist; name a radar picture"),
        (picture, {"num_samples": 3}, "--num-samples is for datasets"),
        (picture.parent, {"folders": ("r_000",)}, "--folders is for datasets"),
        (picture, {"prompts": GRID, "guess": picture}, "--guess is for one picture and one prompt"),
        (picture.parent, {"guess": picture}, "--guess is for one picture"),
        (pairs, {"prompts": GRID}, "is a dataset, whose pairs are each made once"),
    ):
        with pytest.raises(InputError, match=message):
            plan(source, out, **{"prompts": ONE, **options})  # type: ignore[arg-type]


def test_results_that_cannot_be_written_are_refused(pairs: Path, tmp_path: Path) -> None:
    picture = save_radar(tmp_path / "in" / "a.png")
    save_radar(tmp_path / "twins" / "A.png")
    save_radar(tmp_path / "twins" / "a.jpg")
    save_radar(tmp_path / "sheets" / "sheet.jpg")
    for source, out, message in (
        (picture, picture, "it is an input; name another file"),
        (picture, tmp_path / "out.gif", "has the suffix '.gif', pictures are written as"),
        (picture, picture / "out.png", "a.png is a file; choose another folder"),
        (picture.parent, picture.parent, "it is the input; name another folder"),
        (picture.parent, picture, "it is a file, and several pictures are to be made; name a folder"),
        (pairs, pairs, "it is the input; name another folder"),
        (picture.parent, picture / "out", "a.png is a file; choose another folder"),
        (tmp_path / "twins", tmp_path / "out", "would both become"),
        (tmp_path / "sheets", tmp_path / "out", "would both become"),
    ):
        with pytest.raises(InputError, match=message):
            plan(source, out, prompts=ONE)


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
    with pytest.raises(InputError, match=r"--region is 'arctic', but .*'Season: {season}', name none"):
        Prompts("Season: {season}").fill("arctic")


def test_every_region_comes_with_every_season_once() -> None:
    prompts = Prompts().combine(("arctic", "tropical", "arctic"), ("winter", "fall"))
    assert [prompt.words for prompt in prompts] == [
        ("arctic", "winter"),
        ("arctic", "fall"),
        ("tropical", "winter"),
        ("tropical", "fall"),
    ]
    assert prompts[0].text == "Colorise image, Region: arctic, Season: winter"
    assert Prompts().combine() == [NamedPrompt("Colorise image")]


def test_the_template_is_that_of_the_training_data() -> None:
    source = "{name: sar_optical, root: x, prompt: 'A {region}'}"
    config = load_config(CONFIGS / "colorize_tiny.yaml", (f"data.train=[{source}]",))
    assert find_template(config) == "A {region}"
    assert find_template(load_config(CONFIGS / "glf_cr.yaml")) == DEFAULT
