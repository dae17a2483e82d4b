"""Runs the marts of `marts/*.sql` with DuckDB in memory over the tables handed in; no file is shared between runs.

Values reach the SQL as bound parameters only. Called by `revenue/assets.py`.
"""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ettametta_pipelines.revenue.contracts import DAILY_REVENUE, SHOPIFY_LEDGER, STRIPE_LEDGER

if TYPE_CHECKING:
    import pandas as pd

DAILY_REVENUE_SQL = Path(__file__).parent / "marts" / "daily_revenue.sql"


def daily_revenue(day: date, stripe_ledger: "pd.DataFrame", shopify_ledger: "pd.DataFrame") -> "pd.DataFrame":
    """The mart's rows for one business day (`DAILY_REVENUE`), from frames of the two ledgers."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET enable_external_access = false")
        connection.register("stripe_ledger", STRIPE_LEDGER.to_arrow(stripe_ledger))
        connection.register("shopify_ledger", SHOPIFY_LEDGER.to_arrow(shopify_ledger))
        answer = connection.execute(DAILY_REVENUE_SQL.read_text(), {"day": day})
        names = [column[0] for column in answer.description or ()]
        return DAILY_REVENUE.frame(dict(zip(names, row, strict=True)) for row in answer.fetchall())
