"""The shop's products: read page by page or by an export, throttled or not, hostile or not, always the same rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines.commerce.contracts import SHOPIFY_PRODUCTS
from ettametta_pipelines.commerce.products import product_rows, text_of_html
from ettametta_pipelines.commerce.report import products_table
from ettametta_pipelines.failures import NeedsPersonError, TransientError
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors import shopify_products
from ettametta_pipelines.vendors.shopify_products import ShopifyShelf
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc


@pytest.fixture
def clock() -> SetClock:
    return SetClock(utc("2026-11-20T12:00:00"))


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[SandboxUnderTest]:
    with frozen_sandbox(tmp_path, clock) as running:
        yield running


@pytest.fixture
def shelf(store: SandboxUnderTest, clock: SetClock) -> ShopifyShelf:
    endpoint = VendorEndpoint("shopify", "sandbox", f"{store.url}/shopify/", "test")
    return ShopifyShelf(endpoint, sleep=clock.sleep)


def put(store: SandboxUnderTest, number: int, **product: Any) -> None:
    store.server._server.config.app.state.store.put("shopify_product", f"{number}", product)


def rows(shelf: ShopifyShelf) -> dict[int, dict[str, Any]]:
    made = product_rows(shelf.read("USD").products, "USD")
    SHOPIFY_PRODUCTS.frame(made)
    return {shopify_products.number_of(row["product_id"]): row for row in made}


def test_an_export_and_pages_give_the_same_rows_in_the_same_order(
    shelf: ShopifyShelf, store: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [[f"v{n}", f"{n}.50", n] for n in range(1, 131)]
    for number in range(100, 130):
        put(store, number, title=f"Product {number}", variants=many if number == 107 else many[:3])
    by_pages = shelf.read("USD")
    monkeypatch.setattr(shopify_products, "EXPORT_ABOVE", 10)
    by_export = shelf.read("USD")
    assert (by_pages.way, by_export.way) == ("pages", "export")
    assert by_pages.products == by_export.products
    assert len(by_pages.products) == 43
    assert rows(shelf)[107]["variants"] == 130


def test_throttling_is_waited_out_by_what_the_answer_says(
    shelf: ShopifyShelf, store: SandboxUnderTest, clock: SetClock
) -> None:
    kept = store.server._server.config.app.state.store
    kept.put("shopify_bucket", "points", {"available": 0.0, "at": clock().timestamp()})
    before = clock()
    assert len(shelf.read("USD").products) == 13
    assert (clock() - before).total_seconds() > 5


def test_variants_are_reduced_to_what_a_buyer_can_pay_and_find(
    shelf: ShopifyShelf, store: SandboxUnderTest
) -> None:
    put(store, 1, variants=[["S", "5.00", 0], ["M", "19.9", 3], ["L", "24.00", 4]])
    put(store, 2, variants=[["S", "5.00", 0], ["M", "19.90", 0]])
    put(store, 3, variants=[["S", "5.00", -2, "CONTINUE"], ["M", "7.00", None]])
    put(store, 4, variants=[])
    found = rows(shelf)
    facts = {
        number: tuple(found[number][name] for name in ("price_minor", "price_to_minor", "stock", "for_sale"))
        for number in (1, 2, 3, 4)
    }
    assert facts == {
        1: (1990, 2400, 7, True), 2: (500, 1990, 0, False), 3: (500, 700, -2, True), 4: (None, None, None, False),
    }  # fmt: skip


def test_a_removed_product_leaves_and_a_changed_one_changes(
    shelf: ShopifyShelf, store: SandboxUnderTest
) -> None:
    first = rows(shelf)
    assert rows(shelf) == first
    put(store, 5, deleted=True)
    put(store, 6, status="ARCHIVED")
    second = rows(shelf)
    assert set(first) - set(second) == {5}
    assert (second[6]["status"], second[6]["url"]) == ("archived", None)


def test_an_exports_failures_are_told_apart(
    shelf: ShopifyShelf, store: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopify_products, "EXPORT_ABOVE", 1)
    kept = store.server._server.config.app.state.store
    told = []
    for fate in ({"status": "RUNNING"}, {"status": "RUNNING"}, {"status": "FAILED", "errorCode": "TIMEOUT"}):
        kept.put("shopify_bulk_fate", "next", fate)
        with pytest.raises(TransientError) as failure:
            shelf.read("USD")
        told.append(failure.value.code)
    assert told == ["shopify_export_slow", "shopify_export_busy", "shopify_export_failed"]


def test_an_export_that_was_cut_off_is_read_again(
    shelf: ShopifyShelf, store: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopify_products, "EXPORT_ABOVE", 1)
    store.fault("shopify", path_regex="/bulk/", status=200, body='{"id": "gid://shopify/Product/1"}\n')
    assert len(shelf.read("USD").products) == 13
    assert [request["path"] for request in store.requests("shopify") if request["fault"]] == [
        "/shopify/bulk/1.jsonl"
    ]


def test_an_app_without_the_scope_is_told_which_one(shelf: ShopifyShelf, store: SandboxUnderTest) -> None:
    denied = {"errors": [{"message": "no", "extensions": {"code": "ACCESS_DENIED"}}]}
    store.fault("shopify", status=200, body=denied, times=None)
    with pytest.raises(NeedsPersonError) as refusal:
        shelf.read("USD")
    assert "read_products" in refusal.value.remedy


HOSTILE = (
    "[click](javascript:alert(1)) <script>alert(1)</script>'; DROP TABLE posts;-- | **x**\r\nERROR fake\u202e"
)


def test_hostile_titles_stay_text_in_tables_and_markdown(
    shelf: ShopifyShelf, store: SandboxUnderTest
) -> None:
    put(
        store,
        1,
        title=HOSTILE,
        html=f"<p>{HOSTILE}</p><style>p{{}}</style>",
        tags=[HOSTILE, "\x00"],
        handle="x",
    )
    found = rows(shelf)
    title = found[1]["title"]
    assert "\n" not in title
    assert "\u202e" not in title
    assert found[1]["description"].startswith("[click](javascript:alert(1)) '; DROP TABLE")
    table = products_table(list(found.values()))
    (line,) = [line for line in table.split("\n") if "click" in line]
    assert "](javascript" not in line
    assert "<script" not in line.replace("\\<script", "")
    assert line.replace("\\|", "").count("|") == 6


def test_a_description_is_what_a_reader_sees() -> None:
    html = (
        "<h1>Boots</h1><p>Dry &amp; warm</p><script>alert('x')</script><style>a{}</style><br>for <b>rain</b>"
    )
    assert text_of_html(html) == "Boots Dry & warm for rain"
    assert len(text_of_html("<p>x y</p>" * 100_000)) <= 2000
