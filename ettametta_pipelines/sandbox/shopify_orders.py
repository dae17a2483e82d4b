"""Orders of the sandboxed store with the visits before them.

Buyers come from the links in descriptions of videos that were uploaded to the sandbox's YouTube, where those carry the
store's UTM parameters; without any they came from nowhere in particular. By seed and order, so that a journey reads the
same at any later time. Called by `sandbox/shopify.py` alone.
"""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

from graphql import GraphQLError

from ettametta_pipelines.clock import rfc3339
from ettametta_pipelines.sandbox import shopify_books as books
from ettametta_pipelines.sandbox.core import SandboxStore, seeded_rng

Json = dict[str, Any]

READY_AFTER = timedelta(hours=1)
FROM_A_VIDEO = 0.6
MAX_PAGE = 250
_LINK = re.compile(
    r"utm_source=(?P<source>[\w.-]+)&utm_medium=(?P<medium>[\w.-]+)"
    r"&utm_campaign=(?P<campaign>[\w.-]+)&utm_content=(?P<content>[\w.-]+)"
)
_TERM = re.compile(r"created_at:(>=|<)'([^']+)'")


def orders_root(store: SandboxStore, seed: int, now: datetime) -> Json:
    """What a query can reach of orders, as seen at `now`."""

    def orders(_: Any, **arguments: Any) -> Json:
        bounds = {
            sign: datetime.fromisoformat(at) for sign, at in _TERM.findall(arguments.get("query") or "")
        }
        size = arguments.get("first")
        if size is None or not 0 < size <= MAX_PAGE:
            raise GraphQLError("first must be between 1 and 250", extensions={"code": "BAD_REQUEST"})
        opened = datetime.combine(books.BOOKS_OPENED, time.min, tzinfo=UTC)
        start, end = max(bounds.get(">=", opened), opened), min(bounds.get("<", now), now)
        found = [
            order for order in _orders(seed, start, end) if order.number > int(arguments.get("after") or 0)
        ]
        links = _links(store)
        nodes = [_order(order, seed, links, now) for order in found[:size]]
        cursors = [str(order.number) for order in found[:size]]
        return {
            "nodes": nodes,
            "edges": [{"cursor": c, "node": n} for c, n in zip(cursors, nodes, strict=True)],
            "pageInfo": _page_info(cursors, more=len(found) > size),
        }

    return {"orders": orders}


def _page_info(cursors: list[str], *, more: bool) -> Json:
    ends = (cursors[0], cursors[-1]) if cursors else (None, None)
    return {"hasNextPage": more, "hasPreviousPage": False, "startCursor": ends[0], "endCursor": ends[1]}


def _orders(seed: int, start: datetime, end: datetime) -> list[books.Order]:
    found: list[books.Order] = []
    day = start.date()
    while day <= end.date():
        found += [order for order in books.orders_of(seed, day) if start <= order.at < end]
        day += books.DAY
    return found


def _links(store: SandboxStore) -> list[tuple[datetime, Json]]:
    """(since when, UTM parameters) of every link that leads to the store."""
    found = []
    for _, video in store.items("youtube_video"):
        for link in _LINK.finditer(str(video.get("snippet", {}).get("description", ""))):
            found.append((datetime.fromisoformat(video["published_at"]), link.groupdict()))
    return found


def _order(order: books.Order, seed: int, links: list[tuple[datetime, Json]], now: datetime) -> Json:
    ready = now >= order.at + READY_AFTER
    visits = _visits(order, seed, links) if ready else []
    latest_first = list(reversed(visits))
    return {
        "id": f"gid://shopify/Order/{order.number}",
        "name": order.name,
        "createdAt": rfc3339(order.at),
        "customerJourneySummary": {
            "ready": ready,
            "firstVisit": visits[0] if visits else None,
            "lastVisit": visits[-1] if visits else None,
            "moments": lambda _, first=10, **__: {
                "nodes": latest_first[:first],
                "pageInfo": _page_info([], more=len(visits) > first),
            },
        },
    }


def _visits(order: books.Order, seed: int, links: list[tuple[datetime, Json]]) -> list[Json]:
    rng = seeded_rng(seed, "shopify-journey", order.number)
    there = [(since, utm) for since, utm in links if since < order.at]
    visits = []
    if there and rng.random() < FROM_A_VIDEO:
        for number in range(rng.randrange(1, 4)):
            since, utm = there[rng.randrange(len(there))]
            at = order.at - (order.at - since) * rng.random()
            visits.append(_visit(order, number, at, utm))
    else:
        visits.append(_visit(order, 0, order.at - timedelta(minutes=rng.randrange(2, 600)), None))
    return sorted(visits, key=lambda visit: visit["occurredAt"])


def _visit(order: books.Order, number: int, at: datetime, utm: Json | None) -> Json:
    return {
        "__typename": "CustomerVisit",
        "id": f"gid://shopify/CustomerVisit/{order.number}{number}",
        "occurredAt": rfc3339(at),
        "landingPage": None,
        "utmParameters": utm,
    }
