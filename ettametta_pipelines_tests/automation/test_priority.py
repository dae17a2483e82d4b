"""Who goes first in the queue, and that nobody waits for ever."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from ettametta_pipelines.automation.priority import AGING_STEP, age_queue, aged_priority, plan_tags
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines_tests.billing.conftest import plans


def test_an_empire_accounts_runs_go_first_and_name_their_gpu_class() -> None:
    tiers = plans().table.tiers
    assert plan_tags(tiers["free"]) == {"ettametta/tier": "free", "dagster/priority": "10"}
    assert plan_tags(tiers["empire"]) == {
        "ettametta/tier": "empire", "dagster/priority": "15", "ettametta/gpu_priority_class": "ettametta-priority",
    }  # fmt: skip


def waits(minutes: int) -> dict[str, list[float]]:
    """Minutes each tier's runs waited on one worker: a run takes a minute, 1.2 arrive, half of them Empire's."""
    queue: list[tuple[str, float]] = []
    waited: dict[str, list[float]] = {"empire": [], "free": []}
    base = {name: int(plan_tags(plans().table.tiers[name])["dagster/priority"]) for name in waited}
    for minute in range(minutes):
        arrived = 2 if minute % 5 == 0 else 1
        queue += [("empire" if (minute + n) % 2 else "free", minute) for n in range(arrived)]
        # As Dagster's daemon: the highest priority first, the oldest among equals.
        queue.sort(key=lambda run: (-aged_priority(base[run[0]], timedelta(minutes=minute - run[1])), run[1]))
        tier, since = queue.pop(0)
        waited[tier].append(minute - since)
    return waited


def test_q14_under_saturation_empire_waits_less_and_nobody_starves() -> None:
    waited = waits(600)
    p95 = {tier: sorted(times)[int(len(times) * 0.95)] for tier, times in waited.items()}
    assert p95["empire"] < p95["free"]
    # Five steps of priority are five steps of waiting: so much longer, and no more.
    assert p95["free"] - p95["empire"] <= 5 * AGING_STEP.total_seconds() / 60 + 1
    assert len(waited["free"]) > 200


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def test_a_queued_run_is_raised_by_one_for_every_step_it_waited(instance: dg.DagsterInstance) -> None:
    @dg.job
    def waiting() -> None: ...

    here = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository")
    queued, plain = (
        instance.create_run_for_job(
            waiting,
            status=dg.DagsterRunStatus.QUEUED,
            tags=tags,
            remote_job_origin=RemoteJobOrigin(here, "waiting"),
        )
        for tags in ({"dagster/priority": "10"}, {})
    )
    running = instance.create_run_for_job(waiting, status=dg.DagsterRunStatus.STARTED)
    assert age_queue(instance, utc_now()) == 0
    assert age_queue(instance, utc_now() + 3 * AGING_STEP) == 2
    assert age_queue(instance, utc_now() + 3 * AGING_STEP) == 0
    assert age_queue(instance, utc_now() + 4 * AGING_STEP) == 2
    found = {run.run_id: run.tags.get("dagster/priority") for run in instance.get_runs()}
    assert found == {queued.run_id: "14", plain.run_id: "4", running.run_id: None}
