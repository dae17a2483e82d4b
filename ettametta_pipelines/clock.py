"""The one clock: instants are UTC, business days are computed from local midnights.

Domain code that needs "now" takes a `Clock` argument, so that tests and re-runs decide what time it is.
Nothing else in the project calls `datetime.now`.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

Clock = Callable[[], datetime]

PACIFIC = ZoneInfo("America/Los_Angeles")


def utc_now() -> datetime:
    """Current instant, timezone-aware UTC."""
    return datetime.now(UTC)


def business_day_bounds(day: date, timezone: ZoneInfo) -> tuple[datetime, datetime]:
    """UTC instants [start, end) of a local calendar day; 23 or 25 hours long where clocks change."""
    start = datetime.combine(day, time.min, tzinfo=timezone)
    end = datetime.combine(day + timedelta(days=1), time.min, tzinfo=timezone)
    return start.astimezone(UTC), end.astimezone(UTC)


def business_day_of(instant: datetime, timezone: ZoneInfo) -> date:
    """Local calendar day an aware instant falls on."""
    if instant.tzinfo is None:
        raise ValueError("business_day_of needs an aware datetime")
    return instant.astimezone(timezone).date()


def pacific_quota_day(instant: datetime) -> date:
    """Day a YouTube quota unit is counted on: Google resets at midnight Pacific."""
    return business_day_of(instant, PACIFIC)


def rfc3339(instant: datetime) -> str:
    """`2026-11-22T03:04:05Z`, the form Google's APIs take."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
