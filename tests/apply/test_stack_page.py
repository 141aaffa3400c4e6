from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from stacks import SMALL, Fake, pattern, save
from tests.browser import opened

from pellucid.apply import stack_page
from pellucid.apply.upscale import upscale

OPTIONS = replace(SMALL, html=True, samples=2)


def stack_of(path: Path, count: int = 3) -> np.ndarray:
    values = np.stack([pattern(12, 16, "uint16") + 100 * i for i in range(count)]).astype(np.uint16)
    tifffile.imwrite(path, values, photometric="minisblack")
    return values


def test_the_page_of_a_stack_scrolls_and_shows_profiles_with_the_values_of_the_files(tmp_path: Path) -> None:
    values = stack_of(tmp_path / "in.tif")
    report = upscale(tmp_path / "in.tif", tmp_path / "big.tif", method=Fake(spread=0.02), options=OPTIONS)
    assert report.page == tmp_path / "big.html"
    result = tifffile.imread(tmp_path / "big.tif")
    with opened(report.page) as page:
        assert page.locator("#slice").get_attribute("aria-valuetext") == "big.tif, slice 1, counted from 0"
        page.locator("#map").focus()
        page.keyboard.press(".")
        assert page.locator("#slice").input_value() == "2"
        page.keyboard.press("r")
        rows = {
            row.locator("th").inner_text(): row.locator("td").all_inner_texts()
            for row in page.locator("#values tr").all()[1:]
        }
        row = result.shape[1] // 2
        assert page.locator("#where").inner_text().startswith(f"From column 0, row {row} ")
        for name, found in (("Input", values[2, row // 4]), ("Result", result[2, row])):
            assert rows[name][0] == str(found.min())
            assert rows[name][2] == str(found.max())
            assert float(rows[name][1]) == pytest.approx(found.mean(), rel=1e-3)
        assert page.locator("#chart polygon.spread").count() == 1
        page.locator("#right").select_option(label="Deviation")
        assert page.locator("#legend").is_visible()


def test_of_a_stack_that_is_too_large_some_slices_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_page, "room_for_data", lambda: 12_000)
    stack_of(tmp_path / "in.tif", 9)
    report = upscale(
        tmp_path / "in.tif", tmp_path / "big.tif", method=Fake(), options=replace(OPTIONS, samples=1)
    )
    assert report.page
    with opened(report.page) as page:
        said = page.locator("#decimated").inner_text()
    assert "of the 9 slices" in said


def test_the_page_of_a_folder_lies_beside_it(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / "in" / f"{i}.png", pattern(8, 8))
    report = upscale(tmp_path / "in", tmp_path / "out", method=Fake(), options=replace(OPTIONS, samples=1))
    assert report.page == tmp_path / "out.html"
    with opened(report.page) as page:
        assert page.locator("#slice").get_attribute("aria-valuetext") in ("0.png", "1.png")
        assert page.locator("#slice-name").inner_text() == "2 of 2: 1.png"
        assert page.locator("#provenance").inner_text().endswith("slices 0.png to 1.png, 2 files")
        links = [link.get_attribute("href") for link in page.locator("#files a").all()]
        assert links == ["in/", "out/"]
        ends = page.locator("#chart .tick.end").last.bounding_box()
        chart = page.locator("#chart svg").bounding_box()
        assert ends
        assert chart
        assert ends["x"] + ends["width"] <= chart["x"] + chart["width"] + 1


def test_the_page_of_a_volume_shows_planes_of_all_directions_with_the_values_of_the_files(
    tmp_path: Path,
) -> None:
    values = stack_of(tmp_path / "in.tif", 4)
    options = replace(OPTIONS, samples=1, volume=True)
    report = upscale(tmp_path / "in.tif", tmp_path / "big.tif", method=Fake(), options=options)
    result = tifffile.imread(tmp_path / "big.tif")
    assert report.page
    with opened(report.page) as page:
        assert (
            page.locator("#subtitle").inner_text().startswith("16 slices of 64 × 48 pixels, enlarged 4 times")
        )
        page.locator("#map").focus()
        page.keyboard.press("v")
        assert page.locator("#plane option:checked").inner_text() == "across slices, at a row"
        for _ in range(3):
            page.keyboard.press(",")
        row = int(page.locator("#slice").input_value())
        assert page.locator("#slice-name").inner_text() == f"{row + 1} of 48: row {row}, counted from 0"
        page.keyboard.press("c")
        found = {
            each.locator("th").inner_text(): each.locator("td").all_inner_texts()
            for each in page.locator("#values tr").all()[1:]
        }
        assert page.locator("#where").inner_text() == "From column 32, slice 0 to column 32, slice 15"
        for name, line in (("Input", values[:, row // 4, 8]), ("Result", result[:, row, 32])):
            assert found[name][0] == str(line.min())
            assert found[name][2] == str(line.max())
        page.keyboard.press("v")
        assert page.locator("#slice").get_attribute("aria-valuetext") == "column 32, counted from 0"
        page.keyboard.press("v")
        assert page.locator("#slice").get_attribute("aria-valuetext") == "slice 8, counted from 0"


def test_of_a_large_volume_rows_and_columns_are_left_out_before_most_planes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_page, "room_for_data", lambda: 30_000)
    stack_of(tmp_path / "in.tif", 6)
    options = replace(OPTIONS, samples=1, volume=True)
    report = upscale(tmp_path / "in.tif", tmp_path / "big.tif", method=Fake(), options=options)
    assert report.page
    with opened(report.page) as page:
        said = page.locator("#decimated").inner_text()
    assert "of the 24 slices" in said
    assert "of the 48 rows" in said
    assert "every 2nd row and column" in said
