from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from loopback import TIFF, Client, served
from playwright.sync_api import Page, expect
from tests.browser import READY_MS, browser


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    shared = tmp_path_factory.mktemp("data")
    (shared / "below").mkdir()
    (shared / "below" / "bad.tif").write_bytes(TIFF)
    with served(tmp_path_factory.mktemp("service"), shared=shared) as found:
        yield found


@contextmanager
def visited(client: Client, width: int = 1200) -> Iterator[Page]:
    """Yield the first page, opened by the address with the token; nothing is asked of anybody else."""
    context = browser().new_context(viewport={"width": width, "height": 800}, color_scheme="light")
    page, faults = context.new_page(), list[str]()
    own = client.service.address.partition("?")[0]
    page.on("request", lambda request: request.url.startswith((own, "data:")) or faults.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(client.service.address)
    page.wait_for_url(own)
    page.wait_for_selector("body[data-ready]", timeout=READY_MS)
    yield page
    context.close()
    assert not faults


def job(page: Page, name: str) -> "Page":
    return page.locator(".job", has=page.get_by_role("heading", name=name, exact=True))  # type: ignore[return-value]


def test_two_browsers_see_a_job_from_start_to_result(client: Client, tmp_path: Path) -> None:
    (tmp_path / "slow-one.tif").write_bytes(TIFF)
    with ExitStack() as stack:
        desk, phone = stack.enter_context(visited(client)), stack.enter_context(visited(client, 360))
        desk.set_input_files("#file-scene", tmp_path / "slow-one.tif")
        desk.get_by_role("button", name="Start", exact=True).click()
        for page in (desk, phone):
            expect(job(page, "slow-one.tif").locator(".how")).to_contain_text("removing clouds, 25 %, about")
        found = next(each for each in client.ask("GET", "/api/jobs")[1] if each["name"] == "slow-one.tif")
        (client.home / "jobs" / found["id"] / "go").touch()
        for page in (desk, phone):
            expect(job(page, "slow-one.tif").locator(".state")).to_have_text("done")
            expect(job(page, "slow-one.tif").get_by_role("link")).to_have_text(
                ["Open", "clear.tif (5 bytes)", "All 2 files (zip)"]
            )
        with phone.expect_popup() as opened:
            job(phone, "slow-one.tif").get_by_role("link", name="Open").click()
        assert opened.value.inner_text("p") == "page"
        job(desk, "slow-one.tif").get_by_role("button", name="Delete").click()
        desk.get_by_role("button", name="Delete", exact=True).click()
        for page in (desk, phone):
            expect(job(page, "slow-one.tif")).to_have_count(0)


def test_the_shared_folder_is_chosen_from_by_keys_and_a_failure_says_why(client: Client) -> None:
    with visited(client) as page:
        page.get_by_role("button", name="Scene from the shared folder").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="below", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="One folder up")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#chosen-scene")).to_contain_text("below/bad.tif")
        page.locator("#name").fill("From the folder")
        page.keyboard.press("Enter")
        expect(job(page, "From the folder").locator(".problem")).to_have_text(
            "below/bad.tif has no bands; name them"
        )
        expect(page.locator("#said")).to_contain_text("From the folder is failed")
        job(page, "From the folder").get_by_role("button", name="Change").click()
        expect(page.locator("#chosen-scene")).to_contain_text("below/bad.tif")
        page.locator("#option-seed").fill("5")
        page.locator("#name").fill("Once more")
        page.get_by_role("button", name="Start", exact=True).click()
        expect(job(page, "Once more").locator(".note").first).to_contain_text("seed 5")


def test_what_is_missing_is_said_where_it_is_missing(client: Client) -> None:
    with visited(client) as page:
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.get_by_role("alert").first).to_have_text("Scene is missing; choose or drop a file")
        expect(page.locator("#file-scene")).to_be_focused()


def test_controls_have_names_and_the_phone_shows_no_bar_sideways(client: Client) -> None:
    for path in ("", "api"):
        with visited(client, 360) as page:
            page.goto(client.service.address.partition("?")[0] + path)
            page.wait_for_selector("body[data-ready]")
            unnamed = page.evaluate(
                """() => [...document.querySelectorAll('button, select, input, a[href], progress')]
                    .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.title))
                    .map(e => e.outerHTML.slice(0, 90))"""
            )
            assert not unnamed
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            light = page.evaluate("getComputedStyle(document.body).backgroundColor")
            page.locator("#theme").click()
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
