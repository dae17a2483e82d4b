"""Searches booked from the shared inventory: by all niches at once, again, for past days, over a spent bucket."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.search_desk import (
    SearchDesk,
    SearchOutcome,
    SearchPlan,
    SearchPolicy,
    backlog,
)
from ettametta_pipelines.state import quota, searches
from ettametta_pipelines.state.session import StateDatabase

NIGHT = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
NEXT_NIGHT = NIGHT + timedelta(days=1)
TODAY = date(2026, 11, 21)
LONG_AGO = date(2026, 9, 1)


def niches(count: int, queries: int = 3) -> dict[str, Niche]:
    words = tuple(f"query {n}" for n in range(queries))
    return {f"n{i:02}": Niche(slug=f"n{i:02}", title="A niche", queries=words) for i in range(count)}


def desk(db: StateDatabase, all_niches: dict[str, Niche], at: datetime = NIGHT) -> SearchDesk:
    return SearchDesk(db, all_niches, clock=lambda: at)


def days_of(niche: str, days: list[date]) -> list[tuple[date, str]]:
    return [(day, niche) for day in days]


def search_all(db: StateDatabase, booking: SearchDesk, plan: SearchPlan) -> None:
    booking.record(plan, [SearchOutcome(choice.search, 10, 10) for choice in plan.chosen])
    if plan.lease is not None:
        quota.spend(db, plan.lease, plan.lease.amount)


def test_fifty_niches_that_book_at_once_share_the_night_and_leave_the_reserve(
    open_database: Callable[[], StateDatabase],
) -> None:
    db, everyone = open_database(), niches(50)

    def book(slug: str) -> int:
        return len(desk(db, everyone).book(everyone[slug], TODAY).chosen)

    with ThreadPoolExecutor(8) as pool:
        booked = list(pool.map(book, everyone))
    assert sum(booked) == 90
    assert set(booked) == {1, 2}


def test_a_niche_alone_gets_what_it_would_get_beside_all_others(database: StateDatabase) -> None:
    everyone = niches(40)
    alone = len(desk(database, everyone).book(everyone["n39"], TODAY).chosen)
    rest = [len(desk(database, everyone).book(everyone[f"n{i:02}"], TODAY).chosen) for i in range(39)]
    assert alone in (2, 3)
    assert alone + sum(rest) == 90


def test_repeating_a_niche_uses_the_reserve_and_not_what_others_wait_for(database: StateDatabase) -> None:
    everyone = niches(45)
    booking = desk(database, everyone)
    repeats = [len(booking.book(everyone["n00"], TODAY).chosen) for _ in range(9)]
    assert repeats == [2, 2, 2, 2, 2, 2, 0, 0, 0]
    assert len(booking.book(everyone["n44"], TODAY).chosen) == 2


def test_the_plan_says_why_each_search_is_made_or_left_out(database: StateDatabase) -> None:
    everyone = niches(90, queries=2)
    plan = desk(database, everyone).book(everyone["n00"], TODAY)
    assert [choice.reason for choice in (*plan.chosen, *plan.left_out)] == [
        "not made in the last four weeks"
    ] * 2
    assert plan.summary.startswith("1 of 2 wanted. The niche's share of today's 100 is 1")
    # The share was served in full: nothing is owed.
    assert plan.parked == []


def test_a_search_left_out_yesterday_has_its_turn_today(database: StateDatabase) -> None:
    everyone = niches(90, queries=2)
    booking = desk(database, everyone)
    first = booking.book(everyone["n00"], TODAY)
    search_all(database, booking, first)
    second = desk(database, everyone, NEXT_NIGHT).book(everyone["n00"], TODAY + timedelta(days=1))
    assert second.chosen[0].search == first.left_out[0].search


def test_a_promise_the_bucket_cannot_keep_is_parked_and_served_first_the_next_night(
    database: StateDatabase,
) -> None:
    everyone = niches(2)
    booking = desk(database, everyone)
    plan = booking.book(everyone["n00"], TODAY)
    made, missed = plan.chosen[0], plan.chosen[1:]
    booking.record(plan, [SearchOutcome(made.search, 10, 10)])
    assert plan.parked == missed
    tomorrow = TODAY + timedelta(days=1)
    next_plan = desk(database, everyone, NEXT_NIGHT).book(everyone["n00"], tomorrow)
    assert [choice.search for choice in next_plan.chosen[:2]] == [choice.search for choice in missed]
    assert {choice.parked_for for choice in next_plan.chosen[:2]} == {TODAY}
    search_all(database, booking, next_plan)
    assert backlog(database, everyone, lambda: NEXT_NIGHT, SearchPolicy()).owed == {}


def test_a_backfill_takes_only_what_news_and_repeats_do_not_need_and_whole_days_only(
    database: StateDatabase,
) -> None:
    everyone = niches(20)
    booking = desk(database, everyone)
    days = [LONG_AGO + timedelta(days=n) for n in range(12)]
    granted = [len(booking.book(everyone["n00"], day).chosen) for day in days]
    assert granted == [3] * 10 + [0, 0]
    assert all(len(booking.book(niche, TODAY).chosen) == 3 for niche in everyone.values())
    waiting = backlog(database, everyone, lambda: NIGHT, SearchPolicy())
    assert waiting.owed == {(days[10], "n00"): 3, (days[11], "n00"): 3}
    assert (waiting.per_day, waiting.left_today, waiting.due) == (30, 0, [])
    assert backlog(database, everyone, lambda: NEXT_NIGHT, SearchPolicy()).due == days_of("n00", days[10:])
    later = desk(database, everyone, NEXT_NIGHT)
    for day in days[10:]:
        search_all(database, later, later.book(everyone["n00"], day))
    assert backlog(database, everyone, lambda: NEXT_NIGHT, SearchPolicy()).owed == {}


def test_after_the_vendor_closed_the_bucket_everything_owed_is_parked(database: StateDatabase) -> None:
    everyone = niches(3)
    quota.close_bucket(database, "youtube", "search", lambda: NIGHT)
    plan = desk(database, everyone).book(everyone["n00"], TODAY)
    assert (plan.chosen, len(plan.parked)) == ([], 3)
    assert "YouTube said at 20:00 UTC that the bucket is spent" in plan.summary


@pytest.mark.parametrize("outliers", [0, 4])
def test_what_a_search_turned_out_to_bring_counts_in_the_next_plan(
    database: StateDatabase, outliers: int
) -> None:
    everyone = niches(1, queries=2)
    booking = desk(database, everyone)
    plan = booking.book(everyone["n00"], TODAY)
    one, two = (choice.search for choice in plan.chosen)
    ids = booking.record(plan, [SearchOutcome(one, 10, 10), SearchOutcome(two, 12, 12)])
    booking.record_outliers({ids[0]: outliers, ids[1]: 0})
    next_plan = desk(database, everyone, NEXT_NIGHT).book(everyone["n00"], TODAY + timedelta(days=1))
    assert next_plan.chosen[0].search == (one if outliers else two)


def test_a_day_that_misses_one_search_waits_for_room_for_all_of_them(database: StateDatabase) -> None:
    everyone = niches(28)
    plan = desk(database, everyone).book(everyone["n00"], TODAY)
    search_all(database, desk(database, everyone), replace(plan, chosen=plan.chosen[:2]))
    with database.session() as session:
        last = plan.chosen[2].search
        searches.park(session, "n00", TODAY, [(last.query, "", "")], TODAY)
    later = NIGHT + timedelta(days=5)
    waiting = backlog(database, everyone, lambda: later, SearchPolicy())
    assert (waiting.owed, waiting.left_today) == ({(TODAY, "n00"): 3}, 6)
    reserved = backlog(database, everyone, lambda: later, SearchPolicy(rerun_reserve=14))
    assert (reserved.left_today, reserved.due) == (2, [])


@pytest.mark.parametrize(
    ("zone", "at", "day"),
    [
        # Six in the evening of the 23rd in Los Angeles, eight in the morning of the 24th in Auckland.
        ("America/Los_Angeles", datetime(2026, 11, 24, 2, tzinfo=UTC), date(2026, 11, 21)),
        ("Pacific/Auckland", datetime(2026, 11, 23, 19, tzinfo=UTC), date(2026, 11, 22)),
    ],
)
def test_what_is_news_goes_by_the_operators_days(
    database: StateDatabase, zone: str, at: datetime, day: date
) -> None:
    policy = SearchPolicy(timezone=ZoneInfo(zone))
    booking = SearchDesk(database, niches(2), clock=lambda: at, policy=policy)
    niche = niches(2)["n00"]
    plans = [booking.book(niche, one) for one in (day, day - timedelta(days=1))]
    assert [plan.is_backfill for plan in plans] == [False, True]


def test_a_search_made_back_to_its_day_is_owed_to_no_day_in_between(database: StateDatabase) -> None:
    everyone = niches(2, queries=1)
    (owed,) = desk(database, everyone).book(everyone["n00"], TODAY).chosen
    days = [TODAY - timedelta(days=n) for n in (2, 1)]
    with database.session() as session:
        for day in days:
            searches.park(session, "n00", day, [(owed.search.query, "", "")], day)
    booking = desk(database, everyone)
    plan = booking.book(everyone["n00"], TODAY)
    assert [choice.parked_for for choice in plan.chosen] == [days[0]]
    search_all(database, booking, plan)
    assert backlog(database, everyone, lambda: NIGHT, SearchPolicy()).owed == {}


def test_a_repeat_with_fewer_searches_than_are_stored_is_refused(database: StateDatabase) -> None:
    everyone = niches(45)
    booking = desk(database, everyone)
    plan = booking.book(everyone["n00"], TODAY)
    made = booking.record(plan, [SearchOutcome(choice.search, 10, 10) for choice in plan.chosen])
    assert plan.lease is not None
    quota.spend(database, plan.lease, 2)
    booking.record_outliers(dict.fromkeys(made, 0))
    for _ in range(4):
        assert len(booking.book(everyone["n01"], TODAY).chosen) == 2
    quota.reserve(database, "youtube", "search", 3, lambda: NIGHT)
    again = booking.book(everyone["n00"], TODAY)
    assert (again.chosen, again.lease, again.would_lose) == ([], None, 2)
