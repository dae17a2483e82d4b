"""When posts are made: slots over the calendar, and what the plan promises for any channels, backlogs and clocks."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettametta_pipelines.clock import business_day_of, pacific_quota_day
from ettametta_pipelines.publishing.policy import WEEKDAYS, ChannelPolicy, Channels, Limits, SlotRule
from ettametta_pipelines.publishing.queue import SLOT_GRACE, Entry, Planned, Taken, plan, post_name
from ettametta_pipelines.publishing.slots import instant_of, slot_instants

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
BERLIN, PACIFIC = ZoneInfo("Europe/Berlin"), ZoneInfo("America/Los_Angeles")


def channel(*at: str, **fields: Any) -> ChannelPolicy:
    slots = (SlotRule(at=at),) if at else ()  # type: ignore[arg-type]
    return ChannelPolicy(slots=slots, **fields)


def channels(policies: dict[str, ChannelPolicy], platform: str = "youtube", **limits: int) -> Channels:
    return Channels(
        limits=Limits(**limits),
        channels={(account, platform): policy for account, policy in policies.items()},
    )


def entries(account: str, count: int, platform: str = "youtube", **fields: Any) -> list[Entry]:
    return [
        Entry(
            platform,
            account,
            f"{account}--{n:03}",
            f"No {n}",
            NOW - timedelta(days=30) + timedelta(minutes=n),
            **fields,
        )
        for n in range(count)
    ]


def hundred_a_day(platform: str, day: date) -> int | None:
    return 100 if platform == "youtube" else None


def instants(planned: Iterable[Planned]) -> list[str]:
    return [f"{p.at:%d %H:%M}" for p in planned if p.at]


# Slots


@pytest.mark.parametrize(
    ("zone", "day", "at", "utc"),
    [
        ("Europe/Berlin", date(2026, 3, 29), time(2, 30), "2026-03-29T01:00"),
        ("Europe/Berlin", date(2026, 10, 25), time(2, 30), "2026-10-25T00:30"),
        ("America/New_York", date(2026, 3, 8), time(2, 15), "2026-03-08T07:00"),
        ("America/New_York", date(2026, 11, 1), time(1, 15), "2026-11-01T05:15"),
        ("Australia/Lord_Howe", date(2026, 10, 4), time(2, 10), "2026-10-03T15:30"),
        ("Pacific/Apia", date(2011, 12, 30), time(9, 0), "2011-12-30T10:00"),
        ("Asia/Kolkata", date(2026, 3, 29), time(2, 30), "2026-03-28T21:00"),
    ],
)
def test_a_slot_in_a_gap_is_at_its_end_and_in_a_fold_at_the_first_of_the_two(
    zone: str, day: date, at: time, utc: str
) -> None:
    assert instant_of(day, at, ZoneInfo(zone)).isoformat().startswith(utc)


def test_slots_that_fall_into_one_gap_are_one_posting_time() -> None:
    policy = channel("02:00", "02:30", "03:00", time_zone="Europe/Berlin")
    found = list(islice(slot_instants(policy, datetime(2026, 3, 29, tzinfo=UTC)), 2))
    assert [f"{i.astimezone(BERLIN):%d %H:%M}" for i in found] == ["29 03:00", "30 02:00"]


@settings(max_examples=60)
@given(
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    minutes=st.sets(st.integers(0, 1439), min_size=1, max_size=4),
    day_of_year=st.integers(0, 330),
)
def test_every_day_has_each_of_its_slots_once(zone: str, minutes: set[int], day_of_year: int) -> None:
    policy = channel(*(f"{m // 60:02}:{m % 60:02}" for m in minutes), time_zone=zone)
    start = datetime(2026, 1, 1, 7, 30, tzinfo=UTC) + timedelta(days=day_of_year)
    found = list(islice(slot_instants(policy, start), 60))
    assert found == sorted(set(found))
    by_day = Counter(business_day_of(i, policy.time_zone) for i in found)
    # The first and the last day are cut; a jump of the clock may lay two of a day's slots together.
    whole = [count for _, count in sorted(by_day.items())][1:-1]
    assert len(whole) > 10
    assert all(count <= len(minutes) for count in whole)
    assert sum(count < len(minutes) for count in whole) <= 1


# The plan


def test_posts_take_the_channels_slots_oldest_first() -> None:
    here = channels({"acme": channel("09:00", "18:30", time_zone="Europe/Berlin")})
    planned = plan(entries("acme", 3), [], here, NOW)
    assert instants(planned) == ["23 17:30", "24 08:00", "24 17:30"]
    assert [p.entry.title for p in planned] == ["No 0", "No 1", "No 2"]
    assert planned[0].why == "waits for its slot"


def test_a_slot_that_has_just_come_is_due_and_one_that_passed_long_ago_is_gone() -> None:
    here = channels({"acme": channel("10:00", "12:00")})
    (soon,) = plan(entries("acme", 1), [], here, NOW + timedelta(minutes=4))
    assert (soon.at, soon.why, soon.is_due(NOW + timedelta(minutes=4))) == (NOW, "due now", True)
    (late,) = plan(entries("acme", 1), [], here, NOW + SLOT_GRACE + timedelta(minutes=1))
    assert instants([late]) == ["23 12:00"]


def test_what_is_beyond_the_daily_cap_is_planned_for_the_next_day_and_says_so() -> None:
    here = channels({"acme": channel(daily_cap=3, min_gap_minutes=60)})
    planned = plan(entries("acme", 4), [], here, NOW)
    assert instants(planned) == ["23 10:00", "23 11:00", "23 12:00", "24 00:00"]
    assert [p.why for p in planned] == [
        "due now",
        "60 minutes after the post before it",
        "60 minutes after the post before it",
        "daily cap of 3 reached",
    ]


def test_posts_made_by_hand_count_and_tries_of_one_post_count_once() -> None:
    here = channels({"acme": channel(daily_cap=2, min_gap_minutes=1)})
    made = [Taken("youtube", "acme", NOW - timedelta(hours=h), "a#1") for h in (3, 2, 1)]
    assert instants(plan(entries("acme", 2), made, here, NOW)) == ["23 10:00", "24 00:00"]


def test_tiktoks_posts_are_counted_over_any_24_hours() -> None:
    here = channels({"acme": channel(min_gap_minutes=1)}, "tiktok", tiktok_posts_per_24_hours=2)
    made = [Taken("tiktok", "acme", NOW - timedelta(hours=h), f"{h}#1") for h in (20, 30)]
    planned = plan(entries("acme", 3, "tiktok"), made, here, NOW)
    assert instants(planned) == ["23 10:00", "23 14:00", "24 10:00"]
    assert planned[1].why == "TikTok's 2 posts in 24 hours are planned"


def test_a_channel_that_was_told_to_come_back_later_has_no_post_before_and_holds_up_no_other() -> None:
    here = channels({"acme": channel(min_gap_minutes=60), "beta": channel(min_gap_minutes=60)}, "tiktok")
    until = NOW + timedelta(hours=20)
    waiting = [*entries("acme", 2, "tiktok"), *entries("beta", 1, "tiktok")]
    planned = plan(waiting, [], here, NOW, closed_until={("acme", "tiktok"): until})
    assert [(p.entry.account, p.at) for p in planned] == [
        ("beta", NOW), ("acme", until), ("acme", until + timedelta(hours=1)),
    ]  # fmt: skip
    assert planned[1].why == "tiktok takes no more posts of this channel before 2026-11-24 06:00 UTC"


def test_youtubes_uploads_are_shared_by_weight_and_the_rest_waits_for_pacific_midnight() -> None:
    here = channels({"big": channel(weight=2, min_gap_minutes=1), "small": channel(min_gap_minutes=1)})
    left = {pacific_quota_day(NOW): 30}
    planned = plan(
        [*entries("big", 60), *entries("small", 60)], [], here, NOW, lambda _, day: left.get(day, 100)
    )
    today = Counter(
        p.entry.account for p in planned if p.at and pacific_quota_day(p.at) == pacific_quota_day(NOW)
    )
    assert today == {"big": 20, "small": 10}
    later = next(p for p in planned if p.at and pacific_quota_day(p.at) > pacific_quota_day(NOW))
    assert later.why == "YouTube's uploads of the project are planned for today"
    assert later.at == datetime(2026, 11, 24, tzinfo=PACIFIC)


def test_a_post_approved_for_later_holds_up_nobody() -> None:
    here = channels({"acme": channel("09:00")})
    first, second, third = entries("acme", 3)
    dated = Entry(**{**vars(first), "not_before": NOW + timedelta(days=1)})
    planned = plan([dated, second, third], [], here, NOW)
    assert [p.entry.title for p in planned] == ["No 1", "No 0", "No 2"]
    assert planned[1].why == "approved for 2026-11-24 10:00 or later"


def test_what_is_held_has_no_date_and_takes_no_room() -> None:
    here = channels({"acme": channel("09:00")})
    held = entries("acme", 1, held="waiting for approval")
    planned = plan([*held, *entries("acme", 2)[1:]], [], here, NOW)
    assert [(p.why, p.at is None) for p in planned] == [
        ("waits for its slot", False),
        ("waiting for approval", True),
    ]


ACCOUNTS = ("ant", "bee", "cat")


def a_policy(
    minutes: set[int], days: set[Any], cap: int | None, gap: int, zone: str, weight: float
) -> ChannelPolicy:
    at = tuple(f"{m // 60:02}:{m % 60:02}" for m in minutes)
    slots = (SlotRule(days=tuple(sorted(days)), at=at),) if at else ()  # type: ignore[arg-type]
    return ChannelPolicy(slots=slots, daily_cap=cap, min_gap_minutes=gap, time_zone=zone, weight=weight)  # type: ignore[arg-type]


POLICIES = st.builds(
    a_policy,
    st.sets(st.integers(0, 1439), max_size=4),
    st.sets(st.sampled_from(WEEKDAYS), min_size=1),
    st.none() | st.integers(1, 4),
    st.integers(1, 300),
    st.sampled_from(["Europe/Berlin", "America/Los_Angeles", "Australia/Lord_Howe", "UTC"]),
    st.sampled_from([0.5, 1.0, 2.0]),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Entry], list[Taken], Channels, datetime, int]:
    """Three accounts on both platforms, on a clock that crosses changes of clocks, with posts made before."""
    now = draw(
        st.sampled_from(
            [datetime(2026, 3, 7, 20, 3, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC), NOW]
        )
    )
    policies = {(a, p): draw(POLICIES) for a in ACCOUNTS for p in ("youtube", "tiktok")}
    here = Channels(limits=Limits(tiktok_posts_per_24_hours=draw(st.integers(1, 5))), channels=policies)
    waiting = [
        Entry(
            platform, account, f"{account}--{n:02}", "", now - timedelta(minutes=age),
            not_before=now + timedelta(hours=wish) if wish is not None else None,
        )
        for n, (platform, account, age, wish) in enumerate(
            draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(("youtube", "tiktok")), st.sampled_from(ACCOUNTS), st.integers(0, 9999),
                        st.none() | st.none() | st.integers(-10, 60),
                    ),
                    max_size=14,
                )
            )
        )
    ]  # fmt: skip
    made = [
        Taken(platform, account, now - timedelta(minutes=minutes), f"made{n}#1")
        for n, (platform, account, minutes) in enumerate(
            draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(("youtube", "tiktok")),
                        st.sampled_from(ACCOUNTS),
                        st.integers(0, 2000),
                    ),
                    max_size=5,
                )
            )
        )
    ]
    return waiting, made, here, now, draw(st.integers(1, 4))


@settings(max_examples=150)
@given(situations())
def test_no_slot_is_used_twice_no_cap_exceeded_nobody_starves_and_the_oldest_come_first(
    situation: tuple[list[Entry], list[Taken], Channels, datetime, int],
) -> None:
    waiting, made, here, now, quota = situation
    planned = plan(waiting, made, here, now, lambda p, _: quota if p == "youtube" else None)
    assert sorted(p.entry.source_id for p in planned) == sorted(e.source_id for e in waiting)
    uploads = Counter(pacific_quota_day(p.at) for p in planned if p.at and p.entry.platform == "youtube")
    assert all(count <= quota for count in uploads.values())
    for key, policy in here.channels.items():
        mine = [p for p in planned if p.entry.channel == key]
        before = [t for t in made if (t.account, t.platform) == key]
        _promises_to_a_channel_hold(mine, before, policy, here, now)


def _promises_to_a_channel_hold(
    mine: list[Planned], before: list[Taken], policy: ChannelPolicy, here: Channels, now: datetime
) -> None:
    times = [p.at for p in mine if p.at]
    assert len(times) == len(mine), "a post that may be made has no date"
    everything = sorted([*times, *(t.at for t in before)])
    gap = timedelta(minutes=policy.min_gap_minutes)
    assert all(at - earlier >= gap for at in times for earlier in everything if earlier < at)
    assert len(set(times)) == len(times)
    assert all(at >= now or now - at <= SLOT_GRACE for at in times)
    if policy.slots:
        assert all(next(slot_instants(policy, at)) == at for at in times)
    if policy.daily_cap is not None:
        days = Counter(business_day_of(at, policy.time_zone) for at in everything)
        planned_on = {business_day_of(at, policy.time_zone) for at in times}
        assert all(days[day] <= policy.daily_cap for day in planned_on)
    if mine and mine[0].entry.platform == "tiktok":
        cap = here.limits.tiktok_posts_per_24_hours
        assert all(sum(at - timedelta(hours=24) < t <= at for t in everything) <= cap for at in times)
    for p in mine:
        assert p.at is not None
        assert p.entry.not_before is None or p.at >= p.entry.not_before
        for other in mine:
            older = (p.entry.ready_at, p.entry.source_id) < (other.entry.ready_at, other.entry.source_id)
            assert other.at is not None
            if older and other.at < p.at:
                assert p.entry.not_before is not None
                assert other.at < p.entry.not_before


@settings(max_examples=150)
@given(situations(), st.integers(0, 12 * 60))
def test_planning_again_after_the_due_posts_went_out_leaves_the_rest_where_it_was(
    situation: tuple[list[Entry], list[Taken], Channels, datetime, int], minutes: int
) -> None:
    waiting, made, here, now, quota = situation

    def left_after(spent: Counter[date]) -> Any:
        return lambda platform, day: quota - spent[day] if platform == "youtube" else None

    first = plan(waiting, made, here, now, left_after(Counter()))
    later = now + timedelta(minutes=minutes)
    gone = [p for p in first if p.at and p.at <= later]
    spent = Counter(pacific_quota_day(p.at) for p in gone if p.at and p.entry.platform == "youtube")
    taken = [
        *made,
        *(
            Taken(p.entry.platform, p.entry.account, p.at, post_name(p.entry.source_id, 1))
            for p in gone
            if p.at
        ),
    ]
    rest = [p.entry for p in first if p not in gone]
    again = plan(rest, taken, here, later, left_after(spent))
    assert {(p.entry.source_id, p.at) for p in again} == {
        (p.entry.source_id, p.at) for p in first if p not in gone
    }


@given(situations(), st.randoms())
def test_the_plan_depends_on_nothing_but_what_waits(
    situation: tuple[list[Entry], list[Taken], Channels, datetime, int], random: Any
) -> None:
    waiting, made, here, now, quota = situation
    shuffled, others = list(waiting), list(made)
    random.shuffle(shuffled)
    random.shuffle(others)
    assert plan(shuffled, others, here, now, lambda *_: quota) == plan(
        waiting, made, here, now, lambda *_: quota
    )
