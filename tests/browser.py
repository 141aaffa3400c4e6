"""A headless Chromium that looks at pages, for tests."""

import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

# Milliseconds that a slow machine may need until a page shows its data.
READY_MS = 60_000


@cache
def browser() -> Browser:
    """Return a browser that runs until the tests end."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no Chromium is installed: apt-get install chromium, or let CHROMIUM name one"
    playwright = sync_playwright().start()
    atexit.register(playwright.stop)
    return playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@contextmanager
def opened(path: Path) -> Iterator[Page]:
    """Yield the page of a file, loaded; afterwards neither a request nor an error may have been seen."""
    context = browser().new_context(viewport={"width": 1200, "height": 800}, color_scheme="light")
    page, requests, faults = context.new_page(), list[str](), list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("body[data-ready]", timeout=READY_MS)
    yield page
    context.close()
    assert not faults
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == [path.resolve().as_uri()]
