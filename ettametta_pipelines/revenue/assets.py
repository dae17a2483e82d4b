"""Assets of the revenue room: the two payment ledgers and the daily mart. Thin: logic is in the files beside."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from time import monotonic
from typing import Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failure_policy import failure_policy
from ettametta_pipelines.money import Money, totals
from ettametta_pipelines.partitions import DAY
from ettametta_pipelines.previews import cell, markdown_table
from ettametta_pipelines.resources import ShopifyResource, StoreResource, StripeResource
from ettametta_pipelines.revenue.contracts import DAILY_REVENUE, SHOPIFY_LEDGER, STRIPE_LEDGER
from ettametta_pipelines.revenue.ledger import (
    LedgerDay,
    keep_raw,
    shopify_day,
    stripe_day,
    totals_per_currency,
)
from ettametta_pipelines.revenue.reconcile import (
    LEDGER_CHECKS,
    MART_CHECKS,
    PAYOUT_CHECK,
    PAYOUT_CHECK_MEANS,
    Finding,
    ledger_findings,
    mart_findings,
    payout_finding,
)
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.storage.tables import table_metadata


def _guards(asset: str, checks: dict[str, str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=asset, description=means, blocking=True)
        for name, means in checks.items()
    ]


def _results(findings: Iterable[Finding]) -> list[dg.AssetCheckResult]:
    return [
        dg.AssetCheckResult(
            check_name=finding.name,
            passed=finding.passed,
            severity=dg.AssetCheckSeverity.WARN
            if finding.name == PAYOUT_CHECK
            else dg.AssetCheckSeverity.ERROR,
            description=finding.problem or None,
            metadata={"looked_at": finding.looked_at},
        )
        for finding in findings
    ]


def _net_metadata(totals: Mapping[str, Money]) -> dict[str, Any]:
    """Per currency, the net for reading and as whole minor units for the plots."""
    shown = {f"net_{currency}": str(money) for currency, money in totals.items()}
    return shown | {f"net_minor_{currency}": money.minor for currency, money in totals.items()}


def _ledger_preview(rows: Sequence[Mapping[str, Any]]) -> str:
    """Sums per category and currency; a day has a handful of them."""
    sums: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        total = sums.setdefault((row["reporting_category"], row["currency"]), [0, 0, 0, 0])
        parts = (1, row["amount_minor"], row["fee_minor"], row["net_minor"])
        total[:] = [so_far + part for so_far, part in zip(total, parts, strict=True)]
    lines = [
        [cell(category), str(count), *(str(Money(minor, currency)) for minor in money)]
        for (category, currency), (count, *money) in sorted(sums.items())
    ]
    return markdown_table(["category", "rows", "amount", "fee", "net"], lines[:20])


def _mart_preview(mart: pd.DataFrame) -> str:
    columns = ("gross_minor", "refunds_minor", "disputes_minor", "fee_minor", "net_minor", "transfers_minor")
    lines = [
        [cell(row["source"]), *(str(Money(int(row[name]), row["currency"])) for name in columns)]
        for row in mart.to_dict("records")
    ]
    headers = ["source", "gross", "of it refunds", "of it disputes", "fees", "net", "transfers"]
    return markdown_table(headers, lines[:20])


def _booked(
    contract: TableContract, reading: LedgerDay, store: StoreResource, seconds: float
) -> dg.MaterializeResult[pd.DataFrame]:
    """The table, its checks and what an operator wants to see of one ledger day."""
    frame = contract.frame(reading.rows)
    findings = ledger_findings(frame, reading.day)
    if reading.source == "stripe":
        findings.append(payout_finding(reading.payout_gaps))
    return dg.MaterializeResult(
        value=frame,
        metadata={
            **_net_metadata(totals_per_currency(reading.rows)),
            "vendor": get_settings().endpoint(reading.source).standing,
            "is_closed": reading.is_closed,
            "rows": len(frame),
            "repeated_rows_dropped": reading.repeated,
            "rows_without_payout": int(frame["payout_id"].isna().sum()),
            "payouts_compared": len(reading.payout_gaps),
            "raw_rows": keep_raw(store.open(), reading) or "none",
            "duration_s": seconds,
            "preview": dg.MetadataValue.md(_ledger_preview(reading.rows)),
        },
        check_results=_results(findings),
    )


@dg.asset(  # type: ignore[call-overload]
    partitions_def=DAY,
    group_name="revenue",
    owners=["team:revenue"],
    kinds={"stripe", "parquet"},
    io_manager_key="tables",
    dagster_type=pd.DataFrame,
    metadata=table_metadata(STRIPE_LEDGER),
    check_specs=[
        *_guards("stripe_ledger", LEDGER_CHECKS),
        dg.AssetCheckSpec(PAYOUT_CHECK, asset="stripe_ledger", description=PAYOUT_CHECK_MEANS),
    ],
)
def stripe_ledger(
    context: dg.AssetExecutionContext, store: StoreResource, stripe: StripeResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Every movement of the Stripe balance that was posted on this business day: charges, refunds, disputes, payouts.

    Revenue is booked from here and not from charges, since only the balance knows fees, conversions and
    reversals. Materialising a closed day again books the same money and fills in the payouts made since, for up
    to 15 days (*rows_without_payout*); today is provisional until it is over (`is_closed`).

    **When it fails:** a key problem says which variable to set; a check that fails names the rows. An unknown
    category has to be placed in `revenue/categories.py` before the day's revenue is computed.
    """
    with failure_policy(context):
        day = date.fromisoformat(context.partition_key)
        started = monotonic()
        reading = stripe_day(stripe.client(), day, get_settings().timezone, utc_now)
        return _booked(STRIPE_LEDGER, reading, store, monotonic() - started)


@dg.asset(  # type: ignore[call-overload]
    partitions_def=DAY,
    group_name="revenue",
    owners=["team:revenue"],
    kinds={"shopify", "parquet"},
    io_manager_key="tables",
    dagster_type=pd.DataFrame,
    metadata=table_metadata(SHOPIFY_LEDGER),
    check_specs=_guards("shopify_ledger", LEDGER_CHECKS),
)
def shopify_ledger(
    context: dg.AssetExecutionContext, store: StoreResource, shopify: ShopifyResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Every movement of the Shopify Payments balance that was posted on this business day.

    The store's side of the books, in the same columns and categories as the Stripe ledger, so that one
    mart reads both. Amounts are Shopify's decimal strings, read exactly. Materialising a closed day again
    books the same money and fills in the payouts made since (*rows_without_payout*).

    **When it fails:** throttling is waited out by itself; a missing scope or a frozen store needs the store's
    owner.
    """
    with failure_policy(context):
        day = date.fromisoformat(context.partition_key)
        started = monotonic()
        reading = shopify_day(shopify.client(), day, get_settings().timezone, utc_now)
        return _booked(SHOPIFY_LEDGER, reading, store, monotonic() - started)


@dg.asset(  # type: ignore[call-overload]
    partitions_def=DAY,
    group_name="revenue",
    owners=["team:revenue"],
    kinds={"duckdb", "sql"},
    io_manager_key="tables",
    dagster_type=pd.DataFrame,
    metadata=table_metadata(DAILY_REVENUE),
    check_specs=_guards("daily_revenue", MART_CHECKS),
)
def daily_revenue(
    context: dg.AssetExecutionContext, stripe_ledger: pd.DataFrame, shopify_ledger: pd.DataFrame
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """What was earned on this business day, per service and currency: gross, fees and net, in minor units.

    Computed by `revenue/marts/daily_revenue.sql` from the two ledgers alone. Payouts are transfers to the
    bank and stand beside revenue, not in it; currencies are never added up or converted.

    **When it fails:** `mart_equals_ledger` names the service and currency that do not add up. Materialise
    both ledgers of the day again first; if that does not help, the SQL no longer covers a kind of row.
    """
    from ettametta_pipelines.revenue.daily import daily_revenue as compute

    with failure_policy(context):
        day = date.fromisoformat(context.partition_key)
        started = monotonic()
        mart = compute(day, stripe_ledger, shopify_ledger)
        nets = totals(Money(int(row["net_minor"]), row["currency"]) for row in mart.to_dict("records"))
        return dg.MaterializeResult(
            value=mart,
            metadata={
                **_net_metadata(nets),
                "rows": len(mart),
                "ledger_rows": len(stripe_ledger) + len(shopify_ledger),
                "duration_s": monotonic() - started,
                "preview": dg.MetadataValue.md(_mart_preview(mart)),
            },
            check_results=_results(mart_findings(mart, [stripe_ledger, shopify_ledger])),
        )


ASSETS = [stripe_ledger, shopify_ledger, daily_revenue]
