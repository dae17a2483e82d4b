"""The schedule that comes back for clips whose orders still run at a vendor, or whose run was killed."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from ettametta_pipelines.automation.jobs import SYNTHESIS_JOB
from ettametta_pipelines.partitions import NICHE
from ettametta_pipelines.resources import StateResource
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
            "Every ten minutes: clips that were ordered and not fetched, each partition run again until its orders "
            "have an end. Orders nothing twice."
        ),
        **on,
    )
    def clip_followup(
        context: dg.ScheduleEvaluationContext, state: StateResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from ettametta_pipelines.state.clip_orders import unfinished_partitions

        # One request that cannot be launched would take the others of its tick with it.
        known = NICHE.get_partition_keys()
        due = [
            (partition, account)
            for partition, account in unfinished_partitions(state.open(), quiet_for=QUIET_FOR)
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
