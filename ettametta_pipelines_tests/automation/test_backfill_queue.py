"""Backfills in the run queue: below the night and the uploads, whatever their number and however long they waited."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from ettametta_pipelines.automation import jobs
from ettametta_pipelines.automation.conditions import AUTOMATION
from ettametta_pipelines.automation.priority import BACKFILL_CEILING, age_queue
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.commands.devserver import project_root
from ettametta_pipelines.tags import NIGHTLY_PRIORITY, PRIORITY_TAG, UPLOAD_PRIORITY

QUEUED, STARTED = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED
HERE = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository")
# Started by a person for one video or niche, who waits for it; a backfill over them is lowered in the queue.
BY_HAND = {jobs.PUBLISH_JOB, jobs.APPROVAL_JOB, jobs.SYNTHESIS_JOB, jobs.PROMPT_JOB, jobs.TRIAL_JOB}


@dg.job
def work() -> None: ...


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with the settings the project ships."""
    (tmp_path / "dagster.yaml").write_bytes((project_root() / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def add(
    instance: dg.DagsterInstance, name: str, tags: dict[str, str], status: dg.DagsterRunStatus = QUEUED
) -> str:
    made = instance.create_run_for_job(
        work, status=status, tags={"name": name, **tags}, remote_job_origin=RemoteJobOrigin(HERE, "work")
    )
    return made.run_id


def backfilled(instance: dg.DagsterInstance, runs: int, status: dg.DagsterRunStatus = QUEUED) -> None:
    for n in range(runs):
        add(instance, f"backfill {n}", {"dagster/backfill": "b"}, status)


def started_next(instance: dg.DagsterInstance) -> list[str]:
    """The names of the runs the daemon would start now, in their order."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=5, page_size=10)
    chosen = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)
    return [run.tags["name"] for run in chosen]


def test_the_night_and_uploads_go_before_a_backfill_that_came_first(instance: dg.DagsterInstance) -> None:
    backfilled(instance, 30)
    add(instance, "night", NIGHTLY_PRIORITY)
    add(instance, "upload", UPLOAD_PRIORITY)
    assert started_next(instance) == ["upload", "night", "backfill 0", "backfill 1"]


def test_a_backfill_under_way_leaves_a_place_free_and_only_for_others(instance: dg.DagsterInstance) -> None:
    backfilled(instance, 3, STARTED)
    backfilled(instance, 30)
    assert started_next(instance) == []
    add(instance, "night", NIGHTLY_PRIORITY)
    assert started_next(instance) == ["night"]


def test_a_backfill_that_waited_for_days_is_still_below_the_night(instance: dg.DagsterInstance) -> None:
    backfilled(instance, 5)
    age_queue(instance, utc_now() + timedelta(days=3))
    add(instance, "night", NIGHTLY_PRIORITY)
    assert started_next(instance)[0] == "night"
    assert {run.tags.get(PRIORITY_TAG) for run in instance.get_runs()} == {str(BACKFILL_CEILING), "5"}


def test_a_backfill_of_a_job_that_people_start_is_lowered_and_one_with_a_chosen_priority_is_not(
    instance: dg.DagsterInstance,
) -> None:
    for name, chosen in (("plain", {}), ("chosen", {PRIORITY_TAG: "10"})):
        instance.add_backfill(
            PartitionBackfill(
                name, BulkActionStatus.REQUESTED, tags=chosen, backfill_timestamp=0.0, from_failure=False
            )
        )  # fmt: skip
        add(instance, name, {"dagster/backfill": name, **UPLOAD_PRIORITY})
    assert age_queue(instance, utc_now()) == 1
    priorities = {run.tags["name"]: run.tags[PRIORITY_TAG] for run in instance.get_runs()}
    assert priorities == {"plain": "4", "chosen": "10"}


def test_a_job_that_is_backfilled_gives_its_runs_no_priority() -> None:
    # Dagster hands a job's tags to the runs of its backfills.
    with_priority = {job.name for job in jobs.JOBS if job.partitions_def and PRIORITY_TAG in (job.tags or {})}
    assert with_priority == BY_HAND
    assert int(AUTOMATION.run_tags[PRIORITY_TAG]) == BACKFILL_CEILING
