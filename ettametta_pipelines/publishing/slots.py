"""Posting times as instants: a channel's weekly slots laid over the calendar of its time zone.

Where clocks jump ahead, a slot in the hour that does not exist is at the jump's end; where an hour comes twice, a
slot in it is in the first of the two. Either way it is one instant.
"""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import business_day_of
from ettametta_pipelines.publishing.policy import WEEKDAYS, ChannelPolicy


def slot_instants(policy: ChannelPolicy, start: datetime) -> Iterator[datetime]:
    """The channel's slots at `start` or later, UTC, rising, each once. Endless, unless the channel has none."""
    if not policy.slots:
        return
    # Where a calendar day is skipped, its slots fall on the day after.
    day = business_day_of(start, policy.time_zone) - timedelta(days=1)
    last = None
    while True:
        for instant in sorted({instant_of(day, at, policy.time_zone) for at in _times_on(policy, day)}):
            if instant >= start and (last is None or instant > last):
                last = instant
                yield instant
        day += timedelta(days=1)


def instant_of(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The UTC instant at which clocks of `zone` show this time of day, or have just jumped over it."""
    wanted = datetime.combine(day, at)
    instant = wanted.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wanted:
        return instant
    # The time does not exist: by the offset after the jump it is an instant before the jump.
    before = wanted.replace(tzinfo=zone, fold=1).astimezone(UTC)
    offset = before.astimezone(zone).utcoffset()
    minutes = range(int((instant - before).total_seconds() // 60) + 1)
    jumped = bisect_left(
        minutes, True, key=lambda m: (before + timedelta(minutes=m)).astimezone(zone).utcoffset() != offset
    )
    return before + timedelta(minutes=jumped)


def _times_on(policy: ChannelPolicy, day: date) -> set[time]:
    weekday = WEEKDAYS[day.weekday()]
    return {at for rule in policy.slots if weekday in rule.days for at in rule.at}
