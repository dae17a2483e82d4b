"""Schedules in the operator's time zone: the night's discovery, the morning overview, metrics and the books.

Each description says when it runs and why then. All are on by default.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from ettametta_pipelines.automation.clip_followup import build_clip_followup
from ettametta_pipelines.automation.followup import build_followup
from ettametta_pipelines.automation.jobs import (
    ANALYTICS_JOB,
    ARCHIVE_JOB,
    CALIBRATION_JOB,
    CATALOG_JOB,
    CHANNELS_JOB,
    COMMISSIONS_JOB,
    DISCOVERY_JOB,
    INVENTORY_JOB,
    LIFECYCLE_JOB,
    MATCHING_JOB,
    METRICS_JOB,
    NICHE_OVERVIEW_JOB,
    OVERVIEW_JOB,
    PACK_JOB,
    PLANS_JOB,
    PRUNE_JOB,
    QUEUE_JOB,
    QUOTA_JOB,
    RERANK_JOB,
    RETENTION_JOB,
    REVENUE_JOB,
    SHELF_JOB,
    SLOTS_JOB,
    SNAPSHOT_JOB,
    VARIANTS_JOB,
    WEBHOOKS_JOB,
    YOUTUBE_REVENUE_JOB,
)
from ettametta_pipelines.automation.nightly_clips import build_nightly_clips
from ettametta_pipelines.clock import pacific_quota_day, utc_now
from ettametta_pipelines.orchestration.resources import LakeResource, StateResource, StoreResource
from ettametta_pipelines.partitions import FIRST_DAY, NICHE, day_niche_key
from ettametta_pipelines.revenue.reading import HOT_DAYS, LOOKBACK_DAYS
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.tags import NICHE_TAG, NIGHTLY_PRIORITY


def _local_day(context: dg.ScheduleEvaluationContext, zone: str, days_ago: int) -> str:
    from zoneinfo import ZoneInfo

    tick: datetime = context.scheduled_execution_time
    return (tick.astimezone(ZoneInfo(zone)).date() - timedelta(days=days_ago)).isoformat()


def _books_of(context: dg.ScheduleEvaluationContext, zone: str, first: int, last: int) -> dg.RunRequest:
    """One run for the days from `first` to `last` days ago."""
    days = {"start": _local_day(context, zone, first), "end": _local_day(context, zone, last)}
    return dg.RunRequest(
        run_key=context.scheduled_execution_time.isoformat(),
        tags={f"dagster/asset_partition_range_{end}": day for end, day in days.items()} | NIGHTLY_PRIORITY,
    )


def _spent_searches(state: StateResource, tick: datetime, settings: Settings) -> str:
    """In words, that and until when YouTube's searches are spent; empty while one is left."""
    from ettametta_pipelines.clock import PACIFIC, business_day_bounds, pacific_quota_day
    from ettametta_pipelines.state.quota import usage

    today = pacific_quota_day(tick)
    with state.open() as database:
        (bucket,) = (
            row for row in usage(database, today) if (row.vendor, row.bucket) == ("youtube", "search")
        )
    if bucket.left:
        return ""
    reset = business_day_bounds(today, PACIFIC)[1].astimezone(settings.timezone)
    return (
        f"YouTube's {bucket.limit} searches of {today} (Pacific) are spent. They come back on "
        f"{reset:%Y-%m-%d at %H:%M} {settings.business_timezone}. The next night makes up for this one's searches; for "
        "watched channels and own posts, materialize that day's partitions of nightly_discovery then."
    )


def _niches_with_candidates(store: StoreResource, day: str) -> list[str]:
    """Niches of which every platform's candidates of the day are stored, if only an empty table."""
    from ettametta_pipelines.storage.parquet import table_key

    objects, tables = store.open(), ("youtube_candidates", "tiktok_candidates")
    return [
        niche
        for niche in NICHE.get_partition_keys()
        if all(objects.exists(table_key(table, day_niche_key(day, niche))) for table in tables)
    ]


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """All schedules, on wall-clock times of `settings.business_timezone`."""
    zone = settings.business_timezone
    on: dict[str, Any] = {"execution_timezone": zone, "default_status": dg.DefaultScheduleStatus.RUNNING}

    @dg.schedule(
        name="nightly_discovery",
        job_name=DISCOVERY_JOB,
        cron_schedule="0 2 * * *",
        description=(
            "02:00, one run per niche for the day that just ended: its search window is complete by then. Skipped, "
            "saying so, while YouTube has no search left."
        ),
        **on,
    )
    def nightly_discovery(
        context: dg.ScheduleEvaluationContext, state: StateResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        day = _local_day(context, zone, days_ago=1)
        spent = _spent_searches(state, context.scheduled_execution_time, settings)
        if spent:
            from ettametta_pipelines.discovery.breadth import niches_by_plan
            from ettametta_pipelines.discovery.search_desk import configured_policy, park_night

            database = state.open()
            park_night(
                database,
                niches_by_plan(settings, database),
                date.fromisoformat(day),
                clock=lambda: context.scheduled_execution_time,
                policy=configured_policy(settings),
            )
            yield dg.SkipReason(f"{day} was not discovered: {spent}")
            return
        for niche in NICHE.get_partition_keys():
            yield dg.RunRequest(
                run_key=f"{day}|{niche}",
                partition_key=day_niche_key(day, niche),
                tags={NICHE_TAG: niche, **NIGHTLY_PRIORITY},
            )

    @dg.schedule(
        name="morning_overview",
        job_name=NICHE_OVERVIEW_JOB,
        cron_schedule="0 5 * * *",
        description="05:00, after discovery: last night's trends of all niches, for the morning look.",
        **on,
    )
    def morning_overview(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = _local_day(context, zone, days_ago=1)
        return dg.RunRequest(run_key=day, partition_key=day, tags=NIGHTLY_PRIORITY)

    @dg.schedule(
        name="hourly_publication_metrics",
        job_name=METRICS_JOB,
        cron_schedule="15 * * * *",
        description="A quarter past every hour: statistics of our own posts, kept under today's partition.",
        **on,
    )
    def hourly_publication_metrics(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = _local_day(context, zone, days_ago=0)
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat(), partition_key=day)

    @dg.schedule(
        name="nightly_books",
        job_name=REVENUE_JOB,
        cron_schedule="30 3 * * *",
        description=(
            f"03:30, the last {LOOKBACK_DAYS} closed days from the payment ledgers in one run: vendors post late and "
            "pay out later still. A day in which nothing changed books the same."
        ),
        **on,
    )
    def nightly_books(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return _books_of(context, zone, LOOKBACK_DAYS, 1)

    @dg.schedule(
        name="late_commissions",
        job_name=COMMISSIONS_JOB,
        cron_schedule="20 3 * * *",
        description=(
            f"03:20, days before the last {LOOKBACK_DAYS} about whose sales an affiliate network has said something in "
            "the last week: commissions are decided months after the sale."
        ),
        **on,
    )
    def late_commissions(
        context: dg.ScheduleEvaluationContext, lake: LakeResource
    ) -> dg.RunRequest | dg.SkipReason:
        from ettametta_pipelines.revenue.affiliates import reopened_days

        tick: datetime = context.scheduled_execution_time
        with lake.open() as tables:
            told = [day.isoformat() for day in reopened_days(tables, tick - timedelta(days=7))]
        nightly = _local_day(context, zone, LOOKBACK_DAYS)
        late = [day for day in told if FIRST_DAY <= day < nightly]
        if not late:
            return dg.SkipReason("No network has decided about an earlier sale.")
        tags = {"dagster/asset_partition_range_start": late[0], "dagster/asset_partition_range_end": late[-1]}
        return dg.RunRequest(run_key=tick.isoformat(), tags=tags | NIGHTLY_PRIORITY)

    @dg.schedule(
        name="recent_books",
        job_name=REVENUE_JOB,
        cron_schedule="20 6,9,12,15,18,21 * * *",
        description=f"Every three hours of the day, today and the {HOT_DAYS - 1} days before, which still change.",
        **on,
    )
    def recent_books(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return _books_of(context, zone, HOT_DAYS - 1, 0)

    @dg.schedule(
        name="hourly_quota_usage",
        job_name=QUOTA_JOB,
        cron_schedule="50 * * * *",
        description="Ten to every hour: what is left of today's quotas, under the vendor's day (midnight Pacific).",
        **on,
    )
    def hourly_quota_usage(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        tick: datetime = context.scheduled_execution_time
        # West of the Pacific coast the vendor's day begins before the operator's partition of it exists.
        day = min(pacific_quota_day(tick).isoformat(), _local_day(context, zone, days_ago=0))
        return dg.RunRequest(run_key=tick.isoformat(), partition_key=day)

    @dg.schedule(
        name="parked_searches",
        job_name=DISCOVERY_JOB,
        cron_schedule="20 0 * * *",
        execution_timezone="America/Los_Angeles",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            "00:20 Pacific, when quotas are new: backfilled days whose searches were parked, oldest first, as many as "
            "the niches' news leaves room for."
        ),
    )
    def parked_searches(
        context: dg.ScheduleEvaluationContext, state: StateResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from ettametta_pipelines.discovery.breadth import niches_by_plan
        from ettametta_pipelines.discovery.search_desk import backlog, configured_policy

        database = state.open()
        niches = niches_by_plan(settings, database)
        waiting = backlog(database, niches, utc_now, configured_policy(settings))
        if not waiting.due:
            yield dg.SkipReason(
                f"{sum(waiting.owed.values())} searches are parked; today leaves {waiting.left_today} for backfills."
            )
        for day, niche in waiting.due:
            yield dg.RunRequest(
                run_key=f"{waiting.today}:{day}|{niche}",
                partition_key=day_niche_key(day.isoformat(), niche),
                tags={NICHE_TAG: niche},
            )

    @dg.schedule(
        name="hourly_snapshots",
        job_name=SNAPSHOT_JOB,
        cron_schedule="40 * * * *",
        description="Twenty to every hour: statistics of candidates that have just reached a fixed age.",
        **on,
    )
    def hourly_snapshots(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = _local_day(context, zone, days_ago=0)
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat(), partition_key=day)

    @dg.schedule(
        name="morning_ranking",
        job_name=RERANK_JOB,
        cron_schedule="50 4 * * *",
        description="04:50, one run per niche: last night's candidates ranked again with the snapshots since, for the "
        "overview at five. Niches whose candidates are not there are left out.",
        **on,
    )
    def morning_ranking(
        context: dg.ScheduleEvaluationContext, store: StoreResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        day = _local_day(context, zone, days_ago=1)
        found = _niches_with_candidates(store, day)
        if not found:
            yield dg.SkipReason(f"No niche has candidates of {day}.")
        for niche in found:
            yield dg.RunRequest(
                run_key=f"{day}|{niche}",
                partition_key=day_niche_key(day, niche),
                tags={NICHE_TAG: niche, **NIGHTLY_PRIORITY},
            )

    @dg.schedule(
        name="daily_statistics_retention",
        job_name=RETENTION_JOB,
        cron_schedule="20 6 * * *",
        description="06:20, every day: others' statistics leave the tables before they are 30 days old.",
        **on,
    )
    def daily_statistics_retention(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="nightly_calibration",
        job_name=CALIBRATION_JOB,
        cron_schedule="30 1 * * *",
        description="01:30, after the day's last metrics and before discovery, whose scores use what it decides.",
        **on,
    )
    def nightly_calibration(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = _local_day(context, zone, days_ago=1)
        return dg.RunRequest(run_key=day, partition_key=day, tags=NIGHTLY_PRIORITY)

    @dg.schedule(
        name="nightly_packing",
        job_name=PACK_JOB,
        cron_schedule="30 6 * * *",
        description="06:30, after the night's writing: small files of months gone by, where any changed, put together.",
        **on,
    )
    def nightly_packing(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat())

    @dg.schedule(
        name="nightly_plans",
        job_name=PLANS_JOB,
        cron_schedule="10 3 * * *",
        description="03:10: every subscription is read from Stripe, so that no lost webhook lasts longer than a day.",
        **on,
    )
    def nightly_plans(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="nightly_webhooks",
        job_name=WEBHOOKS_JOB,
        cron_schedule="45 2 * * *",
        description=(
            "02:45, before plans and books are read: events that never arrived, for instance because the gateway was "
            "down for days, are fetched from Stripe, and Shopify subscriptions that were deleted are made again."
        ),
        **on,
    )
    def nightly_webhooks(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="hourly_video_slots",
        job_name=SLOTS_JOB,
        cron_schedule="5 * * * *",
        description="Five past every hour: slots of runs that never came back are returned to their accounts.",
        **on,
    )
    def hourly_video_slots(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="keep_channels_connected",
        job_name=CHANNELS_JOB,
        cron_schedule="*/5 * * * *",
        description=(
            "Every five minutes: renew tokens at 50 to 70 % of their life. Starts a run when one is due, and on the "
            "hour for the list of channels."
        ),
        **on,
    )
    def keep_channels_connected(
        context: dg.ScheduleEvaluationContext, state: StateResource
    ) -> dg.RunRequest | dg.SkipReason:
        from ettametta_pipelines.publishing.refreshing import count_due

        tick: datetime = context.scheduled_execution_time
        if not count_due(state.open()) and tick.minute >= 5:
            return dg.SkipReason("No token is due.")
        return dg.RunRequest(run_key=tick.isoformat())

    @dg.schedule(
        name="half_hourly_publish_queue",
        job_name=QUEUE_JOB,
        cron_schedule="*/30 * * * *",
        description="Every half hour: what is posted when, and what waits for a person.",
        **on,
    )
    def half_hourly_publish_queue(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="daily_publication_analytics",
        job_name=ANALYTICS_JOB,
        cron_schedule="0 7 * * *",
        description="07:00: YouTube's own figures of our posts, in one run for every day they may still change.",
        **on,
    )
    def daily_publication_analytics(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        from ettametta_pipelines.publishing.analytics import reread_range

        tick: datetime = context.scheduled_execution_time
        first, last = reread_range(pacific_quota_day(tick))
        return dg.RunRequest(
            run_key=tick.isoformat(),
            tags={
                "dagster/asset_partition_range_start": max(first.isoformat(), FIRST_DAY),
                "dagster/asset_partition_range_end": last.isoformat(),
            },
        )

    @dg.schedule(
        name="daily_youtube_revenue",
        job_name=YOUTUBE_REVENUE_JOB,
        cron_schedule="30 7 * * *",
        description="07:30: what YouTube channels earn, in one run for every day until after its month is closed.",
        **on,
    )
    def daily_youtube_revenue(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        from ettametta_pipelines.revenue.youtube import REREAD_DAYS

        return _books_of(context, zone, REREAD_DAYS, 1)

    @dg.schedule(
        name="nightly_variant_results",
        job_name=VARIANTS_JOB,
        cron_schedule="45 1 * * *",
        description="01:45, after the night's outcomes: which titles and hooks do better.",
        **on,
    )
    def nightly_variant_results(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="morning_page",
        job_name=OVERVIEW_JOB,
        cron_schedule="30 6 * * *",
        description="06:30, before people come: the night's finds, failures with their remedy, today's posts, money.",
        **on,
    )
    def morning_page(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="half_hourly_catalog",
        job_name=CATALOG_JOB,
        cron_schedule="20,50 * * * *",
        description="Every half hour: the list of videos by title, for whoever looks for one.",
        **on,
    )
    def half_hourly_catalog(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="nightly_storage_inventory",
        job_name=INVENTORY_JOB,
        cron_schedule="40 5 * * *",
        description="05:40, after the night's writing: what lies in the store, and how much more than yesterday.",
        **on,
    )
    def nightly_storage_inventory(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = _local_day(context, zone, days_ago=0)
        return dg.RunRequest(run_key=day, partition_key=day)

    @dg.schedule(
        name="nightly_storage_lifecycle",
        job_name=LIFECYCLE_JOB,
        cron_schedule="55 5 * * *",
        description="05:55, after the inventory: what is due leaves the store; unasked, only broken-off uploads.",
        **on,
    )
    def nightly_storage_lifecycle(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="weekly_archiving",
        job_name=ARCHIVE_JOB,
        cron_schedule="15 4 * * 0",
        description="Sundays 04:15, when little runs: finished old videos leave the live partitions, not the tables.",
        **on,
    )
    def weekly_archiving(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="weekly_pruning",
        job_name=PRUNE_JOB,
        cron_schedule="25 5 * * 0",
        description=(
            f"Sundays 05:25, after archiving: runs and ticks older than {settings.history_days} days are deleted, but "
            "for those a fact hangs on."
        ),
        **on,
    )
    def weekly_pruning(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="nightly_shop",
        job_name=SHELF_JOB,
        cron_schedule="15 4 * * *",
        description="04:15: what the shop sells and what the links brought, before products are matched.",
        **on,
    )
    def nightly_shop(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    @dg.schedule(
        name="morning_matches",
        job_name=MATCHING_JOB,
        cron_schedule="40 4 * * *",
        description="04:40, after the night's briefs: which product and link posts of each niche offer.",
        **on,
    )
    def morning_matches(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = _local_day(context, zone, days_ago=1)
        return dg.RunRequest(run_key=day, partition_key=day)

    return [
        nightly_discovery,
        morning_overview,
        hourly_publication_metrics,
        nightly_books,
        late_commissions,
        recent_books,
        hourly_quota_usage,
        parked_searches,
        hourly_snapshots,
        morning_ranking,
        daily_statistics_retention,
        nightly_calibration,
        nightly_packing,
        nightly_plans,
        nightly_webhooks,
        hourly_video_slots,
        keep_channels_connected,
        half_hourly_publish_queue,
        daily_publication_analytics,
        daily_youtube_revenue,
        nightly_variant_results,
        morning_page,
        half_hourly_catalog,
        nightly_shop,
        morning_matches,
        build_followup(**on),
        build_clip_followup(**on),
        build_nightly_clips(settings, **on),
        nightly_storage_inventory,
        nightly_storage_lifecycle,
        weekly_archiving,
        weekly_pruning,
    ]
