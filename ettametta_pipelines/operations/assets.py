"""Operations in the Dagster UI: the vendors' quotas day by day, and the packing of months gone by.

Assets only: they read the state database and the run queue, call one function of this room or of storage and report.
"""

from collections.abc import Mapping
from datetime import date
from time import monotonic

import dagster as dg
import pandas as pd

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.clock import business_day_of, pacific_quota_day, utc_now
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.operations.contracts import API_QUOTA_USAGE, TABLE_PACKS
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import DAY
from ettametta_pipelines.settings import get_settings

GROUP = "operations"
WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]


@table_asset(
    API_QUOTA_USAGE,
    partitions_def=DAY,
    group_name=GROUP,
    kinds={"youtube", "python"},
    description="""
What the vendors' daily quotas were spent on. A day here is the vendor's: it turns at midnight Pacific. **Left** is
what runs can still draw; **reserved** is held by runs under way. *by_niche* names who drew it, and *forecast* says
when searches that are parked or wait in the queue, a running backfill's for instance, will have been made at the rate
today allows. When YouTube itself said that a bucket is spent although our book had some left, something else uses the
same Google project; nothing more is asked of it that day.

**If it fails:** the state database did not answer; nothing else depends on it. It is read again every hour.
""",
)
def api_quota_usage(
    context: dg.AssetExecutionContext, state: StateResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.discovery.breadth import niches_by_plan
    from ettametta_pipelines.discovery.search_desk import backlog, configured_policy
    from ettametta_pipelines.operations import quota_report
    from ettametta_pipelines.state import quota

    with failure_policy(context), state.open() as db:
        day, now = date.fromisoformat(context.partition_key), utc_now()
        rows = quota.usage(db, day)
        with db.session(write=False) as session:
            spent = quota.spent_by_holder(session, "youtube", day)
        ahead, end = "Only for the current day.", None
        if day == pacific_quota_day(now):
            niches, policy = niches_by_plan(get_settings(), db), configured_policy(get_settings())
            queued = _queued_searches(context.instance, niches, policy.per_weight)
            ahead, end = quota_report.forecast(backlog(db, niches, utc_now, policy), queued)
        columns = ("quota_day", "vendor", "bucket", "limit", "used", "reserved", "left", "closed_at")
        frame = API_QUOTA_USAGE.frame(
            [{name: getattr(row, name) for name in columns} | {"observed_at": now} for row in rows]
        )
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "buckets": dg.MetadataValue.md(quota_report.bucket_table(rows)),
            "forecast": ahead,
            "backfill_ends": end.isoformat() if end else "–",
            "by_niche": dg.MetadataValue.md(quota_report.spender_table(rows, spent)),
            **{f"{row.bucket}_used": row.used for row in rows},
        },
    )


def _queued_searches(
    instance: dg.DagsterInstance, niches: Mapping[str, Niche], per_weight: int
) -> dict[tuple[date, str], int]:
    """(day, niche) -> searches that runs in the queue will ask for."""
    from ettametta_pipelines.discovery.quota_plan import wanted_searches

    candidates = dg.AssetKey("youtube_candidates")
    wanted: dict[tuple[date, str], int] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=WAITING)):
        day, niche = (run.tags.get(f"dagster/partition/{name}", "") for name in ("date", "niche"))
        chosen = run.asset_selection
        if day and niche in niches and (chosen is None or candidates in chosen):
            wanted[(date.fromisoformat(day), niche)] = wanted_searches(niches[niche], per_weight)
    return wanted


@table_asset(
    TABLE_PACKS,
    group_name=GROUP,
    kinds={"parquet"},
    description="""
One file per table and month beside the thousands that partitions leave, for queries over long ranges. Packs only
repeat what the partitions' own files say: a partition that is run again is read from its own file until the next
packing, and packs may be deleted at any time. Only months gone by are packed, and only those that changed.

**If it fails:** the store did not answer, which is tried again by itself. A month with a file that cannot be read is
named under *problem* and left unpacked; materialize the named partition again.
""",
)
def table_packs(
    context: dg.AssetExecutionContext, store: StoreResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.storage.packs import pack_months

    started = monotonic()
    with failure_policy(context):
        settings = get_settings()
        objects = store.open()
        this_month = f"{business_day_of(utc_now(), settings.timezone):%Y-%m}"
        packed = [
            pack
            for contract in ALL_TABLES.values()
            if contract.partitioned_by and contract.partitioned_by[0] == "day"
            for pack in pack_months(
                objects, contract, before=this_month, scratch=settings.home_dir / "scratch"
            )
        ]
    frame = TABLE_PACKS.frame(
        {
            "table_name": pack.table, "month": pack.month, "files": pack.files, "rows": pack.rows,
            "size_bytes": pack.size, "written": pack.written, "problem": pack.problem or None,
        }
        for pack in packed
    )  # fmt: skip
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "months": len(frame),
            "written": int(frame["written"].sum()),
            "files": int(frame["files"].sum()),
            "problems": int(frame["problem"].notna().sum()),
            "took_s": round(monotonic() - started, 2),
        },
    )


ASSETS = [api_quota_usage, table_packs]
