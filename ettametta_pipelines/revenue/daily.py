"""Runs the daily mart of `marts/daily_revenue.sql` over the stored ledgers, and compares it with them.

For one day or for years of them. Values reach the SQL as bound parameters only. Called by `revenue/assets.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.money import Money
from ettametta_pipelines.revenue.contracts import DAILY_REVENUE
from ettametta_pipelines.revenue.ledger import Finding, Wrong, lexicon, sentence
from ettametta_pipelines.revenue.raw import MARTS, slices
from ettametta_pipelines.revenue.reading import chunks

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

# Names and meaning of the mart's checks, for the UI.
MART_CHECKS = {
    "mart_equals_ledger": "Per day, service and currency, the mart adds up to the ledger, in money and in rows.",
    "net_is_gross_minus_fee": "On every row, net = gross - fee.",
}


@dataclass
class MartDays:
    """The mart's rows by day, how each day's net moved against what stood there before, and the checks."""

    rows: dict[date, list[dict[str, Any]]] = field(default_factory=dict)
    moved: dict[date, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def make_daily_revenue(store: "ObjectStore", lake: "Lake", days: Sequence[date]) -> MartDays:
    """Compute and store the mart of these days (in order) from the stored ledgers."""
    from ettametta_pipelines.storage.parquet import write_arrow

    made = MartDays()
    wrong: dict[str, Wrong] = {}
    looked_at = 0
    for chunk in chunks(days):
        bounds = {"first_day": chunk[0], "last_day": chunk[-1]}
        before = lake.rows(_sql("daily_nets"), bounds)
        rows = DAILY_REVENUE.checked(lake.arrow(_sql("daily_revenue"), bounds))
        by_day = dict(slices(rows, "day"))
        for day in chunk:
            table = by_day.get(day, rows.slice(0, 0))
            write_arrow(store, DAILY_REVENUE, table, day.isoformat())
            made.rows[day] = table.to_pylist()
            stood = [row for row in before if row["day"] == day]
            if stood:
                made.moved[day] = moves(stood, made.rows[day])
        with lexicon(lake):
            for failed in lake.rows(_sql("daily_checks"), bounds):
                wrong.setdefault(failed["check_name"], Wrong(0, [])).add(failed["wrong"], failed["named"])
        looked_at += sum(row["transactions"] + row["transfers"] for row in rows.to_pylist())
    made.findings = [Finding(name, sentence(wrong.get(name)), looked_at) for name in MART_CHECKS]
    return made


def moves(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> list[str]:
    """In words, what became of a day's nets: `stripe USD went from $10.00 to $39.00`."""
    old, new = (
        {(r["source"], r["currency"]): Money(r["net_minor"], r["currency"]) for r in rows}
        for rows in (before, after)
    )
    none = "nothing"
    return [
        f"{source} {currency} went from {old.get((source, currency), none)} to {new.get((source, currency), none)}"
        for source, currency in sorted(old.keys() | new.keys())
        if old.get((source, currency)) != new.get((source, currency))
    ]


def _sql(name: str) -> str:
    return (MARTS / f"{name}.sql").read_text()
