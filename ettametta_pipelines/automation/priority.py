"""Who goes first in the run queue: an account's tier raises its runs, and waiting raises everybody's.

Dagster takes the highest `dagster/priority` first and knows no aging; alone, a tier that goes first could keep others
waiting for ever. So a queued run's priority grows by one for every `AGING_STEP` it has waited. Runs of a backfill stay
below the night's however long they wait, unless whoever launched it gave it a priority.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.tags import (
    GPU_PRIORITY_TAG,
    NIGHTLY_PRIORITY,
    PRIORITY_TAG,
    TIER_TAG,
    UPLOAD_PRIORITY,
)

if TYPE_CHECKING:
    from ettametta_pipelines.billing.tiers import Tier

AGING_STEP = timedelta(minutes=5)
# What a run was queued with, before it grew.
QUEUED_WITH_TAG = "ettametta/queued_priority"
# The oldest so many are looked at; behind them nobody has waited longer.
LOOKED_AT = 500
BACKFILL_TAG = "dagster/backfill"
BACKFILL_CEILING = int(NIGHTLY_PRIORITY[PRIORITY_TAG]) - 1


def plan_tags(tier: "Tier") -> dict[str, str]:
    """Tags of a run for an account of this tier."""
    tags = {TIER_TAG: tier.slug, PRIORITY_TAG: str(int(UPLOAD_PRIORITY[PRIORITY_TAG]) + tier.run_priority)}
    return tags | ({GPU_PRIORITY_TAG: tier.gpu_priority_class} if tier.gpu_priority_class else {})


def aged_priority(queued_with: int, waited: timedelta) -> int:
    """The priority of a run after it has waited so long."""
    return queued_with + max(0, int(waited / AGING_STEP))


def age_queue(instance: dg.DagsterInstance, now: datetime) -> int:
    """Raise what has waited, lower backfills that took their job's priority; says how many runs were moved."""
    raised = 0
    chosen: dict[str, bool] = {}
    waiting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
    for record in instance.get_run_records(waiting, limit=LOOKED_AT, ascending=True):
        tags = record.dagster_run.tags
        queued_with = tags.get(QUEUED_WITH_TAG, tags.get(PRIORITY_TAG, "0"))
        if not queued_with.lstrip("-").isdigit():
            continue
        aged = aged_priority(int(queued_with), now - record.create_timestamp)
        if backfill := tags.get(BACKFILL_TAG):
            if backfill not in chosen:
                chosen[backfill] = _has_priority(instance, backfill)
            aged = aged if chosen[backfill] else min(aged, BACKFILL_CEILING)
        priority = str(aged)
        if priority != tags.get(PRIORITY_TAG, "0"):
            grown = {PRIORITY_TAG: priority, QUEUED_WITH_TAG: queued_with}
            instance.add_run_tags(record.dagster_run.run_id, grown)
            raised += 1
    return raised


def _has_priority(instance: dg.DagsterInstance, backfill_id: str) -> bool:
    """Whether who launched a backfill gave it a priority."""
    backfill = instance.get_backfill(backfill_id)
    return backfill is not None and PRIORITY_TAG in (backfill.tags or {})


@dg.sensor(
    name="queue_aging",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        f"Raises the priority of queued runs by one for every {AGING_STEP.seconds // 60} minutes they have waited, so "
        "that accounts whose tier goes first never keep others waiting for ever. Backfills stay below the night's runs."
    ),
)
def queue_aging(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    return dg.SkipReason(f"{age_queue(context.instance, utc_now())} waiting runs were raised or lowered.")
