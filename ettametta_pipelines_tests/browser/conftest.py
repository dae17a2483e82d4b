"""A real browser (the machine's own Chromium) for tests of pages."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser; skipped where the machine has none and this is not CI.

    It ends with its file: while Playwright's synchronous API is open, no other test of the process can use asyncio.
    """
    from playwright.sync_api import sync_playwright

    program = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("No Chromium on PATH; scripts/install_test_servers.sh installs it.")
        pytest.skip("no Chromium on PATH")
    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that root in a container does not have; only our pages are opened.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: "Browser") -> Iterator["Page"]:
    """A page of a fresh profile. A message of level error on its console fails the test.

    The sandbox has no icon, which browsers ask every server for.
    """
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []

    def listen(message: "ConsoleMessage") -> None:
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            complaints.append(f"{message.text} ({message.location['url']})")

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []
