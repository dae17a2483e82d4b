"""Rows of other rooms' tables, as commerce reads them."""

from datetime import UTC, date, datetime
from itertools import count
from typing import Any

_NUMBERS = count(1)


def earning(code: str, minor: int, *, status: str = "approved", currency: str = "USD") -> dict[str, Any]:
    """One row of `affiliate_earnings` for a sale through this code."""
    return {
        "day": date(2026, 11, 20), "network": "impact", "transaction_id": f"t{next(_NUMBERS)}", "status": status,
        "amount_minor": minor, "currency": currency, "exponent": 2, "link_id": code, "order_id": None,
        "occurred_at": datetime(2026, 11, 20, 12, tzinfo=UTC), "business_timezone": "UTC",
        "received_at": datetime(2026, 11, 21, 12, tzinfo=UTC), "file": "postback",
    }  # fmt: skip
