"""Quota buckets: never more than the limit, whoever races for it."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import DatabaseNow, QuotaLease
from ettametta_pipelines.state.quota import Lease, LeaseEnded, QuotaExhausted, QuotaUsage
from ettametta_pipelines.state.session import StateDatabase

# 06:30 UTC on 22 November is still the 21st in Los Angeles, 90 minutes before the reset.
NOW = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
DAY = date(2026, 11, 21)


def clock() -> datetime:
    return NOW


def row(db: StateDatabase, bucket: str) -> QuotaUsage:
    return next(u for u in quota.usage(db, DAY) if u.bucket == bucket)


def test_fifty_racers_for_five_slots_get_exactly_five(
    open_database: Callable[[], StateDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(quota.DAILY_LIMITS, ("youtube", "videos_insert"), 5)
    db = open_database()
    barrier = Barrier(50)

    def race(_: int) -> bool:
        barrier.wait()
        try:
            quota.reserve(db, "youtube", "videos_insert", 1, clock)
        except QuotaExhausted:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        granted = sum(pool.map(race, range(50)))
    assert granted == 5
    assert row(db, "videos_insert").reserved == 5


def test_a_reservation_is_spent_by_commit_and_free_again_by_release(database: StateDatabase) -> None:
    first = quota.reserve(database, "youtube", "units", 3, clock)
    second = quota.reserve(database, "youtube", "units", 4, clock)
    assert (row(database, "units").used, row(database, "units").reserved) == (0, 7)
    quota.commit(database, first)
    quota.release(database, second)
    assert row(database, "units") == QuotaUsage("youtube", "units", DAY, 10_000, used=3, reserved=0)


def test_a_reservation_cannot_be_settled_twice(database: StateDatabase) -> None:
    reservation = quota.reserve(database, "youtube", "units", 1, clock)
    quota.commit(database, reservation)
    with pytest.raises(PermanentError) as failure:
        quota.release(database, reservation)
    assert failure.value.code == "quota_already_settled"
    assert row(database, "units").used == 1


def test_an_exhausted_bucket_says_when_it_resets(database: StateDatabase) -> None:
    quota.reserve(database, "youtube", "search", 99, clock)
    with pytest.raises(QuotaExhausted) as failure:
        quota.reserve(database, "youtube", "search", 2, clock)
    assert failure.value.retry_after_s == 90 * 60
    assert failure.value.code == "quota_exhausted"
    assert "youtube.search quota of 2026-11-21 has fewer than 2 left" in failure.value.message
    quota.reserve(database, "youtube", "search", 1, clock)


def test_the_next_pacific_day_has_its_own_quota(database: StateDatabase) -> None:
    quota.reserve(database, "youtube", "search", 100, clock)
    after_reset = quota.reserve(
        database, "youtube", "search", 100, lambda: datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
    )
    assert after_reset.quota_day == date(2026, 11, 22)


def test_a_reservation_falls_with_the_transaction_it_was_made_in(database: StateDatabase) -> None:
    def fail_after_reserving() -> None:
        with database.session() as session:
            quota.reserve_in(session, "youtube", "videos_insert", 1, clock)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_reserving()
    assert row(database, "videos_insert").reserved == 0


def test_a_transaction_sees_what_it_has_drawn_itself(database: StateDatabase) -> None:
    with database.session() as session:
        first = quota.reserve_in(session, "youtube", "search", 30, clock)
        quota.reserve_in(session, "youtube", "search", 20, clock)
        quota.commit_in(session, first)
        standing = quota.standing_in(session, "youtube", "search", clock)
        assert (standing.used, standing.reserved, standing.left) == (30, 20, 50)


def test_every_bucket_is_listed_before_anything_is_spent(database: StateDatabase) -> None:
    assert {(u.vendor, u.bucket): u.limit for u in quota.usage(database, DAY)} == quota.DAILY_LIMITS
    assert {(u.quota_day, u.used, u.reserved, u.closed_at) for u in quota.usage(database, DAY)} == {
        (DAY, 0, 0, None)
    }


def test_an_unknown_bucket_is_a_mistake_not_an_unlimited_one(database: StateDatabase) -> None:
    with pytest.raises(PermanentError, match=r"youtube\.captions"):
        quota.reserve(database, "youtube", "captions", 1, clock)


def expire(db: StateDatabase, held: Lease) -> None:
    with db.session() as session:
        session.execute(
            sa.update(QuotaLease).where(QuotaLease.id == held.id).values(expires_at=DatabaseNow(-1.0))
        )


def test_a_lease_is_spent_call_by_call_and_the_rest_given_back(database: StateDatabase) -> None:
    held = quota.lease(database, "youtube", "units", 10, clock, holder="fitness")
    quota.spend(database, held, 3)
    quota.take_back(database, held, 1)
    assert (row(database, "units").used, row(database, "units").reserved) == (2, 7)
    quota.give_back(database, held)
    quota.give_back(database, held)
    assert (row(database, "units").used, row(database, "units").reserved) == (2, 0)
    with database.session(write=False) as session:
        assert quota.spent_by_holder(session, "youtube", DAY) == {("units", "fitness"): 2}


def test_a_lease_takes_what_there_is(database: StateDatabase) -> None:
    quota.reserve(database, "youtube", "search", 93, clock)
    assert quota.lease(database, "youtube", "search", 20, clock, holder="fitness").amount == 7
    with pytest.raises(QuotaExhausted):
        quota.lease(database, "youtube", "search", 1, clock, holder="travel")


def test_what_a_dead_run_leased_and_never_sent_is_free_again_and_what_it_sent_is_not(
    database: StateDatabase,
) -> None:
    held = quota.lease(database, "youtube", "search", 100, clock, holder="fitness")
    quota.spend(database, held, 30)
    expire(database, held)
    assert quota.lease(database, "youtube", "search", 100, clock, holder="travel").amount == 70
    with pytest.raises(LeaseEnded):
        quota.spend(database, held)
    assert row(database, "search").used == 30


def test_a_reservation_of_a_dead_run_may_have_been_sent_and_stays_counted(database: StateDatabase) -> None:
    quota.reserve(database, "youtube", "search", 60, clock)
    held = quota.lease(database, "youtube", "search", 40, clock, holder="fitness")
    expire(database, held)
    with pytest.raises(QuotaExhausted):
        quota.reserve(database, "youtube", "search", 41, clock)
    quota.reserve(database, "youtube", "search", 40, clock)


def test_a_bucket_the_vendor_closed_grants_nothing_more_that_day(database: StateDatabase) -> None:
    held = quota.lease(database, "youtube", "units", 10, clock, holder="fitness")
    quota.close_bucket(database, "youtube", "units", clock)
    assert row(database, "units").left == 0
    for draw in (
        lambda: quota.reserve(database, "youtube", "units", 1, clock),
        lambda: quota.lease(database, "youtube", "units", 1, clock, holder="travel"),
        lambda: quota.spend(database, held),
    ):
        with pytest.raises(QuotaExhausted, match="something else uses the same project"):
            draw()
    quota.give_back(database, held)
    quota.reserve(database, "youtube", "units", 1, lambda: datetime(2026, 11, 22, 8, 0, tzinfo=UTC))


# What one run does with the bucket, again and again. Every "sent" line is a call that YouTube would charge for.
ONE_RUN = """
import sys
from datetime import UTC, datetime
from random import Random
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.session import StateDatabase

def run(db, seed):
    choose, sent = Random(seed), 0
    clock = lambda: datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
    for _ in range(12):
        try:
            if choose.random() < 0.4:
                reservation = quota.reserve(db, "youtube", "videos_insert", choose.randint(1, 3), clock)
                if choose.random() < 0.3:
                    quota.release(db, reservation)
                    continue
                sent += reservation.amount
                if choose.random() < 0.8:  # else the run dies between the call and the booking
                    quota.commit(db, reservation)
                continue
            with db.session() as session:
                held = quota.lease_in(session, "youtube", "videos_insert", choose.randint(1, 6), clock,
                                      holder="run", for_s=choose.choice([0.0, 0.002, 60.0]))
            for _ in range(choose.randint(0, 3)):
                part = choose.randint(1, 2)
                quota.spend(db, held, part)
                if choose.random() < 0.1:
                    quota.take_back(db, held, part)
                else:
                    sent += part
            if choose.random() < 0.6:
                quota.give_back(db, held)
        except (quota.QuotaExhausted, quota.LeaseEnded):
            pass
    return sent
"""
IN_A_PROCESS = (
    ONE_RUN
    + """
from concurrent.futures import ThreadPoolExecutor
db = StateDatabase(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(3) as pool:
    print(sum(pool.map(lambda n: run(db, f"{sys.argv[2]} {n}"), range(3))))
"""
)


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 60))
def test_threads_that_reserve_lease_spend_and_die_never_oversell(
    database: StateDatabase, seed: int, limit: int
) -> None:
    names: dict[str, Any] = {}
    exec(ONE_RUN, names)
    db = database
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(quota.DAILY_LIMITS, ("youtube", "videos_insert"), limit)
        with ThreadPoolExecutor(6) as pool:
            sent = sum(pool.map(lambda n: names["run"](db, f"{seed} {n}"), range(8)))
    book = row(db, "videos_insert")
    assert sent <= book.used + book.reserved <= limit
    with db.session() as session:
        for table in ("api_quota", "quota_leases"):
            session.execute(sa.text(f"DELETE FROM {table}"))


def test_processes_that_reserve_lease_spend_and_die_never_oversell(database_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", IN_A_PROCESS, database_url, str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(3)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    book = row(StateDatabase(database_url), "videos_insert")
    sent = sum(map(int, answers))
    assert 0 < sent <= book.used + book.reserved <= book.limit
    assert book.used + book.reserved > 90


def test_a_grant_of_the_operators_counts_at_once_and_never_leaves_less_than_nothing(
    database: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grant(searches: str) -> None:
        monkeypatch.setenv("ETTAMETTA_YOUTUBE_QUOTA", searches)
        get_settings.cache_clear()

    quota.reserve(database, "youtube", "search", 100, clock)
    grant("search=250, units=20000")
    quota.reserve(database, "youtube", "search", 150, clock)
    assert (row(database, "search").limit, row(database, "units").limit) == (250, 20_000)
    assert row(database, "batch_get_stats").limit == 10_000
    grant("search=120")
    with pytest.raises(QuotaExhausted):
        quota.reserve(database, "youtube", "search", 1, clock)
    with database.session() as session:
        assert quota.standing_in(session, "youtube", "search", clock).left == 0
    get_settings.cache_clear()


def test_only_what_this_lease_spent_is_taken_back(database: StateDatabase) -> None:
    held = quota.lease(database, "youtube", "units", 10, clock, holder="fitness")
    other = quota.lease(database, "youtube", "units", 10, clock, holder="travel")
    quota.spend(database, held, 3)
    quota.spend(database, other, 3)
    quota.take_back(database, held, 4)
    assert row(database, "units").used == 6, "more than was spent is a mistake and changes nothing"
    quota.take_back(database, held, 3)
    assert row(database, "units").used == 3
    quota.take_back(database, held, 1)
    assert row(database, "units").used == 3
    quota.take_back(database, other, 1)
    quota.take_back(database, other)
    assert (row(database, "units").used, row(database, "units").reserved) == (1, 14)


def test_what_holders_spent_or_hold_is_told_by_bucket_vendor_and_day(database: StateDatabase) -> None:
    tomorrow = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
    for bucket, holder, amount in (
        ("units", "a", 5),
        ("units", "b", 7),
        ("search", "a", 2),
        ("units", "a", 1),
    ):
        quota.spend(database, quota.lease(database, "youtube", bucket, amount, clock, holder=holder), 1)
    quota.lease(database, "youtube", "units", 9, lambda: tomorrow, holder="a")
    quota.give_back(database, quota.lease(database, "youtube", "search", 3, clock, holder="gone"))
    with database.session(write=False) as session:
        told = quota.spent_by_holder(session, "youtube", DAY)
        assert told == {("units", "a"): 6, ("units", "b"): 7, ("search", "a"): 2}
        assert quota.spent_by_holder(session, "tiktok", DAY) == {}


@pytest.mark.parametrize("amount", [0, -1])
def test_nothing_or_less_cannot_be_reserved(database: StateDatabase, amount: int) -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        quota.reserve(database, "youtube", "units", amount, clock)
    assert row(database, "units").reserved == 0


def test_a_bucket_is_filled_to_the_last_unit_and_not_beyond(database: StateDatabase) -> None:
    quota.reserve(database, "youtube", "search", 60, clock)
    quota.commit(database, quota.reserve(database, "youtube", "search", 40, clock))
    book = row(database, "search")
    assert (book.used, book.reserved, book.left) == (40, 60, 0)
    with pytest.raises(QuotaExhausted):
        quota.reserve(database, "youtube", "search", 1, clock)


def test_a_lease_spends_all_it_has_and_no_more_and_asks_for_at_least_what_is_needed(
    database: StateDatabase,
) -> None:
    held = quota.lease(database, "youtube", "search", 98, clock, holder="fitness")
    quota.spend(database, held, 98)
    with pytest.raises(LeaseEnded) as ended:
        quota.spend(database, held, 1)
    assert ended.value.code == "quota_lease_ended"
    with pytest.raises(QuotaExhausted):
        quota.lease(database, "youtube", "search", 5, clock, holder="travel", at_least=3)
    rest = quota.lease(database, "youtube", "search", 5, clock, holder="travel", at_least=2)
    assert (rest.amount, rest.vendor, rest.bucket, rest.quota_day) == (2, "youtube", "search", DAY)
    assert quota.lease(database, "youtube", "units", 5, clock, holder="travel").amount == 5


def test_only_the_expired_lease_ends_and_only_in_its_own_bucket_and_day(database: StateDatabase) -> None:
    kept = quota.lease(database, "youtube", "units", 10, clock, holder="kept")
    elsewhere = quota.lease(database, "youtube", "search", 10, clock, holder="elsewhere")
    ended = quota.lease(database, "youtube", "units", 5, clock, holder="ended")
    for held in (ended, elsewhere):
        expire(database, held)
    quota.reserve(database, "youtube", "units", 1, clock)
    assert row(database, "units").reserved == 11
    assert row(database, "search").reserved == 10, "seen to when the bucket is next drawn from"
    quota.spend(database, kept, 10)
    quota.give_back(database, ended)
    assert (row(database, "units").used, row(database, "units").reserved) == (10, 1)


def test_a_bucket_keeps_the_moment_it_was_closed_and_says_when_it_resets(database: StateDatabase) -> None:
    quota.close_bucket(database, "youtube", "search", clock)
    quota.close_bucket(database, "youtube", "search", lambda: datetime(2026, 11, 22, 7, 0, tzinfo=UTC))
    assert row(database, "search").closed_at == NOW
    with pytest.raises(QuotaExhausted) as failure:
        quota.reserve(database, "youtube", "search", 1, lambda: datetime(2026, 11, 22, 7, 30, tzinfo=UTC))
    assert failure.value.retry_after_s == 30 * 60
    held = quota.lease(database, "youtube", "units", 1, clock, holder="fitness")
    quota.close_bucket(database, "youtube", "units", clock)
    with pytest.raises(QuotaExhausted) as failure:
        quota.spend(database, held)
    assert failure.value.retry_after_s == 90 * 60
    with database.session() as session:
        standing = quota.standing_in(session, "youtube", "units", clock)
    assert (standing.closed_at, standing.reserved, standing.left) == (NOW, 1, 0)


def test_a_single_unit_of_an_expired_lease_is_free_again(database: StateDatabase) -> None:
    quota.reserve(database, "youtube", "search", 99, clock)
    expire(database, quota.lease(database, "youtube", "search", 1, clock, holder="fitness"))
    quota.reserve(database, "youtube", "search", 1, clock)
    assert row(database, "search").reserved == 100
