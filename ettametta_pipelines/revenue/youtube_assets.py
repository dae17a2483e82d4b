"""What YouTube channels earn, in the Dagster UI. Thin: logic is in `youtube.py`."""

from collections.abc import Mapping, Sequence
from datetime import date
from time import monotonic
from typing import TYPE_CHECKING, Any

import dagster as dg

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.money import Money, totals
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.range_runs import SINGLE_RUN_POLICY
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource, YouTubeResource
from ettametta_pipelines.partitions import DAY
from ettametta_pipelines.previews import cell, markdown_table
from ettametta_pipelines.revenue.margin_contracts import YOUTUBE_REVENUE
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.parquet import Written
from ettametta_pipelines.storage.tables import table_metadata

if TYPE_CHECKING:
    from ettametta_pipelines.revenue.youtube import RevenueRead

TOLD_CHECK = "every_channel_told_its_revenue"
REOPENED_CHECK = "finalised_days_stand"
APART_CHECK = "estimates_and_finals_are_apart"
SHOWN = 20


def _spec(name: str, means: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset="youtube_revenue", description=means, blocking=blocking)


@dg.asset(
    partitions_def=DAY,
    group_name="revenue",
    owners=["team:revenue"],
    io_manager_key="tables",
    dagster_type=dg.Any,
    backfill_policy=SINGLE_RUN_POLICY,
    kinds={"youtube", "parquet"},
    metadata=table_metadata(YOUTUBE_REVENUE),
    deps=[dg.AssetDep("youtube_publications", partition_mapping=dg.AllPartitionMapping())],
    check_specs=[
        _spec(TOLD_CHECK, "Every connected YouTube channel consents to tell its revenue, and told it."),
        _spec(
            REOPENED_CHECK, "This reading changed no day whose month was closed; fails with what it changed."
        ),
        _spec(
            APART_CHECK,
            "Estimates are never booked nor held beside finals, and a channel's day is booked as it was told.",
            blocking=True,
        ),
    ],
)
def youtube_revenue(  # type: ignore[no-untyped-def]
    context: dg.AssetExecutionContext, store: StoreResource, state: StateResource, youtube: YouTubeResource
):
    """What every connected YouTube channel earned on each day, by video: as told, every revision kept.

    YouTube tells estimates two to three days late and lowers them until it closes the month, around the tenth of the
    next. What is read from the twelfth on is *finalised* and booked in `daily_revenue`; estimates never are. A day here
    is YouTube's (Pacific). Revenue of videos that are no posts of ours is the channel's `(rest)`. A schedule reads the
    last 50 days again every morning; a finalised day that changes all the same is a warning with its videos.

    **When it fails:** nothing read before is lost. `every_channel_told_its_revenue` names channels whose consent does
    not cover revenue, or that are not in the partner programme: connect them again on the gateway's page `/accounts`.
    """
    from ettametta_pipelines.revenue.youtube import store_days

    started = monotonic()
    days = sorted(date.fromisoformat(key) for key in context.partition_keys)
    endpoint = get_settings().endpoint("google")
    with failure_policy(context):
        read, problems = _ask_channels(store, state, youtube, days)
        counts, wrong = store_days(store.open(), read, days)
    for day in days:
        rows = [row for row in read.rows if row["day"] == day]
        context.add_asset_metadata({**_day_metadata(rows), "rows": len(rows)}, partition_key=day.isoformat())
    for said in read.reopened:
        context.log.warning(said)
    return dg.MaterializeResult(
        value=Written(counts),
        metadata={
            "vendor_youtube": endpoint.standing,
            "days": len(days),
            "new": read.new,
            "revised": read.revised,
            "days_reopened": len(read.reopened),
            "took_s": round(monotonic() - started, 2),
        },
        check_results=[
            _result(TOLD_CHECK, problems, dg.AssetCheckSeverity.WARN),
            _result(REOPENED_CHECK, read.reopened, dg.AssetCheckSeverity.WARN),
            _result(APART_CHECK, wrong, dg.AssetCheckSeverity.ERROR),
        ],
    )


def _ask_channels(
    store: StoreResource, state: StateResource, youtube: YouTubeResource, days: Sequence[date]
) -> "tuple[RevenueRead, list[str]]":
    """What all channels told, and a sentence for each that told nothing. Raises when none could be asked."""
    from ettametta_pipelines.publishing.earnings import earning_channels
    from ettametta_pipelines.publishing.tokens import open_envelope
    from ettametta_pipelines.revenue.youtube import known_rows, read_channels
    from ettametta_pipelines.vendors.youtube_analytics import CURRENCY, YouTubeAnalytics

    app = youtube.app()
    channels = earning_channels(state.open(), app, lambda: open_envelope(get_settings()))
    return read_channels(
        channels,
        lambda channel: YouTubeAnalytics(app.endpoint, channel.token()),
        days,
        known_rows(store.open(), days),
        currency=CURRENCY,
        livemode=app.endpoint.mode == "live",
        now=utc_now(),
    )


def _result(name: str, problems: Sequence[str], severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return dg.AssetCheckResult(
        check_name=name,
        passed=not problems,
        severity=severity,
        description="; ".join(problems[:5]) + more or None,
        metadata={"problems": len(problems)},
    )


def _day_metadata(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from ettametta_pipelines.revenue.youtube import FINALISED, newest

    holds = newest(rows)
    booked = totals(Money(row["booked_minor"], row["currency"]) for row in holds if row["basis"] == FINALISED)
    shown = sorted(holds, key=lambda row: -row["amount_micro"])[:SHOWN]
    lines = [
        [
            cell(row["account"]),
            cell(row["video_id"]),
            row["basis"],
            f"{row['currency']} {row['amount_micro'] / 1e6:,.6f}",
            str(Money(row["booked_minor"], row["currency"])),
        ]
        for row in shown
    ]
    table = markdown_table(["account", "video", "basis", "as told", "booked"], lines)
    return {
        "dagster/partition_row_count": len(rows),
        "revisions": len(rows) - len(holds),
        "preview": dg.MetadataValue.md(table if lines else "No channel has told anything of this day yet."),
        **{f"booked_{currency}": str(money) for currency, money in booked.items()},
        **{f"booked_minor_{currency}": money.minor for currency, money in booked.items()},
    }
