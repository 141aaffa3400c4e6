from pathlib import Path

from tests.browser import opened

from pellucid.cli.demo import run_demo


def test_the_page_of_the_demo_shows_the_truth(tmp_path: Path) -> None:
    done = run_demo(tmp_path, size=128, seed=1, model="ground")
    assert done.files["page"].name == "clear.html"
    with opened(done.files["page"]) as page:
        names = page.locator("#left option").all_inner_texts()
        assert names == ["Before", "Radar", "After", "Truth", "Painted"][: len(names)]
        page.locator("#left").select_option(label="Truth")
        page.locator("#map").focus()
        page.keyboard.press("Enter")
        assert "Truth" in page.locator("#values thead").inner_text()
