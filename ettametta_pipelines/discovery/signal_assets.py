"""Signals in the Dagster UI: snapshots of statistics at fixed ages, candidates that stand aside, deletion by age.

Assets only, beside those of `discovery/assets.py`; the logic is in this room's other files.
"""

from collections import Counter
from datetime import date, timedelta
from time import monotonic

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery.contracts import TIKTOK_CANDIDATES, YOUTUBE_CANDIDATES
from ettametta_pipelines.discovery.signal_contracts import (
    QUARANTINED_CANDIDATES,
    STATISTICS_RETENTION,
    VIDEO_SNAPSHOTS,
)
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource, YouTubeResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import DAY, DAY_NICHE
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.tables import table_metadata

GROUP = "discovery"
OWNERS = ["team:discovery"]


class SnapshotConfig(dg.Config):
    """Which candidates are worth a look at every age."""

    top: int = Field(
        default=50, ge=1, le=200, description="Strongest candidates of each niche and day that are watched"
    )


@dg.asset(
    partitions_def=DAY,
    deps=["youtube_candidates"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"youtube", "parquet"},
    metadata=table_metadata(VIDEO_SNAPSHOTS),
    description="""
Statistics of the strongest candidates of the last eight days at 3, 6, 12, 24, 48, 72 and 168 hours after publication:
what current speed and acceleration are told from. Every hour those that are due are read, fifty a call, and added to
the day's table; a snapshot of one video at one age exists once, so running an hour again adds nothing and loses
nothing. Rows say when they were read (`observed_at`) and how old the video was exactly (`age_h`).

One partition is one day **of observation**: an hour's run then touches one small file, whatever days the videos are
of, and deletion by age deals with whole files.

**If it fails:** `day_is_over`: platforms tell figures of now only; run today's partition. A spent quota is no failure:
*left_out* says how many wait for the next hour. A video that is gone has a row that says so and is not asked for again.
""",
)
def video_snapshots(
    context: dg.AssetExecutionContext,
    config: SnapshotConfig,
    store: StoreResource,
    state: StateResource,
    youtube: YouTubeResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.discovery import report, snapshots
    from ettametta_pipelines.discovery.metered_youtube import MeteredYouTube
    from ettametta_pipelines.discovery.stored import day_keys, days_between, niche_keys, read_partitions

    started, now = monotonic(), utc_now()
    day = date.fromisoformat(context.partition_key)
    with failure_policy(context), state.open() as db:
        snapshots.check_day(day, now, get_settings().timezone)
        objects = store.open()
        # A day more than they are watched for: a partition of today also holds videos of yesterday evening.
        days = days_between(day - snapshots.WATCHED_FOR - timedelta(days=1), day)
        raw = read_partitions(objects, YOUTUBE_CANDIDATES, niche_keys(objects, YOUTUBE_CANDIDATES, days))
        taken = [
            r
            for rows in read_partitions(objects, VIDEO_SNAPSHOTS, day_keys(VIDEO_SNAPSHOTS, days))
            for r in rows
        ]
        watched = snapshots.watched_candidates(raw, now, config.top)
        due = snapshots.due_snapshots(watched, taken, now)
        client = youtube.data()
        with MeteredYouTube(client, db, utc_now, holder="snapshots") as metered:
            polling = snapshots.take_snapshots(metered, due, day, utc_now)
        # Written here and not by the IO manager, which would put this run's view in place of what another run has
        # added to the day in the meantime.
        with db.alone(f"video_snapshots {day}"):
            taken_today = snapshots.add_to_day(objects, day, polling.rows)
    return dg.MaterializeResult(
        metadata={
            "dagster/uri": f"{objects.url}/{day_keys(VIDEO_SNAPSHOTS, [day])[0]}",
            "dagster/partition_row_count": taken_today,
            "vendor": client.endpoint.standing,
            "watched": len(watched),
            "due": polling.due,
            "taken": len(polling.rows),
            "taken_today": taken_today,
            "vanished": polling.vanished,
            "calls": polling.calls,
            **{f"quota_{bucket}": used for bucket, used in sorted(metered.used.items())},
            "left_out": dg.MetadataValue.md(report.bullet_list(polling.left_out, empty="nothing")),
            "by_age": dg.MetadataValue.md(report.snapshot_table(polling.rows)),
            "took_s": round(monotonic() - started, 2),
        },
    )


@table_asset(
    QUARANTINED_CANDIDATES,
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    kinds={"python", "parquet"},
    description="""
Candidates that cannot be ranked, each with its reason: live streams, hidden or unreadable view counts, counters below
zero, publication in the future or before there was any such platform. They stand here instead of being mended;
`trend_candidates` holds the others.

**If it fails:** it only computes from stored tables. `statistics_deleted`: the day's counters were deleted by age, so
it cannot be told again what was wrong with them; the stored table stays as it is.
""",
)
def quarantined_candidates(
    context: dg.AssetExecutionContext, youtube_candidates: pd.DataFrame, tiktok_candidates: pd.DataFrame
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.discovery import quarantine, report
    from ettametta_pipelines.discovery.trends import deduplicate

    started = monotonic()
    with failure_policy(context):
        raw = YOUTUBE_CANDIDATES.rows(youtube_candidates) + TIKTOK_CANDIDATES.rows(tiktok_candidates)
        quarantine.check_statistics(raw, context.partition_key)
        rows = quarantine.quarantined(deduplicate(raw))
        frame = QUARANTINED_CANDIDATES.frame(rows)
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "quarantined": len(frame),
            "of_candidates": len(raw),
            "by_reason": dict(Counter(row["reason_code"] for row in rows)),
            "examples": dg.MetadataValue.md(report.quarantine_table(rows)),
            "took_s": round(monotonic() - started, 2),
        },
    )


@table_asset(
    STATISTICS_RETENTION,
    deps=["youtube_candidates", "video_snapshots", "trend_candidates", "niche_trends", "scored_candidates"],
    group_name=GROUP,
    kinds={"python", "parquet"},
    check_specs=[
        dg.AssetCheckSpec(
            "nothing_is_overdue",
            asset="statistics_retention",
            description="Every partition could be read, and none holds statistics it should no longer hold.",
        )
    ],
    description="""
Deletes other people's views, likes and comments from every stored table after 29 days, a day inside YouTube's limit of
30. Rows stay, with everything derived (velocity, ratios, ranks: ours), cut to three digits; own channels' posts are not
touched. Nothing is deleted while `ETTAMETTA_KEEP_STATISTICS` is set, which says that the platform's amendment was
accepted; then the table only shows what is held and since when it would have had to go.

One line is one stored partition. Running it again deletes nothing twice, and reads only what changed or is due.

**If it fails:** the store or the database did not answer; run it again, nothing is deleted twice. A partition that
cannot be read does not fail it: *unreadable* names it; materialize that partition again, then this.
""",
)
def statistics_retention(
    context: dg.AssetExecutionContext, store: StoreResource, state: StateResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.catalog import ALL_TABLES
    from ettametta_pipelines.discovery import report
    from ettametta_pipelines.discovery.retention import KEPT_FOR, delete_old_statistics
    from ettametta_pipelines.discovery.stored import read_partitions
    from ettametta_pipelines.state import channels
    from ettametta_pipelines.state.connected import own_channels
    from ettametta_pipelines.storage.parquet import table_key

    started, keep = monotonic(), get_settings().keep_statistics
    with failure_policy(context), state.open() as db:
        objects = store.open()
        before = read_partitions(objects, STATISTICS_RETENTION, [table_key(STATISTICS_RETENTION.name, None)])
        done = delete_old_statistics(
            objects,
            ALL_TABLES,
            [line for lines in before for line in lines],
            own_channels={own.channel_id for own in own_channels(db)},
            now=utc_now(),
            keep=keep,
        )
        if not keep:
            with db.session() as session:
                channels.forget_uploads(session, utc_now() - KEPT_FOR)
        frame = STATISTICS_RETENTION.frame(done.lines)
        overdue = int((frame["delete_after"] <= pd.Timestamp(utc_now())).sum())
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "mode": "kept: ETTAMETTA_KEEP_STATISTICS is set" if keep else "deleted after 29 days",
            "rows_deleted": done.rows,
            "partitions_rewritten": done.partitions,
            "partitions_read": done.examined,
            "partitions": len(frame),
            "changed_meanwhile": done.changed_meanwhile,
            "rows_with_statistics": int(frame["rows_with_statistics"].sum()),
            "overdue": overdue,
            "unreadable": dg.MetadataValue.md(report.bullet_list(done.unreadable, empty="nothing")),
            "deleted_by_table": done.deleted_by_table,
            "holding": dg.MetadataValue.md(report.retention_table(done.lines)),
            "took_s": round(monotonic() - started, 2),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="nothing_is_overdue",
                passed=keep or (not overdue and not done.unreadable),
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"overdue": overdue, "unreadable": len(done.unreadable)},
            )
        ],
    )


ASSETS = [video_snapshots, quarantined_candidates, statistics_retention]
