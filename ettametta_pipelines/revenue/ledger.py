"""One business day of a payment service's ledger, read from the service and put into the table's words.

The day runs between local midnights; rows belong to the day they were posted on. A day that is not over
yet is read up to now and is provisional. Payouts come days after what they pay, so a day knows them only
when it is read again: `LOOKBACK_DAYS` is for whoever schedules that. The service's own rows are kept as
received, in immutable objects named by their content. Called by `revenue/assets.py`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import Clock, business_day_bounds, business_day_of
from ettametta_pipelines.money import Money, totals
from ettametta_pipelines.revenue.categories import (
    SHOPIFY_CATEGORIES,
    TEST,
    TRANSFER,
    UNCLASSIFIED,
    booking_class,
)

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.vendors.shopify import ShopifyBalanceTransaction, ShopifyClient
    from ettametta_pipelines.vendors.stripe import BalanceTransaction, StripeClient

# A payout follows its transactions by days. One that is made later than this is not looked for.
PAYOUT_WITHIN = timedelta(days=15)
# How many closed days have to be read every night for each to meet all its payouts: a day more than those may take,
# since a payout lists its rows only once it is reconciled.
LOOKBACK_DAYS = PAYOUT_WITHIN.days + 1

Row = dict[str, Any]


class _Entry(Protocol):
    """What a balance transaction of any service has."""

    @property
    def id(self) -> str: ...
    @property
    def amount(self) -> Money: ...
    @property
    def fee(self) -> Money: ...
    @property
    def net(self) -> Money: ...


EntryT = TypeVar("EntryT", bound=_Entry)


@dataclass(frozen=True)
class LedgerDay:
    """One day as read: rows of the ledger table and the service's own rows behind them.

    `repeated` counts rows that came twice (pages that shifted) and were taken once. `payout_gaps` holds,
    per payout that is known by now to have paid any of these rows, its amount less the net of all it paid:
    zero when the books agree, and nothing for rows whose payout is still to come.
    """

    source: str
    day: date
    rows: list[Row]
    raw: list[Mapping[str, Any]]
    is_closed: bool
    repeated: int = 0
    payout_gaps: dict[str, Money] = field(default_factory=dict)


@dataclass(frozen=True)
class _Window:
    """The part of a business day that can be read now; whole seconds, as Stripe counts them."""

    day: date
    timezone: ZoneInfo
    start: datetime
    end: datetime
    fetched_at: datetime
    is_closed: bool

    @property
    def is_empty(self) -> bool:
        return self.end <= self.start


def _window(day: date, timezone: ZoneInfo, clock: Clock) -> _Window:
    start, end = business_day_bounds(day, timezone)
    now = clock()
    # The current second is left out: rows may still be added to it while pages are read.
    return _Window(day, timezone, start, min(end, now.replace(microsecond=0)), now, now >= end)


def stripe_day(client: "StripeClient", day: date, timezone: ZoneInfo, clock: Clock) -> LedgerDay:
    """Every Stripe balance transaction posted on a business day, with the payouts known by now to have paid them.

    Looks at payouts up to `PAYOUT_WITHIN` after the day's start and not after now, so a day read soon after it closed
    has few or none of them and has to be read again.
    """
    window = _window(day, timezone, clock)
    found = [] if window.is_empty else list(client.balance_transactions(window.start, window.end))
    entries = _each_once(found)
    paid_by, gaps = _payouts_of(client, entries, window)
    rows = [_stripe_row(entry, window, client.livemode, paid_by.get(entry.id)) for entry in entries]
    return LedgerDay(
        source="stripe",
        day=day,
        rows=_in_posting_order(rows),
        raw=[entry.raw for entry in entries],
        is_closed=window.is_closed,
        repeated=len(found) - len(entries),
        payout_gaps=gaps,
    )


def shopify_day(client: "ShopifyClient", day: date, timezone: ZoneInfo, clock: Clock) -> LedgerDay:
    """Every Shopify Payments balance transaction posted on a business day, each with its payout as of this reading."""
    window = _window(day, timezone, clock)
    found = [] if window.is_empty else list(client.balance_transactions(window.start, window.end))
    entries = _each_once(found)
    live = client.mode == "live"
    return LedgerDay(
        source="shopify",
        day=day,
        rows=_in_posting_order([_shopify_row(entry, window, live) for entry in entries]),
        raw=[entry.raw for entry in entries],
        is_closed=window.is_closed,
        repeated=len(found) - len(entries),
    )


def _each_once(entries: Sequence[EntryT]) -> list[EntryT]:
    return list({entry.id: entry for entry in entries}.values())


def _in_posting_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["occurred_at"], row["entry_id"]))


def _payouts_of(
    client: "StripeClient", entries: Sequence["BalanceTransaction"], window: _Window
) -> tuple[dict[str, str], dict[str, Money]]:
    """Payout id per transaction id, and per payout the difference between its amount and what it paid.

    Stripe's rows do not name their payout; only a payout lists its rows, and only when automatic and
    reconciled. Payouts are read oldest first until every row has one; rows that no payout up to now, or within
    `PAYOUT_WITHIN`, has paid get none.
    """
    open_ids = {entry.id for entry in entries if entry.type != "payout"}
    paid_by: dict[str, str] = {}
    gaps: dict[str, Money] = {}
    until = min(window.start + PAYOUT_WITHIN, window.fetched_at)
    payouts = client.payouts(window.start, until) if open_ids else ()
    for payout in sorted(payouts, key=lambda payout: (payout.created, payout.id)):
        if not open_ids:
            break
        if not (payout.automatic and payout.reconciled):
            continue
        paid = list(client.payout_transactions(payout.id))
        mine = open_ids & {entry.id for entry in paid}
        if mine:
            gaps[payout.id] = payout_gap(payout.amount, paid)
            paid_by |= dict.fromkeys(mine, payout.id)
            open_ids -= mine
    return paid_by, gaps


def payout_gap(amount: Money, paid: Sequence["BalanceTransaction"]) -> Money:
    """A payout's amount less the net of what it paid, its own transaction left out. Zero when the books agree."""
    total = Money(0, amount.currency)
    for entry in paid:
        if entry.type != "payout":
            total += entry.net
    return amount - total


def _stripe_row(entry: "BalanceTransaction", window: _Window, livemode: bool, payout_id: str | None) -> Row:
    presented = entry.presented
    return _common(entry, window, entry.created) | {
        "source": "stripe",
        "type": entry.type,
        "reporting_category": entry.reporting_category,
        "booking_class": booking_class(entry.reporting_category),
        "fee_details": json.dumps([[kind, money.minor] for kind, money in entry.fee_details]),
        "source_object_id": entry.source_id,
        "presented_minor": presented.minor if presented else None,
        "presented_currency": presented.currency if presented else None,
        "exchange_rate": entry.exchange_rate,
        "livemode": livemode,
        "available_on": entry.available_on,
        "status": entry.status,
        "payout_id": entry.source_id if entry.type == "payout" else payout_id,
    }


def _shopify_row(entry: "ShopifyBalanceTransaction", window: _Window, live: bool) -> Row:
    category = SHOPIFY_CATEGORIES.get(entry.type, UNCLASSIFIED)
    return _common(entry, window, entry.processed_at) | {
        "source": "shopify",
        "type": entry.type,
        "reporting_category": category,
        "booking_class": TEST if entry.test and live else booking_class(category),
        "source_object_id": entry.source_id,
        "livemode": live and not entry.test,
        "status": entry.payout_status,
        "payout_id": entry.payout_id,
    }


def _common(entry: _Entry, window: _Window, occurred_at: datetime) -> Row:
    return {
        # The day the row itself says, not the day that was asked for: a check compares the two.
        "day": business_day_of(occurred_at, window.timezone),
        "entry_id": entry.id,
        "amount_minor": entry.amount.minor,
        "fee_minor": entry.fee.minor,
        "net_minor": entry.net.minor,
        "currency": entry.net.currency,
        "exponent": entry.net.exponent,
        "occurred_at": occurred_at,
        "business_timezone": window.timezone.key,
        "fetched_at": window.fetched_at,
    }


def keep_raw(store: "ObjectStore", reading: LedgerDay) -> str | None:
    """Keep the service's rows as received, as JSON lines; returns the object's key, None for an empty day.

    The key is made of the content, so a reading is kept once, nothing is overwritten, and any state the
    table was ever in can be rebuilt.
    """
    from ettametta_pipelines.storage.objects import ObjectExists

    if not reading.raw:
        return None
    lines = sorted(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str) for row in reading.raw)
    data = "".join(line + "\n" for line in lines).encode()
    digest = hashlib.sha256(data).hexdigest()[:16]
    key = f"ledgers/{reading.source}/{reading.day.isoformat()}/{digest}.jsonl"
    # There already: the same rows were read before.
    with suppress(ObjectExists):
        store.create(key, data, content_type="application/x-ndjson")
    return key


def totals_per_currency(rows: Sequence[Row]) -> dict[str, Money]:
    """What was earned, per currency: net of revenue and costs, and the fees of transfers, as the mart counts it."""
    earned = [
        Money(-row["fee_minor"] if row["booking_class"] == TRANSFER else row["net_minor"], row["currency"])
        for row in rows
        if row["booking_class"] != TEST
    ]
    return totals(earned)
