"""What videos earn and cost, in the Dagster UI: orders' journeys, costs, attribution, margin. Thin: logic is beside."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from time import monotonic
from typing import Any

import dagster as dg

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.money import Money, totals
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.range_runs import SINGLE_RUN_POLICY
from ettametta_pipelines.orchestration.resources import (
    LakeResource,
    ShopifyResource,
    StateResource,
    StoreResource,
)
from ettametta_pipelines.partitions import DAY
from ettametta_pipelines.previews import cell, markdown_table, number
from ettametta_pipelines.revenue.margin_contracts import (
    ATTRIBUTION_CHECKS,
    CONTENT_COSTS,
    CONTENT_MARGIN,
    COST_CHECKS,
    MARGIN_CHECKS,
    REVENUE_ATTRIBUTION,
    SHOPIFY_ORDERS,
)
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.storage.parquet import Written
from ettametta_pipelines.storage.tables import table_metadata

Row = Mapping[str, Any]

SHOWN = 20
# Best and worst of a dimension.
ENDS = 5


def _day_table(
    contract: TableContract, checks: Mapping[str, str], **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorates what writes the days of a table itself; `options` are those of `dg.asset`."""

    def decorate(body: Callable[..., Any]) -> dg.AssetsDefinition:
        made = dg.asset(
            partitions_def=DAY,
            group_name="revenue",
            owners=["team:revenue"],
            io_manager_key="tables",
            # The body writes; `Written` says what. Whoever takes the table as an input gets a DataFrame.
            dagster_type=dg.Any,
            backfill_policy=SINGLE_RUN_POLICY,
            metadata=table_metadata(contract),
            check_specs=[
                dg.AssetCheckSpec(name, asset=contract.name, description=means)
                for name, means in checks.items()
            ],
            **options,
        )(body)
        assert isinstance(made, dg.AssetsDefinition)
        return made

    return decorate


def _days(context: dg.AssetExecutionContext) -> list[date]:
    return sorted(date.fromisoformat(key) for key in context.partition_keys)


def _told(
    context: dg.AssetExecutionContext,
    per_day: Mapping[date, Mapping[str, Any]],
    rows: Mapping[date, Sequence[Row]],
    of_run: Mapping[str, Any],
    findings: Sequence[Any] = (),
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    for day, said in per_day.items():
        context.add_asset_metadata(
            {**said, "dagster/partition_row_count": len(rows[day]), "rows": len(rows[day])},
            partition_key=day.isoformat(),
        )
    return dg.MaterializeResult(
        value=Written({day.isoformat(): len(found) for day, found in rows.items()}),
        metadata=dict(of_run),
        check_results=[
            dg.AssetCheckResult(
                check_name=finding.name,
                passed=finding.passed,
                severity=dg.AssetCheckSeverity.ERROR,
                description=finding.problem or None,
                metadata={"looked_at": finding.looked_at},
            )
            for finding in findings
        ],
    )


@_day_table(SHOPIFY_ORDERS, {}, kinds={"shopify", "parquet"})
def shopify_orders(
    context: dg.AssetExecutionContext, store: StoreResource, shopify: ShopifyResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Orders placed in the store on this business day, with the visits that led to them: where attribution comes from.

    No money and no customer is kept. Shopify puts visits together after the order; those that are *not ready* are read
    again with the next run, those that are stand for good. Orders of more than 60 days ago are told only to apps with
    the scope read_all_orders.

    **When it fails:** *shopify_access_denied* asks for the scope read_orders; throttling is waited out by itself. The
    books do without: revenue is booked all the same and stays unattributed until this succeeds.
    """
    from ettametta_pipelines.revenue.orders import read_orders

    started, settings = monotonic(), get_settings()
    with failure_policy(context):
        endpoint = settings.endpoint("shopify")
        orders = read_orders(
            shopify.orders(),
            store.open(),
            _days(context),
            settings.timezone,
            utc_now,
            livemode=endpoint.mode == "live",
        )
    per_day = {
        day: {"orders": len(rows), "not_ready": sum(not row["is_ready"] for row in rows)}
        for day, rows in orders.items()
    }
    of_run = {
        "vendor": endpoint.standing,
        "orders": sum(map(len, orders.values())),
        "took_s": round(monotonic() - started, 2),
    }
    return _told(context, per_day, orders, of_run)


@_day_table(
    CONTENT_COSTS,
    COST_CHECKS,
    kinds={"duckdb", "python"},
    deps=[
        dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
        for name in ("candidate_assessments", "creative_briefs", "source_assessments", "rendition_9x16")
    ],
)
def content_costs(
    context: dg.AssetExecutionContext, store: StoreResource, state: StateResource, lake: LakeResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """What paid calls of this day cost, by source video and niche: judgements, briefs, voices, whatever is bought.

    One row per call and video. A call for a video is its cost; one about a candidate is shared by the videos made after
    its brief, else it is the niche's; the rest is *unassigned*. So the sum is what was spent, to the millionth. Flat
    fees of vendors and work on own machines are not here. Materialise a day again to give the niche's costs to videos
    that were made since.

    **When it fails:** `costs_equal_claims` names calls: materialise the day again. `claims_equal_spending` names an
    account whose monthly count went astray: its cap holds at the wrong sum until somebody has found out why.
    """
    from ettametta_pipelines.revenue.costs import make_costs

    started = monotonic()
    with failure_policy(context), lake.open() as tables:
        costs = make_costs(store.open(), state.open(), tables, _days(context))
    per_day = {
        day: {
            "cost_usd": sum(row["cost_microusd"] for row in rows) / 1e6,
            "open_usd": sum(row["open_microusd"] for row in rows) / 1e6,
            "unassigned_usd": sum(r["cost_microusd"] for r in rows if r["bucket"] == "unassigned") / 1e6,
            "preview": dg.MetadataValue.md(_cost_preview(rows)),
        }
        for day, rows in costs.rows.items()
    }
    of_run = {"days": len(costs.rows), "took_s": round(monotonic() - started, 2)}
    return _told(context, per_day, costs.rows, of_run, costs.findings)


def _cost_preview(rows: Sequence[Row]) -> str:
    sums: dict[tuple[str, ...], list[int]] = {}
    for row in rows:
        whose = row["source_id"] or (f"niche {row['niche']}" if row["niche"] else "unassigned")
        counted = sums.setdefault((row["mode"], row["account"], whose, row["kind"], row["vendor"]), [0, 0])
        counted[0] += row["share_no"] == 1
        counted[1] += row["cost_microusd"]
    lines = [
        [*map(cell, key), str(calls), f"${cost / 1e6:,.6f}"]
        for key, (calls, cost) in sorted(sums.items(), key=lambda item: -item[1][1])[:SHOWN]
    ]
    if not lines:
        return "Nothing was bought on this day."
    return markdown_table(["money", "account", "for", "what", "vendor", "calls", "cost"], lines)


@_day_table(
    REVENUE_ATTRIBUTION,
    ATTRIBUTION_CHECKS,
    kinds={"duckdb", "python"},
    deps=[
        "daily_revenue",
        "shopify_ledger",
        "affiliate_earnings",
        "youtube_revenue",
        shopify_orders,
        dg.AssetDep("youtube_publications", partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep("tiktok_publications", partition_mapping=dg.AllPartitionMapping()),
    ],
)
def revenue_attribution(
    context: dg.AssetExecutionContext, store: StoreResource, state: StateResource, lake: LakeResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Revenue booked on this day by the video that brought it, and what no video of ours is known to have brought.

    YouTube's revenue goes to its video; an order of the store to the last visit in the 30 days before that came from a
    post of ours (ETTAMETTA_ATTRIBUTION_RULE, ETTAMETTA_ATTRIBUTION_WINDOW_DAYS), and its refunds follow it, however
    late they come; an approved commission to the video of its link. Stripe's subscriptions are the agency's own. The
    rest says why (*unattributed*). Amounts add up to the books, per source and currency (docs/revenue.md).

    **When it fails:** `attribution_adds_up` names day, source and currency: materialise `daily_revenue` and this of the
    day again. `refunds_follow_their_order` names orders: materialise the day of the order too, it was attributed before
    its visits were known.
    """
    from ettametta_pipelines.revenue.attributing import make_attribution, read_codes
    from ettametta_pipelines.revenue.attribution import Policy, source_of_code
    from ettametta_pipelines.revenue.posts import load_posts

    started, settings = monotonic(), get_settings()
    policy = Policy(settings.attribution_rule, timedelta(days=settings.attribution_window_days))
    with failure_policy(context), lake.open() as tables:
        db = state.open()
        made = make_attribution(
            store.open(),
            tables,
            _days(context),
            policy,
            load_posts(db, tables),
            source_of_code(read_codes(db)),
        )
    per_day = {
        day: {
            **_shares_of(rows),
            "attributed": dg.MetadataValue.md(_attributed_preview(rows)),
            "unattributed": dg.MetadataValue.md(_unattributed_preview(rows)),
        }
        for day, rows in made.rows.items()
    }
    of_run = {
        "rule": f"{policy.rule} within {policy.window.days} days",
        "days": len(made.rows),
        "took_s": round(monotonic() - started, 2),
    }
    return _told(context, per_day, made.rows, of_run, made.findings)


def _money(row: Row) -> Money:
    return Money(row["net_minor"], row["currency"])


def _shares_of(rows: Sequence[Row]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for currency, money in totals(map(_money, rows)).items():
        owed = totals(_money(row) for row in rows if row.get("source_id"))
        of_videos = owed.get(currency, Money(0, currency))
        said[f"of_videos_{currency}"] = f"{of_videos} of {money}"
        said[f"of_videos_minor_{currency}"] = of_videos.minor
    return said


def _attributed_preview(rows: Sequence[Row]) -> str:
    columns = ("source_id", "niche", "platform", "format", "recipe", "source", "rule")
    sums: dict[tuple[Any, ...], Money] = {}
    for row in rows:
        if row.get("source_id"):
            key = (*(row.get(name) for name in columns), row["currency"])
            sums[key] = sums.get(key, Money(0, row["currency"])) + _money(row)
    lines = [
        [*map(cell, key[:-1]), str(money)]
        for key, money in sorted(sums.items(), key=lambda item: -item[1].minor)[:SHOWN]
    ]
    if not lines:
        return "Nothing booked on this day is known to have come from a post of ours."
    return markdown_table(["video", "niche", "platform", "format", "recipe", "source", "by", "net"], lines)


def _unattributed_preview(rows: Sequence[Row]) -> str:
    sums: dict[tuple[str, str, str], Money] = {}
    for row in rows:
        if not row.get("source_id"):
            key = (row["source"], str(row["reason"]), row["currency"])
            sums[key] = sums.get(key, Money(0, row["currency"])) + _money(row)
    lines = [[cell(source), cell(reason), str(money)] for (source, reason, _), money in sorted(sums.items())]
    return markdown_table(["source", "why", "net"], lines) if lines else "Nothing."


@_day_table(
    CONTENT_MARGIN,
    MARGIN_CHECKS,
    kinds={"duckdb", "sql"},
    deps=[
        dg.AssetDep(
            asset,
            partition_mapping=dg.TimeWindowPartitionMapping(
                start_offset=1 - get_settings().margin_window_days
            ),
        )
        for asset in (revenue_attribution, content_costs)
    ],
)
def content_margin(
    context: dg.AssetExecutionContext, store: StoreResource, state: StateResource, lake: LakeResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Which niche, format, recipe, filter, platform and channel earns more than it costs, over the last days.

    Revenue is what is attributed, cost what was paid for, in the 90 days that end on this one unless
    ETTAMETTA_MARGIN_WINDOW_DAYS says otherwise (*window_days*). A verdict needs five videos:
    *earns* and *loses* where the 95 % interval of the margin per video lies on one side of zero, else *unclear*. A
    filter is one of several in a recipe, so its rows overlap and say what goes along with it, not what causes it.
    Currencies are never added up or converted: costs are US dollars, so in others the margin is the revenue. Costs that
    are of a niche and no video are in the niche's row.

    **When it fails:** `margin_adds_up` names the dimension and the millionths by which it is off: materialise
    `revenue_attribution` and `content_costs` of the window again; if that does not help, the SQL loses rows.
    """
    from ettametta_pipelines.revenue.margin import DIMENSIONS, make_margin, unattributed_in_words
    from ettametta_pipelines.revenue.posts import load_posts

    started, settings = monotonic(), get_settings()
    with failure_policy(context), lake.open() as tables:
        made = make_margin(
            store.open(),
            tables,
            _days(context),
            load_posts(state.open(), tables),
            window_days=settings.margin_window_days,
        )
    per_day = {
        day: {
            "summary": dg.MetadataValue.md(
                "\n".join(f"- {said}" for said in unattributed_in_words(rows)) or "No revenue is booked yet."
            ),
            **{f"by_{name}": dg.MetadataValue.md(_margin_preview(rows, name)) for name in DIMENSIONS},
        }
        for day, rows in made.rows.items()
    }
    of_run = {
        "window_days": settings.margin_window_days,
        "days": len(made.rows),
        "took_s": round(monotonic() - started, 2),
    }
    return _told(context, per_day, made.rows, of_run, made.findings)


def _margin_preview(rows: Sequence[Row], dimension: str) -> str:
    """The best and the worst, best first."""
    found = sorted(
        (row for row in rows if row["dimension"] == dimension), key=lambda row: -row["margin_micro"]
    )
    shown = found if len(found) <= 2 * ENDS else found[:ENDS] + found[-ENDS:]
    lines = [
        [
            cell(row["value"]),
            row["currency"] if row["mode"] == "live" else f"{row['currency']} (sandbox)",
            *(number(row[name] / 1e6, digits=4) for name in ("revenue_micro", "cost_micro", "margin_micro")),
            f"{row['earning_videos']} of {row['videos']}" if row["videos"] else "–",
            number(row["mean_margin"], digits=4),
            "–"
            if row["low"] is None
            else f"{number(row['low'], digits=4)} to {number(row['high'], digits=4)}",
            row["verdict"] if row["videos"] else "–",
        ]
        for row in shown
    ]
    headers = (
        dimension, "currency", "revenue", "cost", "margin", "videos that earned", "a video", "95 % interval", "verdict",
    )  # fmt: skip
    table = markdown_table(headers, lines)
    left_out = len(found) - len(shown)
    return f"{table}\n\n{left_out} between best and worst are not shown." if left_out else table


MARGIN_ASSETS = [shopify_orders, content_costs, revenue_attribution, content_margin]
