"""What the sensor finds wrong on a real instance, and what it tells whom."""

import logging
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.automation import alert_looks
from ettametta_pipelines.automation.alert_looks import (
    Desk,
    failed_checks,
    failed_runs,
    held_pools,
    stale_assets,
    stuck_runs,
)
from ettametta_pipelines.automation.alerts import alerts
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.definitions import defs
from ettametta_pipelines.failures import NeedsPersonError, TransientError
from ettametta_pipelines.operations.alert_routes import Severity, Thresholds
from ettametta_pipelines.operations.findings import Finding
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.freshness import Due, Within
from ettametta_pipelines.orchestration.resources import StateResource
from ettametta_pipelines.orchestration.run_titles import name_run
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.tags import ACCOUNT_TAG, FAILED_VIDEOS_TAG, NICHE_TAG, TITLE_TAG

VIDEOS = dg.StaticPartitionsDefinition([f"v{n}" for n in range(6)])


class Trouble(dg.Config):
    kind: str = ""


@dg.asset(partitions_def=VIDEOS, check_specs=[dg.AssetCheckSpec("sounds_right", asset="clip", blocking=True)])
def clip(context: dg.AssetExecutionContext, config: Trouble) -> dg.MaterializeResult:  # type: ignore[type-arg]
    with failure_policy(context, op_retries=0):
        if config.kind == "gemini":
            raise TransientError("Gemini does not answer.", code="gemini_unavailable", remedy="Wait.")
        if config.kind == "person":
            raise NeedsPersonError("acme has no channel.", code="no_channel", remedy="Connect one.")
    if config.kind == "bug":
        raise KeyError("hue")
    return dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(passed=config.kind != "silent", description="It is silent throughout.")
        ]
    )


CHECKS = {dg.AssetCheckKey(dg.AssetKey("clip"), "sounds_right"): "It can be heard."}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def run(instance: dg.DagsterInstance, video: str, trouble: str = "", **tags: str) -> str:
    done = dg.materialize(
        [clip], instance=instance, partition_key=video, raise_on_error=False, tags=tags,
        run_config={"ops": {"clip": {"config": {"kind": trouble}}}},
    )  # fmt: skip
    return done.run_id


def desk(
    instance: dg.DagsterInstance, settings: Settings, *, later: timedelta = timedelta(0), **more: Any
) -> Desk:
    now = utc_now() + later
    start = utc_now() - timedelta(hours=1)
    given = {"groups": {"clip": "renders"}, "checks": CHECKS, "since": start, "up_since": start} | more
    return Desk(instance, settings, Thresholds(), now, **given)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None, ETTAMETTA_HOME=str(tmp_path), ETTAMETTA_UI_URL="https://dagster.example.com/"
    )


def test_runs_are_gathered_by_cause_with_whom_they_concern_and_their_pages(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    first = run(
        instance, "v0", "gemini", **{ACCOUNT_TAG: "acme", NICHE_TAG: "cooking", TITLE_TAG: "Ten knives"}
    )
    run(instance, "v1", "gemini", **{ACCOUNT_TAG: "beta"})
    run(instance, "v2", "person")
    run(instance, "v3", "bug")
    found = {finding.cause: finding for finding in failed_runs(desk(instance, settings))}
    assert set(found) == {"gemini_unavailable", "no_channel", "KeyError/clip"}
    gemini = found["gemini_unavailable"]
    assert gemini.headline == "clip: Gemini does not answer. [gemini_unavailable]"
    assert (gemini.remedy, gemini.group, len(gemini.open)) == ("Wait.", "renders", 2)
    assert (
        gemini.link
        == "https://dagster.example.com/runs?q%5B0%5D=tag%3Aettametta%2Ffailure_code%3Dgemini_unavailable"
    )
    struck = gemini.open[0]
    assert (struck.account, struck.niche, struck.what) == ("acme", "cooking", "Ten knives")
    assert struck.link == f"https://dagster.example.com/runs/{first}"
    assert found["no_channel"].severity is Severity.CRITICAL
    assert "'hue'" in found["KeyError/clip"].headline


def test_a_run_that_is_retried_is_no_failure_until_the_last_retry_is(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    failed = run(instance, "v0", "gemini")
    instance.add_run_tags(failed, {"dagster/will_retry": "true"})
    assert failed_runs(desk(instance, settings)) == []
    assert len(failed_runs(desk(instance, settings, later=timedelta(minutes=20)))) == 1
    instance.add_run_tags(failed, {"dagster/auto_retry_run_id": "another"})
    assert failed_runs(desk(instance, settings, later=timedelta(minutes=20))) == []


def test_a_failure_is_repaired_by_the_same_partition_going_well_however_it_was_run(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    run(instance, "v0", "gemini")
    run(instance, "v1", "gemini")
    time.sleep(0.01)
    run(instance, "v0")
    (finding,) = failed_runs(desk(instance, settings))
    assert [one.what for one in finding.open] == ["v1"]
    assert len(finding.occurrences) == 2


def test_a_run_of_several_videos_is_repaired_once_those_it_could_not_make_are_made(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    failed = run(instance, "v0", "gemini")
    tags = {"dagster/partition": "", FAILED_VIDEOS_TAG: "v0,v1", TITLE_TAG: "3 videos"}
    instance.add_run_tags(failed, tags)
    time.sleep(0.01)
    run(instance, "v0")
    (finding,) = failed_runs(desk(instance, settings))
    assert [one.what for one in finding.open] == ["3 videos"]
    run(instance, "v1")
    (finding,) = failed_runs(desk(instance, settings))
    assert finding.open == ()


def test_a_worker_that_was_killed_is_told_of_though_no_step_failed(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    lost = instance.create_run_for_job(dg.define_asset_job("job").resolve(
        asset_graph=dg.Definitions(assets=[clip]).resolve_asset_graph()
    ))  # fmt: skip
    instance.report_run_failed(lost, "Run worker died: out of memory")
    (finding,) = failed_runs(desk(instance, settings))
    assert "Run worker died: out of memory" in finding.headline
    assert "run it again" in finding.remedy


def test_a_failed_check_is_told_of_once_and_its_run_is_not(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    run(instance, "v0", "silent", **{ACCOUNT_TAG: "acme"})
    look = desk(instance, settings)
    assert failed_runs(look) == []
    (finding,) = failed_checks(look)
    assert finding.headline == "clip, sounds right: It is silent throughout."
    assert (finding.severity, finding.open[0].account) == (Severity.ERROR, "acme")
    run(instance, "v1")
    assert len(failed_checks(desk(instance, settings))[0].open) == 1
    run(instance, "v0")
    assert failed_checks(desk(instance, settings))[0].open == ()


def test_a_run_is_stuck_by_what_such_runs_usually_take(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    for video in ("v0", "v1", "v2"):
        run(instance, video)
    (done, *_) = instance.get_runs(limit=1)
    like = {"job_name": done.job_name, "asset_selection": done.asset_selection}
    alive = {
        "waits": dg.DagsterRunStatus.NOT_STARTED,
        "backfilled": dg.DagsterRunStatus.NOT_STARTED,
        "hangs": dg.DagsterRunStatus.STARTED,
    }
    for name, status in alive.items():
        tags = {"dagster/backfill": "b"} if name == "backfilled" else {}
        instance.add_run(dg.DagsterRun(run_id=name, status=status, tags=tags, **like))
    assert stuck_runs(desk(instance, settings)) == []
    found = {
        f.cause.split("/")[0]: f for f in stuck_runs(desk(instance, settings, later=timedelta(minutes=50)))
    }
    assert [one.subject for one in found["waits in the queue"].open] == ["waits"]
    assert [one.subject for one in found["runs far longer than usual"].open] == ["hangs"]


def test_a_night_that_is_missing_by_six_is_told_of_by_niche_and_one_before_the_system_ran_is_not(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    day = dg.DailyPartitionsDefinition("2026-01-01")

    @dg.asset(partitions_def=day)
    def books() -> None: ...

    due = Due(
        "books",
        "yesterday's books",
        datetime.min.time().replace(hour=2),
        datetime.min.time().replace(hour=6),
        1,
        "Run it.",
    )
    noon = utc_now().replace(hour=12, minute=0)
    yesterday = (noon - timedelta(days=1)).date().isoformat()
    young = desk(instance, settings, later=noon - utc_now(), since=noon - timedelta(hours=1))
    assert stale_assets(young, [due]) == []
    old = desk(instance, settings, later=noon - utc_now(), since=noon - timedelta(days=3))
    (finding,) = stale_assets(old, [due])
    assert [one.subject for one in finding.open] == [yesterday]
    # A backfill of an old day does not hide it; the day itself does away with it.
    dg.materialize([books], instance=instance, partition_key="2026-02-01")
    assert len(stale_assets(old, [due])) == 1
    dg.materialize([books], instance=instance, partition_key=yesterday)
    assert stale_assets(old, [due]) == []


def test_what_must_be_made_every_hour_has_time_again_after_the_daemon_was_off(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    hourly = [Within("clip", "the clips", timedelta(hours=3), "Look.")]
    off = desk(instance, settings, later=timedelta(hours=5), up_since=utc_now() + timedelta(hours=4))
    assert stale_assets(off, hourly) == []
    assert len(stale_assets(desk(instance, settings, later=timedelta(hours=5)), hourly)) == 1


def test_failures_of_the_time_nobody_looked_are_found_afterwards(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    run(instance, "v0", "gemini")
    in_two_days = timedelta(days=2)
    assert failed_runs(desk(instance, settings, later=in_two_days)) == []
    was_off = desk(instance, settings, later=in_two_days, looked=utc_now() - timedelta(minutes=1))
    assert len(failed_runs(was_off)) == 1


def test_the_sensor_tells_of_a_failure_and_of_its_repair(
    settings_env: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.WARNING)
    repository = dg.Definitions(assets=[clip], sensors=[alerts]).get_repository_def()

    def tick(cursor: str | None) -> Any:
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, repository_def=repository, resources={"state": StateResource()}
        ) as context:
            return alerts.evaluate_tick(context)

    quiet = tick(None)
    assert "Wrong now: 0 causes." in quiet.skip_message
    run(instance, "v0", "gemini")
    told = tick(quiet.cursor)
    assert "Wrong now: 1 cause. Messages: 1 sent" in told.skip_message
    assert "1 failed run: clip: Gemini does not answer." in caplog.text
    run(instance, "v0")
    again = utc_now() + timedelta(minutes=61)
    monkeypatch.setattr("ettametta_pipelines.automation.alerts.utc_now", lambda: again)
    ended = tick(told.cursor)
    assert "Wrong now: 0 causes." in ended.skip_message
    assert "Resolved: clip: Gemini does not answer." in caplog.text


def test_a_file_that_cannot_be_read_stops_no_alert_and_is_said_in_the_tick(
    settings_env: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ettametta_pipelines.settings import get_settings

    (tmp_path / "alerts.yaml").write_text("routes: 7")
    monkeypatch.setenv("ETTAMETTA_ALERTS", str(tmp_path / "alerts.yaml"))
    get_settings.cache_clear()
    run(instance, "v0", "gemini")
    repository = dg.Definitions(assets=[clip], sensors=[alerts]).get_repository_def()
    with dg.build_sensor_context(
        instance=instance, repository_def=repository, resources={"state": StateResource()}
    ) as context:
        tick = alerts.evaluate_tick(context)
    assert "[bad_alerts_file]" in str(tick.skip_message)
    assert "Messages: 1 sent" in str(tick.skip_message)


def test_what_is_expected_fresh_is_there_and_shown_by_dagster() -> None:
    from ettametta_pipelines.orchestration.freshness import EXPECTATIONS

    shown = {
        spec.key.to_user_string()
        for spec in defs().resolve_all_asset_specs()
        if spec.freshness_policy is not None
    }
    # The books are made by one function, whose outputs take no policy here; alerts look at them all the same.
    assert shown == {name for one in EXPECTATIONS for name in (one.asset, *one.also)} - {"daily_revenue"}


def test_reading_why_runs_failed_is_bounded_in_one_look(
    instance: dg.DagsterInstance, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_looks, "MAX_LOGS", 1)
    for video in ("v0", "v1", "v2"):
        run(instance, video, "bug")

    def causes() -> list[tuple[str, int]]:
        found: list[Finding] = failed_runs(desk(instance, settings))
        return sorted((finding.cause, len(finding.open)) for finding in found)

    assert sum(number for _, number in causes()) == 3
    causes()
    causes()
    assert causes() == [("KeyError/clip", 3)]


def test_a_run_started_by_hand_is_named_by_its_video(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def looked_at(context: dg.AssetExecutionContext) -> None:
        name_run(context, {"title": "Ten knives", "account": "acme", "niche": None})

    done = dg.materialize([looked_at], instance=instance, tags={TITLE_TAG: "ten_knives.mp4"})
    run = instance.get_run_by_id(done.run_id)
    assert run is not None
    assert (run.tags[TITLE_TAG], run.tags[ACCOUNT_TAG], NICHE_TAG in run.tags) == (
        "Ten knives",
        "acme",
        False,
    )


def test_a_pool_held_by_a_run_that_is_over_is_told_of_once_it_should_be_free(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    storage = instance.event_log_storage
    for pool in ("publish_youtube", "renders"):
        storage.set_concurrency_slots(pool, 1)
    over = run(instance, "v0")
    storage.claim_concurrency_slot("renders", over, "clip")
    assert held_pools(desk(instance, settings)) == []
    (finding,) = held_pools(desk(instance, settings, later=timedelta(hours=3)))
    (struck,) = finding.open
    assert struck.what == "pool renders"
    assert over in struck.subject
    assert finding.remedy
