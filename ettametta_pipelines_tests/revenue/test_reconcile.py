"""The checks of the books find what is wrong, name it, and pass what is right."""

from datetime import date
from typing import Any

import pandas as pd
import pytest

from ettametta_pipelines.money import Money
from ettametta_pipelines.revenue.categories import BOOKING_CLASSES, SHOPIFY_CATEGORIES, booking_class
from ettametta_pipelines.revenue.contracts import DAILY_REVENUE
from ettametta_pipelines.revenue.daily import daily_revenue
from ettametta_pipelines.revenue.reconcile import (
    LEDGER_CHECKS,
    ledger_findings,
    mart_findings,
    payout_finding,
)
from ettametta_pipelines_tests.revenue.rows import DAY, shopify_frame, stripe_frame


def failed(frame: pd.DataFrame) -> dict[str, str]:
    return {f.name: f.problem for f in ledger_findings(frame, DAY) if not f.passed}


def test_right_books_pass_every_check() -> None:
    findings = ledger_findings(stripe_frame({}, {"amount_minor": -500, "fee_minor": 0}), DAY)
    assert [f.name for f in findings] == list(LEDGER_CHECKS)
    assert all(f.passed and f.looked_at == 2 for f in findings)


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ({"net_minor": 2785}, "net_is_amount_minus_fee"),
        ({"fee_details": '[["stripe_fee", 100], ["tax", 15]]'}, "fee_details_add_up"),
        ({"day": date(2026, 3, 6)}, "rows_post_on_their_day"),
        ({"booking_class": "unclassified", "reporting_category": "loan_from_mars"}, "categories_are_known"),
    ],
)
def test_a_wrong_row_is_found_and_named(wrong: dict[str, Any], check: str) -> None:
    frame = stripe_frame({}, {"entry_id": "txn_wrong"} | wrong)
    problems = failed(frame)
    assert set(problems) == {check}
    assert "txn_wrong" in problems[check]


def test_a_movement_booked_twice_is_found() -> None:
    frame = stripe_frame({}, {})
    twice = pd.concat([frame, frame.tail(1)], ignore_index=True)
    assert set(failed(twice)) == {"entry_ids_are_unique"}


def test_many_wrong_rows_are_counted_and_only_some_named() -> None:
    frame = stripe_frame(*[{"net_minor": 1} for _ in range(9)])
    problem = failed(frame)["net_is_amount_minus_fee"]
    assert problem.startswith("9 wrong: ")
    assert problem.endswith(" and 4 more.")


def test_a_payout_that_does_not_add_up_is_named_with_the_difference() -> None:
    assert payout_finding({"po_1": Money(0, "USD")}).passed
    assert (
        "po_2 is off by $1.25" in payout_finding({"po_1": Money(0, "USD"), "po_2": Money(125, "USD")}).problem
    )


def test_a_mart_that_lost_or_doubled_rows_is_found() -> None:
    ledgers = [stripe_frame({}, {"currency": "JPY", "exponent": 0}), shopify_frame({})]
    mart = daily_revenue(DAY, *ledgers)
    assert all(f.passed for f in mart_findings(mart, ledgers))
    lost = mart[mart["currency"] != "JPY"].reset_index(drop=True)
    assert "stripe JPY" in mart_findings(lost, ledgers)[0].problem
    doubled = mart.assign(net_minor=mart["net_minor"] * 2, gross_minor=mart["gross_minor"] * 2)
    by_name = {f.name: f for f in mart_findings(doubled, ledgers)}
    assert not by_name["mart_equals_ledger"].passed
    assert not by_name["net_is_gross_minus_fee"].passed


def test_an_empty_day_passes() -> None:
    empty = [stripe_frame(), shopify_frame()]
    mart = daily_revenue(DAY, *empty)
    assert len(mart) == 0
    assert list(mart.columns) == [column.name for column in DAILY_REVENUE.columns]
    assert all(f.passed for f in mart_findings(mart, empty))


def test_every_shopify_category_is_one_the_books_know() -> None:
    assert {booking_class(category) for category in SHOPIFY_CATEGORIES.values()} <= {
        "revenue",
        "cost",
        "transfer",
    }
    assert BOOKING_CLASSES["payout"] == "transfer"
    assert booking_class("something_new") == "unclassified"
