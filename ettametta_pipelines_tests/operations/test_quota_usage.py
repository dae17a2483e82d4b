"""The quota of the day in the Dagster UI, its forecast, and the schedule that serves what was parked."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import sqlalchemy as sa

from ettametta_pipelines.automation.schedules import build_schedules
from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.clock import pacific_quota_day, utc_now
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.discovery.niches import load_niches
from ettametta_pipelines.discovery.search_desk import Backlog, SearchDesk
from ettametta_pipelines.operations.assets import api_quota_usage
from ettametta_pipelines.operations.contracts import API_QUOTA_USAGE
from ettametta_pipelines.operations.quota_report import forecast
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import ApiQuota, QuotaLease
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.tables import ParquetTables, read_table

TODAY = pacific_quota_day(utc_now())
LONG_AGO = date(2026, 3, 1)


@pytest.fixture
def state(settings_env: Settings) -> Iterator[StateDatabase]:
    with open_state(settings_env) as db:
        yield db


def materialize(instance: dg.DagsterInstance | None = None) -> dict[str, Any]:
    result = dg.materialize(
        [api_quota_usage],
        partition_key=TODAY.isoformat(),
        resources={"tables": ParquetTables(StoreResource().open, ALL_TABLES), "state": StateResource()},
        instance=instance,
    )
    (event,) = result.asset_materializations_for_node("api_quota_usage")
    return {name: value.value for name, value in event.metadata.items()}


def backfill(state: StateDatabase, days: int) -> list[int]:
    niches = load_niches()
    desk = SearchDesk(state, niches, clock=utc_now)
    return [len(desk.book(niches["travel"], LONG_AGO + timedelta(days=n)).chosen) for n in range(days)]


def test_the_day_shows_every_bucket_who_drew_on_it_and_when_the_vendor_closed_it(
    state: StateDatabase,
) -> None:
    niches = load_niches()
    SearchDesk(state, niches, clock=utc_now).book(niches["travel"], TODAY)
    quota.reserve(state, "youtube", "search", 2, utc_now)
    quota.close_bucket(state, "youtube", "units", utc_now)
    shown = materialize()
    assert "| youtube search | 0 | ░░░░░░░░░░░░░░░░░░░░ | 5 | 95 | 100 | – |" in shown["buckets"]
    assert "| 0 | 10,000 | spent since" in shown["buckets"]
    assert "| search | travel | 3 |" in shown["by_niche"]
    assert "| search | others | 2 |" in shown["by_niche"]
    assert shown["forecast"] == "No backfilled day is parked or queued."
    table = read_table(open_store(get_settings()), API_QUOTA_USAGE, TODAY.isoformat())
    assert set(table["bucket"]) == {"search", "videos_insert", "batch_get_stats", "units"}


def test_a_running_backfill_is_forecast_to_its_end(state: StateDatabase) -> None:
    made = backfill(state, 60)
    # 100 a day, less 15 for the five niches' news and 10 for repeats.
    assert sum(made) == 75
    with dg.DagsterInstance.ephemeral() as instance:
        for niche in ("fitness", "travel"):
            tags = {"dagster/partition/date": "2026-03-01", "dagster/partition/niche": niche}
            run = dg.DagsterRun("nightly_discovery", tags=tags, status=dg.DagsterRunStatus.NOT_STARTED)
            instance.add_run(run)
        shown = materialize(instance)
    # 35 days of three searches are parked, 2 runs of three are queued: 111 searches at 75 a day.
    assert shown["forecast"].startswith(
        "111 searches of 37 backfilled days are parked or queued. Beside the niches' news and the re-runs there is "
        "room for 0 today and for 75 on every other day"
    )
    assert shown["backfill_ends"] == (TODAY + timedelta(days=2)).isoformat()


NEWS = TODAY - timedelta(days=2)


@pytest.mark.parametrize(
    ("owed", "per_day", "left_today", "days"),
    [
        ([6], 10, 6, 0),
        ([6], 10, 0, 1),
        # Ten a day hold one day of six and not one and two thirds.
        ([6, 6, 6], 10, 0, 3),
        ([6, 3, 3], 9, 3, 1),
        ([6], 0, 3, None),
        # Room for half a day on every day is no room.
        ([6], 5, 0, None),
    ],
)
def test_the_forecast_counts_whole_days_and_admits_when_there_is_no_end(
    owed: list[int], per_day: int, left_today: int, days: int | None
) -> None:
    todo = {(LONG_AGO + timedelta(days=n), "travel"): size for n, size in enumerate(owed)}
    said, end = forecast(Backlog(TODAY, todo, per_day, left_today, NEWS), {(LONG_AGO, "travel"): 3})
    assert end == (None if days is None else TODAY + timedelta(days=days))
    assert ("never be searched" in said) == (days is None)


def test_nights_in_the_queue_have_their_own_share_and_are_no_backfill() -> None:
    news = {(TODAY, f"n{i:02}"): 6 for i in range(50)}
    assert forecast(Backlog(TODAY, {}, 0, 0, NEWS), news) == ("No backfilled day is parked or queued.", None)


def test_what_is_configured_for_runs_holds_for_forecast_and_schedule(
    state: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backfill(state, 30)[-5:] == [0] * 5
    monkeypatch.setenv("ETTAMETTA_RERUN_RESERVE", "85")
    get_settings.cache_clear()
    assert "room for 0 today and for 0 on every other day: too few for 5 days" in materialize()["forecast"]
    with state.session() as session:
        for model in (QuotaLease, ApiQuota):
            session.execute(sa.delete(model))
    assert tick("parked_searches", utc_now()) == []


def tick(name: str, at: datetime) -> list[Any]:
    (schedule,) = [s for s in build_schedules(get_settings()) if s.name == name]
    definitions = build_definitions(get_settings())
    with dg.build_schedule_context(
        scheduled_execution_time=at,
        resources={"state": StateResource()},
        repository_def=definitions.get_repository_def(),
    ) as context:
        data = schedule.evaluate_tick(context)
    return list(data.run_requests or [])


def test_parked_days_run_again_by_themselves_when_there_is_room(state: StateDatabase) -> None:
    assert tick("parked_searches", utc_now()) == []
    assert backfill(state, 27)[-2:] == [0, 0]
    assert tick("parked_searches", utc_now()) == []
    with state.session() as session:
        for model in (QuotaLease, ApiQuota):
            session.execute(sa.delete(model))
    requests = tick("parked_searches", utc_now())
    assert [str(r.partition_key) for r in requests] == ["2026-03-26|travel", "2026-03-27|travel"]


def test_quota_is_read_hourly_under_the_vendors_day(settings_env: Settings) -> None:
    (request,) = tick("hourly_quota_usage", datetime(2026, 11, 21, 6, 50, tzinfo=ZoneInfo("UTC")))
    assert request.partition_key == "2026-11-20"
