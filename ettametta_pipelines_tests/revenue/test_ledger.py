"""Readings of the sandboxed services: days, edges, payouts and faults, booked from what was read."""

import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ettametta_pipelines.clock import business_day_bounds
from ettametta_pipelines.money import UnknownCurrency
from ettametta_pipelines.revenue.contracts import BUSINESS_COLUMNS
from ettametta_pipelines.revenue.reading import LOOKBACK_DAYS, PAYOUT_WITHIN, chunks
from ettametta_pipelines.revenue.reconcile import LEDGER_CHECKS
from ettametta_pipelines.vendors.shopify import ShopifyClient
from ettametta_pipelines.vendors.stripe import StripeClient
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, utc
from ettametta_pipelines_tests.revenue.books import LOS_ANGELES, UTC, Books, days, problems
from ettametta_pipelines_tests.revenue.conftest import NOW

SPRING, AUTUMN = date(2026, 3, 8), date(2026, 11, 1)
SOURCES = ("stripe", "shopify")


class Desk:
    """Both services and the books they are read into."""

    def __init__(self, stripe: StripeClient, shopify: ShopifyClient, books: Books) -> None:
        self.clients: dict[str, Any] = {"stripe": stripe, "shopify": shopify}
        self.books = books

    def day(self, source: str, day: date) -> list[dict[str, Any]]:
        """The ledger rows of a day, read and booked now."""
        return self.span(source, [day])

    def span(self, source: str, span: list[date]) -> list[dict[str, Any]]:
        self.books.read(source, self.clients[source], span)
        self.books.book(source, span)
        return [row for day in span for row in self.books.ledger(source, day)]


@pytest.fixture
def desk(
    stripe: StripeClient, shopify: ShopifyClient, clock: SetClock, tmp_path: Path
) -> Callable[..., Desk]:
    return lambda zone=UTC: Desk(stripe, shopify, Books(tmp_path / zone.key.replace("/", "-"), zone, clock))


MakeDesk = Callable[..., Desk]


def business(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in BUSINESS_COLUMNS} for row in rows]


@pytest.mark.parametrize("source", SOURCES)
def test_every_check_of_the_ledger_passes_on_a_month_of_days(desk: MakeDesk, source: str) -> None:
    at = desk()
    span = days(date(2026, 10, 10), 31)
    read = at.books.read(source, at.clients[source], span)
    booked = at.books.book(source, span)
    assert problems(booked.findings(LEDGER_CHECKS)) == {}
    assert all(day.listed and not day.repeated for day in read)
    assert booked.rows == {day.day: day.listed for day in read}


@pytest.mark.parametrize("turn", [SPRING, AUTUMN])
@pytest.mark.parametrize("source", SOURCES)
def test_days_around_a_clock_change_hold_every_row_exactly_once(
    desk: MakeDesk, source: str, turn: date
) -> None:
    at = desk(LOS_ANGELES)
    span = days(turn - timedelta(days=3), 7)
    start, end = business_day_bounds(span[0], LOS_ANGELES)[0], business_day_bounds(span[-1], LOS_ANGELES)[1]
    rows = at.span(source, span)
    whole = [entry.id for entry in at.clients[source].balance_transactions(start, end)]
    assert sorted(row["entry_id"] for row in rows) == sorted(whole)


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
    stripe: StripeClient, books: SandboxUnderTest, clock: SetClock, desk: MakeDesk, instant: str, day: date
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
        sources = [row["source_object_id"] for row in desk(LOS_ANGELES).day("stripe", candidate)]
        assert (refund.json()["id"] in sources) == (candidate == day)


@pytest.mark.parametrize("source", SOURCES)
def test_reading_a_closed_day_again_gives_the_same_business_columns(
    desk: MakeDesk, clock: SetClock, source: str
) -> None:
    at, day = desk(LOS_ANGELES), date(2026, 11, 18)
    first = at.day(source, day)
    clock.sleep(60 * 86_400)
    again = at.day(source, day)
    assert business(first) == business(again)
    assert {row["payout_id"] for row in first if row["type"] in ("charge", "CHARGE")} == {None}
    assert None not in {row["payout_id"] for row in again}


def test_the_balance_moves_by_the_net_of_the_days_between(
    stripe: StripeClient, desk: MakeDesk, clock: SetClock
) -> None:
    at, start, span = desk(), utc("2026-11-01"), days(date(2026, 11, 1), 10)
    clock.now = start - timedelta(seconds=1)
    opening = stripe.balance()
    clock.now = start + timedelta(days=10, seconds=-1)
    closing = stripe.balance()
    clock.now = NOW
    moved = {currency: amount.minor for currency, amount in opening.items()}
    for row in at.span("stripe", span):
        moved[row["currency"]] += row["net_minor"]
    assert moved == {currency: amount.minor for currency, amount in closing.items()}
    assert opening != closing


def test_every_payout_agrees_and_every_check_passes_on_a_season(desk: MakeDesk) -> None:
    at = desk()
    span = days(date(2026, 10, 1), 40)
    assert problems(at.books.close(at.clients, span)) == {}
    payouts = at.books.rows("ledger_reconciliation")
    assert {row["currency"] for row in payouts} == {"USD", "JPY"}
    assert {row["standing"] for row in payouts if row["source"] == "stripe"} == {"agrees"}
    assert {row["difference_minor"] for row in payouts if row["standing"] == "agrees"} == {0}


def test_a_paid_day_names_the_payout_of_every_row(desk: MakeDesk) -> None:
    assert all(row["payout_id"] for row in desk().day("stripe", date(2026, 10, 14)))


@pytest.mark.parametrize("source", SOURCES)
def test_todays_books_are_provisional_and_end_now(desk: MakeDesk, source: str) -> None:
    at = desk()
    (read,) = at.books.read(source, at.clients[source], [NOW.date()])
    at.books.book(source, [NOW.date()])
    rows = at.books.ledger(source, NOW.date())
    assert not read.is_closed
    assert rows
    assert all(row["occurred_at"] < NOW for row in rows)
    assert at.day(source, NOW.date() + timedelta(days=2)) == []


def test_rows_that_come_twice_are_booked_once(
    stripe: StripeClient, desk: MakeDesk, tmp_path: Path, clock: SetClock
) -> None:
    class ShiftedPages:
        """The client, but every page comes twice."""

        livemode = False

        def balance_transaction_pages(self, start: datetime, end: datetime) -> list[str]:
            return [page for page in stripe.balance_transaction_pages(start, end) for _ in range(2)]

        def __getattr__(self, name: str) -> Any:
            return getattr(stripe, name)

    day = date(2026, 11, 10)
    straight = desk().day("stripe", day)
    books = Books(tmp_path / "shifted", UTC, clock)
    (read,) = books.read("stripe", ShiftedPages(), [day])
    books.book("stripe", [day])
    assert read.repeated == len(straight)
    assert business(books.ledger("stripe", day)) == business(straight)


def test_a_row_in_a_currency_of_unknown_decimals_fails_the_day_and_is_named(
    stripe: StripeClient, books: SandboxUnderTest, desk: MakeDesk
) -> None:
    row = next(stripe.balance_transactions(utc("2026-11-10"), utc("2026-11-11"))).raw | {"currency": "xqq"}
    body = {"object": "list", "data": [row], "has_more": False, "url": "/v1/balance_transactions"}
    books.fault("stripe", path_regex="balance_transactions", status=200, body=body)
    with pytest.raises(UnknownCurrency, match=row["id"]):
        desk().day("stripe", date(2026, 11, 10))


def test_a_server_error_on_the_third_page_loses_nothing(
    stripe: StripeClient, books: SandboxUnderTest
) -> None:
    window = (utc("2026-10-01"), utc("2026-11-01"))
    whole = [entry.id for entry in stripe.balance_transactions(*window)]
    books.fault("stripe", path_regex="balance_transactions", after=2, status=500)
    assert [entry.id for entry in stripe.balance_transactions(*window)] == whole
    assert len(whole) > 300


def test_a_day_read_as_often_as_the_lookback_says_has_all_its_payouts(
    desk: MakeDesk, clock: SetClock
) -> None:
    at, day = desk(), date(2026, 10, 1)
    early, last = (
        business_day_bounds(day + timedelta(days=days_later), UTC)[0] + timedelta(hours=3, minutes=30)
        for days_later in (1, LOOKBACK_DAYS)
    )
    clock.now = early
    assert None in {row["payout_id"] for row in at.day("stripe", day)}
    clock.now = last
    assert None not in {row["payout_id"] for row in at.day("stripe", day)}


def test_the_last_night_that_reads_a_day_is_after_the_last_payout_it_can_have() -> None:
    assert timedelta(days=LOOKBACK_DAYS) > PAYOUT_WITHIN >= timedelta(days=31)


def test_days_are_taken_a_month_at_a_time_and_apart_where_one_is_missing() -> None:
    span = days(date(2026, 1, 1), 40)
    parts = list(chunks([*span, date(2026, 6, 1)]))
    assert [len(part) for part in parts] == [31, 9, 1]
    assert [day for part in parts for day in part] == [*span, date(2026, 6, 1)]


def test_the_lookback_can_be_imported_without_any_heavy_module() -> None:
    program = """
import sys
from ettametta_pipelines.revenue.reading import LOOKBACK_DAYS
heavy = {"pandas", "pyarrow", "numpy", "duckdb", "sqlalchemy", "obstore", "stripe", "shopify", "httpx", "dagster"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
