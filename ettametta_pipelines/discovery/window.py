"""Which publication times belong to a partition day. Shared by the collectors of all platforms."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import business_day_bounds
from ettametta_pipelines.failures import PermanentError


@dataclass(frozen=True)
class Window:
    """Publication times looked at: [start, end), UTC."""

    start: datetime
    end: datetime


def publication_window(day: date, timezone: ZoneInfo, now: datetime) -> Window:
    """The partition day from midnight to midnight; for a day not yet over, the 24 hours up to now.

    Minutes after midnight there is nothing of today to find, and what rises then was published the evening before.
    Raises PermanentError for a day that has not begun.
    """
    start, end = business_day_bounds(day, timezone)
    if now < start:
        raise PermanentError(
            f"{day} has not begun yet in {timezone.key}.",
            code="day_in_future",
            remedy="Choose today's partition or an earlier one.",
        )
    if now < end:
        return Window(min(start, now - timedelta(hours=24)), now)
    return Window(start, end)
