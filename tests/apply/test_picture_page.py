from pathlib import Path

import pytest
from PIL import Image
from tests.browser import opened
from tests.painters import PROMPTS, Painter, read, save_radar

from pellucid.apply.colorize import colorize_file
from pellucid.apply.options import PictureOptions
from pellucid.errors import InputError

OPTIONS = PictureOptions(tile=32, overlap=8, device="cpu")


def test_the_page_of_a_radar_picture_shows_radar_and_colours(tmp_path: Path) -> None:
    source, out = save_radar(tmp_path / "sar.png", 40, 50), tmp_path / "out.png"
    report = colorize_file(source, out, method=Painter(), prompt=PROMPTS[0], options=OPTIONS)
    assert report.page == tmp_path / "out.html"
    with opened(report.page) as page:
        assert PROMPTS[0] in page.locator("#provenance").inner_text()
        page.locator("#map").focus()
        page.keyboard.press("Enter")
        cells = page.locator("#values td").all_inner_texts()
        grey, color = read(source)[20, 25], read(out)[20, 25]
        assert cells == [str(int(grey)), "", "", str(color[0]), "", str(color[1]), "", str(color[2])]
        page.locator("#left").select_option(label="After")
        page.locator("#right").select_option(label="Radar")


def test_grey_radar_that_is_kept_in_colour_has_one_band(tmp_path: Path) -> None:
    grey = Image.open(save_radar(tmp_path / "grey.png", 40, 50))
    grey.convert("RGB").save(tmp_path / "sar.png")
    out = tmp_path / "out.png"
    report = colorize_file(tmp_path / "sar.png", out, method=Painter(), prompt=PROMPTS[0], options=OPTIONS)
    assert report.page
    with opened(report.page) as page:
        page.locator("#map").focus()
        page.keyboard.press("Enter")
        assert page.locator("#values td").count() == 8  # of one and three bands, two columns
        assert page.locator("#values th[scope=row]").all_inner_texts() == ["Radar", "Red", "Green", "Blue"]


def test_a_page_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    source = save_radar(tmp_path / "sar.png", 40, 50)
    (tmp_path / "out.html").write_text("notes of mine")
    with pytest.raises(InputError, match="that pellucid did not write"):
        colorize_file(source, tmp_path / "out.png", method=Painter(), prompt=PROMPTS[0], options=OPTIONS)
    assert not (tmp_path / "out.png").exists()
