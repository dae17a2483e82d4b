"""What must be true of the books across days: payouts, reversals, refunds, disputes and the balance, to the unit.

Each invariant is one query of `marts/check_*.sql` whose rows are sentences about the objects that break it. What
cannot be compared yet, because a payout is not itemised or a day between is not booked, breaks nothing and is counted.
What must be true of single rows is checked when they are booked (`ledger.py`). Called by `revenue/assets.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import business_day_of
from ettametta_pipelines.revenue.contracts import LEDGER_RECONCILIATION
from ettametta_pipelines.revenue.ledger import LEDGERS, SHOWN, Finding, Wrong, booked_days, lexicon, sentence
from ettametta_pipelines.revenue.raw import MARTS, ZONE_SLACK, relations, slices
from ettametta_pipelines.revenue.reading import LOOKBACK_DAYS, OPEN_WITHIN, PAYOUT_WITHIN

if TYPE_CHECKING:
    import pyarrow as pa

    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

# Names and meaning of the checks, for the UI.
LEDGER_CHECKS = {
    "net_is_amount_minus_fee": "On every row, net = amount - fee.",
    "fee_details_add_up": "On every row, the parts of the fee add up to it; Stripe only.",
    "entry_ids_are_unique": "Every movement is booked once.",
    "rows_post_on_their_day": "Every row was posted between the local midnights of its partition's day.",
    "categories_are_known": "Every row is placed as revenue, cost or transfer; an unknown category is not guessed.",
    "test_rows_stay_out": "No test row counts as revenue on a day with real money.",
}
RECONCILIATION_CHECKS = {
    "payouts_add_up": "Every itemised payout equals the net of all it paid.",
    "payout_rows_are_booked": "Every row a payout paid is in the ledger with the same net, and so is its own row.",
    "paid_once": "Every movement is in at most one payout.",
    "booked_once": "Every movement stands under one day.",
    "failed_payouts_are_reversed": "What a failed or cancelled payout took out has come back, to the unit.",
    "refunds_match_charges": "What a charge says was refunded is what its refunds that went through come to.",
    "disputes_settle": "A won dispute gave back what it took, a lost one nothing, none more than it took.",
    "balance_moves_by_the_net": "Opening balance + net of the ledger = closing balance, per currency.",
}
FRESH_CHECK = "latest_row_is_fresh"
FRESH_WITHIN = timedelta(hours=26)
FRESH_MEANS = "The newest movement is younger than 26 hours; looked at when yesterday or today is booked."


@dataclass(frozen=True)
class Reconciliation:
    """Payouts of the days as a table, what the checks found, and how many payouts wait to be compared."""

    rows: "pa.Table"
    findings: Sequence[Finding]
    waiting: int


def reconcile(store: "ObjectStore", lake: "Lake", days: Sequence[date], timezone: ZoneInfo) -> Reconciliation:
    """Compare the stored books of these days, and what they reach back to, with what the services say."""
    import pyarrow as pa

    first, last = days[0], days[-1]
    booked = [(source, day) for source in LEDGERS for day in booked_days(store, source)]
    names, dates = ([item[place] for item in booked] for place in (0, 1))
    given: dict[str, Any] = {
        "timezone": timezone.key,
        "first_day": first,
        "last_day": last,
        "since_day": first - OPEN_WITHIN,
        "lookback_day": first - timedelta(days=LOOKBACK_DAYS),
        "from_day": first - ZONE_SLACK,
        "to_day": last + PAYOUT_WITHIN,
    }
    with (
        lake.unchanging(),
        lexicon(lake),
        relations(
            lake,
            booked_days=pa.table(
                {"source": pa.array(names, pa.string()), "day": pa.array(dates, pa.date32())}
            ),
        ),
    ):
        rows = LEDGER_RECONCILIATION.checked(_asked(lake, "reconciled_payouts", given))
        with relations(lake, reconciled=rows):
            findings = [_finding(lake, name, given, rows.num_rows) for name in RECONCILIATION_CHECKS]
    standings = rows["standing"].to_pylist()
    return Reconciliation(rows, findings, sum(s not in ("agrees", "differs") for s in standings))


def store_reconciliation(store: "ObjectStore", found: Reconciliation, days: Sequence[date]) -> dict[str, int]:
    """Write the table by day; rows per partition."""
    from ettametta_pipelines.storage.parquet import write_arrow

    by_day = dict(slices(found.rows, "day"))
    written = {}
    for day in days:
        table = by_day.get(day, found.rows.slice(0, 0))
        write_arrow(store, LEDGER_RECONCILIATION, table, day.isoformat())
        written[day.isoformat()] = table.num_rows
    return written


def freshness(lake: "Lake", source: str, days: Sequence[date], now: datetime, timezone: ZoneInfo) -> Finding:
    """Whether the newest movement is recent, where these days reach yesterday."""
    today = business_day_of(now, timezone)
    if days[-1] < today - timedelta(days=1):
        return Finding(FRESH_CHECK, "", 0)
    since = {"since_day": today - timedelta(days=LOOKBACK_DAYS)}
    ((newest,),) = (row.values() for row in lake.rows(_sql(f"{source}_newest"), since))
    if newest is not None and now - newest < FRESH_WITHIN:
        return Finding(FRESH_CHECK, "", 1)
    said = (
        f"The newest {source} movement is of {newest:%Y-%m-%d %H:%M} UTC"
        if newest
        else "There is no movement"
    )
    return Finding(FRESH_CHECK, f"{said}; nothing was sold since, or the service has not posted it.", 1)


def _finding(lake: "Lake", name: str, given: Mapping[str, Any], looked_at: int) -> Finding:
    said = sorted(_asked(lake, f"check_{name}", given)["said"].to_pylist())
    return Finding(name, sentence(Wrong(len(said), said[:SHOWN])), looked_at)


def _asked(lake: "Lake", name: str, given: Mapping[str, Any]) -> "pa.Table":
    """A query with those of the parameters that it names."""
    sql = _sql(name)
    return lake.arrow(sql, {key: value for key, value in given.items() if f"${key}" in sql} or None)


def _sql(name: str) -> str:
    return (MARTS / f"{name}.sql").read_text()
