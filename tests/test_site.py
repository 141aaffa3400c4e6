"""The documentation site: links lead somewhere, nothing is fetched, the search works in opened files."""

import re
import shutil
from pathlib import Path

import pytest
from docs.site import build as site
from docs.site.reference import CONFIGS, SHELVES, commands, error_page, keys_of, load, sections, type_text
from playwright.sync_api import expect
from tests.browser import browser

from pellucid.config import TrainConfig

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "pellucid"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site.build(tmp_path_factory.mktemp("site"))


def test_the_site_has_every_page_and_fetches_nothing(home: Path) -> None:
    written = {path.stem for path in (REPOSITORY / "docs").glob("*.md")}
    assert written <= {path.stem for path in (home.parent / "docs").glob("*.html")}
    listed = re.findall(r'"([\w/]+\.md)"', (REPOSITORY / "docs" / "site" / "zensical.toml").read_text())
    linked = re.findall(r"\]\((\w+\.md)\)", (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8"))
    assert {f"docs/{name}.md" for name in written - {"index"}} <= {
        *listed,
        *(f"docs/{name}" for name in linked),
    }
    page, asked = browser().new_page(), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    for path in (home, home.parent / "reference" / "errors.html"):
        page.goto(path.as_uri())
        assert page.locator("h1").count() == 1
    assert asked
    assert all(url.startswith(("file:", "data:", "blob:", "about:")) for url in asked), asked
    page.close()


def test_the_search_works_in_a_page_that_was_opened_as_a_file(home: Path) -> None:
    page = browser().new_page()
    page.goto((home.parent / "docs" / "scenes.html").as_uri())
    page.locator(".md-search__button").click()
    words = page.get_by_role("combobox")
    words.press_sequentially("expected calibration")
    # While the words are typed, what the first letters find is listed.
    expect(page.get_by_role("option").first).to_contain_text("Evaluation", timeout=30_000)
    assert words.input_value() == "expected calibration"
    page.close()


def test_no_page_is_wider_than_a_phone(home: Path) -> None:
    page = browser().new_page(viewport={"width": 360, "height": 740})
    for name in ("index", "docs/scenes", "docs/published", "reference/config_keys", "reference/errors"):
        path = home.parent / f"{name}.html"
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    page.close()


@pytest.mark.parametrize("link", ["[x](no.md)", "[x](scenes.md#no)", "![x](no.png)", "[x](no.zip)"])
def test_a_link_that_leads_nowhere_stops_the_build(
    link: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(pages: Path) -> None:
        shutil.copytree(home.parents[1] / "pages", pages)
        (pages / "docs" / "trust.md").write_text(f"# Trust\n\n{link}\n", encoding="utf-8")

    monkeypatch.setattr(site, "collect", spoil)
    with pytest.raises(RuntimeError, match=r"trust\.(md|html)"):
        site.build(tmp_path)


def test_a_page_that_fetches_is_refused(tmp_path: Path) -> None:
    for text in ('<script async src="https://a.b/c.js">', '<link rel="stylesheet" href="//a.b/c.css">'):
        with pytest.raises(RuntimeError, match=r"fetches (https:)?//a\.b"):
            site.check_page(tmp_path / "page.html", text)
    site.check_page(
        tmp_path / "page.html", '<a href="https://a.b">a link</a> <img src="data:image/png;base64,">'
    )


def test_every_command_and_every_option_has_its_words(home: Path) -> None:
    text = (home.parents[1] / "pages" / "reference" / "command_line.md").read_text(encoding="utf-8")
    for words, command in commands():
        assert f"## `{words}`" in text
        for each in command.params:
            assert each.help, (words, each.name)
    assert "| `--seed` whole number | `0` | The same seed makes the same image. |" in text
    assert "| `--output`, `-o` `CLEAR.tif` | must be given | Where the result goes. |" in text


def test_every_key_of_a_config_is_explained() -> None:
    shelves = [
        f"pellucid.{shelf}.{path.stem}:Config"
        for _, shelf in SHELVES
        for path in sorted((PACKAGE / shelf).glob("[!_]*.py"))
    ]
    for place in (*(place for _, place in CONFIGS), *shelves):
        for key in keys_of(load(place)):
            assert key.text, f"{place}.{key.name}"
            assert not key.text.startswith("("), f"{place}.{key.name}"


def test_keys_have_their_type_default_and_limits() -> None:
    keys = {key.name: key for key in keys_of(TrainConfig)}
    assert keys["num_steps"] == ("num_steps", "whole number", "1000", "Optimiser steps of the run. (> 0)")
    assert keys["schedule"].type == "`constant` or `step` or `cosine`"
    assert keys["betas"].default == "[0.9, 0.999]"
    assert type_text(Path | None) == "path"
    assert type_text(tuple[str, ...]) == "list of text"


def test_errors_are_sorted_by_their_first_fixed_word_with_what_is_filled_in_marked(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(
        "def check(tile, path):\n"
        "    if tile:\n"
        "        raise InputError(f'zebra {tile} px is <no> tile; give another')\n"
        "    text = f'{path} holds {len(path)} bands, too many'\n"
        "    raise InputError(text)\n"
    )
    page = error_page(tmp_path)
    assert "zebra *tile* px is &lt;no&gt; tile; give another" in page
    assert page.index("## H") < page.index("*path* holds *…* bands, too many") < page.index("## Z")
    assert error_page(PACKAGE).count("<small>") > 300


def test_docstrings_become_lists() -> None:
    text = sections("Return it.\n\n    Args:\n        path: of the file.\n        one, two: numbers.\n")
    assert text == "Return it.\n\n**Arguments**\n\n- `path`: of the file.\n- `one, two`: numbers."
