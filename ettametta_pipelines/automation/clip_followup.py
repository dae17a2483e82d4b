"""The schedule that comes back for clips whose orders still run at a vendor, or whose run was killed."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from ettametta_pipelines.automation.jobs import PROMPT_JOB, SYNTHESIS_JOB
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource
from ettametta_pipelines.partitions import NICHE
from ettametta_pipelines.tags import ACCOUNT_TAG

# A run that waits for its clips has moved them within this time.
QUIET_FOR = timedelta(minutes=20)


def build_clip_followup(**on: Any) -> dg.ScheduleDefinition:
    """The schedule; `on` says in which time zone, and that it is on by default."""

    @dg.schedule(
        name="clip_followup",
        job_name=SYNTHESIS_JOB,
        cron_schedule="*/10 * * * *",
        description=(
            "Every ten minutes: clips that were ordered and not fetched, or that wait for a GPU, each partition run "
            "again until they have an end. Orders nothing twice."
        ),
        **on,
    )
    def clip_followup(
        context: dg.ScheduleEvaluationContext, state: StateResource, store: StoreResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from ettametta_pipelines.state.clip_orders import unfinished_partitions
        from ettametta_pipelines.synthesis.waiting import waiting

        on_gpu = [
            (partition, account)
            for partition, account in waiting(store.open(), context.scheduled_execution_time)
            if not _is_at_work(context.instance, partition)
        ]
        # One request that cannot be launched would take the others of its tick with it.
        known = NICHE.get_partition_keys()
        due = [
            (partition, account)
            for partition, account in [*unfinished_partitions(state.open(), quiet_for=QUIET_FOR), *on_gpu]
            if partition.partition("|")[2] in known
        ]
        for partition in dict.fromkeys(partition for partition, _ in due):
            accounts = {account for wanted, account in due if wanted == partition}
            yield dg.RunRequest(
                partition_key=partition,
                asset_selection=[dg.AssetKey("synthesized_clips")],
                tags={ACCOUNT_TAG: ",".join(sorted(accounts))},
            )
        if not due:
            yield dg.SkipReason("No clip is ordered and not fetched.")

    return clip_followup


def _is_at_work(instance: dg.DagsterInstance, partition: str) -> bool:
    """Whether a run of this partition's clips waits or works; those of a GPU may take an hour."""
    runs = instance.get_run_records(
        dg.RunsFilter(tags={"dagster/partition": partition}, statuses=NOT_FINISHED_STATUSES)
    )
    return any(record.dagster_run.job_name in (SYNTHESIS_JOB, PROMPT_JOB) for record in runs)
