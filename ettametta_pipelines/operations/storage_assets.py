"""What the store holds, what leaves it, and which videos are live: assets of nightly and weekly work.

Assets only: they read settings, store, state and the instance, and call one function of this room or of storage.
"""

from datetime import date, timedelta
from time import monotonic
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.operations.contracts import (
    ARCHIVED_VIDEOS,
    STORAGE_INVENTORY,
    STORAGE_LIFECYCLE,
)
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import LakeResource, StateResource, StoreResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.orchestration.video_groups import videos_of
from ettametta_pipelines.partitions import DAY, SOURCE_VIDEO
from ettametta_pipelines.previews import cell, markdown_table, number
from ettametta_pipelines.settings import get_settings

GROUP = "operations"
# Of one run: each is a statement of its own; the next week goes on.
MOST_ARCHIVED = 10_000
IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
SHOWN = 20


class LifecycleConfig(dg.Config):
    """Of `storage_lifecycle`, in the launchpad."""

    dry_run: bool = Field(default=False, description="Only count what is due; change and remove nothing.")
    try_days: int = Field(
        default=0, description="Count prefixes that are not configured as if they were, with these days."
    )
    at_once: bool = Field(default=False, description="Apply a new rule now, not first in the next run.")


@table_asset(
    STORAGE_LIFECYCLE,
    group_name=GROUP,
    kinds={"s3", "python"},
    description="""
What leaves the object store, and when, by ETTAMETTA_EXPIRE_DAYS, ETTAMETTA_ABORT_UPLOADS_DAYS and
ETTAMETTA_COLD_SOURCES_DAYS. Only old objects that nothing alive refers to are ever due; this job deletes them, alike in
a bucket and in a directory. A bucket's own rules end broken-off uploads, move old sources to a colder class and let go
of old versions; rules of others stay as they are. **A rule that is new, or has other days, is only counted by the
first run and applied by the next**, so that a mistake can be seen before it costs a file.

To see what a rule would do, materialize with `dry_run` and `try_days`. **If it fails** with *store_access_denied*: the
user of the bucket also needs s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration (docs/uploads.md). Nothing
else depends on it.
""",
)
def storage_lifecycle(
    context: dg.AssetExecutionContext,
    config: LifecycleConfig,
    store: StoreResource,
    state: StateResource,
    lake: LakeResource,
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.operations.lifecycle import EXPIRABLE, References, plan_removals
    from ettametta_pipelines.storage import lifecycle

    settings, now, started = get_settings(), utc_now(), monotonic()
    with failure_policy(context):
        objects = store.open()
        with lake.open() as tables:
            earlier = {row["rule"]: row for row in tables.rows("select * from storage_lifecycle")}
            renditions = {row["object_key"] for row in tables.rows(_RENDITIONS_SQL)}
        live = frozenset(context.instance.get_dynamic_partitions(str(SOURCE_VIDEO.name)))

        def line(
            rule: str, days: int, what: str, by: str, due: tuple[int | None, int | None] = (None, None)
        ) -> dict[str, Any]:
            known = earlier.get(rule)
            since = known["known_since"] if known and known["after_days"] == days else now
            return {
                "rule": rule, "after_days": days, "carried_out_by": by, "what": what, "due_objects": due[0],
                "due_bytes": due[1], "removed": 0, "known_since": since,
            }  # fmt: skip

        def applies(one: dict[str, Any]) -> bool:
            return (
                bool(one["after_days"])
                and (config.at_once or one["known_since"] < now)
                and not config.dry_run
            )

        days = settings.abort_uploads_days
        broken = lifecycle.remove_left_overs(objects, days, now, count_only=True)
        abort = (
            line("abort uploads", days, _BROKEN_OFF, "this job", broken)
            if objects.bucket is None
            else line("abort uploads", days, _BROKEN_OFF, "the bucket's rule")
        )
        if applies(abort):
            abort["removed"] = lifecycle.remove_left_overs(objects, days, now)[0]
        lines = [abort]
        references = References(live, renditions)
        for prefix, what in EXPIRABLE.items():
            configured = settings.expire_days.get(prefix, 0)  # type: ignore[call-overload]
            counted = configured or config.try_days
            plan = plan_removals(objects, state.open(), prefix, counted, references, now) if counted else None
            due = (plan.objects, plan.size) if plan else (None, None)
            one = line(f"expire {prefix}", configured, what, "this job", due)
            if plan and applies(one):
                one["removed"] = lifecycle.remove(objects, plan.keys)
            lines.append(one)
        cold = line("cold sources", settings.cold_sources_days, _COLD, "the bucket's rule")
        lines.append(cold)
        wanted = lifecycle.Wanted(
            abort["after_days"],
            cold["after_days"],
            settings.cold_sources_class,
            tuple(sorted(settings.expire_days)),
        )
        # With a rule that is only counted yet, the bucket's are left as they stand.
        unsure = config.dry_run or any(one["after_days"] and not applies(one) for one in lines)
        applied = None if unsure else lifecycle.apply_rules(objects, wanted)
    return dg.MaterializeResult(
        value=STORAGE_LIFECYCLE.frame(lines),
        metadata={
            "due": dg.MetadataValue.md(
                markdown_table(
                    ["rule", "after", "due", "MB", "removed", "what"],
                    (
                        [
                            cell(one["rule"]),
                            f"{one['after_days']} days" if one["after_days"] else "not configured",
                            number(one["due_objects"]),
                            number(None if one["due_bytes"] is None else one["due_bytes"] / 1e6, digits=1),
                            number(one["removed"]) if applies(one) else "counted only",
                            cell(one["what"], limit=120),
                        ]
                        for one in lines
                    ),
                )
            ),
            "bucket_rules": _rules_in_words(objects.bucket is None, unsure, applied),
            "due_bytes": sum(one["due_bytes"] or 0 for one in lines),
            "removed": sum(one["removed"] for one in lines),
            "took_s": round(monotonic() - started, 2),
        },
    )


_BROKEN_OFF = "uploads and writes that were broken off"
_COLD = "accepted sources, which move to a cheaper class of storage and are read as before"
_RENDITIONS_SQL = " union all ".join(
    f"select object_key from rendition_{format}"  # noqa: S608
    for format in ("9x16", "16x9", "1x1")
)


def _rules_in_words(is_directory: bool, unsure: bool, applied: Any) -> str:
    if is_directory:
        return "A directory has none; this job removes what they would."
    if unsure or applied is None:
        return "Left as they stand: a rule is new and only counted yet, or the run is dry. The next run sets them."
    said = "Changed" if applied.changed else "As they were"
    return f"{said}: {', '.join(applied.own) or 'none of ours'}; {applied.foreign} of others are untouched."


@table_asset(
    STORAGE_INVENTORY,
    partitions_def=DAY,
    group_name=GROUP,
    kinds={"s3", "python"},
    description="""
What lies in the object store: objects and bytes by prefix and account, from one listing a night, and how much more it
is than on the last day counted. Sums are of what lies there now: a bucket with versions holds more. An accepted source
that two accounts uploaded is counted once, for one of them.

**If it fails:** the store did not answer; nothing depends on it. Materialize today's partition again. A day gone by
cannot be counted any more.
""",
)
def storage_inventory(
    context: dg.AssetExecutionContext, store: StoreResource, lake: LakeResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.operations.inventory import take_inventory

    day, started = date.fromisoformat(context.partition_key), monotonic()
    with failure_policy(context):
        with lake.open() as tables:
            whose = {row["sha256"]: row["account"] for row in tables.rows(_WHOSE_SQL)}
            earlier = tables.rows(_EARLIER_SQL, {"day": day})
        rows = take_inventory(store.open().list(""), day, whose, earlier)
    largest = sorted(rows, key=lambda row: -row["bytes"])
    grown = [row["bytes_grown"] for row in rows if row["bytes_grown"] is not None]
    return dg.MaterializeResult(
        value=STORAGE_INVENTORY.frame(rows),
        metadata={
            "largest": dg.MetadataValue.md(
                markdown_table(
                    ["prefix", "account", "objects", "MB", "MB more"],
                    (
                        [
                            cell(row["prefix"]),
                            cell(row["account"] or None),
                            number(row["objects"]),
                            number(row["bytes"] / 1e6, digits=1),
                            number(
                                None if row["bytes_grown"] is None else row["bytes_grown"] / 1e6, digits=1
                            ),
                        ]
                        for row in largest[:SHOWN]
                    ),
                )
            ),
            "objects": sum(row["objects"] for row in rows),
            "total_mb": round(sum(row["bytes"] for row in rows) / 1e6, 3),
            **({"grown_mb": round(sum(grown) / 1e6, 3)} if grown else {}),
            "compared_with": str(earlier[0]["day"]) if earlier else "no day before",
            "took_s": round(monotonic() - started, 2),
        },
    )


_WHOSE_SQL = "select sha256, min(account) as account from source_media group by sha256"
_EARLIER_SQL = (
    "select * from storage_inventory where day = (select max(day) from storage_inventory where day < $day) "
    "and objects > 0"
)


class ArchiveConfig(dg.Config):
    """Of `archived_videos`, in the launchpad."""

    dry_run: bool = Field(default=False, description="Only count what would be archived.")
    restore: list[str] = Field(
        default=[], description="Source ids to call back, so that they can be rendered or posted anew."
    )


@table_asset(
    ARCHIVED_VIDEOS,
    group_name=GROUP,
    kinds={"python"},
    description="""
Source videos that left the partitions of *source_video*, because nothing has happened to them for
ETTAMETTA_ARCHIVE_AFTER_DAYS days: with tens of thousands of partitions the UI and the automation become slow. Only the
partition goes. Tables, renditions, posts and `ettametta trace` keep the video; a video with a post on its way, approved
or waiting for a person stays, and so does one with a run under way. A new sidecar, new captions or a post bring an
archived video back by themselves. To **call one back** for a new render, materialize this with `restore: [its id]`, or
run `ettametta restore ID`.

**If it fails:** the state database or the instance did not answer; run it again. It may be repeated at any time.
""",
)
def archived_videos(
    context: dg.AssetExecutionContext, config: ArchiveConfig, state: StateResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.automation.restoring import restore_videos
    from ettametta_pipelines.operations import archiving

    settings, now, instance = get_settings(), utc_now(), context.instance
    partitions = str(SOURCE_VIDEO.name)
    with failure_policy(context):
        database = state.open()
        if config.restore:
            restore_videos(instance, database, config.restore)
        live = frozenset(instance.get_dynamic_partitions(partitions))
        backfilling = any(one.status.name == "REQUESTED" for one in instance.get_backfills(limit=200))
        finished = archiving.find_finished(
            database, live, _in_flight(instance), now, timedelta(days=settings.archive_after_days)
        )
        # A backfill has its partitions in hand; a week later it is over.
        going = [] if backfilling or config.dry_run else finished.source_ids[:MOST_ARCHIVED]
        archiving.record_archived(database, going, now)
        for source_id in going:
            instance.delete_dynamic_partition(partitions, source_id)
        rows = archiving.archived(database, live - frozenset(going))
    waiting = len(finished.source_ids) - len(going)
    return dg.MaterializeResult(
        value=ARCHIVED_VIDEOS.frame(
            {
                "source_id": row.source_id,
                "account": row.source_id.rpartition("--")[0],
                "archived_at": row.archived_at,
            }
            for row in rows
        ),
        metadata={
            "live": len(live) - len(going),
            "archived_now": len(going),
            "archived": len(rows),
            "finished_and_left": waiting,
            "why_left": _why_left(backfilling, config.dry_run, waiting),
            "called_back": ", ".join(config.restore) or "none",
            "kept": dg.MetadataValue.md(
                markdown_table(
                    ["why", "videos"], ([cell(why), number(n)] for why, n in finished.kept.most_common())
                )
            ),
        },
    )


def _why_left(backfilling: bool, dry_run: bool, waiting: int) -> str:
    if not waiting:
        return "–"
    if dry_run:
        return "The run was dry."
    return "A backfill is under way." if backfilling else f"One run archives {MOST_ARCHIVED}; run it again."


def _in_flight(instance: dg.DagsterInstance) -> frozenset[str]:
    """Partitions that a run is for which has not ended."""
    live = instance.get_dynamic_partitions(str(SOURCE_VIDEO.name))
    runs = instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
    return frozenset(video for run in runs for video in videos_of(run, live))


ASSETS = [storage_lifecycle, storage_inventory, archived_videos]
