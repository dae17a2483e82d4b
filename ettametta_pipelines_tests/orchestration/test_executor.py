"""A run whose pool is full waits asleep, and goes on when a slot is free."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.plan.active import ActiveExecution

from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.orchestration.executor import in_one_process
from ettametta_pipelines.settings import Settings

POOL, OTHER = "renders", "run-that-holds-the-slot"
# A refused claim may be repeated after a second, the next a little later; awake, it is asked thousands of times.
LOOKS = 10


@dg.op(pool=POOL)
def made() -> int:
    return 1


@dg.job(executor_def=in_one_process)
def making() -> None:
    made()


def with_a_full_pool(folder: Path) -> dg.DagsterInstance:
    instance = dg.DagsterInstance.local_temp(str(folder))
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    assert instance.event_log_storage.claim_concurrency_slot(POOL, OTHER, "made").is_claimed
    return instance


def test_a_run_that_waits_for_a_slot_sleeps_between_its_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = looks = 0
    instance = with_a_full_pool(tmp_path)
    claim, look = instance.event_log_storage.claim_concurrency_slot, ActiveExecution.get_steps_to_execute

    def counted_claim(*of: Any) -> Any:
        nonlocal refused
        status = claim(*of)
        refused += not status.is_claimed
        if refused == 2:
            instance.event_log_storage.free_concurrency_slots_for_run(OTHER)
        return status

    def counted_look(self: ActiveExecution, limit: int | None = None) -> Any:
        nonlocal looks
        looks += 1
        return look(self, limit)

    monkeypatch.setattr(instance.event_log_storage, "claim_concurrency_slot", counted_claim)
    monkeypatch.setattr(ActiveExecution, "get_steps_to_execute", counted_look)
    with instance:
        job = dg.reconstructable(_making)
        done = dg.execute_job(job, instance)
        assert done.success
    assert refused == 2
    assert looks <= LOOKS


def _making() -> dg.JobDefinition:
    return making


def test_every_job_runs_in_it(settings_env: Settings) -> None:
    repository = build_definitions(settings_env).get_repository_def()
    assert {job.executor_def for job in repository.get_all_jobs()} == {in_one_process}
