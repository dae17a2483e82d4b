"""Ticks of schedules and sensors as the daemon records them, for tests."""

from datetime import datetime

import dagster as dg
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster_shared.error import SerializableErrorInfo

KINDS = {
    "schedule": (InstigatorType.SCHEDULE, ScheduleInstigatorData("0 2 * * *")),
    "sensor": (InstigatorType.SENSOR, SensorInstigatorData()),
}


def running(instance: dg.DagsterInstance, name: str, kind: str) -> InstigatorState:
    """A schedule or sensor that is switched on."""
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("ettametta_pipelines"), "__repository__"), name
    )
    made, data = KINDS[kind]
    return instance.add_instigator_state(InstigatorState(origin, made, InstigatorStatus.RUNNING, data))


def ticked(
    instance: dg.DagsterInstance, state: InstigatorState, at: datetime, status: str, error: str = ""
) -> None:
    """One tick of `status` SUCCESS, SKIPPED, STARTED or FAILURE."""
    said = SerializableErrorInfo(f"ValueError: {error}\n", [], "ValueError") if error else None
    instance.create_tick(
        TickData(
            state.instigator_origin_id, state.instigator_name, state.instigator_type, TickStatus[status],
            at.timestamp(), run_ids=["run"] if status == "SUCCESS" else None, error=said,
            selector_id=state.selector_id,
        )
    )  # fmt: skip
