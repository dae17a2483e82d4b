"""Shopify's orders with the visits that led to them: no money, no customer. Needs the scope read_orders.

Without read_all_orders the last 60 days are all there is. Called by `revenue/orders.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ettametta_pipelines.clock import rfc3339
from ettametta_pipelines.vendors.http import unreadable_answer
from ettametta_pipelines.vendors.shopify import VENDOR, ShopifyClient

PAGE_SIZE = 50
# Of a longer journey the first visits are left out, and the last one is asked for by itself.
MAX_VISITS = 10

ORDERS_QUERY = """
query Orders($first: Int!, $after: String, $query: String!, $visits: Int!) {
  orders(first: $first, after: $after, sortKey: CREATED_AT, query: $query) {
    nodes {
      id
      name
      createdAt
      customerJourneySummary {
        ready
        firstVisit { occurredAt utmParameters { source medium campaign content } }
        lastVisit { occurredAt utmParameters { source medium campaign content } }
        moments(first: $visits, reverse: true) {
          nodes {
            occurredAt
            ... on CustomerVisit { utmParameters { source medium campaign content } }
          }
        }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""


@dataclass(frozen=True)
class Visit:
    """One visit to the store; texts are those of the link that was followed, empty where it had none."""

    at: datetime
    source: str = ""
    medium: str = ""
    campaign: str = ""
    content: str = ""


@dataclass(frozen=True)
class OrderJourney:
    """An order and the visits before it, oldest first. Until `is_ready` Shopify may still add some."""

    order_id: str
    name: str
    ordered_at: datetime
    is_ready: bool
    visits: tuple[Visit, ...]


class ShopifyOrders(ShopifyClient):
    """The reader of a store that also reads its orders. Raises as `ShopifyClient` does."""

    def journeys(self, created_from: datetime, created_to: datetime) -> Iterator[OrderJourney]:
        """Orders with created_from <= created < created_to, oldest first."""
        window = f"created_at:>='{rfc3339(created_from)}' AND created_at:<'{rfc3339(created_to)}'"
        cursor: str | None = None
        while True:
            variables = {"first": PAGE_SIZE, "after": cursor, "query": window, "visits": MAX_VISITS}
            listing = self._query("list orders", ORDERS_QUERY, variables)["orders"]
            try:
                yield from (_journey(node) for node in listing["nodes"])
            except (KeyError, TypeError, ValueError):
                raise unreadable_answer(VENDOR, "list orders") from None
            if not listing["pageInfo"]["hasNextPage"]:
                return
            cursor = listing["pageInfo"]["endCursor"]


def _journey(node: dict[str, Any]) -> OrderJourney:
    told = node["customerJourneySummary"] or {"ready": True}
    found = [told.get("firstVisit"), told.get("lastVisit"), *(told.get("moments") or {}).get("nodes", ())]
    visits = {_visit(one) for one in found if one}
    return OrderJourney(
        node["id"],
        node["name"],
        _instant(node["createdAt"]),
        bool(told["ready"]),
        tuple(sorted(visits, key=lambda visit: (visit.at, visit.content, visit.source))),
    )


def _visit(node: dict[str, Any]) -> Visit:
    utm = node.get("utmParameters") or {}
    texts = (str(utm.get(name) or "")[:200] for name in ("source", "medium", "campaign", "content"))
    return Visit(_instant(node["occurredAt"]), *texts)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
