"""The daily mart: what counts as revenue, what does not, and that nothing is lost on the way."""

from typing import Any

import pandas as pd

from ettametta_pipelines_tests.revenue.rows import DAY, daily_revenue, shopify_frame, stripe_frame

PAYOUT = {"booking_class": "transfer", "reporting_category": "payout", "type": "payout", "fee_minor": 0}


def one(mart: pd.DataFrame, source: str = "stripe", currency: str = "USD") -> dict[str, Any]:
    (row,) = mart[(mart["source"] == source) & (mart["currency"] == currency)].to_dict("records")
    return {str(name): value for name, value in row.items()}


def test_a_payout_is_a_transfer_and_not_revenue() -> None:
    row = one(daily_revenue(DAY, stripe_frame({}, PAYOUT | {"amount_minor": -50_000}), shopify_frame()))
    assert (row["gross_minor"], row["fee_minor"], row["net_minor"], row["transactions"]) == (
        2900,
        114,
        2786,
        1,
    )
    assert (row["transfers_minor"], row["transfers"]) == (-50_000, 1)


def test_the_fee_of_an_instant_payout_is_a_cost_all_the_same() -> None:
    row = one(
        daily_revenue(
            DAY, stripe_frame(PAYOUT | {"amount_minor": -10_000, "fee_minor": 100}), shopify_frame()
        )
    )
    assert (row["gross_minor"], row["fee_minor"], row["net_minor"], row["transfers_minor"]) == (
        0,
        100,
        -100,
        -10_000,
    )


def test_a_cost_the_service_books_on_its_own_is_a_fee_and_not_negative_income() -> None:
    fee = {"booking_class": "cost", "reporting_category": "fee", "amount_minor": -700, "fee_minor": 0}
    row = one(daily_revenue(DAY, stripe_frame({}, fee), shopify_frame()))
    assert (row["gross_minor"], row["fee_minor"], row["net_minor"]) == (2900, 814, 2086)


def test_refunds_and_disputes_lower_the_gross_and_are_shown_apart() -> None:
    refund = {"reporting_category": "refund", "amount_minor": -1000, "fee_minor": 0}
    dispute = {"reporting_category": "dispute", "amount_minor": -2900, "fee_minor": 1500}
    won = {"reporting_category": "dispute_reversal", "amount_minor": 2900, "fee_minor": 0}
    row = one(daily_revenue(DAY, stripe_frame({}, refund, dispute, won), shopify_frame()))
    assert (row["gross_minor"], row["refunds_minor"], row["disputes_minor"]) == (1900, -1000, 0)
    assert row["fee_minor"] == 114 + 1500


def test_currencies_and_services_are_never_added_up() -> None:
    yen = {"currency": "JPY", "exponent": 0, "amount_minor": 4300, "fee_minor": 155}
    mart = daily_revenue(DAY, stripe_frame({}, yen), shopify_frame({"amount_minor": 1999, "fee_minor": 88}))
    assert one(mart, currency="JPY")["net_minor"] == 4145
    assert one(mart, currency="JPY")["exponent"] == 0
    assert one(mart, "shopify")["net_minor"] == 1911
    assert len(mart) == 3


def test_test_rows_are_left_out() -> None:
    mart = daily_revenue(DAY, stripe_frame({}, {"booking_class": "test"}), shopify_frame())
    assert one(mart)["transactions"] == 1


def test_sums_beyond_what_a_float_can_hold_are_exact() -> None:
    huge = 2**60
    row = one(
        daily_revenue(DAY, stripe_frame({"amount_minor": huge + 1, "fee_minor": 0}, {}), shopify_frame())
    )
    assert row["gross_minor"] == huge + 1 + 2900
