"""Reads business days of the payment services into the raw tables, a month at a time.

The service's ledger is listed anew for the whole window, since rows are posted late and change while money travels.
With it come the payouts made since and what each paid; for a window that reaches today also the balance, and payouts
and disputes of earlier months that were still open. What a reading found is filed by `raw.py`. Called by
`revenue/assets.py`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.revenue.raw import (
    BALANCE,
    DISPUTE,
    ENTRY,
    MARTS,
    PAYOUT,
    PAYOUT_ROWS,
    DayRead,
    Listing,
    Window,
    append,
    relations,
)

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.vendors.shopify import ShopifyClient
    from ettametta_pipelines.vendors.stripe import StripeClient

# Read again every few hours: rows turn from pending to available, and late ones appear.
HOT_DAYS = 3
# How many closed days are read again every night. The slowest payout schedule is a month, and a payout lists its rows
# only once it is reconciled, some days later.
LOOKBACK_DAYS = 35
# A payout that is made later than this after its rows is met when its own day is read.
PAYOUT_WITHIN = timedelta(days=LOOKBACK_DAYS - 1)
# Card networks give 120 days to dispute a charge, and decide within weeks; payouts are open for days.
OPEN_WITHIN = timedelta(days=210)
# Days listed and filed at once: what bounds the memory of a year's backfill, and what a crash may cost.
CHUNK_DAYS = 31


def read_stripe(
    client: "StripeClient",
    store: "ObjectStore",
    lake: "Lake",
    days: Sequence[date],
    timezone: ZoneInfo,
    clock: Clock,
) -> Iterator[DayRead]:
    """Read these days (in order, without gaps) of Stripe into `stripe_raw`; yields each as it is filed."""
    for chunk in chunks(days):
        window = Window.of(chunk, timezone, clock())
        if window.is_empty:
            yield from (DayRead(day, False) for day in chunk)
            continue
        listings = _stripe_listings(client, lake, window)
        yield from append(store, lake, "stripe", window, listings, livemode=client.livemode)


def read_shopify(
    client: "ShopifyClient",
    store: "ObjectStore",
    lake: "Lake",
    days: Sequence[date],
    timezone: ZoneInfo,
    clock: Clock,
) -> Iterator[DayRead]:
    """Read these days of Shopify Payments into `shopify_raw`. Its rows name their payout themselves."""
    for chunk in chunks(days):
        window = Window.of(chunk, timezone, clock())
        if window.is_empty:
            yield from (DayRead(day, False) for day in chunk)
            continue
        pages = list(client.balance_transaction_pages(window.start, window.end))
        listings = [Listing(ENTRY, pages)]
        yield from append(store, lake, "shopify", window, listings, livemode=client.mode == "live")


def chunks(days: Sequence[date]) -> Iterator[Sequence[date]]:
    """At most `CHUNK_DAYS` consecutive days at a time."""
    start = 0
    for place in range(1, len(days) + 1):
        ended = place == len(days) or days[place] != days[place - 1] + timedelta(days=1)
        if ended or place - start == CHUNK_DAYS:
            yield days[start:place]
            start = place


def _stripe_listings(client: "StripeClient", lake: "Lake", window: Window) -> Iterator[Listing]:
    reaches_today = window.end >= window.fetched_at - timedelta(days=2)
    if reaches_today:
        # Before the rows, so that it holds none that is not listed.
        yield Listing(BALANCE, [_balance(client, window)])
    yield Listing(ENTRY, list(client.balance_transaction_pages(window.start, window.end)))
    until = min(window.end + PAYOUT_WITHIN, window.fetched_at.replace(microsecond=0))
    pages = list(client.payout_pages(window.start, until))
    known, open_ones = _known_payouts(lake, window)
    listed = {payout["id"]: payout for page in pages for payout in json.loads(page)["data"]}
    if reaches_today:
        for identifier in sorted(open_ones - listed.keys()):
            text = client.object_text("payouts", identifier)
            listed[identifier] = json.loads(text)
            pages.append(_page(text))
        disputes = [client.object_text("disputes", name) for name in _open_disputes(lake, window)]
        yield Listing(DISPUTE, [_page(text) for text in disputes])
    yield Listing(PAYOUT, pages)
    itemised = [p for p in listed.values() if is_itemised(p) and p["id"] not in known]
    yield Listing(PAYOUT_ROWS, [_rows_of(client, lake, payout) for payout in itemised])


def is_itemised(payout: dict[str, Any]) -> bool:
    """Whether Stripe can say what a payout paid: automatic ones only, once it has reconciled them."""
    return bool(payout["automatic"]) and payout["reconciliation_status"] == "completed"


def _balance(client: "StripeClient", window: Window) -> str:
    balance = json.loads(client.object_text("balance"))
    second = int(window.fetched_at.timestamp())
    return json.dumps({"data": [balance | {"id": f"balance_{second}", "created": second}]})


def _rows_of(client: "StripeClient", lake: "Lake", payout: dict[str, Any]) -> str:
    """What a payout paid, as [id, created, net, type] of every row it lists."""
    import pyarrow as pa

    pages = pa.table({"page": pa.array(client.payout_transaction_pages(payout["id"]), pa.string())})
    with relations(lake, pages=pages):
        ((rows,),) = (row.values() for row in lake.rows(_sql("stripe_payout_rows")))
    head = {name: payout[name] for name in ("id", "created", "amount", "currency")}
    return f'{{"data": [{json.dumps(head)[:-1]}, "rows": {rows}}}]}}'


def _known_payouts(lake: "Lake", window: Window) -> tuple[set[str], set[str]]:
    """(payouts whose rows are known, payouts that were open when they were last read)."""
    rows = lake.rows(_sql("stripe_known_payouts"), _recent(window))
    return (
        {row["payout_id"] for row in rows if row["is_itemised"]},
        {row["payout_id"] for row in rows if row["is_open"]},
    )


def _open_disputes(lake: "Lake", window: Window) -> list[str]:
    rows = lake.rows(_sql("stripe_open_disputes"), _recent(window))
    return [row["dispute_id"] for row in rows if row["posted_at"] < window.start]


def _recent(window: Window) -> dict[str, date]:
    return {"from_day": window.days[0] - OPEN_WITHIN, "to_day": window.days[-1] + PAYOUT_WITHIN}


def _page(text: str) -> str:
    return f'{{"data": [{text}]}}'


def _sql(name: str) -> str:
    return (MARTS / f"{name}.sql").read_text()


Reader = Callable[..., Iterator[DayRead]]
READERS: dict[str, Reader] = {"stripe": read_stripe, "shopify": read_shopify}
