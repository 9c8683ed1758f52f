"""Pages in a browser."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser():
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        pytest.fail(f"these tests need one of {', '.join(BROWSERS)} on the path: run `make browser`")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=quiet)
        yield started
        started.close()


@pytest.fixture
def show_page(browser, tmp_path):
    """Opens a page's text without network; in the end nothing else was asked for and nothing complained."""
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(10_000)
    requests: list[str] = []
    complaints: list[str] = []

    def opened(text: str, **size: int) -> Page:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        if size:
            page.set_viewport_size({"width": size["width"], "height": 900})
        page.goto(path.as_uri())
        return page

    yield opened
    context.close()
    assert [url for url in requests if not url.startswith(("data:", tmp_path.as_uri()))] == []
    assert complaints == []
