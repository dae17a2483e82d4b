"""Dagster's own history, and what of it is let go: the asset of the weekly pruning.

An asset only: it reads settings, state and the instance, and calls `automation/pruning.py`.
"""

from datetime import UTC, datetime, timedelta
from time import monotonic

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.operations.contracts import PRUNED_HISTORY
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import StateResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.previews import cell, markdown_table, number
from ettametta_pipelines.settings import get_settings

GROUP = "operations"
# Where the next pruning goes on, in the metadata of the last.
GOES_ON = "goes_on_after"


class PruneConfig(dg.Config):
    """Of `pruned_history`, in the launchpad."""

    dry_run: bool = Field(default=False, description="Only count what would be deleted.")


@table_asset(
    PRUNED_HISTORY,
    group_name=GROUP,
    kinds={"python"},
    description="""
Runs older than ETTAMETTA_HISTORY_DAYS (90), deleted with their events and logs, and older ticks: hourly work alone
leaves some eighty thousand runs a year, and every page of the UI reads among them. **Nothing anybody relies on goes**:
a run stays while it holds the newest materialization of any asset or partition, was the last try at a partition that
was never made, belongs to a backfill under way, or is of a video with a post on its way or in doubt. Of runs that stay
only the process logs go. Tables, media, posts and books are not Dagster's and are not touched.

At most 20,000 runs or a quarter of an hour at once; the next pruning goes on from there, then begins again. To see what
would go, materialize with `dry_run`.

**If it fails:** Dagster's database did not answer; run it again. It may be repeated at any time.
""",
)
def pruned_history(
    context: dg.AssetExecutionContext, config: PruneConfig, state: StateResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.automation.pruning import prune_runs, prune_ticks
    from ettametta_pipelines.operations.archiving import with_open_posts

    started = monotonic()
    before = utc_now() - timedelta(days=get_settings().history_days)
    with failure_policy(context):
        done = prune_runs(
            context.instance, before, busy=with_open_posts(state.open()), after=_left_at(context),
            dry_run=config.dry_run,
        )  # fmt: skip
        ticking = 0 if config.dry_run else prune_ticks(context.instance, before)
    jobs = sorted({*done.by_job, *done.kept_by_job})
    return dg.MaterializeResult(
        value=PRUNED_HISTORY.frame(
            {"job": job, "pruned": done.by_job[job], "kept": done.kept_by_job[job], "before": before}
            for job in jobs
        ),
        metadata={
            "before": dg.MetadataValue.timestamp(before),
            "pruned": sum(done.by_job.values()),
            "kept": sum(done.kept.values()),
            "done": "only counted: the run was dry" if config.dry_run else "deleted",
            "jobs": dg.MetadataValue.md(
                markdown_table(
                    ["job", "deleted", "kept"],
                    ([cell(job), number(done.by_job[job]), number(done.kept_by_job[job])] for job in jobs),
                )
            ),
            "why_kept": dg.MetadataValue.md(
                markdown_table(
                    ["why", "runs"], ([cell(why), number(n)] for why, n in done.kept.most_common())
                )
            ),
            "ticks_looked_through": f"{ticking} schedules and sensors",
            GOES_ON: done.looked_until.isoformat() if done.looked_until else "the beginning",
            "duration_s": round(monotonic() - started, 2),
        },
    )


def _left_at(context: dg.AssetExecutionContext) -> datetime | None:
    """Until when the last pruning came; None when it came to the end, or there was none."""
    event = context.instance.get_latest_materialization_event(context.asset_key)
    said = (
        event.asset_materialization.metadata.get(GOES_ON) if event and event.asset_materialization else None
    )
    if said is None or said.value == "the beginning":
        return None
    return datetime.fromisoformat(str(said.value)).astimezone(UTC)


HISTORY_ASSETS = [pruned_history]
