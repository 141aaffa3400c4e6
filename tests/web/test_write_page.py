import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page
from scenes import BANDS, ground, write
from tests.browser import browser, opened

from pellucid.data.ownership import is_ours
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.raster import OpticalRaster
from pellucid.web import write_page as module
from pellucid.web.layers import Band, Layer, optical_bands, raster_layer
from pellucid.web.write_page import ASSETS, linked_below, page_of, write_page

SIZE = (60, 80)
NASTY = "<script>alert(1)</script> & 'x'.tif"


def layers_of(folder: Path, size: tuple[int, int] = SIZE) -> list[Layer]:
    """Before and after, which differ in the left half, and radar."""
    before = ground(*size)
    after = before.copy()
    after[:, :, : size[1] // 2] += 100
    scenes = {
        kind: OpticalRaster(write(folder / f"{kind}.tif", values, BANDS), BANDS)
        for kind, values in (("before", before), ("after", after))
    }
    decibel = np.random.default_rng(1).uniform(-25, -5, (2, *size)).astype(np.float32)
    radar = RadarRaster(write(folder / "s1.tif", decibel, ("VV", "VH")))
    optical = {
        kind: raster_layer(kind.title(), kind, scene, optical_bands(scene), "reflectance")  # type: ignore[arg-type]
        for kind, scene in scenes.items()
    }
    return [
        optical["before"],
        raster_layer("Radar", "radar", radar, (Band("VV", 1), Band("VH", 2)), "dB"),
        optical["after"],
    ]


def written(folder: Path) -> Path:
    write_page(folder / "clear.html", layers_of(folder), {"Restored": "half"}, title="clear.tif")
    return folder / "clear.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(written(tmp_path_factory.mktemp("page"))) as found:
        yield found


def click(page: Page, column: float, row: float) -> None:
    """Click a pixel of the scene, as the map shows it."""
    x, y = page.evaluate(
        "([column, row]) => map.getPixelFromCoordinate([500000 + 10 * column, 5000000 - 10 * row])",
        [column, row],
    )
    box = page.locator("#map").bounding_box()
    assert box
    page.mouse.click(box["x"] + x, box["y"] + y)


def table(page: Page) -> dict[str, list[str]]:
    """Return the values of the table, band by band."""
    rows = page.locator("#values tbody tr").all()
    return {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows}


def test_the_spectrum_at_a_click_is_that_of_the_files(page: Page) -> None:
    values = ground(*SIZE)
    for column, row in ((10, 20), (70, 5)):
        click(page, column + 0.5, row + 0.5)
        page.wait_for_function(
            "t => document.getElementById('where').textContent.startsWith(t)",
            arg=f"Column {column}, row {row},",
        )
        found = table(page)
        added = 100 if column < 40 else 0
        for i, band in enumerate(BANDS):
            before = values[i, row, column]
            assert found[band] == [str(before), "", str(before + added)], band
        assert float(found["VV"][1]) == pytest.approx(
            np.random.default_rng(1).uniform(-25, -5, (2, *SIZE))[0, row, column], rel=1e-3
        )
    assert page.locator("#chart svg polyline").count() == 2


def test_the_divider_moves_by_mouse_and_keys(page: Page) -> None:
    handle = page.locator("#swipe")
    handle.focus()
    page.keyboard.press("Home")
    assert handle.get_attribute("aria-valuenow") == "0"
    page.keyboard.press("ArrowRight")
    assert handle.get_attribute("aria-valuenow") == "2"
    page.keyboard.press("]")
    assert handle.get_attribute("aria-valuenow") == "4"
    box, view = handle.bounding_box(), page.locator("#map").bounding_box()
    assert box
    assert view
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(view["x"] + view["width"] * 0.75, box["y"] + 210)
    page.mouse.up()
    assert handle.get_attribute("aria-valuenow") == "75"


def test_what_its_readers_cannot_reach_is_not_linked(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    layers = layers_of(tmp_path)
    linked = [replace(layers[0], path=tmp_path / "job" / "in.tif"), *layers[1:]]
    token = linked_below.set(tmp_path / "job")
    try:
        write_page(tmp_path / "job" / "clear.html", linked, {}, title="clear.tif")
    finally:
        linked_below.reset(token)
    text = (tmp_path / "job" / "clear.html").read_text()
    assert re.findall(r'"link":"(.*?)"', text) == ["in.tif", "", ""]


def colour_at(page: Page, column: float, row: float) -> list[int]:
    """Return the colour on the screen at a pixel of the scene."""
    return page.evaluate(
        """([column, row]) => {
            map.renderSync();
            const [x, y] = map.getPixelFromCoordinate([500000 + 10 * column, 5000000 - 10 * row]);
            const canvas = document.querySelector('#map canvas');
            const scale = canvas.width / map.getSize()[0];
            return [...canvas.getContext('2d').getImageData(x * scale, y * scale, 1, 1).data];
        }""",
        [column, row],
    )


def test_layers_are_left_and_right_of_the_divider(page: Page) -> None:
    page.locator("#left").select_option(label="Before")
    page.locator("#right").select_option(label="After")
    page.locator("#swipe").focus()
    page.keyboard.press("End")
    page.wait_for_timeout(300)
    before = colour_at(page, 10.5, 20.5)
    page.keyboard.press("Home")
    page.wait_for_timeout(300)
    after = colour_at(page, 10.5, 20.5)
    assert before != after
    page.keyboard.press("x")
    page.wait_for_timeout(300)
    assert colour_at(page, 10.5, 20.5) == before


def test_keys_choose_layers_bands_and_the_outline(page: Page) -> None:
    page.locator("#map").focus()
    page.keyboard.press("2")
    assert page.locator("#right option:checked").inner_text() == "Radar"
    page.keyboard.press("Shift+3")
    assert page.locator("#left option:checked").inner_text() == "After"
    assert page.locator("#painted").is_checked()
    assert page.locator("#painted-share").inner_text() == "50 % of the scene"
    page.keyboard.press("p")
    assert not page.locator("#painted").is_checked()
    page.keyboard.press("c")
    assert page.locator("#preset option:checked").inner_text() == "Colour infrared (B08, B04, B03)"
    assert page.locator("#red").input_value() == "B08"
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    assert page.locator("#where").inner_text().startswith("Column 40, row 30,")


def test_the_outline_is_closed_at_the_border_of_the_scene(page: Page) -> None:
    plane = {"values": [255, 255, 0, 255, 255, 0], "width": 3, "height": 2, "step": 4}
    found = page.evaluate("plane => outline([{ kind: 'painted', planes: [plane] }])", plane)
    assert sorted(found["edges"]) == [
        *([0, 0, 0, 4], [0, 0, 4, 0], [0, 4, 0, 8], [0, 8, 4, 8]),
        *([4, 0, 8, 0], [4, 8, 8, 8], [8, 0, 8, 4], [8, 4, 8, 8]),
    ]
    assert found["share"] == pytest.approx(4 / 6)
    assert page.evaluate("[0, 0.001, 0.999, 1].map(shareInWords)") == [
        *("nothing", "less than 1 % of the scene", "more than 99 % of the scene", "all of the scene"),
    ]


def test_single_pixels_are_not_outlined(page: Page) -> None:
    plane = {"values": [0] * 12 + [255] + [0] * 12, "width": 5, "height": 5, "step": 1}
    assert page.evaluate("plane => outline([{ kind: 'painted', planes: [plane] }])", plane) == {
        "edges": [],
        "share": 0,
    }


def test_bands_and_stretch_change_the_picture_without_reloading(page: Page) -> None:
    page.locator("#right").select_option(label="After")
    page.locator("#swipe").focus()
    page.keyboard.press("Home")
    seen = set()
    for preset in ("0", "1", "2"):
        page.locator("#preset").select_option(preset)
        page.wait_for_timeout(300)
        seen.add(tuple(colour_at(page, 20.5, 20.5)))
    page.locator("#stretch").select_option("fixed")
    page.wait_for_timeout(300)
    seen.add(tuple(colour_at(page, 20.5, 20.5)))
    page.locator("#low").fill("0.02")
    page.locator("#low").press("Tab")
    assert page.locator("#stretch").input_value() == "own"
    assert len(seen) == 4


def test_dark_and_light_are_exchanged(page: Page) -> None:
    def background() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    page.locator("#theme").click()
    assert background() != light
    page.locator("#theme").click()
    assert background() == light


def test_controls_have_names_and_the_phone_shows_no_bar_sideways(page: Page) -> None:
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, a[href], [tabindex="0"]')]
            .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.title))
            .map(e => e.outerHTML.slice(0, 90))"""
    )
    assert not unnamed
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.set_viewport_size({"width": 1200, "height": 800})


def test_it_is_written_the_same_again_and_bears_our_mark(tmp_path: Path) -> None:
    first = written(tmp_path).read_bytes()
    assert written(tmp_path).read_bytes() == first
    assert is_ours(tmp_path / "clear.html")
    (tmp_path / "other.html").write_text("<html>")
    assert not is_ours(tmp_path / "other.html")


def test_names_and_tags_are_no_markup(tmp_path: Path) -> None:
    layers = layers_of(tmp_path)
    write_page(tmp_path / "a.html", layers, {"Prompt": NASTY, "</script>": NASTY}, title=NASTY)
    with opened(tmp_path / "a.html") as page:
        assert page.locator("#title").inner_text() == NASTY
        assert page.title() == NASTY
        assert NASTY in page.locator("#provenance").inner_text()


def test_a_large_scene_is_decimated_until_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 1_900_000
    monkeypatch.setattr(module, "MAX_BYTES", limit)
    write_page(tmp_path / "a.html", layers_of(tmp_path, (240, 320)), {}, title="a")
    assert 1_700_000 < (tmp_path / "a.html").stat().st_size <= limit
    values = ground(240, 320)
    with opened(tmp_path / "a.html") as page:
        assert "every" in page.locator("#decimated").inner_text()
        click(page, 100.5, 150.5)
        page.wait_for_selector("#values td")
        place = re.match(r"Column (\d+), row (\d+),", page.locator("#where").inner_text())
        assert place
        column, row = map(int, place.groups())
        assert abs(column - 100) < 8
        assert abs(row - 150) < 8
        found = table(page)
        assert [found[band][0] for band in BANDS] == [str(each) for each in values[:, row, column]]


def test_a_server_is_not_asked_for_files_that_lie_outside_its_folder(tmp_path: Path) -> None:
    below = tmp_path / "jobs" / "result" / "clear.html"
    below.parent.mkdir(parents=True)
    write_page(below, layers_of(tmp_path), {}, title="clear.tif")
    with opened(below) as page:
        assert page.locator("#files li").count() == page.locator("#files a").count() > 0
    with browser().new_context() as context:
        page, address = context.new_page(), "http://colleague.test/jobs/1/result/clear.html"
        page.route(address, lambda route: route.fulfill(body=below.read_text(), content_type="text/html"))
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        assert page.locator("#files li").count() > page.locator("#files a").count() == 0


def test_libraries_are_as_published() -> None:
    for name, digest in re.findall(
        r"\| `([\w.]+)` \|.*`(\w{64})` \|", (ASSETS / "vendor" / "README.md").read_text()
    ):
        assert hashlib.sha256((ASSETS / "vendor" / name).read_bytes()).hexdigest() == digest


def test_the_page_lies_beside_the_result() -> None:
    assert page_of(Path("a/clear.tif")) == Path("a/clear.html")
