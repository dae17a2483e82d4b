"""What must be true of the books: findings over a ledger day, and over the mart against its ledgers.

Plain functions over frames; `revenue/assets.py` turns findings into asset checks, which stop what is
downstream.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.money import Money
from ettametta_pipelines.revenue.categories import TEST, UNCLASSIFIED

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """Outcome of one check: what was looked at, and a sentence that names what is wrong, empty when nothing is."""

    name: str
    problem: str
    looked_at: int

    @property
    def passed(self) -> bool:
        return not self.problem


# Names and meaning of the checks, for the UI. All but `payouts_add_up` stop the mart.
LEDGER_CHECKS = {
    "net_is_amount_minus_fee": "On every row, net = amount - fee.",
    "fee_details_add_up": "On every row with fee details, they add up to the fee.",
    "entry_ids_are_unique": "Every movement is booked once.",
    "rows_post_on_their_day": "Every row was posted between the local midnights of its partition's day.",
    "categories_are_known": "Every row is placed as revenue, cost or transfer; an unknown category is not guessed.",
}
PAYOUT_CHECK = "payouts_add_up"
PAYOUT_CHECK_MEANS = (
    "Every payout known at the last reading to have paid rows of this day equals the net of all it paid. Passes "
    "without comparing anything while the payouts are still to come; `rows_without_payout` counts the rows left."
)
MART_CHECKS = {
    "mart_equals_ledger": "Per service and currency, the mart adds up to the ledger, in money and in rows.",
    "net_is_gross_minus_fee": "On every row, net = gross - fee.",
}


def ledger_findings(ledger: "pd.DataFrame", day: date) -> list[Finding]:
    """Findings of LEDGER_CHECKS over one day's rows."""
    rows = _records(ledger)
    wrong: dict[str, list[str]] = {
        "net_is_amount_minus_fee": [
            r["entry_id"] for r in rows if r["net_minor"] != r["amount_minor"] - r["fee_minor"]
        ],
        "fee_details_add_up": [r["entry_id"] for r in rows if not _details_add_up(r)],
        "entry_ids_are_unique": sorted(ledger.loc[ledger["entry_id"].duplicated(), "entry_id"]),
        "rows_post_on_their_day": [f"{r['entry_id']} on {r['day']}" for r in rows if r["day"] != day],
        "categories_are_known": [
            f"{r['entry_id']} ({r['type']}, {r['reporting_category']})"
            for r in rows
            if r["booking_class"] == UNCLASSIFIED
        ],
    }
    return [Finding(name, _sentence(wrong[name]), len(rows)) for name in LEDGER_CHECKS]


def _details_add_up(row: Mapping[str, Any]) -> bool:
    details = row["fee_details"]
    return not isinstance(details, str) or sum(part for _, part in json.loads(details)) == row["fee_minor"]


def payout_finding(gaps: Mapping[str, Money]) -> Finding:
    """Finding of PAYOUT_CHECK over the payouts met so far; `looked_at` is their number, zero while there are none."""
    wrong = [f"{payout} is off by {gap}" for payout, gap in gaps.items() if gap.minor]
    return Finding(PAYOUT_CHECK, _sentence(wrong), len(gaps))


def mart_findings(mart: "pd.DataFrame", ledgers: Sequence["pd.DataFrame"]) -> list[Finding]:
    """Findings of MART_CHECKS: nothing lost and nothing counted twice between the ledgers and the mart."""
    booked: dict[tuple[str, str], list[int]] = {}
    for ledger in ledgers:
        for row in _records(ledger):
            if row["booking_class"] != TEST:
                total = booked.setdefault((row["source"], row["currency"]), [0, 0])
                total[0] += row["net_minor"]
                total[1] += 1
    shown = {
        (r["source"], r["currency"]): [
            r["net_minor"] + r["transfers_minor"],
            r["transactions"] + r["transfers"],
        ]
        for r in _records(mart)
    }
    nothing = [0, 0]
    wrong = [
        f"{key[0]} {key[1]}: ledger {booked.get(key, nothing)}, mart {shown.get(key, nothing)}"
        for key in sorted(booked.keys() | shown.keys())
        if booked.get(key) != shown.get(key)
    ]
    crooked = [
        f"{r['source']} {r['currency']}"
        for r in _records(mart)
        if r["net_minor"] != r["gross_minor"] - r["fee_minor"]
    ]
    sums = sum(count for _, count in booked.values())
    return [
        Finding("mart_equals_ledger", _sentence(wrong), sums),
        Finding("net_is_gross_minus_fee", _sentence(crooked), len(mart)),
    ]


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _sentence(wrong: Sequence[str]) -> str:
    if not wrong:
        return ""
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return f"{len(wrong)} wrong: {', '.join(wrong[:SHOWN])}{more}."
