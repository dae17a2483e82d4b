"""The night by the operator's clock: once each night of the year, skipped with a reason when nothing can be spent."""

from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._utils.schedules import schedule_execution_time_iterator

from ettametta_pipelines.automation.schedules import build_schedules
from ettametta_pipelines.clock import pacific_quota_day
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.orchestration.resources import LakeResource, StateResource, StoreResource
from ettametta_pipelines.partitions import NICHE
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import searches
from ettametta_pipelines.state.models import ApiQuota
from ettametta_pipelines.state.quota import close_bucket, reserve
from ettametta_pipelines.state.session import StateDatabase, open_state

NIGHT = datetime(2026, 11, 20, 2, tzinfo=UTC)


def tick(name: str, at: datetime, zone: str = "UTC") -> Any:
    """What the daemon would get from the schedule at this instant, in an operator's zone."""
    settings = Settings(_env_file=None, ETTAMETTA_BUSINESS_TIMEZONE=zone)
    repository = build_definitions(settings).get_repository_def()
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_schedule_context(
            instance=instance, scheduled_execution_time=at, repository_def=repository,
            resources={"state": StateResource(), "lake": LakeResource(), "store": StoreResource()},
        ) as context,
    ):  # fmt: skip
        return repository.get_schedule_def(name).evaluate_tick(context)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_every_day_of_a_year_is_discovered_once_also_where_clocks_change(
    settings_env: Settings, zone: str
) -> None:
    timezone = ZoneInfo(zone)
    start = datetime(2026, 1, 1, tzinfo=timezone)
    (nightly,) = [s for s in build_schedules(settings_env) if s.name == "nightly_discovery"]
    ticks = schedule_execution_time_iterator(start.timestamp(), nightly.cron_schedule, zone)
    nights = list(takewhile(lambda at: at.astimezone(timezone).year == 2026, ticks))
    days = [at.astimezone(timezone).date() for at in nights]
    # Where the clock jumps over two in the morning, the night's run starts when the jump is over.
    assert days == [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    assert all(at.astimezone(timezone).hour in (2, 3) for at in nights)


@pytest.mark.parametrize(
    ("zone", "at", "day"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC), "2026-03-28"),
        ("Europe/Berlin", datetime(2026, 10, 25, 0, tzinfo=UTC), "2026-10-24"),
        ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC), "2026-10-24"),
        ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC), "2026-03-07"),
        ("America/New_York", datetime(2026, 11, 1, 7, tzinfo=UTC), "2026-10-31"),
    ],
)
def test_the_night_of_a_change_belongs_to_the_day_that_ended(
    settings_env: Settings, zone: str, at: datetime, day: str
) -> None:
    requests = tick("nightly_discovery", at, zone).run_requests or []
    assert [r.partition_key for r in requests] == [f"{day}|{niche}" for niche in NICHE.get_partition_keys()]
    # Asked twice in the hour that comes twice, the second has the same keys and starts nothing.
    assert [r.run_key for r in requests] == [r.partition_key for r in requests]


def leave_searches(database: StateDatabase, left: int) -> None:
    reserve(database, "youtube", "search", 1, lambda: NIGHT)
    with database.session() as session:
        session.execute(
            sa.update(ApiQuota)
            .where(ApiQuota.bucket == "search", ApiQuota.quota_day == pacific_quota_day(NIGHT))
            .values(used=ApiQuota.limit - left, reserved=0)
        )


def test_a_night_without_a_search_left_is_skipped_and_says_until_when(settings_env: Settings) -> None:
    with open_state(settings_env) as database:
        leave_searches(database, 0)
    data = tick("nightly_discovery", NIGHT, "Europe/Berlin")
    assert data.run_requests == []
    said = str(data.skip_message)
    assert "2026-11-19 was not discovered: YouTube's 100 searches of 2026-11-19 (Pacific) are spent." in said
    assert "They come back on 2026-11-20 at 09:00 Europe/Berlin" in said


def test_one_search_left_is_a_night(settings_env: Settings) -> None:
    with open_state(settings_env) as database:
        leave_searches(database, 1)
    assert len(tick("nightly_discovery", NIGHT).run_requests or []) == len(NICHE.get_partition_keys())


def test_a_bucket_that_youtube_closed_is_a_skipped_night_whose_searches_are_made_up_for(
    settings_env: Settings,
) -> None:
    with open_state(settings_env) as database:
        close_bucket(database, "youtube", "search", lambda: NIGHT)
        data = tick("nightly_discovery", NIGHT)
        with database.session(write=False) as session:
            kept = searches.parked(session)
    assert data.run_requests == []
    assert "2026-11-19 was not discovered" in str(data.skip_message)
    assert {row.niche for row in kept} == set(NICHE.get_partition_keys())
    assert {row.day for row in kept} == {date(2026, 11, 19)}


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("nightly_books", "2026-10-16", "2026-11-19"), ("recent_books", "2026-11-18", "2026-11-20")],
)
def test_the_books_of_many_days_are_one_run(settings_env: Settings, name: str, first: str, last: str) -> None:
    (request,) = tick(name, NIGHT + timedelta(hours=8)).run_requests
    assert request.partition_key is None
    assert request.tags["dagster/asset_partition_range_start"] == first
    assert request.tags["dagster/asset_partition_range_end"] == last


def test_commissions_that_are_decided_months_after_the_sale_are_booked_the_next_night(
    settings_env: Settings,
) -> None:
    from ettametta_pipelines.revenue.affiliates import import_csv
    from ettametta_pipelines.storage.objects import open_store

    store, zone = open_store(settings_env), settings_env.timezone
    assert tick("late_commissions", NIGHT).run_requests == []

    def told(days_ago: int, *sales: str) -> None:
        rows = "".join(f"{day},1,USD,{day},approved\n" for day in sales)
        text = f"occurred_at,amount,currency,transaction_id,status\n{rows}"
        at = NIGHT - timedelta(days=days_ago)
        import_csv(store, "impact", "x.csv", text.encode(), timezone=zone, now=at)

    told(1, "2026-08-03", "2026-09-10", "2026-11-18")
    told(9, "2026-03-01")
    (request,) = tick("late_commissions", NIGHT).run_requests
    assert request.tags["dagster/asset_partition_range_start"] == "2026-08-03"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-09-10"


def test_only_niches_whose_candidates_are_there_are_ranked_again(settings_env: Settings) -> None:
    from ettametta_pipelines.storage.objects import open_store
    from ettametta_pipelines.storage.parquet import table_key

    assert "No niche has candidates of 2026-11-19" in str(tick("morning_ranking", NIGHT).skip_message)
    store = open_store(settings_env)
    for table, niche in (("youtube", "travel"), ("tiktok", "travel"), ("youtube", "fitness")):
        store.put(table_key(f"{table}_candidates", f"2026-11-19|{niche}"), b"a table")
    (request,) = tick("morning_ranking", NIGHT).run_requests
    assert request.partition_key == "2026-11-19|travel"
