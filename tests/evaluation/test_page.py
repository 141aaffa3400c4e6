import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.browser import opened
from tests.evaluation.test_evaluate import identity, make_item

from pellucid.evaluation.evaluate import Record, evaluate
from pellucid.evaluation.page import Thumbnails

NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = [make_item(seed) for seed in range(5)]
    data[3] = replace(data[3], key=(NASTY,))
    out = tmp_path_factory.mktemp("evaluation")
    result = evaluate(identity(), data, name="identity", out=out, mean_spectrum=(0.15, 0.15, 0.15))
    assert result.folder
    return result.folder


def test_the_table_holds_every_image_sorts_and_shows_pictures(folder: Path) -> None:
    with (folder / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    with opened(folder / "evaluation.html") as page:
        shown = page.locator("#table tbody tr").all()
        assert [row.locator("th").inner_text() for row in shown] == [row["key"] for row in rows]
        heads = page.locator("#table thead th").all_inner_texts()
        at = heads.index("Model") - 1
        figures = [float(row.locator("td").nth(at).inner_text()) for row in shown]
        assert figures == pytest.approx([float(row["model_all_psnr"]) for row in rows], abs=0.006)
        page.get_by_role("button", name="Model").click()
        rising = [
            float(row.locator("td").nth(at).inner_text()) for row in page.locator("#table tbody tr").all()
        ]
        assert rising == sorted(figures)
        assert page.locator("#table th[aria-sort=ascending]").inner_text().startswith("Model")
        page.keyboard.press("Enter")
        assert page.locator("#table th[aria-sort=descending]").count() == 1
        page.locator("#metric").select_option(label="SSIM")
        first = page.locator("#table button.open").first
        first.click()
        assert first.get_attribute("aria-expanded") == "true"
        pictures = page.locator("#table .pictures img")
        assert pictures.count() >= 3
        assert pictures.first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 30
        page.locator("#filter").fill("script")
        assert page.locator("#count").inner_text() == "1 of 5 images"
        assert page.locator("#table tbody th").first.inner_text() == NASTY


def test_plots_of_a_single_image_have_whole_counts_and_room_about_its_point(tmp_path: Path) -> None:
    data = [make_item(3)]
    result = evaluate(identity(), data, name="one", out=tmp_path, mean_spectrum=(0.15, 0.15, 0.15))
    assert result.folder
    with opened(result.folder / "evaluation.html") as page:
        assert page.locator("#gains .tick.end").all_text_contents() == ["0", "1"]
        assert page.locator("#cover .tick.middle").all_text_contents()[:-1] == [
            "0",
            "20",
            "40",
            "60",
            "80",
            "100",
        ]
        across = page.evaluate("axisOf([23])")
        assert across["low"] < 23 < across["high"]


def test_plots_show_each_image(folder: Path) -> None:
    with opened(folder / "evaluation.html") as page:
        assert page.locator("#against circle").count() == 5
        assert page.locator("#gains rect").count() > 0
        page.locator("#against circle").last.click()
        assert page.locator("#table .pictures").count() == 1
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_is_left_out_where_it_is_not_wanted(tmp_path: Path) -> None:
    result = evaluate(identity(), [make_item(0)], name="a", out=tmp_path, record=Record(page=False))
    assert result.folder
    assert not (result.folder / "evaluation.html").exists()


def test_of_many_images_as_many_have_pictures_as_fit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    few, many = Thumbnails(30), Thumbnails(5000)
    assert (few.side, len(few.shown)) == (256, 30)
    assert (many.side, len(many.shown)) == (96, 400)
    for at in sorted(many.shown):
        many.add(at, dict.fromkeys("abcdefgh", noise))
    kept = many.fit()
    assert 0 < len(kept) < 400
    assert sum(len(each) for pictures in kept.values() for each in pictures) < 15e6 * 3 / 4


def test_the_curves_of_the_training_are_shown_where_there_are_any(tmp_path: Path) -> None:
    Image.new("RGB", (70, 40), "white").save(tmp_path / "history.png")
    record = Record(curves=tmp_path / "history.png")
    result = evaluate(identity(), [make_item(0)], name="identity", out=tmp_path, record=record)
    assert result.folder
    with opened(result.folder / "evaluation.html") as page:
        page.get_by_text("Curves of the training").click()
        image = page.locator("#curves")
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 70


def test_means_over_some_of_the_images_say_over_how_many(tmp_path: Path) -> None:
    clear = make_item(0)
    dated = replace(make_item(1), older=torch.full_like(make_item(1).degraded, 0.2))
    result = evaluate(identity(), [clear, dated], name="identity", out=tmp_path)
    assert result.folder
    with opened(result.folder / "evaluation.html") as page:
        rows = page.locator("#means tr").all_inner_texts()
    (older,) = [row for row in rows if row.startswith("older date")][:1]
    assert "(1)" in older
    assert "(" not in next(row for row in rows if row.startswith("input"))


def test_without_curves_of_a_training_none_are_offered(folder: Path) -> None:
    with opened(folder / "evaluation.html") as page:
        assert page.locator("#training").is_hidden()
