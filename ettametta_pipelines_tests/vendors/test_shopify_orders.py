"""Orders and the visits before them, read from the sandboxed store over HTTP."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors import shopify_orders
from ettametta_pipelines.vendors.shopify_orders import OrderJourney, ShopifyOrders
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc

NOW = utc("2026-03-20T12:00:00")
LINK = "https://shop.example/p?utm_source=youtube&utm_medium=video&utm_campaign=cooking&utm_content=acme--1"


def read(
    folder: Path, start: datetime, end: datetime, description: str = "", now: datetime = NOW
) -> list[OrderJourney]:
    clock = SetClock(now)
    with frozen_sandbox(folder, clock) as sandbox:
        if description:
            video = {"id": "v1", "published_at": utc("2026-03-10T00:00:00").isoformat(), "account": "acme"}
            video["snippet"] = {"description": description}  # type: ignore[assignment]
            SandboxStore(folder / "sandbox").put("youtube_video", "v1", video)
        client = ShopifyOrders(
            VendorEndpoint("shopify", "sandbox", f"{sandbox.url}/shopify/", "test"), sleep=clock.sleep
        )
        return list(client.journeys(start, end))


def test_orders_come_in_order_over_pages_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(tmp_path / "a", NOW - timedelta(days=9), NOW)
    monkeypatch.setattr(shopify_orders, "PAGE_SIZE", 2)
    assert read(tmp_path / "b", NOW - timedelta(days=9), NOW) == whole
    assert len(whole) > 9
    assert [order.ordered_at for order in whole] == sorted(order.ordered_at for order in whole)
    assert len({order.order_id for order in whole}) == len(whole)
    assert all(visit.content == "" for order in whole for visit in order.visits)


def test_buyers_come_from_the_links_of_videos_that_were_there(tmp_path: Path) -> None:
    orders = read(tmp_path / "a", NOW - timedelta(days=19), NOW, f"Buy it: {LINK}")
    told = [visit for order in orders for visit in order.visits if visit.content]
    assert {(v.source, v.medium, v.campaign, v.content) for v in told} == {
        ("youtube", "video", "cooking", "acme--1")
    }
    assert min(visit.at for visit in told) >= utc("2026-03-10T00:00:00")
    assert all(visit.at <= order.ordered_at for order in orders for visit in order.visits)
    assert any(len(order.visits) > 1 for order in orders)


def test_visits_are_put_together_after_the_order(tmp_path: Path) -> None:
    (first, *_) = read(tmp_path / "a", NOW - timedelta(days=1), NOW, LINK)
    early = first.ordered_at + timedelta(minutes=10)
    (order,) = read(tmp_path / "b", first.ordered_at, early, LINK, early)
    assert (order.is_ready, order.visits) == (False, ())
    assert first.is_ready


def test_a_missing_scope_asks_for_a_person(tmp_path: Path) -> None:
    clock = SetClock(NOW)
    with frozen_sandbox(tmp_path, clock) as sandbox:
        body = {
            "errors": [
                {"message": "Access denied for orders field.", "extensions": {"code": "ACCESS_DENIED"}}
            ]
        }
        sandbox.fault("shopify", action="status", status=200, body=body)
        client = ShopifyOrders(
            VendorEndpoint("shopify", "sandbox", f"{sandbox.url}/shopify/", "test"), sleep=clock.sleep
        )
        with pytest.raises(NeedsPersonError) as refused:
            list(client.journeys(NOW - timedelta(days=1), NOW))
    assert refused.value.code == "shopify_access_denied"
