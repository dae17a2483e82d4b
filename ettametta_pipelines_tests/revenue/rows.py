"""Hand-written ledger rows: an ordinary card charge, with what a test wants to be different."""

from datetime import UTC, date, datetime
from itertools import count
from typing import Any

import pandas as pd

from ettametta_pipelines.revenue.contracts import SHOPIFY_LEDGER, STRIPE_LEDGER

DAY = date(2026, 3, 5)
_AT = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)
_numbers = count()


def _row(source: str, changes: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "day": DAY,
        "source": source,
        "entry_id": f"txn_{next(_numbers)}",
        "type": "charge",
        "reporting_category": "charge",
        "booking_class": "revenue",
        "amount_minor": 2900,
        "fee_minor": 114,
        "currency": "USD",
        "exponent": 2,
        "occurred_at": _AT,
        "business_timezone": "UTC",
        "livemode": False,
        "fetched_at": _AT,
    } | changes
    return {"net_minor": row["amount_minor"] - row["fee_minor"]} | row


def stripe_frame(*changes: dict[str, Any]) -> pd.DataFrame:
    return STRIPE_LEDGER.frame([_row("stripe", change) for change in changes])


def shopify_frame(*changes: dict[str, Any]) -> pd.DataFrame:
    return SHOPIFY_LEDGER.frame([_row("shopify", change) for change in changes])
