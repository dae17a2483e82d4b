"""Ledger days read from the sandbox over HTTP: what must be true of the books whatever day is looked at."""

import random
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from ettametta_pipelines.clock import business_day_bounds
from ettametta_pipelines.money import UnknownCurrency
from ettametta_pipelines.revenue.contracts import BUSINESS_COLUMNS, SHOPIFY_LEDGER, STRIPE_LEDGER
from ettametta_pipelines.revenue.ledger import (
    LOOKBACK_DAYS,
    PAYOUT_WITHIN,
    LedgerDay,
    keep_raw,
    payout_gap,
    shopify_day,
    stripe_day,
)
from ettametta_pipelines.revenue.reconcile import ledger_findings
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.vendors.shopify import ShopifyClient
from ettametta_pipelines.vendors.stripe import StripeClient
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, utc
from ettametta_pipelines_tests.revenue.conftest import NOW

UTC = ZoneInfo("UTC")
LOS_ANGELES = ZoneInfo("America/Los_Angeles")
SPRING, AUTUMN = date(2026, 3, 8), date(2026, 11, 1)


def days(first: date, count: int) -> list[date]:
    return [first + timedelta(days=offset) for offset in range(count)]


def business(reading: LedgerDay) -> list[dict[str, Any]]:
    return [{name: row.get(name) for name in BUSINESS_COLUMNS} for row in reading.rows]


@pytest.fixture(params=["stripe", "shopify"])
def read_day(request: pytest.FixtureRequest, clock: SetClock) -> Callable[[date, ZoneInfo], LedgerDay]:
    """Reads a day of either ledger."""
    client = request.getfixturevalue(request.param)
    read: Any = {"stripe": stripe_day, "shopify": shopify_day}[request.param]
    return lambda day, timezone: read(client, day, timezone, clock)


ReadDay = Callable[[date, ZoneInfo], LedgerDay]


def test_every_check_of_the_ledger_passes_on_a_month_of_days(read_day: ReadDay) -> None:
    for day in days(date(2026, 10, 10), 31):
        reading = read_day(day, UTC)
        contract = {"stripe": STRIPE_LEDGER, "shopify": SHOPIFY_LEDGER}[reading.source]
        findings = ledger_findings(contract.frame(reading.rows), day)
        assert [finding for finding in findings if not finding.passed] == []
        assert reading.rows
        assert reading.repeated == 0


@pytest.mark.parametrize("turn", [SPRING, AUTUMN])
def test_days_around_a_clock_change_hold_every_row_exactly_once(
    stripe: StripeClient, shopify: ShopifyClient, clock: SetClock, turn: date
) -> None:
    span = days(turn - timedelta(days=3), 7)
    start, end = business_day_bounds(span[0], LOS_ANGELES)[0], business_day_bounds(span[-1], LOS_ANGELES)[1]
    for whole, by_day in (
        (stripe.balance_transactions(start, end), [stripe_day(stripe, d, LOS_ANGELES, clock) for d in span]),
        (
            shopify.balance_transactions(start, end),
            [shopify_day(shopify, d, LOS_ANGELES, clock) for d in span],
        ),
    ):
        booked = [row["entry_id"] for reading in by_day for row in reading.rows]
        assert sorted(booked) == sorted(entry.id for entry in whole)
        assert all(row["day"] == reading.day for reading in by_day for row in reading.rows)


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("2026-03-08T07:59:59", date(2026, 3, 7)),
        ("2026-03-08T08:00:00", date(2026, 3, 8)),
        ("2026-03-09T06:59:59", date(2026, 3, 8)),
        ("2026-03-09T07:00:00", date(2026, 3, 9)),
        ("2026-11-01T06:59:59", date(2026, 10, 31)),
        ("2026-11-01T07:00:00", date(2026, 11, 1)),
        ("2026-11-01T08:30:00", date(2026, 11, 1)),
        ("2026-11-01T09:30:00", date(2026, 11, 1)),
        ("2026-11-02T07:59:59", date(2026, 11, 1)),
        ("2026-11-02T08:00:00", date(2026, 11, 2)),
    ],
)
def test_a_row_at_the_edge_of_a_short_or_long_day_is_booked_on_that_day_alone(
    stripe: StripeClient, books: SandboxUnderTest, clock: SetClock, instant: str, day: date
) -> None:
    clock.now = utc(instant)
    charge = next(
        entry.source_id
        for entry in stripe.balance_transactions(clock.now - timedelta(days=3), clock.now)
        if entry.type == "charge"
    )
    refund = httpx.post(
        f"{books.url}/stripe/v1/refunds",
        data={"charge": charge, "amount": "7"},
        headers={"Authorization": "Bearer sandbox-key"},
    ).raise_for_status()
    clock.now = NOW
    for candidate in (day - timedelta(days=1), day, day + timedelta(days=1)):
        sources = [row["source_object_id"] for row in stripe_day(stripe, candidate, LOS_ANGELES, clock).rows]
        assert (refund.json()["id"] in sources) == (candidate == day)


def test_reading_a_closed_day_again_gives_the_same_business_columns(
    read_day: ReadDay, clock: SetClock
) -> None:
    day = date(2026, 11, 18)
    first = read_day(day, LOS_ANGELES)
    clock.sleep(60 * 86_400)
    again = read_day(day, LOS_ANGELES)
    assert business(first) == business(again)
    assert first.is_closed
    assert again.is_closed
    assert {row["payout_id"] for row in first.rows if row["type"] in ("charge", "CHARGE")} == {None}
    assert None not in {row["payout_id"] for row in again.rows}


def test_days_read_in_any_order_are_the_same_books(read_day: ReadDay) -> None:
    span = days(date(2026, 10, 25), 12)
    in_order = [business(read_day(day, LOS_ANGELES)) for day in span]
    shuffled = list(span)
    random.Random(7).shuffle(shuffled)
    by_day = {day: business(read_day(day, LOS_ANGELES)) for day in shuffled}
    assert [by_day[day] for day in span] == in_order


def test_the_balance_moves_by_the_net_of_the_days_between(stripe: StripeClient, clock: SetClock) -> None:
    start, span = utc("2026-11-01"), days(date(2026, 11, 1), 10)
    clock.now = start - timedelta(seconds=1)
    opening = stripe.balance()
    clock.now = start + timedelta(days=10, seconds=-1)
    closing = stripe.balance()
    clock.now = NOW
    moved = {currency: amount.minor for currency, amount in opening.items()}
    for day in span:
        for row in stripe_day(stripe, day, UTC, clock).rows:
            moved[row["currency"]] += row["net_minor"]
    assert moved == {currency: amount.minor for currency, amount in closing.items()}
    assert opening != closing


def test_every_reconciled_payout_equals_what_it_paid_and_no_row_has_two(stripe: StripeClient) -> None:
    owner: dict[str, str] = {}
    payouts = list(stripe.payouts(utc("2026-09-01"), NOW))
    assert {payout.amount.currency for payout in payouts} == {"USD", "JPY"}
    for payout in payouts:
        paid = list(stripe.payout_transactions(payout.id))
        assert payout_gap(payout.amount, paid).minor == 0
        own = [entry.net for entry in paid if entry.type == "payout"]
        assert own == [-payout.amount]
        for entry in paid:
            assert owner.setdefault(entry.id, payout.id) == payout.id


def test_a_paid_day_names_the_payout_of_every_row_and_its_gap_is_zero(
    stripe: StripeClient, clock: SetClock
) -> None:
    reading = stripe_day(stripe, date(2026, 10, 14), UTC, clock)
    assert all(row["payout_id"] for row in reading.rows)
    assert {gap.minor for gap in reading.payout_gaps.values()} == {0}


def test_todays_books_are_provisional_and_end_now(read_day: ReadDay, clock: SetClock) -> None:
    reading = read_day(NOW.date(), UTC)
    assert not reading.is_closed
    assert reading.rows
    assert all(row["occurred_at"] < NOW for row in reading.rows)
    assert read_day(NOW.date() + timedelta(days=2), UTC).rows == []


def test_rows_that_come_twice_are_booked_once(stripe: StripeClient, clock: SetClock) -> None:
    class ShiftedPages:
        """The client, but the last row of each page of ten comes again on the next."""

        livemode = False

        def balance_transactions(self, start: datetime, end: datetime) -> list[Any]:
            rows = list(stripe.balance_transactions(start, end))
            return [row for i, row in enumerate(rows) for _ in range(2 if i % 10 == 9 else 1)]

        def __getattr__(self, name: str) -> Any:
            return getattr(stripe, name)

    client: Any = ShiftedPages()
    straight = stripe_day(stripe, date(2026, 11, 10), UTC, clock)
    shifted = stripe_day(client, date(2026, 11, 10), UTC, clock)
    assert shifted.repeated >= 1
    assert business(shifted) == business(straight)


def test_a_row_in_a_currency_of_unknown_decimals_fails_the_day(
    stripe: StripeClient, books: SandboxUnderTest, clock: SetClock
) -> None:
    row = next(stripe.balance_transactions(utc("2026-11-10"), utc("2026-11-11"))).raw | {"currency": "xqq"}
    body = {"object": "list", "data": [row], "has_more": False, "url": "/v1/balance_transactions"}
    books.fault("stripe", path_regex="balance_transactions", status=200, body=body)
    with pytest.raises(UnknownCurrency):
        stripe_day(stripe, date(2026, 11, 10), UTC, clock)


def test_a_server_error_on_the_third_page_loses_nothing(
    stripe: StripeClient, books: SandboxUnderTest, clock: SetClock
) -> None:
    window = (utc("2026-10-01"), utc("2026-11-01"))
    whole = [entry.id for entry in stripe.balance_transactions(*window)]
    books.fault("stripe", path_regex="balance_transactions", after=2, status=500)
    assert [entry.id for entry in stripe.balance_transactions(*window)] == whole
    assert len(whole) > 300


def test_rows_as_received_are_kept_once_per_content(
    read_day: ReadDay, clock: SetClock, tmp_path: Path
) -> None:
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    day = date(2026, 11, 18)
    first = keep_raw(store, read_day(day, UTC))
    assert first is not None
    assert keep_raw(store, read_day(day, UTC)) == first
    clock.sleep(60 * 86_400)
    settled = keep_raw(store, read_day(day, UTC))
    kept = [info.key for info in store.list("ledgers/")]
    assert sorted(kept) == sorted({first, settled or ""})
    assert store.get(first).count(b"\n") == len(read_day(day, UTC).rows)
    assert keep_raw(store, read_day(date(2030, 1, 1), UTC)) is None


def test_a_day_read_as_often_as_the_lookback_says_has_all_its_payouts(
    stripe: StripeClient, clock: SetClock
) -> None:
    day = date(2026, 10, 14)
    early, last = (
        business_day_bounds(day + timedelta(days=days_later), UTC)[0] + timedelta(hours=3, minutes=30)
        for days_later in (1, LOOKBACK_DAYS)
    )
    clock.now = early
    first = stripe_day(stripe, day, UTC, clock)
    clock.now = last
    again = stripe_day(stripe, day, UTC, clock)
    assert not first.payout_gaps
    assert None in {row["payout_id"] for row in first.rows}
    assert again.payout_gaps
    assert None not in {row["payout_id"] for row in again.rows}


def test_the_last_night_that_reads_a_day_is_after_the_last_payout_it_can_have() -> None:
    assert LOOKBACK_DAYS == 16
    assert timedelta(days=LOOKBACK_DAYS) > PAYOUT_WITHIN


def test_the_lookback_can_be_imported_without_any_heavy_module() -> None:
    program = """
import sys
from ettametta_pipelines.revenue.ledger import LOOKBACK_DAYS
heavy = {"pandas", "pyarrow", "numpy", "duckdb", "sqlalchemy", "obstore", "stripe", "shopify", "httpx", "dagster"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
