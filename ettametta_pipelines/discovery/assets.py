"""Discovery in the Dagster UI: candidates of each platform, one ranked list, the morning overview.

Assets only: they read settings and the clock, call one function of this room and report. One partition is one niche
on one day, so a niche can be run again alone and a range of days backfilled.
"""

from collections import Counter
from datetime import date
from time import monotonic

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.automation.jobs import RERANK_JOB
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery.contracts import (
    NICHE_TRENDS,
    TIKTOK_CANDIDATES,
    TREND_CANDIDATES,
    YOUTUBE_CANDIDATES,
)
from ettametta_pipelines.discovery.niches import Niche, find_niche, load_niches
from ettametta_pipelines.discovery.signal_assets import ASSETS as SIGNALS
from ettametta_pipelines.orchestration.failure_policy import FAILURE_CODE_TAG, failure_policy
from ettametta_pipelines.orchestration.range_runs import RANGE_POLICY, each_partition
from ettametta_pipelines.orchestration.resources import (
    LakeResource,
    StateResource,
    StoreResource,
    TikTokResource,
    YouTubeResource,
)
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import DAY, DAY_NICHE, day_niche_key
from ettametta_pipelines.settings import get_settings

GROUP = "discovery"
PREVIEW_PICTURES = 8
# With checks declared an asset has several outputs: Dagster then refuses a subscripted result annotation.


def _partition(context: dg.AssetExecutionContext) -> tuple[date, Niche]:
    assert isinstance(context.partition_key, dg.MultiPartitionKey)
    keys = context.partition_key.keys_by_dimension
    niche = find_niche(load_niches(get_settings().niches_file), keys["niche"])
    return date.fromisoformat(keys["date"]), niche


class YouTubeConfig(dg.Config):
    """What one niche may cost on one day."""

    searches: int = Field(
        default=get_settings().searches_per_niche,
        ge=1,
        description="Searches wanted by a niche of weight 1, for this run; ETTAMETTA_SEARCHES_PER_NICHE for all",
    )
    rerun_reserve: int = Field(
        default=get_settings().rerun_reserve,
        ge=0,
        description="Searches a day that only repeated partitions may use; ETTAMETTA_RERUN_RESERVE for all runs",
    )
    baseline_channels: int = Field(
        default=50, ge=0, description="Channels whose usual views are looked up, fastest candidates first"
    )
    baseline_uploads: int = Field(default=15, ge=5, le=50, description="Recent uploads read per channel")
    baseline_days: int = Field(
        default=3, ge=0, le=30, description="Days for which a channel's usual views are not read again"
    )
    side_by_side: int = Field(default=8, ge=1, le=32, description="Calls to YouTube in flight at once")


@table_asset(
    YOUTUBE_CANDIDATES,
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    kinds={"youtube", "python"},
    check_specs=[
        dg.AssetCheckSpec(
            "statistics_were_read",
            asset="youtube_candidates",
            description="At least nine in ten candidates have a view count.",
        )
    ],
    description="""
Videos YouTube returned for a niche's queries and watched channels, published on the partition day, with their
statistics **at the moment of the run** (`observed_at`) and what their channels usually reach. A backfilled day
has that day's videos and today's counts; nothing pretends to have been seen in the past.

All niches share the day's searches, 100 unless Google granted more. Each has a share by weight and by what its
searches brought lately, and makes the most promising of its searches: *plan* says which and why (a new video counts 1,
an outlier 5, and a search that was not made for four days twice as much).
Every call is paid from the shared quota before it is made.
When a bucket is spent, the partition holds what was found so far, *left_out* names the rest, and searches that were
promised are parked: the niche's next night makes them first, back to the day they were missed on. A backfilled day gets
all its searches or none, and a day that is run again as many as it had or none: less never replaces more.

**If it fails:** `quota_exhausted` means that no search was left for it. It is parked and runs again by itself after
midnight Pacific, when there is quota that no niche's news needs.
`api_key_rejected` needs a look at YOUTUBE_API_KEY. Everything else is tried again by itself.
""",
)
def youtube_candidates(
    context: dg.AssetExecutionContext, config: YouTubeConfig, state: StateResource, youtube: YouTubeResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.discovery import report
    from ettametta_pipelines.discovery.breadth import breadth_in_words, niches_by_plan
    from ettametta_pipelines.discovery.metered_youtube import MeteredYouTube
    from ettametta_pipelines.discovery.search_desk import SearchDesk, SearchPolicy
    from ettametta_pipelines.discovery.window import publication_window
    from ettametta_pipelines.discovery.youtube_collector import CollectionLimits, YouTubeCollector

    started = monotonic()
    with failure_policy(context), state.open() as db:
        day, niche = _partition(context)
        window = publication_window(day, get_settings().timezone, utc_now())
        client = youtube.data()
        policy = SearchPolicy(config.searches, config.rerun_reserve, get_settings().timezone)
        niches = niches_by_plan(get_settings(), db)
        breadth = breadth_in_words(niche, niches[niche.slug])
        niche = niches[niche.slug]
        desk = SearchDesk(db, niches, clock=utc_now, policy=policy)
        limits = CollectionLimits(config.baseline_channels, config.baseline_uploads, config.baseline_days)
        with MeteredYouTube(
            client, db, utc_now, holder=niche.slug, side_by_side=config.side_by_side
        ) as metered:
            found = YouTubeCollector(metered, niche, window, clock=utc_now, limits=limits, desk=desk).collect(
                day
            )
        frame = YOUTUBE_CANDIDATES.frame(found.rows)
    known = int(frame["views"].notna().sum())
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "vendor": client.endpoint.standing,
            "published": report.window_line(window),
            "candidates": len(frame),
            "searches": f"{found.searches_made} of {found.searches_planned}",
            "breadth": breadth,
            "vanished": found.vanished,
            "known_baselines": int(frame["baseline_views"].notna().sum()),
            "baselines_reused": found.baselines_reused,
            "share": found.plan.summary,
            "plan": dg.MetadataValue.md(report.search_table(found.plan)),
            **{f"quota_{bucket}": used for bucket, used in sorted(found.quota_used.items())},
            "left_out": dg.MetadataValue.md(report.bullet_list(found.left_out, empty="nothing")),
            "most_viewed": dg.MetadataValue.md(report.raw_table(found.rows)),
            "took_s": round(monotonic() - started, 2),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="statistics_were_read",
                passed=known >= 0.9 * len(frame),
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"with_views": known, "candidates": len(frame)},
            )
        ],
    )


@table_asset(
    TIKTOK_CANDIDATES,
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    kinds={"tiktok", "python"},
    description="""
Posts of our own connected TikTok accounts, published on the partition day, with their statistics at the moment of
the run. An account belongs to a niche when the niches file lists it under `tiktok_accounts`.

Only own posts: TikTok's Research API could search, but is closed to commercial use (`ETTAMETTA_TIKTOK_RESEARCH_API`
is off; docs/discovery.md says more), and its pages are not scraped. Without a connected account the table is empty and
*left_out* says how to connect one; nothing else waits for it.

**If it fails:** TikTok did not answer, which is tried again by itself. An account whose consent has ended does not
fail the run; it is named in *left_out* with the command that reconnects it.
""",
)
def tiktok_candidates(
    context: dg.AssetExecutionContext, state: StateResource, tiktok: TikTokResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.discovery import report
    from ettametta_pipelines.discovery.tiktok_collector import TikTokAccount, collect_tiktok
    from ettametta_pipelines.discovery.window import publication_window
    from ettametta_pipelines.state.connected import own_channels

    started = monotonic()
    with failure_policy(context), state.open() as db:
        day, niche = _partition(context)
        window = publication_window(day, get_settings().timezone, utc_now())
        app = tiktok.app()
        found = collect_tiktok(
            niche,
            day,
            window,
            connected={
                own.account: TikTokAccount(own.account, own.channel_id, own.title)
                for own in own_channels(db)
                if own.platform == "tiktok"
            },
            creator_of=lambda account: tiktok.creator(db, account),
            clock=utc_now,
            research=app.research_videos if get_settings().tiktok_research_api else None,
        )
        frame = TIKTOK_CANDIDATES.frame(found.rows)
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "published": report.window_line(window),
            "candidates": len(frame),
            "accounts_read": ", ".join(found.accounts_read) or "none",
            "research_api": "on" if get_settings().tiktok_research_api else "off",
            "left_out": dg.MetadataValue.md(report.bullet_list(found.left_out, empty="nothing")),
            "most_viewed": dg.MetadataValue.md(report.raw_table(found.rows)),
            "took_s": round(monotonic() - started, 2),
        },
    )


class TrendConfig(dg.Config):
    """What the ranked list shows in the UI."""

    preview_pictures: int = Field(
        default=PREVIEW_PICTURES, ge=0, le=20, description="Thumbnails of the strongest candidates to show"
    )


@table_asset(
    TREND_CANDIDATES,
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    kinds={"python", "parquet"},
    deps=["video_snapshots"],
    backfill_policy=RANGE_POLICY,
    check_specs=[
        dg.AssetCheckSpec(
            "something_was_found",
            asset="trend_candidates",
            description="The niche has at least one candidate that can be ranked.",
        )
    ],
    description="""
All platforms' candidates in one list, each video once, strongest first. **Views/h** is the speed between the last two
observations (`video_snapshots`), since publication only where there is one; *velocity_basis* says which. **× usual** is
views against what the channel's other recent uploads had at the same age, from snapshots of them or along the growth
curve, pulled towards 1 as far as the channel is little known; empty where nothing is known, never zero. Rank is by the
mean percentile of both within a platform, so no giant drowns the rest; every part is a column, *why* says it in words.
These columns are ours, not the platforms'.

What cannot be ranked is counted under *excluded* and stands in `quarantined_candidates`. The same video in other
niches and the same footage uploaded again are marked (`also_in`, `reupload_of`), not dropped.

**If it fails:** it only computes from stored tables, so a failure is a defect: the message names table and column.
It can be materialized again for any past day without a single call; where counters were deleted by age, the stored
signals are ranked again. A backfill takes a hundred partitions a run and shows no pictures.
""",
)
@each_partition(TREND_CANDIDATES, youtube_candidates=YOUTUBE_CANDIDATES, tiktok_candidates=TIKTOK_CANDIDATES)
def trend_candidates(
    context: dg.AssetExecutionContext,
    config: TrendConfig,
    store: StoreResource,
    youtube_candidates: pd.DataFrame,
    tiktok_candidates: pd.DataFrame,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.discovery import report
    from ettametta_pipelines.discovery.surroundings import look_around
    from ettametta_pipelines.discovery.trends import rank_trends
    from ettametta_pipelines.previews import Thumb, picture_strip
    from ettametta_pipelines.vendors.pictures import Picture, fetch_pictures, trusted_hosts

    started = monotonic()
    with failure_policy(context):
        raw = YOUTUBE_CANDIDATES.to_arrow(youtube_candidates).to_pylist()
        raw += TIKTOK_CANDIDATES.to_arrow(tiktok_candidates).to_pylist()
        ranked = rank_trends(raw, look_around(store.open(), context.partition_key, raw))
        frame = TREND_CANDIDATES.frame(ranked.rows)
        # Pictures are fetched from the platforms; a backfill over stored rows asks nobody.
        top = ranked.rows[: config.preview_pictures if len(context.partition_keys) == 1 else 0]
        hosts = trusted_hosts(get_settings().endpoint(name) for name in ("youtube", "tiktok"))
        # Making ready to fetch costs more than ranking: certificates are read.
        pictures = fetch_pictures([row["thumbnail_url"] for row in top], http_hosts=hosts) if top else []
    thumbs = [
        Thumb(row["title"], picture.data)
        for row, picture in zip(top, pictures, strict=True)
        if isinstance(picture, Picture)
    ]
    strip = picture_strip(thumbs)
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "top_ten": dg.MetadataValue.md(report.trend_table(ranked.rows)),
            "pictures": dg.MetadataValue.md(strip or "none could be shown"),
            "candidates": len(frame),
            "by_platform": dict(Counter(row["platform"] for row in ranked.rows)),
            "duplicates": ranked.duplicates,
            "excluded": ranked.excluded,
            "known_outlier_ratios": int(frame["outlier_ratio"].notna().sum()),
            "velocity_from": dict(Counter(row["velocity_basis"] or "unknown" for row in ranked.rows)),
            "baselines_from": dict(Counter(row["baseline_basis"] or "unknown" for row in ranked.rows)),
            "also_in_other_niches": sum(bool(row["also_in"]) for row in ranked.rows),
            "reuploads": sum(row["reupload_of"] is not None for row in ranked.rows),
            "top_views_per_hour": round(
                max((r["view_velocity_per_hour"] for r in ranked.rows), default=0.0), 1
            ),
            "took_s": round(monotonic() - started, 2),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="something_was_found",
                passed=len(frame) > 0,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"candidates": len(frame), "excluded": sum(ranked.excluded.values())},
            )
        ],
    )


def _why_missing(instance: dg.DagsterInstance, day: str, niche: str) -> str:
    """Why a niche has no candidates of a day, as its last run tells; ranking again finds nothing and says only so."""
    where = dg.RunsFilter(tags={"dagster/partition": day_niche_key(day, niche)})
    runs = [run for run in instance.get_runs(where, limit=20) if run.job_name != RERANK_JOB]
    if not runs:
        return f"{niche}: never run"
    if runs[0].is_success:
        return (
            f"{niche}: nothing that can be ranked; left_out of its youtube_candidates says what was not asked"
        )
    code = runs[0].tags.get(FAILURE_CODE_TAG)
    return f"{niche}: {runs[0].status.value.lower()}" + (f", {code}" if code else "")


@table_asset(
    NICHE_TRENDS,
    partitions_def=DAY,
    group_name=GROUP,
    kinds={"duckdb", "sql"},
    deps=["trend_candidates"],
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[
        dg.AssetCheckSpec(
            "every_niche_was_discovered",
            asset="niche_trends",
            description="No niche of the niches file is missing; the metadata says why one is.",
        ),
        dg.AssetCheckSpec(
            "volume_follows_the_trend",
            asset="niche_trends",
            description="Every niche has at least half the candidates it had in the median of the last four weeks.",
        ),
        dg.AssetCheckSpec(
            "statistics_are_known",
            asset="niche_trends",
            description="At most a tenth of a niche's raw candidates lack views, and half of them likes or comments.",
        ),
    ],
    description="""
The morning look: one line per niche, with how many candidates it has, how fast they move, how many are outliers and
which video leads. Niches that were not discovered that day are missing here, and *missing* says why: the last run's
failure (`quota_exhausted`: YouTube's searches were spent), or that there was none. Computed in SQL over the stored
candidates; a backfill takes a whole range of days in one run, whose checks look at the last of them.

**If it fails:** it only computes from stored `trend_candidates`; the message names the file that cannot be read.
Materialize that niche's `trend_candidates` again, then this.
""",
)
def niche_trends(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.discovery import report
    from ettametta_pipelines.discovery.niche_trends import night_health, roll_up_niches

    started = monotonic()
    with failure_policy(context), lake.open() as tables:
        days = sorted(date.fromisoformat(key) for key in context.partition_keys)
        rows = roll_up_niches(tables, days)
        frame = NICHE_TRENDS.frame(rows)
        health = night_health(tables, days[-1], rows)
        niches = load_niches(get_settings().niches_file)
    missing: list[str] = []
    for day in days:
        of_day = [row for row in rows if row["day"] == day]
        absent = sorted(set(niches) - {row["niche"] for row in of_day})
        missing = [_why_missing(context.instance, day.isoformat(), niche) for niche in absent]
        compared = (health.usual, health.missing_share) if day == days[-1] else ({}, {})
        context.add_asset_metadata(
            {
                "overview": dg.MetadataValue.md(report.niche_table(of_day, *compared)),
                "niches": len(of_day),
                "missing": dg.MetadataValue.md(report.bullet_list(missing, empty="none")),
                "niches_missing": len(missing),
                "candidates": sum(row["candidates"] for row in of_day),
                "outliers": sum(row["outliers"] for row in of_day),
                "took_s": round(monotonic() - started, 2),
            },
            partition_key=day.isoformat(),
        )
    problems = {
        "every_niche_was_discovered": missing,
        "volume_follows_the_trend": health.too_few,
        "statistics_are_known": health.too_unknown,
    }
    return dg.MaterializeResult(
        value=frame,
        check_results=[
            dg.AssetCheckResult(
                check_name=name,
                passed=not sentences,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(sentences[:5]) or None,
                metadata={
                    "day": days[-1].isoformat(),
                    "named": len(sentences),
                    "niches": dg.MetadataValue.md(report.bullet_list(sentences, empty="none")),
                },
            )
            for name, sentences in problems.items()
        ],
    )


ASSETS = [youtube_candidates, tiktok_candidates, trend_candidates, niche_trends, *SIGNALS]
