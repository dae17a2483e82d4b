"""Orders of the store and the visits before them, as `shopify_orders` keeps them.

A journey that Shopify calls ready stands as it was first read, so that an order's attribution never moves when Shopify
forgets its visits; one that is not ready is read again. Called by the asset `shopify_orders`.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import Clock, business_day_bounds, business_day_of
from ettametta_pipelines.revenue.margin_contracts import SHOPIFY_ORDERS
from ettametta_pipelines.revenue.reading import chunks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.vendors.shopify_orders import OrderJourney

Row = dict[str, Any]


class Journeys(Protocol):
    """The part of `vendors/shopify_orders.py` that is used."""

    def journeys(self, created_from: "datetime", created_to: "datetime") -> "Iterator[OrderJourney]": ...


def read_orders(
    client: Journeys,
    store: "ObjectStore",
    days: Sequence[date],
    timezone: ZoneInfo,
    clock: Clock,
    *,
    livemode: bool,
) -> dict[date, list[Row]]:
    """Read and store the orders of these days (in order); rows by day."""
    from ettametta_pipelines.storage.parquet import write_table

    stored: dict[date, list[Row]] = {}
    for chunk in chunks(days):
        now = clock()
        start = business_day_bounds(chunk[0], timezone)[0]
        end = min(business_day_bounds(chunk[-1], timezone)[1], now)
        told = client.journeys(start, end) if start < end else ()
        rows = [_row(order, timezone, now, livemode) for order in told]
        for day in chunk:
            known = {row["order_id"]: row for row in _known(store, day)}
            fresh = {row["order_id"]: row for row in rows if row["day"] == day}
            kept = {name: row for name, row in known.items() if row["is_ready"] or name not in fresh}
            merged = fresh | kept
            stored[day] = [merged[name] for name in sorted(merged)]
            write_table(store, SHOPIFY_ORDERS, SHOPIFY_ORDERS.frame(stored[day]), day.isoformat())
    return stored


def _row(order: "OrderJourney", timezone: ZoneInfo, now: "datetime", livemode: bool) -> Row:
    visits = [
        [visit.at.isoformat(), visit.source, visit.medium, visit.campaign, visit.content]
        for visit in order.visits
    ]
    return {
        "day": business_day_of(order.ordered_at, timezone), "order_id": order.order_id, "order_name": order.name,
        "ordered_at": order.ordered_at, "is_ready": order.is_ready, "visits": json.dumps(visits),
        "livemode": livemode, "fetched_at": now,
    }  # fmt: skip


def _known(store: "ObjectStore", day: date) -> list[Row]:
    from ettametta_pipelines.storage.parquet import PartitionMissing, read_table

    with suppress(PartitionMissing):
        return SHOPIFY_ORDERS.rows(read_table(store, SHOPIFY_ORDERS, day.isoformat()))
    return []
