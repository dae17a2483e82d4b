"""Quota buckets: never more than the limit, whoever races for it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from threading import Barrier

import pytest

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.quota import QuotaExhausted, QuotaUsage
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


def test_every_bucket_is_listed_before_anything_is_spent(database: StateDatabase) -> None:
    assert {(u.vendor, u.bucket): u.limit for u in quota.usage(database, DAY)} == quota.DAILY_LIMITS


def test_an_unknown_bucket_is_a_mistake_not_an_unlimited_one(database: StateDatabase) -> None:
    with pytest.raises(PermanentError, match=r"youtube\.captions"):
        quota.reserve(database, "youtube", "captions", 1, clock)
