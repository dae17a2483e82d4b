"""Video slots: held, used once, given back when they should be, and never beyond the limit."""

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ettametta_pipelines.billing.report import miscounted, slot_rows
from ettametta_pipelines.billing.reservations import (
    LEASE,
    VideoLimitReached,
    consume_slot,
    reap,
    release_slot,
    reserve_slot,
    reserved_slot,
)
from ettametta_pipelines.failures import FailureKind, PermanentError, TransientError
from ettametta_pipelines_tests.billing.conftest import World, plans
from ettametta_pipelines_tests.frozen import SetClock, utc


def counts(world: World) -> tuple[int, int, int]:
    found = world.usage()
    return found.used, found.reserved, found.released


def test_a_refused_video_says_which_limit_what_was_used_when_it_ends_and_how_to_upgrade(world: World) -> None:
    world.make(5)
    with pytest.raises(VideoLimitReached) as refusal:
        world.reserve("one-more")
    assert refusal.value.code == "video_limit_reached"
    assert refusal.value.kind is FailureKind.NEEDS_PERSON
    said = str(refusal.value)
    assert "one-more was not made: acme has Free" in said
    assert "5 videos a period; 5 are used in the one that ends 2026-12-20 12:00 UTC" in said
    assert "upgrade to Creator (50 videos for $29.00 a month)" in said
    assert "ettametta plan acme --checkout --tier creator" in said
    assert counts(world) == (5, 0, 0)


def test_formats_and_re_renders_of_one_source_are_one_slot(world: World) -> None:
    slot = world.reserve("one")
    assert world.reserve("one", holder="another run").id == slot.id
    for _ in range(3):
        assert consume_slot(world.db, world.plans, slot) == "consumed"
    again = world.reserve("one")
    assert (again.id, again.account, again.state, again.is_new) == (slot.id, "acme", "consumed", False)
    assert counts(world) == (1, 0, 0)


def test_the_same_content_of_two_accounts_costs_each_a_slot(world: World) -> None:
    world.make(1)
    other = World(world.clock, world.db, world.plans, account="other")
    other.make(1)
    assert (world.usage().used, other.usage().used) == (1, 1)


KILLED = """
import sys, time
from ettametta_pipelines.billing.reservations import reserve_slot
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.billing.conftest import plans
reserve_slot(StateDatabase(sys.argv[1]), plans(), "acme", "killed", holder="run")
print("held", flush=True)
time.sleep(600)
"""


def test_q3_a_slot_of_a_killed_run_returns_with_its_lease_and_not_before(
    world: World, database_url: str, clock: SetClock
) -> None:
    world.make(4)
    run = subprocess.Popen([sys.executable, "-c", KILLED, database_url], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "held\n"
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    # The killed process wrote by the real clock; the test's goes on from there.
    with world.db.session(write=False) as session:
        clock.now = super(type(world.db), world.db).now(session)
    clock.sleep((LEASE - timedelta(minutes=1)).total_seconds())
    assert reap(world.db, world.plans) == {}
    clock.sleep(120)
    assert reap(world.db, world.plans) == {"acme": 1}
    assert miscounted(world.db, world.plans) == []
    assert [row["reason"] for row in slot_rows(world.db, world.plans) if row["source_id"] == "killed"] == [
        "lease_ended"
    ]


def test_a_slot_whose_lease_has_ended_is_free_for_the_next_even_before_the_reaper_comes(
    world: World, clock: SetClock
) -> None:
    world.make(4)
    world.reserve("dead")
    with pytest.raises(VideoLimitReached):
        world.reserve("next")
    clock.sleep(LEASE.total_seconds())
    world.reserve("next")
    assert counts(world) == (4, 1, 0)


def test_a_run_that_outlived_its_lease_is_counted_if_there_is_room_and_refused_if_not(
    world: World, clock: SetClock
) -> None:
    late = world.reserve("late")
    clock.sleep(LEASE.total_seconds())
    assert reap(world.db, world.plans) == {"acme": 1}
    assert consume_slot(world.db, world.plans, late) == "consumed"
    assert counts(world) == (1, 0, 0)
    later = world.reserve("later")
    clock.sleep(LEASE.total_seconds())
    world.make(4, first=10)
    with pytest.raises(VideoLimitReached):
        consume_slot(world.db, world.plans, later)
    assert counts(world) == (5, 0, 0)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (PermanentError("x", code="decode_failed"), "released"),
        (TransientError("x", code="disk_full"), "reserved"),
        (ZeroDivisionError(), "reserved"),
    ],
)
def test_only_a_definite_failure_gives_the_slot_back(world: World, error: Exception, state: str) -> None:
    with pytest.raises(type(error)), reserved_slot(world.db, world.plans, "acme", "one", holder="run"):
        raise error
    assert [row["state"] for row in slot_rows(world.db, world.plans)] == [state]


def test_q4_a_retry_of_a_failed_run_takes_no_second_slot(world: World) -> None:
    with (
        pytest.raises(TransientError),
        reserved_slot(world.db, world.plans, "acme", "one", holder="first run"),
    ):
        raise TransientError("x", code="disk_full")
    with reserved_slot(world.db, world.plans, "acme", "one", holder="second run") as slot:
        consume_slot(world.db, world.plans, slot)
    assert counts(world) == (1, 0, 0)


def test_failures_beyond_the_periods_free_ones_cost_a_video(world: World) -> None:
    for number in range(6):
        release_slot(world.db, world.plans, world.reserve(f"bad-{number}"), "decode_failed")
    assert counts(world) == (1, 0, 5)
    assert {row["reason"] for row in slot_rows(world.db, world.plans) if row["state"] == "consumed"} == {
        "decode_failed, beyond 5 free failures"
    }


def test_a_released_source_may_be_tried_again(world: World) -> None:
    release_slot(world.db, world.plans, world.reserve("one"), "decode_failed")
    assert consume_slot(world.db, world.plans, world.reserve("one")) == "consumed"
    assert counts(world) == (1, 0, 1)


def test_asking_again_for_what_an_earlier_period_paid_for_costs_nothing_unless_something_is_made(
    world: World, clock: SetClock
) -> None:
    world.make(1)
    clock.sleep(31 * 86_400)
    assert consume_slot(world.db, world.plans, world.reserve("source-0"), made=False) == "released"
    assert counts(world) == (0, 0, 0)
    assert slot_rows(world.db, world.plans)[0]["reason"] == "nothing_was_made"
    assert consume_slot(world.db, world.plans, world.reserve("source-0"), made=True) == "consumed"
    assert counts(world) == (1, 0, 0)


def test_what_a_crashed_run_left_finished_is_paid_for_when_it_is_delivered(world: World) -> None:
    # The files were stored, then the process died before it said so.
    assert consume_slot(world.db, world.plans, world.reserve("one"), made=False) == "consumed"


@pytest.mark.parametrize(
    ("anchor", "last_second", "next_end"),
    [
        ("2027-01-31T00:00:00", "2027-02-27T23:59:59", "2027-03-31T00:00:00"),
        ("2026-11-20T12:00:00", "2026-12-20T11:59:59", "2027-01-20T12:00:00"),
        # Clocks change in New York on 14 March and in Berlin on 28 March 2027.
        ("2027-03-14T07:00:00", "2027-04-14T06:59:59", "2027-05-14T07:00:00"),
        ("2027-03-28T01:00:00", "2027-04-28T00:59:59", "2027-05-28T01:00:00"),
    ],
)
def test_q8_a_period_ends_to_the_second_and_what_was_reserved_before_stays_charged_there(
    world: World, clock: SetClock, anchor: str, last_second: str, next_end: str
) -> None:
    clock.now = utc(anchor)
    world.make(4)
    clock.now = utc(last_second)
    before = world.reserve("last")
    with pytest.raises(VideoLimitReached):
        world.reserve("too-many")
    clock.sleep(1)
    assert counts(world) == (0, 0, 0)
    assert world.usage().ends_at == utc(next_end)
    assert world.reserve("last").id == before.id, "a retry after midnight is still the old period's"
    consume_slot(world.db, world.plans, before)
    assert counts(world) == (0, 0, 0)
    world.make(5, first=20)
    assert counts(world) == (5, 0, 0)


def test_q13_unlimited_stops_at_fair_use_and_says_so(world: World) -> None:
    table = world.plans.table
    small = table.tiers["empire"].model_copy(update={"fair_use": 3})
    world.plans = plans("empire")
    object.__setattr__(world.plans, "default", small)
    world.make(3)
    with pytest.raises(VideoLimitReached) as refusal:
        world.reserve("runaway")
    assert refusal.value.code == "fair_use_reached"
    assert refusal.value.remedy.startswith("Wait until 2026-12-20 12:00 UTC, or raise fair_use")


def test_q13_publishing_keeps_its_own_limit_of_a_hundred_a_day() -> None:
    from ettametta_pipelines.state.quota import DAILY_LIMITS

    assert DAILY_LIMITS["youtube", "videos_insert"] == 100
    assert plans("empire").default.limit > 100


@pytest.mark.parametrize("minutes", [-10, 10])
def test_q16_a_worker_whose_clock_is_wrong_counts_in_the_databases_period(
    open_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    import time

    from ettametta_pipelines import clock as clocks

    world, real = open_world(), time.time
    monkeypatch.setattr(time, "time", lambda: real() + minutes * 60)
    monkeypatch.setattr(clocks, "utc_now", lambda: world.clock() + timedelta(minutes=minutes))
    world.make(5)
    # One second before the period's end by the database; the worker's clock is past it, or far from it.
    world.clock.now = world.usage().ends_at - timedelta(seconds=1)
    with pytest.raises(VideoLimitReached):
        world.reserve("early")
    world.clock.sleep(1)
    world.reserve("on-time")


actions = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "consume", "release", "wait", "reap"]),
        st.integers(0, 7),
        st.integers(0, 40),
    ),
    max_size=30,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=actions, number=st.integers(0, 2**40))
def test_whatever_happens_in_whatever_order_a_period_never_holds_more_than_its_limit(
    world: World, actions: list[tuple[str, int, int]], number: int
) -> None:
    own = World(world.clock, world.db, world.plans, account=f"a{number}")
    held = {}
    for what, source, hours in actions:
        try:
            if what == "reserve":
                held[source] = reserve_slot(own.db, own.plans, own.account, f"s{source}", holder="run")
            elif what == "consume" and source in held:
                consume_slot(own.db, own.plans, held[source])
            elif what == "release" and source in held:
                release_slot(own.db, own.plans, held[source], "decode_failed")
            elif what == "wait":
                own.clock.sleep(hours * 3600 * (24 if hours > 35 else 1))
            elif what == "reap":
                reap(own.db, own.plans)
        except VideoLimitReached:
            pass
        found = own.usage()
        assert 0 <= found.used + found.reserved <= 5
    assert miscounted(own.db, own.plans) == []


def test_reaping_returns_only_what_is_held_and_over_of_this_mode_and_says_whose(
    world: World, clock: SetClock
) -> None:
    other = World(clock, world.db, world.plans, account="other")
    live = World(clock, world.db, plans(mode="live"))
    world.make(2)
    release_slot(world.db, world.plans, world.reserve("failed"), "decode_failed")
    for owner in (world, other, live):
        owner.reserve("dead")
    other.reserve("dead too")
    clock.sleep(LEASE.total_seconds() / 2)
    world.reserve("young")
    clock.sleep(LEASE.total_seconds() / 2)
    assert reap(world.db, world.plans) == {"acme": 1, "other": 2}
    assert counts(world) == (2, 1, 1)
    assert (counts(other), counts(live)) == ((0, 0, 0), (0, 1, 0))
    assert reap(world.db, world.plans) == {}
    rows = {row["source_id"]: row for row in slot_rows(world.db, world.plans) if row["account"] == "acme"}
    assert {name: row["reason"] for name, row in rows.items() if row["state"] == "released"} == {
        "failed": "decode_failed", "dead": "lease_ended",
    }  # fmt: skip
    assert rows["dead"]["settled_at"] == clock.now


def test_free_failures_are_counted_for_each_account_by_itself(world: World) -> None:
    other = World(world.clock, world.db, world.plans, account="other")
    for number in range(4):
        for owner in (world, other):
            release_slot(world.db, world.plans, owner.reserve(f"bad-{number}"), "decode_failed")
    assert (counts(world), counts(other)) == ((0, 0, 4), (0, 0, 4))


def test_only_what_this_account_paid_for_this_source_in_this_mode_was_paid_before(
    world: World, clock: SetClock
) -> None:
    other = World(clock, world.db, world.plans, account="other")
    live = World(clock, world.db, plans(mode="live"))
    for owner in (other, live):
        consume_slot(world.db, owner.plans, owner.reserve("one"))
    consume_slot(world.db, world.plans, world.reserve("two"))
    release_slot(world.db, world.plans, world.reserve("one"), "decode_failed")
    clock.sleep(31 * 86_400)
    assert consume_slot(world.db, world.plans, world.reserve("one"), made=False) == "consumed"


def test_a_row_tells_who_holds_a_slot_since_when_until_when_and_how_it_ended(
    world: World, clock: SetClock
) -> None:
    def row() -> dict[str, object]:
        (found,) = slot_rows(world.db, world.plans)
        return {
            name: found[name]
            for name in ("state", "run_id", "reserved_at", "lease_until", "settled_at", "reason")
        }

    began = clock.now
    slot = world.reserve("one", holder="first")
    assert (slot.account, slot.source_id, slot.state, slot.is_new) == ("acme", "one", "reserved", True)
    assert slot.ends_at == world.usage().ends_at
    clock.sleep(60)
    assert world.reserve("one", holder="second").is_new is False
    assert row() == {
        "state": "reserved", "run_id": "second", "reserved_at": began, "lease_until": clock.now + LEASE,
        "settled_at": None, "reason": None,
    }  # fmt: skip
    clock.sleep(60)
    release_slot(world.db, world.plans, slot, "decode_failed")
    assert (row()["reason"], row()["settled_at"]) == ("decode_failed", clock.now)
    clock.sleep(60)
    assert world.reserve("one", holder="third").is_new is True
    assert row() == {
        "state": "reserved", "run_id": "third", "reserved_at": clock.now, "lease_until": clock.now + LEASE,
        "settled_at": None, "reason": None,
    }  # fmt: skip
    consume_slot(world.db, world.plans, slot)
    assert (row()["state"], row()["settled_at"], row()["reason"]) == ("consumed", clock.now, None)
    assert release_slot(world.db, world.plans, slot, "too late") == "consumed"
    assert counts(world) == (1, 0, 1)


def test_a_period_goes_on_from_where_the_last_one_ended_when_the_anchor_moves(
    world: World, clock: SetClock
) -> None:
    import sqlalchemy as sa

    from ettametta_pipelines.state.models import Entitlement

    world.make(1)
    first = world.usage()
    assert (first.starts_at, first.ends_at, first.used) == (
        utc("2026-11-20T12:00:00"),
        utc("2026-12-20T12:00:00"),
        1,
    )
    with world.db.session() as session:
        session.execute(sa.update(Entitlement).values(anchor_at=utc("2026-12-05T00:00:00")))
    assert world.usage().ends_at == first.ends_at, "the one that runs is not cut short"
    clock.now = utc("2026-12-21T00:00:00")
    following = world.usage()
    assert (following.starts_at, following.ends_at, following.used) == (
        utc("2026-12-20T12:00:00"), utc("2027-01-05T00:00:00"), 0,
    )  # fmt: skip
    world.make(1)
    assert world.usage().starts_at == following.starts_at


def test_who_asked_the_time_before_waiting_for_the_account_counts_in_the_period_that_is_there_by_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of many makes a new account, whose periods begin then; the others asked the time a moment before."""
    world.make(5)
    begun = world.clock()
    told = iter([begun - timedelta(seconds=1)])
    monkeypatch.setattr(type(world.db), "now", lambda db, session: next(told, begun))
    with pytest.raises(VideoLimitReached):
        world.reserve("one-more")
