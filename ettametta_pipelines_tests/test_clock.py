"""Business days follow local midnights, also where clocks change."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ettametta_pipelines.clock import business_day_bounds, business_day_of, pacific_quota_day, rfc3339

LOS_ANGELES = ZoneInfo("America/Los_Angeles")


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 8), 23), (date(2026, 11, 1), 25), (date(2026, 6, 1), 24)]
)
def test_a_business_day_is_as_long_as_the_clock_says(day: date, hours: int) -> None:
    start, end = business_day_bounds(day, LOS_ANGELES)
    assert end - start == timedelta(hours=hours)
    assert business_day_of(start, LOS_ANGELES) == day
    assert business_day_of(end - timedelta(microseconds=1), LOS_ANGELES) == day
    assert business_day_of(end, LOS_ANGELES) == day + timedelta(days=1)


def test_quota_days_reset_at_midnight_pacific() -> None:
    assert pacific_quota_day(datetime(2026, 11, 23, 7, 59, tzinfo=UTC)) == date(2026, 11, 22)
    assert pacific_quota_day(datetime(2026, 11, 23, 8, 0, tzinfo=UTC)) == date(2026, 11, 23)


def test_naive_instants_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        business_day_of(datetime(2026, 1, 1), LOS_ANGELES)  # noqa: DTZ001


def test_instants_are_written_in_utc_with_seconds() -> None:
    assert rfc3339(datetime(2026, 1, 1, 9, 30, 0, 999, tzinfo=LOS_ANGELES)) == "2026-01-01T17:30:00Z"
