"""The affiliate pages in a real browser: create, edit, import, follow, see the click, retire."""

import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.settings import Settings
from ettametta_pipelines_tests.servers import in_thread

if TYPE_CHECKING:
    from playwright.sync_api import Page

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"
GOOD = "label,network,target_url,niches\nCast iron pan,amazon,https://m.example.com/pan,home-cooking\n"
BAD = f"{GOOD}Free money,impact,javascript:alert(1),\n"


@pytest.fixture
def gateway(settings_env: Settings) -> Iterator[str]:
    """The gateway on a free port, stopped after the test."""
    with in_thread(lambda url: create_gateway(settings_env, url=url), proxy_headers=False) as server:
        yield server.url


class Merchant(BaseHTTPRequestHandler):
    """A shop that shows with which address it was asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><link rel=icon href=data:,><title>Shop</title><h1>Welcome</h1>")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def merchant() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Merchant)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_link_from_its_creation_to_its_end(page: "Page", gateway: str, merchant: str) -> None:
    page.goto(f"{gateway}/")
    page.get_by_role("link", name="Links").click()
    page.get_by_role("link", name="New link").click()
    page.get_by_label("Account").fill("acme")
    page.get_by_label("Name").fill("Trail shoes I run in")
    page.get_by_label("Network").select_option("impact")
    page.get_by_label("Leads to").fill(f"{merchant}/shoes?ref=me")
    page.get_by_label("Fitness and home workouts").check()
    page.get_by_role("button", name="Create").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Trail shoes I run in"
    link_page = page.url

    page.get_by_role("link", name="Edit").click()
    assert page.get_by_label("Fitness and home workouts").is_checked()
    page.get_by_label("Commission").fill("8 % for 30 days")
    page.get_by_role("button", name="Save").click()
    assert page.get_by_text("8 % for 30 days").is_visible()

    follow = page.locator("dd code").inner_text()
    page.set_extra_http_headers({"User-Agent": FIREFOX})
    page.goto(follow)
    assert page.get_by_role("heading", name="Welcome").is_visible()
    assert page.url == f"{merchant}/shoes?ref=me&subId1={urlsplit(follow).path.removeprefix('/go/')}"
    for _ in range(50):
        page.goto(link_page)
        if page.locator(".figures dd").first.inner_text() == "1":
            break
        time.sleep(0.1)
    assert page.locator(".figures dd").first.inner_text() == "1"

    page.get_by_role("link", name="Retire …").click()
    page.get_by_role("button", name="Retire").click()
    assert page.get_by_text("retired", exact=True).is_visible()
    assert page.request.get(follow, max_redirects=0, headers={"User-Agent": FIREFOX}).status == 410


def test_a_file_with_a_bad_line_is_shown_line_by_line_and_imports_nothing(page: "Page", gateway: str) -> None:
    page.goto(f"{gateway}/links/import")
    page.get_by_label("Account").fill("acme")
    page.get_by_label("File").set_input_files(
        {"name": "links.csv", "mimeType": "text/csv", "buffer": BAD.encode()}
    )
    page.get_by_role("button", name="See what will happen").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Nothing can be imported yet"
    assert page.get_by_text("does not begin with https://").is_visible()
    assert page.get_by_role("button").count() == 0
    page.get_by_role("link", name="Another file").click()
    page.get_by_label("Or its text").fill(GOOD)
    page.get_by_role("button", name="See what will happen").click()
    page.get_by_role("button", name="Import all 1").click()
    assert re.fullmatch(rf"{re.escape(gateway)}/links\?account=acme", page.url)
    assert page.get_by_role("link", name="Cast iron pan").is_visible()
    assert page.get_by_text("Free money").count() == 0


def test_every_field_has_a_label_and_the_pages_fit_a_telephone(page: "Page", gateway: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/links", "/links/new", "/links/import"):
        page.goto(gateway + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        fields = page.locator("input:not([type=hidden]), select, textarea")
        assert fields.evaluate_all("all => all.every(one => one.labels.length === 1)"), path
