"""Commissions from exports and postbacks: kept once, booked in the network's last word, refused when crooked."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettametta_pipelines.revenue.affiliates import (
    ImportRefused,
    book_affiliates,
    import_csv,
    record_postback,
    reopened_days,
)
from ettametta_pipelines_tests.frozen import SetClock, utc
from ettametta_pipelines_tests.revenue.books import LOS_ANGELES, Books, days

NOW = utc("2026-11-20T12:00:00")
DAY = date(2026, 11, 1)
HEADER = "occurred_at,amount,currency,transaction_id,status,link\n"


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "books", LOS_ANGELES, SetClock(NOW))


def bring(
    books: Books, text: str, name: str = "november.csv", network: str = "amazon-de", later: int = 0
) -> Any:
    now = NOW + timedelta(hours=later)
    return import_csv(books.store, network, name, text.encode(), timezone=LOS_ANGELES, now=now)


def booked(books: Books, count: int = 1) -> list[dict[str, Any]]:
    with books.lake() as lake:
        return book_affiliates(books.store, lake, days(DAY, count), LOS_ANGELES)


def test_rows_stand_under_the_local_day_of_the_sale_also_where_clocks_change(books: Books) -> None:
    text = HEADER + (
        "2026-11-01,1.50,EUR,a,pending,mugs\n2026-11-02T07:59:59Z,2,EUR,b,approved,\n"
        "2026-11-02T08:00:00Z,3,EUR,c,approved,\n2026-11-01T06:59:59+00:00,4,EUR,d,,\n"
    )
    assert bring(books, text).rows == 4
    assert [(row["transaction_id"], row["amount_minor"], row["status"], row["link_id"]) for row in booked(books)] == [
        ("a", 150, "pending", "mugs"), ("b", 200, "approved", None),
    ]  # fmt: skip


def test_the_same_file_again_changes_nothing(books: Books) -> None:
    text = "occurred_at,amount,currency\n2026-11-01,1.50,EUR\n2026-11-01,1.50,EUR\n"
    first = bring(books, text)
    rows = booked(books)
    again = bring(books, text, name="copy of november.csv", later=1)
    assert (first.was_known, again.was_known, first.sha256) == (False, True, again.sha256)
    assert booked(books) == rows
    # Two lines without an id are two sales, however alike.
    assert [row["amount_minor"] for row in rows] == [150, 150]


def test_the_networks_last_word_on_a_transaction_counts_whichever_way_it_came(books: Books) -> None:
    bring(books, HEADER + "2026-11-01T12:00:00,5.00,USD,t1,pending,\n")
    for status, later in (("approved", 2), ("reversed", 1)):
        assert record_postback(
            books.store, "amazon-de", "t1", occurred_at="2026-11-01T20:00:00+00:00",
            amount="5.00", currency="usd", status=status, timezone=LOS_ANGELES, now=NOW + timedelta(hours=later),
        )  # fmt: skip
    (row,) = booked(books)
    assert (row["status"], row["amount_minor"], row["file"]) == ("approved", 500, "postback")
    assert len(books.rows("affiliate_raw")) == 3


@pytest.mark.parametrize("decided", ["approved", "declined", "reversed"])
def test_a_late_pending_never_takes_a_decision_back(books: Books, decided: str) -> None:
    """An older export imported after a newer one, or a first postback that arrives last."""
    bring(books, HEADER + f"2026-11-01,5.00,USD,t1,{decided},\n")
    bring(books, HEADER + "2026-11-01,4.00,USD,t1,pending,\n", name="older.csv", later=1)
    (row,) = booked(books)
    assert (row["status"], row["amount_minor"]) == (decided, 500)


def test_of_two_decisions_the_one_heard_last_counts(books: Books) -> None:
    for later, status in enumerate(["approved", "reversed", "approved", "declined"]):
        bring(books, HEADER + f"2026-11-01,5.00,USD,t1,{status},\n", name=f"{later}.csv", later=later)
    (row,) = booked(books)
    assert row["status"] == "declined"


def test_a_postback_called_twice_is_kept_once(books: Books) -> None:
    said: dict[str, Any] = {
        "occurred_at": NOW.isoformat(), "amount": "-1.234", "currency": "KWD", "status": "reversed",
        "timezone": LOS_ANGELES,
    }  # fmt: skip
    assert record_postback(books.store, "kuwait", "t9", now=NOW, **said)
    assert not record_postback(books.store, "kuwait", "t9", now=NOW + timedelta(hours=1), **said)
    assert [row["amount_minor"] for row in books.rows("affiliate_raw")] == [-1234]


def test_a_transaction_whose_day_was_corrected_stands_under_its_last_day_only(books: Books) -> None:
    bring(books, HEADER + "2026-11-01,5,USD,t1,pending,\n")
    bring(books, HEADER + "2026-11-03,5,USD,t1,approved,\n", name="corrected.csv", later=1)
    assert [row["day"] for row in booked(books, 5)] == [date(2026, 11, 3)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("amount,currency\n1,EUR\n", "missing: occurred_at"),
        ("occurred_at,amount,currency,bonus\n2026-11-01,1,EUR,2\n", "unknown: bonus"),
        ("occurred_at,amount,currency\n2026-11-01,1.005,EUR\n", "line 2: '1.005' is not an exact amount of EUR"),
        ("occurred_at,amount,currency\n2026-11-01,1,EUR\n2026-11-01,1,XQQ\n", "line 3: The number of decimals"),
        ("occurred_at,amount,currency\nyesterday,1,EUR\n", "line 2: Invalid isoformat"),
        (HEADER + "2026-11-01,1,EUR,a,paid,\n", "status 'paid' is none of"),
        (HEADER + "2026-11-01,1,EUR,a,,\n2026-11-01,2,EUR,a,,\n", "transaction a stands in it twice"),
        ("occurred_at,amount,currency\n2026-11-01,1\n", "another number of fields in line 2"),
        ('occurred_at,amount,currency\n"2026-11-01,1,EUR\n', "no CSV"),
        ("", "missing: "),
        ("occurred_at,amount,currency\n2026-11-01,99999999999999999999,USD\n", "line 2: 99999999999999999999 is more"),
        ("occurred_at,amount,currency\n0001-01-01T00:00:00+14:00,1,USD\n", "line 2: the sale of 0001-01-01"),
        ("occurred_at,amount,currency\n9999-12-31T23:00:00-14:00,1,USD\n", "line 2: the sale of 9999-12-31"),
        ("occurred_at,amount,currency\n2026-12-01,1,USD\n", "line 2: the sale of 2026-12-01 lies in the future"),
        ("occurred_at,amount,currency\n2026-11-01,=1+1,USD\n", "'=1+1' is not an exact amount"),
    ],
)  # fmt: skip
def test_a_crooked_file_is_refused_whole_and_says_where(books: Books, text: str, said: str) -> None:
    with pytest.raises(ImportRefused) as caught:
        bring(books, text)
    assert said in caught.value.message
    assert books.rows("affiliate_raw") == []


def test_exports_whose_days_overlap_count_no_sale_twice_and_take_the_last_status(books: Books) -> None:
    head, one, two = (
        "occurred_at,amount,currency,status\n",
        "2026-11-01,1.50,EUR,pending\n",
        "2026-11-01,2,EUR,pending\n",
    )
    bring(books, head + one + one + two)
    bring(
        books,
        "\ufeff" + head + two + one.replace("pending", "approved") + one + one,
        name="later.csv",
        later=1,
    )
    assert sorted((row["amount_minor"], row["status"]) for row in booked(books)) == [
        (150, "approved"), (150, "pending"), (150, "pending"), (200, "pending"),
    ]  # fmt: skip


def test_a_postback_that_cannot_be_booked_says_why(books: Books) -> None:
    said: dict[str, Any] = {
        "occurred_at": "1793534400",
        "currency": "USD",
        "timezone": LOS_ANGELES,
        "now": NOW,
    }
    for amount, problem in (("1.005", "not an exact amount"), ("1" * 30, "more than any")):
        with pytest.raises(ImportRefused) as caught:
            record_postback(books.store, "impact", "t1", amount=amount, **said)
        assert problem in caught.value.message
    assert record_postback(books.store, "impact", "t1", amount="1.00", **said)
    assert [row["amount_minor"] for row in booked(books)] == [100]


def test_a_word_of_the_network_months_later_opens_the_day_of_the_sale_again(books: Books) -> None:
    bring(books, HEADER + "2026-08-01,5,USD,t1,pending,\n2026-09-01,7,USD,t2,approved,\n")
    later = 24 * 90
    bring(books, HEADER + "2026-08-01,5,USD,t1,approved,\n", name="approved.csv", later=later)
    bring(books, HEADER + "2026-09-02,7,USD,t2,approved,\n", name="moved.csv", later=later)
    with books.lake() as lake:
        assert reopened_days(lake, NOW + timedelta(hours=later)) == [
            date(2026, 8, 1), date(2026, 9, 1), date(2026, 9, 2),
        ]  # fmt: skip
        assert reopened_days(lake, NOW + timedelta(hours=later + 1)) == []


def test_a_name_that_is_no_slug_cannot_become_a_path(books: Books) -> None:
    with pytest.raises(ImportRefused):
        bring(books, HEADER, network="../stripe_raw")


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.sampled_from(["USD", "JPY", "KWD"])), max_size=20))
def test_sums_are_exact_for_any_amounts(rows: list[tuple[int, str]]) -> None:
    from tempfile import TemporaryDirectory

    from ettametta_pipelines.money import Money

    with TemporaryDirectory() as folder:
        books = Books(Path(folder), LOS_ANGELES, SetClock(NOW))
        lines = []
        for minor, currency in rows:
            digits = Money(0, currency).exponent
            sign, text = "-" if minor < 0 else "", f"{abs(minor):0{digits + 1}d}"
            amount = f"{text[:-digits]}.{text[-digits:]}" if digits else text
            lines.append(f"2026-11-01,{sign}{amount},{currency}\n")
        bring(books, "occurred_at,amount,currency\n" + "".join(lines))
        assert sorted((row["amount_minor"], row["currency"]) for row in booked(books)) == sorted(rows)
