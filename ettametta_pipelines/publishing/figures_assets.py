"""What became of posts in the Dagster UI: the vendor's daily figures, and which variants win. Thin: logic is beside."""

from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

from ettametta_pipelines.clock import business_day_of, pacific_quota_day, utc_now
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import (
    LakeResource,
    StateResource,
    StoreResource,
    YouTubeResource,
)
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import DAY
from ettametta_pipelines.previews import cell, markdown_table, number
from ettametta_pipelines.publishing.figures_contracts import PUBLICATION_ANALYTICS, VARIANT_RESULTS
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.contracts import plain_rows

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore

GROUP = "publishing"
ANSWERED_CHECK = "every_channel_told_its_figures"
# YouTube is two to three days late.
USUAL_LAG_DAYS = 4


@table_asset(
    PUBLICATION_ANALYTICS,
    partitions_def=DAY,
    group_name=GROUP,
    kinds={"youtube"},
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[dg.AssetDep("youtube_publications", partition_mapping=dg.AllPartitionMapping())],
    check_specs=[
        dg.AssetCheckSpec(
            ANSWERED_CHECK,
            asset="publication_analytics",
            description="Every connected YouTube channel with posts told its figures.",
        )
    ],
    description="""
What our posts did on each day by YouTube's own analytics: views, watch time, shares, subscribers. A day here is the
vendor's (Pacific). Figures come two to three days late (*lag_days*) and are revised for weeks: each change is a new
`revision` beside the earlier ones, `is_final` once 30 days have passed. A schedule reads the last 33 days again every
morning. TikTok tells no days; its counters of now are in `publication_metrics`.

**If it fails:** nothing that was read before is lost. *permission_missing* and *reauth_required* ask to connect the
channel again; other trouble passes with the next morning's run, which reads the same days.
""",
)
def publication_analytics(
    context: dg.AssetExecutionContext, store: StoreResource, state: StateResource, youtube: YouTubeResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.publishing.analytics import newest_revisions, read_days
    from ettametta_pipelines.publishing.delivery import Workshop
    from ettametta_pipelines.publishing.tokens import open_envelope

    with failure_policy(context):
        days = sorted(date.fromisoformat(key) for key in context.partition_keys)
        workshop = Workshop(state.open(), store.open(), open_envelope(get_settings()))
        reading = read_days(workshop, youtube.app(), days, _known(store.open(), days))
        frame = PUBLICATION_ANALYTICS.frame(reading.rows)
    holds = newest_revisions(reading.rows)
    lag = reading.lag_days(pacific_quota_day(utc_now()))
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "days": len(days),
            "newest_day": str(reading.newest_day or "no figures yet"),
            "lag_days": "no figures yet" if lag is None else lag,
            "new": reading.new,
            "revised": reading.revised,
            "provisional": sum(not row["is_final"] for row in holds),
            "views": sum(row["views"] for row in holds),
            "channels": reading.channels,
            "vendor_youtube": get_settings().endpoint("google").standing,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=ANSWERED_CHECK,
                passed=not reading.problems,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(reading.problems) or None,
                metadata={"late": bool(lag is not None and lag > USUAL_LAG_DAYS)},
            )
        ],
    )


def _known(store: "ObjectStore", days: list[date]) -> list[dict[str, object]]:
    """Every revision of these days so far."""
    from ettametta_pipelines.storage.parquet import PartitionMissing, read_table

    rows: list[dict[str, object]] = []
    for day in days:
        try:
            rows += PUBLICATION_ANALYTICS.rows(read_table(store, PUBLICATION_ANALYTICS, day.isoformat()))
        except PartitionMissing:
            continue
    return rows


@table_asset(
    VARIANT_RESULTS,
    group_name=GROUP,
    kinds={"duckdb", "python"},
    deps=[dg.AssetDep("post_outcomes", partition_mapping=dg.AllPartitionMapping())],
    description="""
Which title or hook does better, for each experiment of each channel (`publishing/channels.yaml`). Every post gets a
variant by chance when it is made; compared are views after 24 hours against the channel's usual. The test may be looked
at every day: whatever the views are like, an experiment whose variants are all alike is given a winner at most once
in twenty (an e-process of bets on our own coins, see `variant_test.py`). *summary* says it in words.

Private posts and posts without a usual to compare with do not count. A winner changes nothing by itself: put its text
into the channel's policy, or end the experiment there.

**If it fails:** it only reads stored `post_outcomes` and the state; the message names what cannot be read.
""",
)
def variant_results(
    context: dg.AssetExecutionContext, lake: LakeResource, state: StateResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.publishing.variant_test import variant_rows

    with failure_policy(context), lake.open() as tables:
        rows = variant_rows(tables, state.open(), business_day_of(utc_now(), get_settings().timezone))
        frame = VARIANT_RESULTS.frame(rows)
    experiments = {(row["account"], row["platform"], row["experiment"]): row["sentence"] for row in rows}
    summary = "\n".join(
        f"- {cell(account)} on {cell(platform)}, {cell(name)}: {cell(sentence, limit=200)}"
        for (account, platform, name), sentence in experiments.items()
    )
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "summary": dg.MetadataValue.md(summary or "No experiment has a post yet."),
            "variants": dg.MetadataValue.md(_variant_table(frame)),
            "experiments": len(experiments),
            "winners": sum(bool(row["wins"]) for row in rows),
        },
    )


def _variant_table(frame: pd.DataFrame) -> str:
    return markdown_table(
        (
            "experiment",
            "account",
            "platform",
            "variant",
            "share",
            "posts",
            "known",
            "mean lift",
            "evidence",
            "wins at",
        ),
        [
            [
                *(cell(row[name]) for name in ("experiment", "account", "platform", "arm")),
                number(row["share"], digits=2),
                *(number(row[name]) for name in ("posts", "outcomes")),
                *(number(row[name], digits=2) for name in ("mean_lift", "evidence")),
                number(row["threshold"]),
            ]
            for row in plain_rows(frame)
        ],
    )


FIGURES_ASSETS = [publication_analytics, variant_results]
