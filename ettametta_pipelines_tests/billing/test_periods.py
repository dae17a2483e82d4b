"""Periods: every instant is in exactly one, whatever the anchor, the month or the clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.billing.periods import boundary, boundary_from, period_of
from ettametta_pipelines.sandbox.stripe_billing import monthly
from ettametta_pipelines_tests.frozen import utc
from ettametta_pipelines_tests.fuzz import tried

# Naive bounds are what hypothesis takes; the instants it draws are aware.
instants = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001
    datetime(2035, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(anchor=instants, instant=instants)
def test_every_instant_lies_in_exactly_one_period(anchor: datetime, instant: datetime) -> None:
    start, end = period_of(anchor, instant)
    assert start <= instant < end
    assert period_of(anchor, start) == (start, end)
    assert period_of(anchor, end)[0] == end
    assert period_of(anchor, end - timedelta(microseconds=1)) == (start, end)


@given(anchor=instants, instant=instants)
def test_a_period_is_a_month_long_and_begins_on_the_anchors_day_or_the_months_last(
    anchor: datetime, instant: datetime
) -> None:
    start, end = period_of(anchor, instant)
    assert timedelta(days=28) <= end - start <= timedelta(days=31)
    assert start.timetz() == anchor.timetz()
    assert start.day == anchor.day or (start.day < anchor.day and (start + timedelta(days=1)).day == 1)


@given(anchor=instants, months=st.integers(-200, 200))
def test_boundaries_are_counted_from_the_anchor_and_do_not_wander(anchor: datetime, months: int) -> None:
    assert boundary(anchor, 0) == anchor
    assert (boundary(anchor, months) < boundary(anchor, months + 1)) is True
    assert boundary(anchor, months).month == (anchor.month - 1 + months) % 12 + 1


@given(anchor=instants, earliest=instants)
def test_the_first_boundary_from_an_instant_is_the_first(anchor: datetime, earliest: datetime) -> None:
    found = boundary_from(anchor, earliest)
    assert found >= earliest
    assert period_of(anchor, found)[0] == found
    assert boundary_from(anchor, found) == found
    assert found - earliest <= timedelta(days=31)


@given(anchor=instants, instant=instants)
def test_they_are_the_periods_the_sandboxed_stripe_bills(anchor: datetime, instant: datetime) -> None:
    anchor, instant = anchor.replace(microsecond=0), instant.replace(microsecond=0)
    if anchor <= instant:
        assert int(period_of(anchor, instant)[1].timestamp()) == monthly(
            int(anchor.timestamp()), int(instant.timestamp())
        )


def test_an_anchor_on_the_31st_gives_the_last_day_of_short_months_and_the_31st_again() -> None:
    days = [boundary(utc("2027-01-31T10:00:00"), months).date().isoformat() for months in range(5)]
    assert days == ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"]
    assert boundary(utc("2027-01-31"), 13).date().isoformat() == "2028-02-29"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_clock_changes_neither_shorten_nor_repeat_a_period(zone: str) -> None:
    local = datetime(2026, 3, 20, 2, 30, tzinfo=ZoneInfo(zone))
    start, end = period_of(local, local + timedelta(days=9))
    assert (start, end - start) == (local.astimezone(UTC), timedelta(days=31))
    autumn = datetime(2026, 10, 20, 2, 30, tzinfo=ZoneInfo(zone))
    assert period_of(autumn, autumn + timedelta(days=9))[1] - autumn == timedelta(days=31)


@pytest.mark.fuzz
@tried(60)
@given(anchor=instants, first=instants, months=st.integers(1, 60))
def test_periods_follow_each_other_without_gap_or_overlap(
    anchor: datetime, first: datetime, months: int
) -> None:
    start, end = period_of(anchor, first)
    for _ in range(months):
        after = period_of(anchor, end)
        assert after[0] == end
        assert (after[1].year * 12 + after[1].month) - (end.year * 12 + end.month) == 1
        end = after[1]
    assert period_of(anchor, start - timedelta(microseconds=1))[1] == start
    assert period_of(anchor.astimezone(ZoneInfo("Pacific/Kiritimati")), first) == period_of(anchor, first)
