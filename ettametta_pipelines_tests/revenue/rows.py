"""Hand-written ledger rows: an ordinary card charge, with what a test wants to be different."""

from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from ettametta_pipelines.revenue.contracts import CONTRACTS, DAILY_REVENUE, SHOPIFY_LEDGER, STRIPE_LEDGER
from ettametta_pipelines.revenue.daily import MartDays, make_daily_revenue
from ettametta_pipelines.storage.lake import Lake
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import read_table, write_table

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


def daily_revenue(day: date, stripe_ledger: pd.DataFrame, shopify_ledger: pd.DataFrame) -> pd.DataFrame:
    """The mart's rows of a day over these ledgers."""
    return mart_of(day, stripe_ledger, shopify_ledger)[0]


def mart_of(
    day: date, stripe_ledger: pd.DataFrame, shopify_ledger: pd.DataFrame
) -> tuple[pd.DataFrame, MartDays]:
    """The mart as stored, and what making it said."""
    with TemporaryDirectory() as folder:
        store = ObjectStore.from_url(Path(folder).as_uri())
        write_table(store, STRIPE_LEDGER, stripe_ledger, day.isoformat())
        write_table(store, SHOPIFY_LEDGER, shopify_ledger, day.isoformat())
        with Lake.over(store, {contract.name: contract for contract in CONTRACTS}) as lake:
            made = make_daily_revenue(store, lake, [day])
        return read_table(store, DAILY_REVENUE, day.isoformat()), made
