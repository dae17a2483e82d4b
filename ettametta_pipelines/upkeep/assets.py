"""Upkeep in the Dagster UI: packing months gone by. What a pack is, `storage/packs.py` says."""

from time import monotonic

import dagster as dg
import pandas as pd

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.clock import business_day_of, utc_now
from ettametta_pipelines.failure_policy import failure_policy
from ettametta_pipelines.resources import StoreResource
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.tables import table_metadata
from ettametta_pipelines.upkeep.contracts import TABLE_PACKS


@dg.asset(
    group_name="upkeep",
    owners=["team:upkeep"],
    kinds={"parquet"},
    io_manager_key="tables",
    metadata=table_metadata(TABLE_PACKS),
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
            "duration_s": round(monotonic() - started, 2),
        },
    )


ASSETS = [table_packs]
