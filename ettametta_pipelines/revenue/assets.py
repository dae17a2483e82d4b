"""Assets of the revenue room: what the payment services said, their ledgers, the daily mart and the reconciliation.

Thin: logic is in the files beside. Each writes its partitions itself, a month at a time, so that a run may be for one
day or for years.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from time import monotonic
from typing import TYPE_CHECKING, Any

import dagster as dg

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.money import Money, totals
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.range_runs import SINGLE_RUN_POLICY
from ettametta_pipelines.orchestration.resources import ShopifyResource, StoreResource, StripeResource
from ettametta_pipelines.partitions import DAY
from ettametta_pipelines.previews import cell, markdown_table
from ettametta_pipelines.revenue.affiliates import book_affiliates
from ettametta_pipelines.revenue.contracts import (
    AFFILIATE_EARNINGS,
    AFFILIATE_RAW,
    CONTRACTS,
    DAILY_REVENUE,
    LEDGER_RECONCILIATION,
    SHOPIFY_LEDGER,
    SHOPIFY_RAW,
    STRIPE_LEDGER,
    STRIPE_RAW,
)
from ettametta_pipelines.revenue.daily import MART_CHECKS, make_daily_revenue
from ettametta_pipelines.revenue.ledger import BookedDays, Finding, book_ledger, totals_per_currency
from ettametta_pipelines.revenue.margin_assets import MARGIN_ASSETS
from ettametta_pipelines.revenue.raw import DayRead
from ettametta_pipelines.revenue.reading import READERS
from ettametta_pipelines.revenue.reconcile import (
    FRESH_CHECK,
    FRESH_MEANS,
    LEDGER_CHECKS,
    RECONCILIATION_CHECKS,
    freshness,
    reconcile,
    store_reconciliation,
)
from ettametta_pipelines.revenue.youtube_assets import youtube_revenue
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.parquet import Written
from ettametta_pipelines.storage.tables import table_metadata

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

GROUP = "revenue"
OWNERS = ["team:revenue"]
REOPENED_CHECK = "closed_days_stand"
REOPENED_MEANS = "This reading changed nothing on a day that was closed before; fails with what it changed."
# Below what a person reads of a run of a year.
SHOWN_ROWS = 20

_DAILY: dict[str, Any] = {
    "partitions_def": DAY,
    "group_name": GROUP,
    "owners": OWNERS,
    "io_manager_key": "tables",
    # The body writes; `Written` says what. Whoever takes the table as an input gets a DataFrame.
    "dagster_type": dg.Any,
    "backfill_policy": SINGLE_RUN_POLICY,
}


def _guards(asset: str, checks: Mapping[str, str], *, blocking: bool = True) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=asset, description=means, blocking=blocking)
        for name, means in checks.items()
    ]


def _result(finding: Finding, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=finding.name,
        passed=finding.passed,
        severity=severity,
        description=finding.problem or None,
        metadata={"looked_at": finding.looked_at},
    )


def _errors(findings: Iterable[Finding]) -> list[dg.AssetCheckResult]:
    return [_result(finding, dg.AssetCheckSeverity.ERROR) for finding in findings]


def _days(context: dg.AssetExecutionContext) -> list[date]:
    return sorted(date.fromisoformat(key) for key in context.partition_keys)


def _lake(store: StoreResource) -> "Lake":
    from ettametta_pipelines.storage.lake import Lake

    return Lake.over(store.open(), {contract.name: contract for contract in CONTRACTS})


def _materialized(
    context: dg.AssetExecutionContext,
    rows: Mapping[str, int],
    per_day: Mapping[str, Mapping[str, Any]],
    of_run: Mapping[str, Any],
    checks: Sequence[dg.AssetCheckResult],
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The run's result; in a run of several days each day's partition shows its own metadata."""
    for day, said in per_day.items():
        context.add_asset_metadata(
            {**said, "dagster/partition_row_count": rows.get(day, 0), "rows": rows.get(day, 0)},
            partition_key=day,
        )
    return dg.MaterializeResult(value=Written(rows), metadata=dict(of_run), check_results=list(checks))


def _net_metadata(totals: Mapping[str, Money]) -> dict[str, Any]:
    """Per currency, the net for reading and as whole minor units for the plots."""
    shown = {f"net_{currency}": str(money) for currency, money in totals.items()}
    return shown | {f"net_minor_{currency}": money.minor for currency, money in totals.items()}


def _read(
    context: dg.AssetExecutionContext, source: str, store: StoreResource, client: Any
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Read the run's days of a service into its raw table and say what is new, and which closed days it changed."""
    started = monotonic()
    with failure_policy(context), _lake(store) as lake:
        read: list[DayRead] = []
        reader = READERS[source](client, store.open(), lake, _days(context), get_settings().timezone, utc_now)
        for day in reader:
            read.append(day)
            if day.news:
                context.log.warning(f"{day.day} was closed and changed: {'; '.join(day.news[:SHOWN_ROWS])}")
    reopened = [day for day in read if day.news]
    per_day = {
        day.day.isoformat(): {
            "is_closed": day.is_closed,
            "listed": day.listed,
            "added": day.added,
            "changed": day.changed,
            "gone": day.gone,
            "repeated_rows_dropped": day.repeated,
            **({"reopened_by": dg.MetadataValue.md(_bullets(day.news))} if day.news else {}),
        }
        for day in read
    }
    problem = "; ".join(f"{day.day}: {', '.join(day.news[:3])}" for day in reopened[:5])
    finding = Finding(REOPENED_CHECK, problem, sum(day.was_closed for day in read))
    of_run = {
        "vendor": get_settings().endpoint(source).standing,
        "days": len(read),
        "days_reopened": len(reopened),
        "took_s": round(monotonic() - started, 2),
    }
    rows = {day.day.isoformat(): day.added + day.changed + day.gone for day in read}
    return _materialized(context, rows, per_day, of_run, [_result(finding, dg.AssetCheckSeverity.WARN)])


def _bullets(sentences: Sequence[str]) -> str:
    more = [f"and {len(sentences) - SHOWN_ROWS} more"] if len(sentences) > SHOWN_ROWS else []
    return "\n".join(f"- {cell(said)}" for said in [*sentences[:SHOWN_ROWS], *more])


@dg.asset(
    **_DAILY,
    kinds={"stripe", "parquet"},
    metadata=table_metadata(STRIPE_RAW),
    check_specs=_guards("stripe_raw", {REOPENED_CHECK: REOPENED_MEANS}, blocking=False),
)
def stripe_raw(context: dg.AssetExecutionContext, store: StoreResource, stripe: StripeResource):  # type: ignore[no-untyped-def]
    """What Stripe said of this business day, as received: every version of every object, appended and never changed.

    Reading a day again adds only what is new or different (*added*, *changed*), and notes what is no longer listed
    (*gone*). Payouts made since, what they paid, open disputes and the balance come along. A change to the money of a
    day that was closed is a warning with the objects' names (`closed_days_stand`, *reopened_by*). A year is read in
    one run, a month at a time.

    **When it fails:** a key problem says which variable to set. Run it again: whole days are kept, the rest is added.
    """
    return _read(context, "stripe", store, stripe.client())


@dg.asset(
    **_DAILY,
    kinds={"shopify", "parquet"},
    metadata=table_metadata(SHOPIFY_RAW),
    check_specs=_guards("shopify_raw", {REOPENED_CHECK: REOPENED_MEANS}, blocking=False),
)
def shopify_raw(context: dg.AssetExecutionContext, store: StoreResource, shopify: ShopifyResource):  # type: ignore[no-untyped-def]
    """What Shopify Payments said of this business day, as received: every version of every movement of the balance.

    Appended and never changed, as `stripe_raw`: *added*, *changed* and *gone* tell what this reading brought, and a
    change to a closed day is a warning with the objects' names.

    **When it fails:** throttling is waited out by itself; a missing scope or a frozen store needs the store's owner.
    """
    return _read(context, "shopify", store, shopify.client())


def _book(context: dg.AssetExecutionContext, source: str, store: StoreResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Book the run's days of a service from its raw table; the checks, and what an operator wants to see of a day."""
    started = monotonic()
    settings, days = get_settings(), _days(context)
    with failure_policy(context), _lake(store) as lake:
        booked = book_ledger(store.open(), lake, source, days, settings.timezone)
        fresh = freshness(lake, source, days, utc_now(), settings.timezone)
    everything = [row for rows in booked.summary.values() for row in rows]
    checks = [
        *_errors(booked.findings(LEDGER_CHECKS)),
        _result(fresh, dg.AssetCheckSeverity.WARN),
    ]
    of_run = {
        "vendor": settings.endpoint(source).standing,
        "days": len(days),
        "ledger_rows": sum(booked.rows.values()),
        "took_s": round(monotonic() - started, 2),
    }
    if len(days) > 1:
        of_run |= {"net_of_all_days": ", ".join(map(str, totals_per_currency(everything).values())) or "none"}
    per_day = {day.isoformat(): _day_metadata(booked, day) for day in days}
    rows = {day.isoformat(): count for day, count in booked.rows.items()}
    return _materialized(context, rows, per_day, of_run, checks)


def _day_metadata(booked: BookedDays, day: date) -> dict[str, Any]:
    summary = booked.summary.get(day, [])
    return {
        **_net_metadata(totals_per_currency(summary)),
        "rows": booked.rows[day],
        "rows_without_payout": sum(row["without_payout"] for row in summary),
        "preview": dg.MetadataValue.md(_ledger_preview(summary)),
    }


def _ledger_preview(summary: Sequence[Mapping[str, Any]]) -> str:
    """Sums per category and currency; a day has a handful of them."""
    lines = [
        [
            cell(row["reporting_category"]),
            row["booking_class"],
            str(row["rows"]),
            *(str(Money(row[name], row["currency"])) for name in ("amount_minor", "fee_minor", "net_minor")),
        ]
        for row in summary
    ]
    return markdown_table(["category", "counts as", "rows", "amount", "fee", "net"], lines[:SHOWN_ROWS])


@dg.asset(
    **_DAILY,
    kinds={"duckdb", "sql"},
    deps=[stripe_raw],
    metadata=table_metadata(STRIPE_LEDGER),
    check_specs=[
        *_guards("stripe_ledger", LEDGER_CHECKS),
        *_guards("stripe_ledger", {FRESH_CHECK: FRESH_MEANS}, blocking=False),
    ],
)
def stripe_ledger(context: dg.AssetExecutionContext, store: StoreResource):  # type: ignore[no-untyped-def]
    """Every movement of the Stripe balance that was posted on this business day: charges, refunds, disputes, payouts.

    Revenue is booked from here and not from charges, since only the balance knows fees, conversions and reversals.
    Computed from `stripe_raw` alone: materialising a day again books what was last said of it, so a closed day books
    the same money and fills in the payouts made since (*rows_without_payout*).

    **When it fails:** a check that fails names the rows. An unknown category has to be placed in
    `revenue/categories.py` before the day's revenue is computed; an unknown currency in `money.py`.
    """
    return _book(context, "stripe", store)


@dg.asset(
    **_DAILY,
    kinds={"duckdb", "sql"},
    deps=[shopify_raw],
    metadata=table_metadata(SHOPIFY_LEDGER),
    check_specs=[
        *_guards("shopify_ledger", LEDGER_CHECKS),
        *_guards("shopify_ledger", {FRESH_CHECK: FRESH_MEANS}, blocking=False),
    ],
)
def shopify_ledger(context: dg.AssetExecutionContext, store: StoreResource):  # type: ignore[no-untyped-def]
    """Every movement of the Shopify Payments balance that was posted on this business day.

    The store's side of the books, in the same columns and categories as the Stripe ledger, so that one mart reads
    both. Amounts are Shopify's decimal strings, read exactly. Computed from `shopify_raw` alone.

    **When it fails:** a check that fails names the rows; an amount that is no exact number of minor units is refused
    with its row, never rounded.
    """
    return _book(context, "shopify", store)


@dg.asset(
    **_DAILY,
    kinds={"duckdb", "sql"},
    deps=[stripe_ledger, shopify_ledger, youtube_revenue],
    metadata=table_metadata(DAILY_REVENUE),
    check_specs=_guards("daily_revenue", MART_CHECKS),
)
def daily_revenue(context: dg.AssetExecutionContext, store: StoreResource):  # type: ignore[no-untyped-def]
    """What was earned on this business day, per service and currency: gross, fees and net, in minor units.

    Computed by `revenue/marts/daily_revenue.sql` from the two ledgers and YouTube's finalised revenue alone. Payouts
    are transfers to the bank and stand beside revenue, not in it; currencies are never added up or converted. Where a
    day's net is another than when it was last computed, *moved* says from what to what.

    **When it fails:** `mart_equals_ledger` names the day, service and currency that do not add up. Materialise both
    ledgers of the day again first; if that does not help, the SQL no longer covers a kind of row.
    """
    started = monotonic()
    days = _days(context)
    with failure_policy(context), _lake(store) as lake:
        made = make_daily_revenue(store.open(), lake, days)
    per_day = {
        day.isoformat(): {
            **_net_metadata(totals(Money(row["net_minor"], row["currency"]) for row in rows)),
            "rows": len(rows),
            "ledger_rows": sum(row["transactions"] + row["transfers"] for row in rows),
            "preview": dg.MetadataValue.md(_mart_preview(rows)),
            **({"moved": dg.MetadataValue.md(_bullets(made.moved[day]))} if made.moved.get(day) else {}),
        }
        for day, rows in made.rows.items()
    }
    of_run = {
        "days": len(days),
        "days_moved": sum(1 for moved in made.moved.values() if moved),
        "took_s": round(monotonic() - started, 2),
    }
    counts = {day.isoformat(): len(rows) for day, rows in made.rows.items()}
    return _materialized(context, counts, per_day, of_run, _errors(made.findings))


def _mart_preview(mart: Sequence[Mapping[str, Any]]) -> str:
    columns = ("gross_minor", "refunds_minor", "disputes_minor", "fee_minor", "net_minor", "transfers_minor")
    lines = [
        [cell(row["source"]), *(str(Money(row[name], row["currency"])) for name in columns)] for row in mart
    ]
    headers = ["source", "gross", "of it refunds", "of it disputes", "fees", "net", "transfers"]
    return markdown_table(headers, lines[:SHOWN_ROWS])


@dg.asset(
    **_DAILY,
    kinds={"duckdb", "sql"},
    deps=[stripe_ledger, shopify_ledger],
    metadata=table_metadata(LEDGER_RECONCILIATION),
    check_specs=_guards("ledger_reconciliation", RECONCILIATION_CHECKS, blocking=False),
)
def ledger_reconciliation(context: dg.AssetExecutionContext, store: StoreResource):  # type: ignore[no-untyped-def]
    """The books beside what the services say of payouts, refunds, disputes and the balance, to the minor unit.

    One row per payout posted on the day, with what it paid and the difference. The checks look back as far as the
    objects reach: 35 days for payouts and refunds, 210 for disputes. What cannot be compared yet is counted
    (*payouts_waiting*) and fails nothing.

    **When it fails:** the check's description names the objects and by how much they are off. Materialise the named
    days of the raw tables and ledgers again; what still differs then is a question to the service, with these ids.
    """
    started = monotonic()
    settings, days = get_settings(), _days(context)
    with failure_policy(context), _lake(store) as lake:
        found = reconcile(store.open(), lake, days, settings.timezone)
        written = store_reconciliation(store.open(), found, days)
    rows = found.rows.to_pylist()
    per_day = {
        day.isoformat(): {
            "preview": dg.MetadataValue.md(_payout_preview([r for r in rows if r["day"] == day]))
        }
        for day in days
    }
    of_run = {
        "days": len(days),
        "payouts": len(rows),
        "payouts_waiting": found.waiting,
        "payouts_differing": sum(row["standing"] == "differs" for row in rows),
        "took_s": round(monotonic() - started, 2),
    }
    return _materialized(context, written, per_day, of_run, _errors(found.findings))


def _payout_preview(payouts: Sequence[Mapping[str, Any]]) -> str:
    def shown(row: Mapping[str, Any], name: str) -> str:
        return "–" if row[name] is None else str(Money(row[name], row["currency"]))

    if not payouts:
        return "No payout was posted on this day."
    amounts = ("amount_minor", "paid_minor", "difference_minor")
    lines = [
        [cell(row["payout_id"]), *(shown(row, name) for name in amounts), row["standing"]] for row in payouts
    ]
    return markdown_table(
        ["payout", "paid out", "its rows come to", "difference", "standing"], lines[:SHOWN_ROWS]
    )


affiliate_raw = dg.AssetSpec(
    "affiliate_raw",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet"},
    metadata=table_metadata(AFFILIATE_RAW),
    description="""
What affiliate networks said of their commissions: the rows of imported exports (`ettametta affiliate-import`) and of
postbacks, as they came, appended and never changed. Filed outside of runs, as people and networks bring them.

**When it fails:** an import is refused as a whole and names the lines; correct the export and import it again. The
same file again changes nothing.
""",
)


@dg.asset(
    **_DAILY,
    kinds={"duckdb", "sql"},
    deps=[affiliate_raw],
    metadata=table_metadata(AFFILIATE_EARNINGS),
)
def affiliate_earnings(context: dg.AssetExecutionContext, store: StoreResource):  # type: ignore[no-untyped-def]
    """Commissions of affiliate networks for sales made on this business day, in the networks' last word.

    A commission is pending for weeks and may be declined or reversed; each transaction is here once, with its last
    status, and statuses are not added up. Materialise a day again to take in what was imported since.

    **When it fails:** a row of an old import no longer fits; the message names the file. Nothing is lost: the rows as
    they came stay in `affiliate_raw`.
    """
    started = monotonic()
    days = _days(context)
    with failure_policy(context), _lake(store) as lake:
        rows = book_affiliates(store.open(), lake, days, get_settings().timezone)
    counts = {day.isoformat(): sum(row["day"] == day for row in rows) for day in days}
    per_day = {
        day.isoformat(): {
            **_net_metadata(
                totals(_money(row) for row in rows if row["day"] == day and row["status"] == "approved")
            ),
            "rows": counts[day.isoformat()],
            "preview": dg.MetadataValue.md(_affiliate_preview([row for row in rows if row["day"] == day])),
        }
        for day in days
    }
    of_run = {"days": len(days), "transactions": len(rows), "took_s": round(monotonic() - started, 2)}
    return _materialized(context, counts, per_day, of_run, [])


def _money(row: Mapping[str, Any]) -> Money:
    return Money(row["amount_minor"], row["currency"])


def _affiliate_preview(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "No commission is known for sales of this day."
    keys = sorted({(row["network"], row["status"], row["currency"]) for row in rows})
    lines = []
    for key in keys:
        found = [row for row in rows if (row["network"], row["status"], row["currency"]) == key]
        lines.append([cell(key[0]), key[1], str(len(found)), str(totals(map(_money, found))[key[2]])])
    return markdown_table(["network", "status", "transactions", "commission"], lines[:SHOWN_ROWS])


ASSETS = [
    stripe_raw,
    shopify_raw,
    stripe_ledger,
    shopify_ledger,
    daily_revenue,
    ledger_reconciliation,
    affiliate_raw,
    affiliate_earnings,
    youtube_revenue,
    *MARGIN_ASSETS,
]
