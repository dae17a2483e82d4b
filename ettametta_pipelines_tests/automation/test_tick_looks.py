"""Schedules, sensors and daemons that stand still are told of; those that go on again are not."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from ettametta_pipelines.automation.alert_looks import Desk
from ettametta_pipelines.automation.tick_looks import dead_ticks, look_at_automation, silent_daemons
from ettametta_pipelines.operations.alert_routes import Severity, Thresholds
from ettametta_pipelines.settings import Settings
from ettametta_pipelines_tests.automation.ticks import running, ticked
from ettametta_pipelines_tests.frozen import utc

NOW = utc("2026-11-20T12:00:00")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def desk(instance: dg.DagsterInstance, *, up: timedelta = timedelta(hours=2)) -> Desk:
    settings = Settings(_env_file=None, ETTAMETTA_UI_URL="https://dagster.example.com/")
    return Desk(instance, settings, Thresholds(), NOW, since=NOW - up, up_since=NOW - up)


def minutes_ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def test_one_failed_tick_of_a_schedule_may_be_a_night_and_is_told_of(instance: dg.DagsterInstance) -> None:
    nightly = running(instance, "nightly_discovery", "schedule")
    ticked(instance, nightly, minutes_ago(1500), "SUCCESS")
    assert dead_ticks(desk(instance)) == []
    ticked(instance, nightly, minutes_ago(60), "FAILURE", "no such table: quotas")
    (finding,) = dead_ticks(desk(instance))
    assert finding.headline == (
        "schedule nightly_discovery fails and starts nothing: ValueError: no such table: quotas"
    )
    assert finding.severity is Severity.ERROR
    assert finding.link == (
        "https://dagster.example.com/locations/__repository__@ettametta_pipelines/schedules/nightly_discovery"
    )
    ticked(instance, nightly, minutes_ago(1), "SKIPPED")
    assert dead_ticks(desk(instance)) == []


def test_a_sensor_is_told_of_from_its_third_failure_in_a_row_on(instance: dg.DagsterInstance) -> None:
    uploads = running(instance, "upload_sensor", "sensor")
    for n, status in enumerate(["SUCCESS", "FAILURE", "FAILURE"]):
        ticked(instance, uploads, minutes_ago(10 - n), status, "gone" if status == "FAILURE" else "")
    assert dead_ticks(desk(instance)) == []
    ticked(instance, uploads, minutes_ago(5), "FAILURE", "gone")
    # The tick that is being made while we look says nothing.
    ticked(instance, uploads, minutes_ago(0), "STARTED")
    (finding,) = dead_ticks(desk(instance))
    assert (len(finding.open), finding.open[0].at) == (3, minutes_ago(9))


def test_a_schedule_that_was_switched_off_is_nobodys_trouble(instance: dg.DagsterInstance) -> None:
    from dagster._core.scheduler.instigation import InstigatorStatus

    nightly = running(instance, "nightly_books", "schedule")
    ticked(instance, nightly, minutes_ago(60), "FAILURE", "gone")
    instance.update_instigator_state(nightly.with_status(InstigatorStatus.STOPPED))
    assert dead_ticks(desk(instance)) == []


def test_a_part_of_the_daemon_that_fell_silent_is_told_of_and_a_daemon_just_started_is_waited_for(
    instance: dg.DagsterInstance,
) -> None:
    for name in instance.get_required_daemon_types():
        late = 30 if name == "SCHEDULER" else 0.5
        instance.add_daemon_heartbeat(DaemonHeartbeat(minutes_ago(late).timestamp(), name, "id", []))
    (finding,) = silent_daemons(desk(instance))
    assert finding.severity is Severity.CRITICAL
    assert finding.headline == "the daemon's part SCHEDULER is not heard of: no schedule ticks"
    assert silent_daemons(desk(instance, up=timedelta(minutes=1))) == []
    assert [one.kind for one in look_at_automation(desk(instance)).findings] == ["silent_daemon"]
