"""The operators' two pages in the Dagster UI, thin: the morning's overview, and the catalog of videos."""

from collections import Counter
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.clock import business_day_of, utc_now
from ettametta_pipelines.operations.contracts import OPERATIONS_OVERVIEW, VIDEO_CATALOG
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import LakeResource, StateResource, StoreResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.settings import Settings, get_settings

if TYPE_CHECKING:
    from ettametta_pipelines.automation.alert_looks import Desk
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines.storage.objects import ObjectStore

GROUP = "operations"


@table_asset(
    OPERATIONS_OVERVIEW,
    group_name=GROUP,
    kinds={"duckdb", "python"},
    description="""
The morning page: last night's finds, what failed and what to do about it, what waits for a person, today's posts,
quotas left, spend against its caps, revenue and storage. **page** is a screen of it: every part in a sentence, and what
somebody has to act on; **whole_page** has all tables. Made at 06:30; materialize it for how things stand now. It only
reads, and says what is not known yet.

**If it fails:** the store or the state database did not answer; nothing depends on it. Materialize it again.
""",
)
def operations_overview(
    context: dg.AssetExecutionContext, store: StoreResource, lake: LakeResource, state: StateResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.automation.alert_looks import (
        failed_checks,
        failed_runs,
        stale_assets,
        stuck_runs,
    )
    from ettametta_pipelines.operations import overview

    settings, now, started = get_settings(), utc_now(), monotonic()
    with failure_policy(context), lake.open() as tables:
        db = state.open()
        queue = _queue(store.open(), db, settings, now)
        desk = _desk(context, settings, now)
        wrong = [*failed_runs(desk), *failed_checks(desk), *stuck_runs(desk), *stale_assets(desk)]
        sections = (
            overview.failures(wrong, settings, now),
            overview.waiting(db, settings, queue, now),
            overview.todays_posts(queue, settings, now),
            overview.finds(tables, business_day_of(now, settings.timezone)),
            overview.quota_left(db, now),
            overview.spend(db, settings, now),
            overview.revenue(tables, settings, now),
            overview.storage(tables),
            overview.undelivered(db, now),
        )
    frame = OPERATIONS_OVERVIEW.frame(
        {
            "section": one.name, "position": place, "count": one.count, "says": one.says,
            "page": overview.page([one]), "observed_at": now,
        }
        for place, one in enumerate(sections, start=1)
    )  # fmt: skip
    counts = {one.name: one.count for one in sections}
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "page": dg.MetadataValue.md(overview.front(sections)),
            "whole_page": dg.MetadataValue.md(overview.page(sections)),
            **{one.name: one.says for one in sections},
            "failing_causes": counts["failures"] or 0,
            "waiting_for_a_person": counts["waiting"] or 0,
            "posts_today": counts["queue"] or 0,
            "candidates_found": counts["finds"] or 0,
            "spend_today_usd": (counts["spend"] or 0) / 1e6,
            "stored_gb": round((counts["storage"] or 0) / 1e9, 3),
            "took_s": round(monotonic() - started, 2),
        },
    )


@table_asset(
    VIDEO_CATALOG,
    group_name=GROUP,
    kinds={"duckdb", "python"},
    deps=[
        dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
        for name in ("source_media", "rendition_9x16", "youtube_publications", "tiktok_publications")
    ],
    description="""
Every source video by its title: whose it is, where it stands in plain words, links to the finished files that play,
the addresses of its posts, what it cost and what it earned. Where Dagster shows an id such as *acme--0f3a…*, this says
which video it is; the title links to its partition. **newest** shows the last hundred, the table has all. Made every
half hour and on demand. It only reads.

**If it fails:** the store or the state database did not answer; nothing depends on it. Materialize it again.
""",
)
def video_catalog(
    context: dg.AssetExecutionContext, store: StoreResource, lake: LakeResource, state: StateResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.automation.alert_looks import failed_runs
    from ettametta_pipelines.operations.video_catalog import STATES, catalog_rows, catalog_table

    settings, now, started = get_settings(), utc_now(), monotonic()
    with failure_policy(context), lake.open() as tables:
        db = state.open()
        queue = _queue(store.open(), db, settings, now)
        rows, money = catalog_rows(
            tables, db, settings, queue, failed_runs(_desk(context, settings, now)), now
        )
    states = Counter(row["state"] for row in rows)
    return dg.MaterializeResult(
        value=VIDEO_CATALOG.frame(rows),
        metadata={
            "newest": dg.MetadataValue.md(catalog_table(rows)),
            "videos": len(rows),
            "states": ", ".join(f"{states[name]} {name}" for name in STATES if states[name])
            or "no video yet",
            "money": money,
            **{f"{name}_count": states[name] for name in ("posted", "waiting", "failed", "rejected")},
            "cost_usd": sum(row["cost_microusd"] or 0 for row in rows) / 1e6,
            "took_s": round(monotonic() - started, 2),
        },
    )


def _queue(
    store: "ObjectStore", db: "StateDatabase", settings: Settings, now: datetime
) -> list[dict[str, Any]]:
    """Rows as of `publish_queue`, as things stand now."""
    from ettametta_pipelines.publishing.admission import live_platforms
    from ettametta_pipelines.publishing.backlog import upcoming
    from ettametta_pipelines.publishing.policy import load_channels
    from ettametta_pipelines.publishing.queue_report import queue_rows

    channels = load_channels(settings.channels_file)
    planned = upcoming(store, db, channels, now, live=live_platforms(settings))
    return queue_rows(planned, channels, settings, now)


def _desk(context: dg.AssetExecutionContext, settings: Settings, now: datetime) -> "Desk":
    from ettametta_pipelines.automation.alert_looks import Desk
    from ettametta_pipelines.definitions import build_definitions
    from ettametta_pipelines.operations.alert_routes import read_rules

    # A run knows only the assets of its own job.
    definitions = [a for a in build_definitions(settings).assets or () if isinstance(a, dg.AssetsDefinition)]
    # What was due before anything ever ran here is not missing.
    first = context.instance.get_run_records(limit=1, ascending=True)
    since = (
        first[0].create_timestamp.replace(tzinfo=first[0].create_timestamp.tzinfo or UTC) if first else now
    )
    return Desk(
        context.instance,
        settings,
        read_rules(settings.alerts_file).thresholds,
        now,
        since=since,
        up_since=since,
        groups={
            spec.key.to_user_string(): spec.group_name or "" for asset in definitions for spec in asset.specs
        },
        checks={spec.key: spec.description or "" for asset in definitions for spec in asset.check_specs},
    )


OVERVIEW_ASSETS = [operations_overview, video_catalog]
