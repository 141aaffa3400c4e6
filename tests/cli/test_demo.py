from pathlib import Path

import pytest
from tests.browser import opened

from pellucid.cli.demo import run_demo
from pellucid.errors import InputError


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


@pytest.mark.parametrize("name", ["figures.json", "s2_cloudy/scene.tif", "clear.tif"])
def test_a_demo_replaces_no_file_of_others(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name}: a file is there that pellucid did not write"):
        run_demo(tmp_path, size=128, seed=1, model="ground")
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]
