"""Checks of single rows and of the mart; what spans days is in `test_simulated_year.py`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ettametta_pipelines.money import Money
from ettametta_pipelines.revenue.categories import BOOKING_CLASSES, SHOPIFY_CATEGORIES, booking_class
from ettametta_pipelines.revenue.contracts import CONTRACTS, DAILY_REVENUE, STRIPE_LEDGER
from ettametta_pipelines.revenue.daily import moves
from ettametta_pipelines.revenue.ledger import Wrong, lexicon, sentence
from ettametta_pipelines.revenue.reconcile import FRESH_CHECK, freshness
from ettametta_pipelines.storage.lake import Lake
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import write_table
from ettametta_pipelines_tests.revenue.rows import DAY, mart_of, shopify_frame, stripe_frame


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.over(ObjectStore.from_url(tmp_path.as_uri()), {c.name: c for c in CONTRACTS})


def test_many_wrong_rows_are_counted_and_only_some_named() -> None:
    assert sentence(None) == ""
    wrong = Wrong(0, [])
    wrong.add(5, ["a", "b", "c", "d"])
    wrong.add(4, ["e", "f"])
    assert sentence(wrong) == "9 wrong: a; b; c; d; e; and 4 more."


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("12.5", "USD"), ("-0.05", "USD"), ("0", "USD"), ("1200.0", "JPY"), ("1.234", "KWD"), ("-12.3400", "USD"),
        ("007.10", "USD"), ("92233720368547758.07", "USD"),
    ],
)  # fmt: skip
def test_amounts_are_read_in_sql_as_money_reads_them(lake: Lake, text: str, currency: str) -> None:
    money = Money.parse(text, currency)
    with lexicon(lake):
        ((read,),) = (
            row.values() for row in lake.rows("select minor_units(?, ?) as read", [text, money.exponent])
        )
    assert read == money.minor


@pytest.mark.parametrize("text", ["12.345", "1e3", "", "1,200.00", "+5", " 5", ".5", "5.", "NaN"])
def test_what_is_no_exact_amount_is_read_as_none(lake: Lake, text: str) -> None:
    with lexicon(lake):
        assert lake.rows("select minor_units(?, 2) as read", [text]) == [{"read": None}]


@pytest.mark.parametrize(
    ("minor", "currency", "exponent", "shown"),
    [
        (2900, "USD", 2, "USD 29.00"), (-5, "USD", 2, "-USD 0.05"), (1200, "JPY", 0, "JPY 1200"),
        (-1234, "KWD", 3, "-KWD 1.234"), (0, "KWD", 3, "KWD 0.000"), (123456789012, "USD", 2, "USD 1234567890.12"),
    ],
)  # fmt: skip
def test_amounts_are_shown_with_their_currencys_decimals(
    lake: Lake, minor: int, currency: str, exponent: int, shown: str
) -> None:
    with lexicon(lake):
        assert lake.rows("select shown(?, ?, ?) as text", [minor, currency, exponent]) == [{"text": shown}]


def test_the_mart_of_right_ledgers_passes_and_of_an_empty_day_is_empty() -> None:
    _, made = mart_of(DAY, stripe_frame({}, {"currency": "JPY", "exponent": 0}), shopify_frame({}))
    assert all(finding.passed for finding in made.findings)
    mart, made = mart_of(DAY, stripe_frame(), shopify_frame())
    assert len(mart) == 0
    assert list(mart.columns) == [column.name for column in DAILY_REVENUE.columns]
    assert all(finding.passed for finding in made.findings)


def test_a_category_the_mart_does_not_cover_is_a_difference_that_is_named() -> None:
    _, made = mart_of(DAY, stripe_frame({}, {"booking_class": "unclassified"}), shopify_frame())
    (failed,) = [finding for finding in made.findings if not finding.passed]
    assert failed.name == "mart_equals_ledger"
    assert (
        "2026-03-05 stripe USD: the ledger has USD 55.72 in 2 rows, the mart USD 27.86 in 1" in failed.problem
    )


def test_a_net_that_moved_is_told_from_what_to_what() -> None:
    before = [{"source": "stripe", "currency": "USD", "net_minor": 1000}]
    after = [
        {"source": "stripe", "currency": "USD", "net_minor": 3900},
        {"source": "shopify", "currency": "USD", "net_minor": 5},
    ]
    assert moves(before, after) == [
        "shopify USD went from nothing to $0.05", "stripe USD went from $10.00 to $39.00",
    ]  # fmt: skip
    assert moves(after, after) == []


def test_every_shopify_category_is_one_the_books_know() -> None:
    assert {booking_class(category) for category in SHOPIFY_CATEGORIES.values()} <= {
        "revenue",
        "cost",
        "transfer",
    }
    assert BOOKING_CLASSES["payout"] == "transfer"
    assert booking_class("something_new") == "unclassified"


@pytest.mark.parametrize(
    ("age_h", "days_back", "passed", "said"),
    [
        (25.9, 0, True, ""),
        (25.9, 1, True, ""),
        (26, 0, False, "The newest stripe movement is of 2026-03-05 09:30 UTC; nothing was sold since"),
        (26, 1, False, "The newest stripe movement is of 2026-03-05 09:30 UTC; nothing was sold since"),
        (26, 2, True, ""),
        (40 * 24, 0, False, "There is no movement; nothing was sold since"),
    ],
)
def test_the_newest_movement_is_young_or_named_where_the_days_reach_yesterday(
    lake: Lake, tmp_path: Path, age_h: float, days_back: int, passed: bool, said: str
) -> None:
    store = ObjectStore.from_url(tmp_path.as_uri())
    write_table(store, STRIPE_LEDGER, stripe_frame({}), DAY.isoformat())
    now = datetime(2026, 3, 5, 9, 30, tzinfo=UTC) + timedelta(hours=age_h)
    last = now.date() - timedelta(days=days_back)
    found = freshness(lake, "stripe", [last - timedelta(days=3), last], now, ZoneInfo("UTC"))
    assert found.name == FRESH_CHECK
    assert found.passed is passed
    assert found.problem.startswith(said)
    assert found.looked_at == (0 if days_back == 2 else 1)


def test_the_day_of_a_fresh_movement_is_the_business_zones(lake: Lake, tmp_path: Path) -> None:
    store = ObjectStore.from_url(tmp_path.as_uri())
    write_table(store, STRIPE_LEDGER, stripe_frame({}), DAY.isoformat())
    # 7 March 03:00 UTC is still the 6th in Los Angeles, and the 5th its yesterday.
    now = datetime(2026, 3, 7, 3, tzinfo=UTC)
    assert not freshness(lake, "stripe", [DAY], now, ZoneInfo("America/Los_Angeles")).passed
    assert freshness(lake, "stripe", [DAY], now, ZoneInfo("UTC")).looked_at == 0
