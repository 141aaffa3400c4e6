import pytest
import torch

from pellucid.data.prompts import check_template, describe_scene, describe_scenes, fill_prompt
from pellucid.errors import InputError

PROMPT = "Colorise image, Region: {region}, Season: {season}"
TEMPLATE = "{season}, {place}, {cover}"


@pytest.mark.parametrize(
    ("region", "season", "text"),
    [
        ("arctic", "fall", "Colorise image, Region: arctic, Season: fall"),
        ("", "fall", "Colorise image, Season: fall"),
        ("arctic", "", "Colorise image, Region: arctic"),
        ("", "", "Colorise image"),
    ],
)
def test_a_clause_about_something_unknown_is_left_out(region: str, season: str, text: str) -> None:
    assert fill_prompt(PROMPT, {"region": region, "season": season}) == text


def test_a_prompt_may_only_name_columns() -> None:
    with pytest.raises(InputError, match="no list has a column 'weather'; choose among region, season"):
        check_template("seen in {weather}", {"season", "region"}, "list")
    with pytest.raises(InputError, match="is no template"):
        check_template("seen in {region", {"region"}, "list")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ROIs1158_spring_15_p30", "spring, ROIs1158_spring_15"),
        ("S2A_MSIL1C_20200715T102031_N0209_R065_T32UNA_20200715T123456_0_512", "summer, T32UNA"),
        ("S2B_MSIL2A_20190715T133229_N0213_R081_T22KGV_20190715T153031", "winter, T22KGV"),  # in Brazil
        ("scene_20200715", ""),  # on which side of the equator?
        ("my_Autumn_scene", "fall"),
        ("offspring", ""),
    ],
)
def test_season_and_place_are_those_that_a_name_says_for_sure(name: str, text: str) -> None:
    assert describe_scene(TEMPLATE, name) == text


def test_cover_is_the_share_of_cloudy_pixels() -> None:
    shares = (0.0, 0.04, 0.05, 0.5, 0.96)
    clouds = torch.stack([(torch.arange(100) < 100 * share).float().view(1, 10, 10) for share in shares])
    found = describe_scenes(TEMPLATE, ["a"] * 5, clouds)
    assert found == ("clear", "clear", "partly cloudy", "mostly cloudy", "overcast")
    assert describe_scenes(TEMPLATE, ["a", "spring"]) == ("", "spring")
